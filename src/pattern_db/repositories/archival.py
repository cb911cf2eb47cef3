"""Archival entries: long-term notes, perhaps in chunks."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from ..embeddings.indexing import Mode
from ..embeddings.split import split_text
from ..errors import AlreadyExists, Conflict, InvalidValue
from ..models import ArchivalEntry, Json
from ..query import Bound, param, select
from ..schema import columns_of
from ..search import Hit, SearchOptions
from ..validation import check_id, check_known, check_limit
from .repository import DEFAULT_LIMIT, Repository, given, pause, retried

_E = columns_of(ArchivalEntry)
_CHUNKS = (
    select(ArchivalEntry)
    .where(_E.parent_entry_id == param("parent"), _E.is_active == True)  # noqa: E712
    .order_by(_E.chunk_index)
)
_ALL_CHUNKS = select(ArchivalEntry).where(_E.parent_entry_id == param("parent"))
_EXISTING = select(ArchivalEntry).where(_E.id.in_(param("ids"))).only(_E.id)
_GIVEN = ("content", "metadata", "id", "created_at")
_ATTEMPTS = 50


class Archival(Repository[ArchivalEntry]):
    """The archival entries of agents."""

    model = ArchivalEntry
    prefix = "arch"

    async def create(
        self,
        agent_id: str,
        content: str,
        *,
        metadata: Json | None = None,
        chunk_chars: int | None = None,
        id: str | None = None,
        created_at: Any = None,
        embed: Mode | None = None,
    ) -> ArchivalEntry:
        """Keep a note, as one durable write with its vectors.

        With ``chunk_chars`` a longer text becomes several entries of at most that many characters,
        which together are exactly the text; the first one is returned and is the parent of the
        others. Without it the entry stays whole, whatever its length.
        """
        first = self._entry(
            agent_id, content=content, metadata=metadata, id=id, created_at=created_at
        )
        return (await self._keep(self._chunked(first, chunk_chars), embed))[0]

    async def create_many(
        self,
        agent_id: str,
        entries: Iterable[Mapping[str, Any] | ArchivalEntry],
        *,
        skip_existing: bool = False,
        embed: Mode | None = None,
    ) -> builtins.list[ArchivalEntry]:
        """Keep notes, all or none, as one durable write with one batch of embeddings.

        Takes dicts of ``content``, ``metadata``, ``id`` and ``created_at``, or models; each stays
        whole. ``skip_existing`` leaves out those whose id is already there (for imports that may
        run twice); the result holds what was written.
        """
        if isinstance(entries, str | Mapping) or not isinstance(entries, Iterable):
            raise InvalidValue("entries", "it must be a list of dicts or ArchivalEntries.")
        made = [self._entry(agent_id, **_fields_of(e, index)) for index, e in enumerate(entries)]
        for attempt in range(_ATTEMPTS):
            new = await self._without_existing(made) if skip_existing else made
            try:
                return await self._keep(new, embed) if new else []
            except AlreadyExists:
                if not skip_existing or len({entry.id for entry in new}) < len(new):
                    raise
                await pause(attempt)  # another import wrote some of them at this moment
        raise Conflict("These entries are being imported elsewhere; try again later.")

    async def _without_existing(
        self, entries: builtins.list[ArchivalEntry]
    ) -> builtins.list[ArchivalEntry]:
        rows = await self._store.execute(_EXISTING, ids=[entry.id for entry in entries])
        existing = {row[0] for row in rows}
        return [entry for entry in entries if entry.id not in existing]

    def _entry(
        self,
        agent_id: str,
        *,
        content: Any = "",
        metadata: Json | None = None,
        id: str | None = None,
        created_at: Any = None,
    ) -> ArchivalEntry:
        now = self._clock()
        entry: ArchivalEntry = self._build(
            id=self._new_id(id, now),
            agent_id=check_id("agent_id", agent_id),
            content=content,
            metadata=metadata or {},
            created_at=created_at or now,
            updated_at=now,
        )
        if not entry.content.strip():
            raise InvalidValue("content", "an archival entry needs a text.")
        return entry

    async def _keep(
        self, entries: builtins.list[ArchivalEntry], embed: Mode | None
    ) -> builtins.list[ArchivalEntry]:
        vectors = await self._indexer.writes_for(entries, mode=embed, fresh=True)
        await self._store.write([*(self.queries.insert(row=e) for e in entries), *vectors])
        self._wake(embed)
        return entries

    def _chunked(
        self, first: ArchivalEntry, chunk_chars: int | None
    ) -> builtins.list[ArchivalEntry]:
        if chunk_chars is None:
            return [first]
        if len(first.content) <= check_limit(chunk_chars, field="chunk_chars"):
            return [first]
        values = {name: getattr(first, name) for name in first.__struct_fields__}
        return [
            self._build(
                **{
                    **values,
                    "id": first.id if index == 0 else f"{first.id}_{index}",
                    "content": first.content[start:end],
                    "parent_entry_id": None if index == 0 else first.id,
                    "chunk_index": index,
                }
            )
            for index, (start, end) in enumerate(split_text(first.content, chunk_chars))
        ]

    async def list(
        self,
        agent_id: str | None = None,
        *,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
        newest_first: bool = False,
        include_deleted: bool = False,
    ) -> builtins.list[ArchivalEntry]:
        """An agent's entries in the order of their time, after the one with the id ``after``."""
        return await self._list(
            limit=limit,
            after=after,
            newest_first=newest_first,
            include_deleted=include_deleted,
            agent_id=agent_id,
        )

    async def count(self, agent_id: str | None = None, *, include_deleted: bool = False) -> int:
        """How many entries there are."""
        return await self._count(include_deleted=include_deleted, agent_id=agent_id)

    async def chunks(self, id: str) -> builtins.list[ArchivalEntry]:
        """An entry and the further chunks of its text, in order. Raises ``NotFound``."""
        first = await self.require(id)
        return [first, *await self._store.execute(_CHUNKS, parent=id)]

    async def read(self, id: str) -> str:
        """The whole text of an entry with its chunks. Raises ``NotFound``."""
        return "".join(chunk.content for chunk in await self.chunks(id))

    async def update(
        self,
        id: str,
        *,
        content: str | UnsetType = UNSET,
        metadata: Json | UnsetType = UNSET,
        embed: Mode | None = None,
    ) -> ArchivalEntry:
        """Change what is given; a new text is embedded again in the same write."""
        changes = given(content=content, metadata=metadata)
        after = await retried(lambda: self._update(id, changes, embed), self.entity)
        self._wake(embed)
        return after

    async def _update(self, id: str, changes: dict[str, Any], embed: Mode | None) -> ArchivalEntry:
        before = await self.require(id)
        after: ArchivalEntry = self._changed(before, changes)
        if not after.content.strip():
            raise InvalidValue("content", "an archival entry needs a text.")
        touched = self._touched(changes)
        row = self.queries.update(touched, guards=["is_active", "content"])(
            id=id,
            seen_is_active=True,
            seen_content=before.content,
            **{name: getattr(after, name) for name in touched},
        )
        vectors: builtins.list[Bound] = []
        if after.content != before.content:
            vectors = await self._indexer.writes_for([after], mode=embed)
        await self._store.write([row.expect(1), *vectors])
        return after

    def _wake(self, embed: Mode | None = None) -> None:
        if (embed or self._indexer.mode) == "queued":
            self._indexer.wake()

    async def delete(self, id: str) -> None:
        """Deactivate an entry and its further chunks: no longer listed or found."""
        chunks = await self.chunks(id)
        gone = self.queries.update(["is_active", "updated_at"])
        now = self._clock()
        await self._store.write(
            [
                bound
                for chunk in chunks
                for bound in (
                    gone(id=chunk.id, is_active=False, updated_at=now),
                    *self._indexer.removals_for(chunk),
                )
            ]
        )

    async def restore(self, id: str) -> ArchivalEntry:
        """Undo ``delete`` of an entry and its further chunks. Raises ``NotFound``."""
        await retried(lambda: self._restore(id), self.entity)
        self._wake()
        return await self.require(id)

    async def _restore(self, id: str) -> None:
        first = await self.require(id, include_deleted=True)
        chunks = [first, *await self._store.execute(_ALL_CHUNKS, parent=id)]
        back = self.queries.update(["is_active", "updated_at"], guards=["content", "updated_at"])
        now = self._clock()
        vectors = await self._indexer.writes_for(chunks)
        rows = [
            back(
                id=chunk.id,
                is_active=True,
                updated_at=now,
                seen_content=chunk.content,
                seen_updated_at=chunk.updated_at,
            ).expect(1)
            for chunk in chunks
        ]
        await self._store.write([*rows, *vectors])

    async def purge(self, id: str) -> None:
        """Erase an entry, its further chunks and their vectors, for good. Raises ``NotFound``."""
        first = await self.require(id, include_deleted=True)
        chunks = [first, *await self._store.execute(_ALL_CHUNKS, parent=id)]
        removals = [bound for chunk in chunks for bound in self._indexer.removals_for(chunk)]
        audit = self._audit("purge", subject_id=id, details={"entity": self.entity})
        await self._store.write([*removals, self.queries.purge(id=id), audit])

    async def search(
        self, agent_id: str | Sequence[str], query: str, **options: Any
    ) -> builtins.list[Hit]:
        """The entries that answer a question best.

        Takes the options of ``PatternDB.search`` except ``kinds``.
        """
        return await self._context.searcher.search(
            agent_id, query, SearchOptions.of(options, kind="archival")
        )


def _fields_of(entry: Mapping[str, Any] | ArchivalEntry, index: int) -> dict[str, Any]:
    """The fields of one entry of ``create_many``."""
    if isinstance(entry, ArchivalEntry):
        return {name: getattr(entry, name) for name in _GIVEN}
    if not isinstance(entry, Mapping):
        raise InvalidValue("entries", f"entry {index} must be a dict or an ArchivalEntry.")
    check_known("entries", entry, _GIVEN)
    return dict(entry)
