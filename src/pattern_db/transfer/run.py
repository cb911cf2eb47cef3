"""One import while it runs: who gets the messages, how they are written, what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec

from pattern_db.embeddings.indexing import Mode
from pattern_db.errors import AlreadyExists, ImportFailed, InvalidValue
from pattern_db.ids import derived_id
from pattern_db.models import Conversation, Json, Message
from pattern_db.service import PatternDB

from .reading import Source

Progress = Callable[[int, int], None]

CHUNK = 500
"""How many messages are written at once, in one transaction."""


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did.

    ``agents`` are their ids in the order of the file; ``conversations`` and ``messages_present``
    count what the file holds and the database had already; ``skipped`` what was left out on
    purpose, by reason.
    """

    kind: str
    agents: list[str]
    conversations: int
    messages_written: int
    messages_present: int
    skipped: dict[str, int]
    seconds: float


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller of an import chose."""

    kind: str
    agent_id: str | None = None
    agent_name: str | None = None
    user_id: str | None = None
    embed: Mode | None = None
    progress: Progress | None = None


class Entry(msgspec.Struct, frozen=True):
    """A message to be: where it stands in the file, and the fields of ``messages.append``."""

    place: str
    fields: dict[str, Any]

    @property
    def id(self) -> str:
        """The id the message will have."""
        return str(self.fields["id"])

    def with_fields(self, **fields: Any) -> Entry:
        """The same with other values in some fields."""
        return Entry(self.place, {**self.fields, **fields})


class Run:
    """Writes what the reader of one kind of file finds, and counts it."""

    def __init__(self, db: PatternDB, source: Source, options: Options) -> None:
        self.db = db
        self.source = source
        self._options = options
        self._agents: list[str] = []
        self._conversations: set[str] = set()
        self._written = self._present = 0
        self._skipped: Counter[str] = Counter()

    @property
    def kind(self) -> str:
        """The kind of file."""
        return self._options.kind

    def skip(self, reason: str, count: int = 1) -> None:
        """Note what is left out or changed on purpose."""
        if count:
            self._skipped[reason] += count

    def replaced(self, count: int) -> None:
        """Note texts in which characters that no database stores were replaced."""
        self.skip("unstorable characters replaced", count)

    def advance(self, done: int, total: int) -> None:
        """Tell the caller how far this is."""
        if self._options.progress is not None:
            self._options.progress(done, total)

    def report(self, *, seconds: float) -> ImportReport:
        """What was done until now."""
        return ImportReport(
            kind=self.kind,
            agents=list(self._agents),
            conversations=len(self._conversations),
            messages_written=self._written,
            messages_present=self._present,
            skipped=dict(self._skipped),
            seconds=seconds,
        )

    async def agent(self, name: str, *identity: str) -> str:
        """The agent the caller chose, else the one made for this identity; gives its id."""
        chosen = self._options.agent_id or await self._own_agent(name, identity)
        if chosen not in self._agents:
            self._agents.append(chosen)
        return chosen

    async def _own_agent(self, name: str, identity: Sequence[str]) -> str:
        user_id = self._options.user_id
        if self._options.agent_name is not None:
            name = self._options.agent_name
            identity = ("named", name)
        id = derived_id("agent", self.kind, user_id or "", *identity)
        try:
            await self.db.agents.create(name=name, user_id=user_id, id=id)
        except AlreadyExists:
            if await self.db.agents.get(id) is None:
                raise ImportFailed(
                    f"{self.source.name}: its agent {id!r} was deleted; restore or purge that "
                    "agent, or name another one."
                ) from None
        return id

    async def conversation(
        self,
        agent_id: str,
        id: str,
        *,
        place: str,
        title: str = "",
        created_at: datetime | None = None,
        metadata: Json | None = None,
    ) -> Conversation:
        """The conversation with this id, made if need be."""
        self._conversations.add(id)
        with self.at(place):
            try:
                return await self.db.conversations.create(
                    agent_id,
                    title=title,
                    user_id=self._options.user_id,
                    created_at=created_at,
                    metadata=metadata,
                    id=id,
                )
            except AlreadyExists:
                return await self.db.conversations.require(id, include_deleted=True)

    async def write(self, agent_id: str, entries: Sequence[Entry]) -> int:
        """Store messages that are not there yet, in their order; gives how many were not."""
        written = 0
        for start in range(0, len(entries), CHUNK):
            written += await self._write(agent_id, entries[start : start + CHUNK])
        return written

    async def _write(self, agent_id: str, entries: Sequence[Entry]) -> int:
        distinct: dict[str, Entry] = {}
        for entry in entries:
            distinct.setdefault(entry.id, entry)
        try:
            written = len(await self._append(agent_id, [*distinct.values()]))
        except InvalidValue:
            written = await self._write_up_to_the_wrong_one(agent_id, [*distinct.values()])
        self._written += written
        self._present += len(entries) - written
        return written

    async def _write_up_to_the_wrong_one(self, agent_id: str, entries: Sequence[Entry]) -> int:
        written = 0
        for entry in entries:
            with self.at(entry.place):
                written += len(await self._append(agent_id, [entry]))
        return written

    async def _append(self, agent_id: str, entries: Sequence[Entry]) -> list[Message]:
        return await self.db.messages.append_many(
            agent_id,
            [entry.fields for entry in entries],
            skip_existing=True,
            embed=self._options.embed,
        )

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """A value that cannot be stored becomes ``ImportFailed`` with its place."""
        try:
            yield
        except InvalidValue as error:
            raise self.source.failure(place, str(error).rstrip(".")) from error
