"""Summaries of archived messages, and summaries of summaries."""

from __future__ import annotations

import builtins

from ..errors import BatchIncomplete, InvalidValue, NotFound
from ..models import ArchiveSummary, BatchStatus, Json, Message, MessageBatch
from ..query import Count, param, select
from ..schema import columns_of, table_of
from ..validation import check_id
from .repository import DEFAULT_LIMIT, Repository

_M, _B = columns_of(Message), columns_of(MessageBatch)
_COVERED = Count(
    table_of(Message),
    (
        _M.agent_id == param("agent_id"),
        _M.position >= param("start"),
        _M.position <= param("end"),
        _M.is_deleted == False,  # noqa: E712
    ),
)
_CUT = (
    select(MessageBatch)
    .where(
        _B.agent_id == param("agent_id"),
        _B.first_position <= param("end"),
        _B.last_position >= param("start"),
    )
    .where(
        (_B.status == BatchStatus.OPEN)
        | (_B.first_position < param("start"))
        | (_B.last_position > param("end"))
    )
    .limit(1)
)


class Summaries(Repository[ArchiveSummary]):
    """The archive summaries of agents."""

    model = ArchiveSummary
    prefix = "summary"
    order = ("start_position", "id")

    async def create(
        self,
        agent_id: str,
        summary: str,
        *,
        start_position: int,
        end_position: int,
        previous_summary_id: str | None = None,
        depth: int = 0,
        metadata: Json | None = None,
        id: str | None = None,
    ) -> ArchiveSummary:
        """Keep the summary of the messages from one position to another, both included.

        ``previous_summary_id`` chains it to the one before; ``depth`` n summarizes summaries of
        depth n - 1. Raises ``BatchIncomplete`` if the range cuts a batch in two or holds an open
        one, ``NotFound`` if it holds no message.
        """
        if not isinstance(summary, str) or not summary.strip():
            raise InvalidValue("summary", "a summary needs a text.")
        for name, number in (("depth", depth), ("start_position", start_position)):
            if isinstance(number, bool) or not isinstance(number, int):
                raise InvalidValue(name, "it must be a whole number.")
        if depth < 0:
            raise InvalidValue("depth", "it must be at least 0.")
        span = {
            "agent_id": check_id("agent_id", agent_id),
            "start": start_position,
            "end": end_position,
        }
        if await self._store.execute(_CUT, **span):
            raise BatchIncomplete(
                "These positions cut a batch in two or hold an open one; move them to its border."
            )
        covered = await self._store.execute(_COVERED, **span)
        if covered == 0:
            raise NotFound("message between the positions of agent", agent_id)
        await self._check_previous(agent_id, previous_summary_id)
        now = self._clock()
        row = self._build(
            id=self._new_id(id, now),
            agent_id=agent_id,
            summary=summary,
            start_position=start_position,
            end_position=end_position,
            message_count=covered,
            previous_summary_id=previous_summary_id,
            depth=depth,
            metadata=metadata or {},
            created_at=now,
        )
        return await self._insert(row)  # type: ignore[no-any-return]

    async def _check_previous(self, agent_id: str, previous_summary_id: str | None) -> None:
        if previous_summary_id is None:
            return
        previous = await self.require(previous_summary_id)
        if previous.agent_id != agent_id:
            raise NotFound(self.entity, previous_summary_id)

    async def list(
        self,
        agent_id: str,
        *,
        depth: int | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> builtins.list[ArchiveSummary]:
        """An agent's summaries in the order of what they cover."""
        return await self._list(limit=limit, after=after, agent_id=agent_id, depth=depth)

    async def chain(self, id: str) -> builtins.list[ArchiveSummary]:
        """A summary and the ones before it, newest first. Raises ``NotFound``."""
        found = [await self.require(id)]
        seen = {id}
        while (previous := found[-1].previous_summary_id) is not None and previous not in seen:
            seen.add(previous)
            found.append(await self.require(previous))
        return found
