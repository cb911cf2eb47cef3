"""Batches of messages: one cycle of request and response is shown whole or not at all."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import msgspec

from ..errors import BatchIncomplete, Conflict, InvalidValue, NotFound
from ..filters import NotInQuery
from ..models import BatchStatus, BatchType, Message, MessageBatch, Role
from ..query import Bound, param, select, update
from ..schema import columns_of
from ..validation import check_id
from .content import tool_text
from .repository import DEFAULT_LIMIT, Repository, pause, retried

_B, _M = columns_of(MessageBatch), columns_of(Message)
_OPEN = (
    select(MessageBatch)
    .where(_B.agent_id == param("agent_id"), _B.status == BatchStatus.OPEN)
    .order_by(_B.created_at, _B.id)
)
_ALL_OPEN = select(MessageBatch).where(_B.status == BatchStatus.OPEN).order_by(_B.created_at, _B.id)
_OF_BATCH = (
    select(Message)
    .where(_M.batch_id == param("batch_id"), _M.is_deleted == False)  # noqa: E712
    .order_by(_M.sequence_in_batch)
)
_WHOLE_ONLY = (
    select(MessageBatch)
    .where(_B.agent_id == param("agent_id"))
    .where((_B.status == BatchStatus.OPEN) | (_B.last_position >= param("position")))
)
_ARCHIVE = update(Message, "updated_at", is_archived=True).where(
    _M.agent_id == param("agent_id"),
    _M.position < param("position"),
    _M.is_archived == False,  # noqa: E712
    NotInQuery("batch_id", _WHOLE_ONLY, "id"),
)
_BURY = update(Message, "updated_at", is_deleted=True).where(_M.id == param("id"))
_TRIM = update(Message, "tool_calls", "tool_responses", "tool_text", "updated_at").where(
    _M.id == param("id"),
    _M.updated_at == param("seen_updated_at"),
    _M.is_deleted == False,  # noqa: E712
)
_CLOSING_ROLES = (Role.ASSISTANT, Role.TOOL)
_ATTEMPTS = 20
_STATE = (
    "status",
    "pending",
    "message_count",
    "first_position",
    "last_position",
    "version",
    "completed_at",
)


class Batches(Repository[MessageBatch]):
    """The batches of agents."""

    model = MessageBatch
    prefix = "batch"

    async def open(
        self,
        agent_id: str,
        *,
        batch_type: BatchType | str = BatchType.USER_REQUEST,
        conversation_id: str | None = None,
        id: str | None = None,
    ) -> MessageBatch:
        """Begin a batch that stays open until it is completed."""
        return await self._insert(  # type: ignore[no-any-return]
            self._new(agent_id, conversation_id, batch_type, id, closes_itself=False)
        )

    async def complete(self, batch_id: str) -> MessageBatch:
        """Close a batch. Raises ``BatchIncomplete``, ``NotFound``."""
        for attempt in range(_ATTEMPTS):
            batch = await self.require(batch_id)
            if batch.status is not BatchStatus.OPEN:
                return batch
            if batch.pending:
                raise BatchIncomplete(
                    f"Batch {batch_id} has {len(batch.pending)} tool calls without a response; "
                    "append the responses, or repair the batch."
                )
            closed = _later(batch, self._closed(batch, BatchStatus.COMPLETE))
            try:
                await self._store.write([self._save(batch, closed)])
            except Conflict:
                await pause(attempt)
                continue
            return closed
        raise Conflict("This batch is being changed all the time; try again later.")

    async def list(
        self,
        agent_id: str,
        *,
        status: BatchStatus | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> builtins.list[MessageBatch]:
        """An agent's batches in the order of their opening."""
        return await self._list(limit=limit, after=after, agent_id=agent_id, status=status)

    # placing messages

    async def place(
        self, messages: builtins.list[Message]
    ) -> tuple[builtins.list[Message], builtins.list[Bound]]:
        """Messages with their places in batches, and the writes that change these batches.

        The writes are guarded: if a batch changed since it was read here, they raise ``Conflict``.
        """
        if not any(m.batch_id or m.tool_calls or m.tool_responses for m in messages):
            return messages, []
        states: dict[str, tuple[MessageBatch | None, MessageBatch]] = {}
        placed = []
        for message in messages:
            batch_id = await self._batch_of(message, states)
            if batch_id is None:
                placed.append(message)
                continue
            seen, batch = states[batch_id]
            _check_open(batch)
            states[batch_id] = (seen, self._grown(batch, message))
            placed.append(
                msgspec.structs.replace(
                    message,
                    batch_id=batch.id,
                    sequence_in_batch=batch.message_count,
                    batch_type=batch.batch_type,
                )
            )
        return placed, [self._save(seen, _later(seen, batch)) for seen, batch in states.values()]

    async def _batch_of(
        self, message: Message, states: dict[str, tuple[MessageBatch | None, MessageBatch]]
    ) -> str | None:
        """The batch a message belongs to, loaded or made; responses find theirs by call id."""
        batch_id = message.batch_id
        if batch_id is None and message.tool_responses:
            batch_id = await self._answered(message, states)
        if batch_id is None and not message.tool_calls:
            return None
        if batch_id is None or batch_id not in states:
            seen = None if batch_id is None else await self.get(batch_id)
            if seen is not None and seen.agent_id != message.agent_id:
                raise NotFound("batch", seen.id)
            kind = message.batch_type or BatchType.USER_REQUEST
            batch = seen or self._new(
                message.agent_id, message.conversation_id, kind, batch_id, closes_itself=True
            )
            states[batch.id] = (seen, batch)
            batch_id = batch.id
        return batch_id

    async def _answered(
        self, message: Message, states: dict[str, tuple[MessageBatch | None, MessageBatch]]
    ) -> str:
        """The open batch that waits for one of these responses."""
        wanted = {response.call_id for response in message.tool_responses}
        for _, batch in states.values():
            if wanted & {*batch.pending}:
                return batch.id
        open_batches: builtins.list[MessageBatch] = await self._store.execute(
            _OPEN, agent_id=message.agent_id
        )
        for batch in open_batches:
            if wanted & {*batch.pending} and batch.id not in states:
                states[batch.id] = (batch, batch)
                return batch.id
        raise NotFound("open tool call", min(wanted))

    def _new(
        self,
        agent_id: str,
        conversation_id: str | None,
        batch_type: BatchType | str,
        id: str | None,
        *,
        closes_itself: bool,
    ) -> MessageBatch:
        now = self._clock()
        return self._build(  # type: ignore[no-any-return]
            id=self._new_id(id, now),
            agent_id=check_id("agent_id", agent_id),
            conversation_id=conversation_id,
            batch_type=batch_type,
            closes_itself=closes_itself,
            created_at=now,
        )

    def _grown(self, batch: MessageBatch, message: Message) -> MessageBatch:
        """The batch after one more message."""
        answered = {response.call_id for response in message.tool_responses}
        orphans = answered - {*batch.pending}
        if orphans:
            raise NotFound("open tool call", min(orphans))
        calls = [call.call_id for call in message.tool_calls]
        pending = [call for call in dict.fromkeys([*batch.pending, *calls]) if call not in answered]
        grown = msgspec.structs.replace(
            batch,
            pending=pending,
            message_count=batch.message_count + 1,
            first_position=min(
                message.position,
                message.position if batch.first_position is None else batch.first_position,
            ),
            last_position=max(
                message.position,
                message.position if batch.last_position is None else batch.last_position,
            ),
        )
        if not batch.closes_itself:
            return grown
        if not pending and message.role in _CLOSING_ROLES:
            return self._closed(grown, BatchStatus.COMPLETE)
        return msgspec.structs.replace(grown, status=BatchStatus.OPEN, completed_at=None)

    def _closed(self, batch: MessageBatch, status: BatchStatus) -> MessageBatch:
        return msgspec.structs.replace(batch, status=status, pending=[], completed_at=self._clock())

    def _save(self, seen: MessageBatch | None, batch: MessageBatch) -> Bound:
        """Write a batch, unless somebody else did since it was read."""
        if seen is None:
            return self.queries.insert(row=batch)
        statement = self.queries.update(_STATE, guards=["version"])
        values: dict[str, Any] = {name: getattr(batch, name) for name in _STATE}
        return statement(id=batch.id, seen_version=seen.version, **values).expect(1)

    # archiving and repair

    async def archive_before(self, agent_id: str, position: int) -> int:
        """Archive whole batches and single messages before a position."""
        count: int = await self._store.execute(
            _ARCHIVE, agent_id=agent_id, position=position, updated_at=self._clock()
        )
        return count

    async def repair(self, agent_id: str | None) -> builtins.list[MessageBatch]:
        """Close every open batch, tombstoning what has no counterpart."""
        if agent_id is None:
            open_batches = await self._store.execute(_ALL_OPEN)
        else:
            open_batches = await self._store.execute(_OPEN, agent_id=check_id("agent_id", agent_id))
        return [
            await retried(partial(self._repair, batch.id), self.entity) for batch in open_batches
        ]

    async def _repair(self, batch_id: str) -> MessageBatch:
        batch = await self.require(batch_id)
        if batch.status is not BatchStatus.OPEN:
            return batch
        messages: builtins.list[Message] = await self._store.execute(_OF_BATCH, batch_id=batch.id)
        calls = {call.call_id for message in messages for call in message.tool_calls}
        answers = {answer.call_id for message in messages for answer in message.tool_responses}
        kept = [_trimmed(message, calls & answers) for message in messages]
        buried = [m for m, k in zip(messages, kept, strict=True) if k is None]
        trimmed = [
            (m, k) for m, k in zip(messages, kept, strict=True) if k is not None and k is not m
        ]
        changed = [after for _, after in trimmed]
        repaired = _later(batch, self._closed(batch, BatchStatus.REPAIRED))
        details = {
            "batch_id": batch.id,
            "unanswered_calls": sorted(calls - answers),
            "tombstoned_messages": [message.id for message in buried],
            "trimmed_messages": [message.id for message in changed],
        }
        vectors = await self._indexer.writes_for(changed)
        await self._store.write(
            [
                self._save(batch, repaired),
                *self.tombstone(buried),
                *(self._trim(before, after) for before, after in trimmed),
                *vectors,
                self._audit(
                    "repair_batch", agent_id=batch.agent_id, subject_id=batch.id, details=details
                ),
            ]
        )
        return repaired

    def tombstone(self, messages: Iterable[Message]) -> builtins.list[Bound]:
        """The writes that leave tombstones of messages."""
        now = self._clock()
        return [
            bound
            for message in messages
            for bound in (
                _BURY(id=message.id, updated_at=now).expect(1),
                *self._indexer.removals_for(message),
            )
        ]

    def _trim(self, before: Message, after: Message) -> Bound:
        return _TRIM(
            id=after.id,
            tool_calls=after.tool_calls,
            tool_responses=after.tool_responses,
            tool_text=after.tool_text,
            updated_at=self._clock(),
            seen_updated_at=before.updated_at,
        ).expect(1)


def _later(seen: MessageBatch | None, batch: MessageBatch) -> MessageBatch:
    """The batch as the version after the one that was seen."""
    return batch if seen is None else msgspec.structs.replace(batch, version=seen.version + 1)


def _check_open(batch: MessageBatch) -> None:
    if batch.status is not BatchStatus.OPEN and not batch.closes_itself:
        raise InvalidValue("batch_id", f"batch {batch.id} is {batch.status.value}; open another.")


def _trimmed(message: Message, paired: set[str]) -> Message | None:
    """A message without the calls and responses that have no counterpart; ``None`` if that was all
    there was to it."""
    calls = [call for call in message.tool_calls if call.call_id in paired]
    responses = [answer for answer in message.tool_responses if answer.call_id in paired]
    if _same(calls, message.tool_calls) and _same(responses, message.tool_responses):
        return message
    if not calls and not responses and not message.content.strip():
        return None
    return msgspec.structs.replace(
        message, tool_calls=calls, tool_responses=responses, tool_text=tool_text(calls, responses)
    )


def _same(kept: Sequence[Any], before: Sequence[Any]) -> bool:
    return len(kept) == len(before)
