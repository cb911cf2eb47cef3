"""Messages: appending, listing, batches, archiving and repair."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ..embeddings.indexing import Mode
from ..errors import AlreadyExists, Conflict, InvalidValue
from ..filters import Filter, NotInQuery
from ..ids import Positions, last_position_within
from ..models import (
    BatchStatus,
    BatchType,
    Json,
    Message,
    MessageBatch,
    Role,
)
from ..query import Bound, param, select
from ..schema import columns_of
from ..search import Hit, SearchOptions
from ..validation import check_enum, check_id, check_known, check_time, parse_time
from .batches import Batches
from .content import listed, split_content, tool_call, tool_response, tool_text
from .repository import DEFAULT_LIMIT, Context, Queries, Repository, given, pause
from .summaries import Summaries

_M, _B = columns_of(Message), columns_of(MessageBatch)
_OPEN_BATCHES = select(MessageBatch).where(
    _B.agent_id == param("agent_id"), _B.status == BatchStatus.OPEN
)
_SPECIAL: dict[str, Filter] = {
    "complete": NotInQuery("batch_id", _OPEN_BATCHES, "id"),
    "roles": _M.role.in_(param("roles")),
    "since": _M.created_at >= param("since"),
    "until": _M.created_at < param("until"),
}
_LAST_UNTIL = (
    select(Message)
    .where(_M.agent_id == param("agent_id"), _M.position <= param("last"))
    .order_by(_M.position, descending=True)
    .limit(1)
)
_EXISTING = select(Message).where(_M.id.in_(param("ids"))).only(_M.id)
_GIVEN = (
    "role",
    "content",
    "speaker",
    "conversation_id",
    "tool_calls",
    "tool_responses",
    "batch_id",
    "batch_type",
    "source",
    "metadata",
    "created_at",
    "id",
)
_ATTEMPTS = 50


class _MessageQueries(Queries):
    def filters(self, fields: Sequence[str], *, all_: bool) -> tuple[Filter, ...]:
        plain = super().filters([f for f in fields if f not in _SPECIAL], all_=all_)
        return (*plain, *(_SPECIAL[field] for field in fields if field in _SPECIAL))


class Messages(Repository[Message]):
    """What was said to and by agents.

    A message may belong to a batch, one cycle of request and response. Batches whose tool calls are
    not all answered are not listed, found, archived or summarized; ``repair`` closes what a crash
    left open.
    """

    model = Message
    prefix = "msg"
    order = ("position",)

    def __init__(self, context: Context):
        super().__init__(context)
        self._positions = Positions()
        self.batches = Batches(context)
        self.summaries = Summaries(context)

    async def append(
        self,
        agent_id: str,
        *,
        role: Role | str,
        content: str | Sequence[Any] = "",
        speaker: str | None = None,
        conversation_id: str | None = None,
        tool_calls: Sequence[Any] = (),
        tool_responses: Sequence[Any] = (),
        batch_id: str | None = None,
        batch_type: BatchType | str | None = None,
        source: str | None = None,
        metadata: Json | None = None,
        created_at: datetime | None = None,
        id: str | None = None,
        embed: Mode | None = None,
    ) -> Message:
        """Store one message with its vector; durable when this returns.

        ``content`` is text or a list of parts, ``speaker`` the display name of who said it. Tool
        calls open a batch if none is named; responses find theirs by call id. Raises ``NotFound``
        (agent, conversation, or a response to no open call), ``AlreadyExists`` (the id),
        ``EmbeddingFailed``.
        """
        fields = {
            "role": role,
            "content": content,
            "speaker": speaker,
            "conversation_id": conversation_id,
            "tool_calls": tool_calls,
            "tool_responses": tool_responses,
            "batch_id": batch_id,
            "batch_type": batch_type,
            "source": source,
            "metadata": metadata,
            "created_at": created_at,
            "id": id,
        }
        (message,) = await self._append(agent_id, [fields], embed)
        return message

    async def append_many(
        self,
        agent_id: str,
        messages: Iterable[Mapping[str, Any] | Message],
        *,
        skip_existing: bool = False,
        embed: Mode | None = None,
    ) -> builtins.list[Message]:
        """Store messages in their order, all or none, with one batch of embeddings.

        Takes dicts of ``append``'s fields, or models. ``skip_existing`` leaves out those whose id
        is already there (for imports that may run twice); the result holds what was written.
        """
        if isinstance(messages, str | Mapping) or not isinstance(messages, Iterable):
            raise InvalidValue("messages", "it must be a list of dicts or Messages.")
        fields = [_fields_of(message, index) for index, message in enumerate(messages)]
        if skip_existing:
            return await self._append_new(agent_id, fields, embed)
        return await self._append(agent_id, fields, embed) if fields else []

    async def _append_new(
        self, agent_id: str, fields: builtins.list[dict[str, Any]], embed: Mode | None
    ) -> builtins.list[Message]:
        """Append those that are not there, also if another import appends them at this moment."""
        for attempt in range(_ATTEMPTS):
            new = await self._without_existing(fields)
            try:
                return await self._append(agent_id, new, embed) if new else []
            except AlreadyExists as error:
                if error.entity != self.entity or error.field != "id":
                    raise
                await pause(attempt)
        raise Conflict("These messages are being imported elsewhere; try again later.")

    async def _without_existing(
        self, fields: builtins.list[dict[str, Any]]
    ) -> builtins.list[dict[str, Any]]:
        ids = [check_id("id", given_["id"]) for given_ in fields if given_.get("id") is not None]
        existing = {row[0] for row in await self._store.execute(_EXISTING, ids=ids)}
        for given_ in fields:
            if given_.get("id") in existing and given_.get("created_at") is not None:
                self._positions.at(parse_time("created_at", given_["created_at"]))
        return [given_ for given_ in fields if given_.get("id") not in existing]

    async def _append(
        self, agent_id: str, fields: builtins.list[dict[str, Any]], embed: Mode | None
    ) -> builtins.list[Message]:
        check_id("agent_id", agent_id)
        messages = [self._message(agent_id, given_) for given_ in fields]
        vectors = await self._indexer.writes_for(messages, mode=embed, fresh=True)
        for attempt in range(_ATTEMPTS):
            try:
                stored = await self._store_messages(messages, vectors)
            except Conflict:
                await pause(attempt)
            except AlreadyExists as error:
                if error.entity == "batch":
                    continue
                if error.field not in ("position", "sequence_in_batch"):
                    raise
                messages = await self._reposition(agent_id, messages)
            else:
                self._wake(embed)
                return stored
        raise Conflict("Too many writers extend this at once; try again.")

    async def _store_messages(
        self, messages: builtins.list[Message], vectors: builtins.list[Bound]
    ) -> builtins.list[Message]:
        placed, batch_writes = await self.batches.place(messages)
        inserts = [self.queries.insert(row=message) for message in placed]
        if not batch_writes and not vectors and len(inserts) == 1:
            return [await self._store.execute(self.queries.insert, row=placed[0])]
        results = await self._store.write([*batch_writes, *inserts, *vectors])
        return results[len(batch_writes) : len(batch_writes) + len(inserts)]

    def _message(self, agent_id: str, fields: dict[str, Any]) -> Message:
        now = self._clock()
        created = fields.get("created_at")
        text, parts = split_content(fields.get("content", ""))
        calls = [tool_call(value) for value in listed("tool_calls", fields.get("tool_calls"))]
        given_responses = listed("tool_responses", fields.get("tool_responses"))
        responses = [tool_response(value) for value in given_responses]
        message: Message = self._build(
            id=self._new_id(fields.get("id"), now),
            agent_id=agent_id,
            conversation_id=fields.get("conversation_id"),
            position=0,
            batch_id=fields.get("batch_id"),
            batch_type=fields.get("batch_type"),
            role=fields.get("role", UNSET),
            speaker=fields.get("speaker"),
            content=text,
            parts=parts,
            tool_calls=calls,
            tool_responses=responses,
            tool_text=tool_text(calls, responses) if calls or responses else None,
            source=fields.get("source"),
            metadata=fields.get("metadata") or {},
            created_at=now if created is None else created,
            updated_at=now,
        )
        position = self._positions.at(message.created_at, now=created is None)
        return msgspec.structs.replace(message, position=position)

    async def _reposition(
        self, agent_id: str, messages: builtins.list[Message]
    ) -> builtins.list[Message]:
        """Positions after those that are taken in the same milliseconds."""
        last: dict[int, int] = {}
        moved = []
        for message in messages:
            end = last_position_within(message.position)
            if end not in last:
                last[end] = await self._last_taken(agent_id, end)
            position = max(last[end] + 1, end - last_position_within(0))
            if position > end:  # the millisecond is full
                position = self._positions.at(message.created_at)
            last[end] = max(last[end], position)
            self._positions.skip_past(position)
            moved.append(msgspec.structs.replace(message, position=position))
        return moved

    async def _last_taken(self, agent_id: str, end: int) -> int:
        first = end - last_position_within(0)
        taken = await self._store.execute(_LAST_UNTIL, agent_id=agent_id, last=end)
        return max(taken[0].position, first - 1) if taken else first - 1

    async def list(
        self,
        agent_id: str,
        *,
        conversation_id: str | None = None,
        batch_id: str | None = None,
        role: Role | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
        newest_first: bool = False,
        include_archived: bool = False,
        include_incomplete: bool = False,
        include_deleted: bool = False,
    ) -> builtins.list[Message]:
        """An agent's messages in the order of their positions, after the one with id ``after``.

        ``since`` is inclusive, ``until`` is not. Messages of incomplete batches are left out, and
        archived ones, unless asked for. ``recent`` gives the newest.
        """
        return await self._list(
            limit=limit,
            after=after,
            newest_first=newest_first,
            include_deleted=include_deleted,
            **self._conditions(
                agent_id=check_id("agent_id", agent_id),
                conversation_id=conversation_id,
                batch_id=batch_id,
                role=role,
                since=since,
                until=until,
                include_archived=include_archived,
                include_incomplete=include_incomplete,
            ),
        )

    async def recent(
        self, agent_id: str, *, limit: int = 50, conversation_id: str | None = None, **options: Any
    ) -> builtins.list[Message]:
        """The newest messages, oldest of them first: what a prompt is made of."""
        newest = await self.list(
            agent_id, limit=limit, conversation_id=conversation_id, newest_first=True, **options
        )
        return newest[::-1]

    async def count(
        self,
        agent_id: str | None = None,
        *,
        conversation_id: str | None = None,
        role: Role | str | None = None,
        include_archived: bool = True,
        include_incomplete: bool = True,
        include_deleted: bool = False,
    ) -> int:
        """How many messages there are: everything that is stored and not deleted."""
        return await self._count(
            include_deleted=include_deleted,
            **self._conditions(
                agent_id=agent_id,
                conversation_id=conversation_id,
                role=role,
                include_archived=include_archived,
                include_incomplete=include_incomplete or agent_id is None,
            ),
        )

    def _conditions(
        self, *, include_archived: bool, include_incomplete: bool, **fields: Any
    ) -> dict[str, Any]:
        if fields.get("role") is not None:
            fields["role"] = check_enum("role", Role, fields["role"])
        for name in ("since", "until"):
            if fields.get(name) is not None:
                fields[name] = check_time(name, fields[name])
        if not include_archived:
            fields["is_archived"] = False
        if not include_incomplete:
            fields["complete"] = True
        return fields

    async def update(
        self,
        id: str,
        *,
        content: str | Sequence[Any] | UnsetType = UNSET,
        speaker: str | None | UnsetType = UNSET,
        source: str | None | UnsetType = UNSET,
        metadata: Json | UnsetType = UNSET,
        embed: Mode | None = None,
    ) -> Message:
        """Change what is given; a new text or speaker is embedded again in the same write."""
        changes = given(speaker=speaker, source=source, metadata=metadata)
        if content is not UNSET:
            changes["content"], changes["parts"] = split_content(content)
        for attempt in range(_ATTEMPTS):
            before = await self.require(id)
            after: Message = self._changed(before, changes)
            try:
                await self._write_change(before, after, self._touched(changes), embed)
            except Conflict:
                await pause(attempt)
                continue
            self._wake(embed)
            return after
        raise Conflict("This message is being changed all the time; try again later.")

    async def _write_change(
        self, before: Message, after: Message, touched: Sequence[str], embed: Mode | None
    ) -> None:
        """A vector is of all of the text: it is written if nobody changed the rest meanwhile."""
        guards = ["is_deleted"]
        vectors: builtins.list[Bound] = []
        if (after.content, after.speaker) != (before.content, before.speaker):
            vectors = await self._indexer.writes_for([after], mode=embed)
            guards += ["content", "speaker", "tool_text"]
        row = self.queries.update(touched, guards=guards)(
            id=after.id,
            **{name: getattr(after, name) for name in touched},
            **{f"seen_{name}": getattr(before, name) for name in guards},
        )
        await self._store.write([row.expect(1), *vectors])

    async def delete(self, id: str) -> None:
        """Leave a tombstone: no longer listed or found, its place in the order kept."""
        message = await self.require(id)
        await self._store.write(self.batches.tombstone([message]))

    async def _reactivate(self, found: Message) -> Message:
        after: Message = self._changed(found, {"is_deleted": False})
        guards = ["is_deleted", "content", "speaker", "tool_text", "updated_at"]
        row = self.queries.update(["is_deleted", "updated_at"], guards=guards)(
            id=found.id,
            is_deleted=False,
            updated_at=after.updated_at,
            **{f"seen_{name}": getattr(found, name) for name in guards},
        )
        await self._store.write([row.expect(1), *await self._indexer.writes_for([after])])
        self._wake(None)
        return after

    def _purges(self, found: Message) -> builtins.list[Bound]:
        return [*self._indexer.removals_for(found), self.queries.purge(id=found.id)]

    async def archive_before(self, agent_id: str, position: int | str) -> int:
        """Archive an agent's messages before a position (or before the message with that id).

        Archived messages leave lists and contexts and are still found. Batches that are open or
        reach across the position stay whole. Gives how many messages were archived.
        """
        if isinstance(position, str):
            position = (await self.require(position, include_deleted=True)).position
        return await self.batches.archive_before(check_id("agent_id", agent_id), position)

    async def repair(self, agent_id: str | None = None) -> builtins.list[MessageBatch]:
        """Close the batches a crash left open, for one agent or all; gives them as they are now.

        Unanswered calls and responses to nothing become tombstones, and each batch leaves a row in
        the audit log. Batches that are still being filled must not exist when this is called.
        """
        return await self.batches.repair(agent_id)

    async def open_batch(
        self,
        agent_id: str,
        *,
        batch_type: BatchType | str = BatchType.USER_REQUEST,
        conversation_id: str | None = None,
        id: str | None = None,
    ) -> MessageBatch:
        """Begin a batch; it stays open until ``complete_batch``."""
        return await self.batches.open(
            agent_id, batch_type=batch_type, conversation_id=conversation_id, id=id
        )

    async def complete_batch(self, batch_id: str) -> MessageBatch:
        """Close a batch. Raises ``BatchIncomplete`` while a tool call has no response."""
        return await self.batches.complete(batch_id)

    async def search(
        self, agent_id: str | Sequence[str], query: str, **options: Any
    ) -> builtins.list[Hit]:
        """The messages that answer a question best.

        Takes the options of ``PatternDB.search`` except ``kinds``.
        """
        return await self._context.searcher.search(
            agent_id, query, SearchOptions.of(options, kind="message")
        )

    def _wake(self, embed: Mode | None) -> None:
        if (embed or self._indexer.mode) == "queued":
            self._indexer.wake()


Messages.queries = _MessageQueries(Message)


def _fields_of(message: Mapping[str, Any] | Message, index: int) -> dict[str, Any]:
    """The fields of one entry of ``append_many``."""
    if isinstance(message, Message):
        fields = {name: getattr(message, name) for name in _GIVEN}
        return fields | ({"content": message.parts} if message.parts is not None else {})
    if not isinstance(message, Mapping):
        raise InvalidValue("messages", f"entry {index} must be a dict or a Message.")
    check_known("messages", message, _GIVEN)
    return dict(message)
