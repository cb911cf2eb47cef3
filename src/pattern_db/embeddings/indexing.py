"""Keeping vectors in step with texts.

A vector is written in the same transaction as its text, or its item is put into a queue in the
database by that transaction; either way no acknowledged text stays without one for good.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Literal

import msgspec

from ..clock import Clock
from ..engines.base import Store
from ..errors import (
    AlreadyExists,
    Conflict,
    EmbeddingFailed,
    EmbeddingModelMismatch,
    InvalidValue,
    PatternError,
)
from ..ids import new_id
from ..models import (
    SYSTEM_ID,
    Embedding,
    EmbeddingSpace,
    QueuedEmbedding,
    SystemMetadata,
)
from ..query import Bound, Count, Get, Insert, delete, param, select, update
from ..schema import Table, all_tables, columns_of, table_of
from .provider import EmbeddingProvider, Vector
from .texts import EMBEDDED_TEXT, content_hash

log = logging.getLogger("pattern_db.embeddings")

Mode = Literal["inline", "queued"]
Progress = Callable[[int, int], None]

_E, _Q, _S = columns_of(Embedding), columns_of(QueuedEmbedding), columns_of(EmbeddingSpace)
_METADATA = Get(table_of(SystemMetadata))
_NAME_MODEL = update(SystemMetadata, "embedding_model", "embedding_dimensions", "updated_at").where(
    columns_of(SystemMetadata).id == SYSTEM_ID
)
_SPACES = select(EmbeddingSpace).order_by(_S.id)
_ADD_SPACE = Insert(table_of(EmbeddingSpace))
_DROP_SPACE = delete(EmbeddingSpace).where(_S.id != param("space"))
_ADD = Insert(table_of(Embedding))
_REMOVE = delete(Embedding).where(_E.item_id == param("item_id"), _E.kind == param("kind"))
_HASHES = (
    select(Embedding)
    .where(_E.item_id.in_(param("ids")), _E.kind == param("kind"), _E.space == param("space"))
    .only(_E.item_id, _E.content_hash)
)
_ENQUEUE = Insert(table_of(QueuedEmbedding), on_conflict="replace")
_DEQUEUE = delete(QueuedEmbedding).where(_Q.item_id == param("item_id"), _Q.kind == param("kind"))
_DEQUEUE_SEEN = _DEQUEUE.where(_Q.token == param("token"))
_EMPTY_QUEUE = delete(QueuedEmbedding)
_QUEUED = select(QueuedEmbedding).order_by(_Q.queued_at, _Q.item_id).limit(param("limit"))
_QUEUE_LENGTH = Count(table_of(QueuedEmbedding))
_ANY_VECTOR = select(Embedding).only(_E.item_id).limit(1)
_PAGE = 256
_LONG_TEXT_CHARS = 10_000
_MOST_REFUSED = 8
"""A provider that refuses so many texts and takes none is out of order."""
_MOST_PASSES = 5
"""Others may write all the time; what they wrote last is embedded under the write lock."""

SEARCHABLE: dict[str, Table] = {
    table.text.kind: table for table in all_tables() if table.text is not None
}
"""The tables whose rows are found by search, by kind."""


class Indexer:
    """Makes the writes that keep vectors in step, with one provider (or none)."""

    def __init__(
        self, store: Store, provider: EmbeddingProvider | None, *, mode: Mode, clock: Clock
    ):
        self._store = store
        self.provider = provider
        self.mode: Mode = mode
        self._clock = clock
        self._space: int | None = None
        self._worker: asyncio.Task[int] | None = None

    @property
    def space(self) -> int | None:
        """The space of the provider's vectors in this database; ``None`` before the first one."""
        return self._space

    async def open(self, *, allow_other_model: bool = False) -> None:
        """Compare the provider with the database; raises ``EmbeddingModelMismatch``.

        A database without vectors takes the provider's model; one with vectors keeps its own.
        """
        metadata: SystemMetadata = await self._store.execute(_METADATA, id=SYSTEM_ID)
        model, dimensions = metadata.embedding_model, metadata.embedding_dimensions
        self._space = await self._find_space(model, dimensions)
        if self.provider is None:
            return
        wanted = (self.provider.model_id, self.provider.dimensions)
        if (model, dimensions) == wanted and self._space is not None:
            return
        if not await self._taken() and model is not None:
            self._space = None
            if not allow_other_model:
                raise EmbeddingModelMismatch(
                    model, wanted[0], db_dimensions=dimensions, config_dimensions=wanted[1]
                )

    async def _taken(self) -> bool:
        """Make the provider's model the database's, if there is no vector yet."""
        async with self._store.transaction(alone=True):
            if await self._store.execute(_ANY_VECTOR):
                return False
            space = await self._own_space(current=True)
            await self._store.execute(_DROP_SPACE, space=space)
        self._space = space
        return True

    async def _find_space(self, model: str | None, dimensions: int | None) -> int | None:
        spaces: list[EmbeddingSpace] = await self._store.execute(_SPACES)
        return next((s.id for s in spaces if (s.model, s.dimensions) == (model, dimensions)), None)

    async def _own_space(self, *, current: bool) -> int:
        """The provider's space, made if need be; ``current`` also names it the database's model."""
        assert self.provider is not None
        wanted = (self.provider.model_id, self.provider.dimensions)
        while (space := await self._find_space(*wanted)) is None:
            try:
                await self._store.write([await self._adding(*wanted)])
            except AlreadyExists:
                log.debug("another process made the embedding space at the same time")
        if current:
            await self._store.write([self._naming()])
        return space

    async def _adding(self, model: str, dimensions: int) -> Bound:
        spaces: list[EmbeddingSpace] = await self._store.execute(_SPACES)
        number = max((known.id for known in spaces), default=0) + 1
        row = EmbeddingSpace(number, model, dimensions, self._clock())
        return _ADD_SPACE(row=row)

    def _naming(self) -> Bound:
        assert self.provider is not None
        return _NAME_MODEL(
            embedding_model=self.provider.model_id,
            embedding_dimensions=self.provider.dimensions,
            updated_at=self._clock(),
        )

    # writing

    async def writes_for(
        self, items: Sequence[Any], *, mode: Mode | None = None, fresh: bool = False
    ) -> list[Bound]:
        """The statements that belong into the transaction which writes these items.

        ``fresh`` items are new: there is nothing of theirs to remove. Raises ``EmbeddingFailed``.
        """
        if mode not in (None, "inline", "queued"):
            raise InvalidValue("embed", "it must be inline or queued.")
        if self.provider is None:
            return self.enqueue(items) if await self._has_model() else []
        if (mode or self.mode) == "queued":
            return self.enqueue(items)
        rows = await self._embed(items, self._current())
        clear = [] if fresh else [bound for item in items for bound in self.removals_for(item)]
        return clear + [_ADD(row=row) for row in rows]

    def _current(self) -> int:
        """The space to write into. Raises ``EmbeddingFailed`` before a change of model is done."""
        if self._space is None:
            raise EmbeddingFailed(
                "The database still has the vectors of another model; finish `pattern db reembed`."
            )
        return self._space

    async def _has_model(self) -> bool:
        """Whether the database has vectors, perhaps since a moment ago and by another process."""
        if self._space is None:
            metadata = await self._store.execute(_METADATA, id=SYSTEM_ID)
            return metadata.embedding_model is not None
        return True

    def removals_for(self, item: Any) -> list[Bound]:
        """The statements that forget an item."""
        key = {"item_id": item.id, "kind": kind_of(item)}
        return [_REMOVE(**key), _DEQUEUE(**key)]

    def enqueue(self, items: Sequence[Any]) -> list[Bound]:
        """The statements that let items wait for a vector of whoever makes it."""
        now = self._clock()
        return [
            _ENQUEUE(
                row=QueuedEmbedding(
                    kind=kind_of(item),
                    item_id=item.id,
                    agent_id=item.agent_id,
                    token=new_id("queued", now),
                    queued_at=now,
                )
            )
            for item in items
        ]

    async def _embed(self, items: Sequence[Any], space: int) -> list[Embedding]:
        assert self.provider is not None
        pieces = await self._split(items, self.provider)
        if not pieces:
            return []
        vectors = await self.provider.embed_batch([piece.text for piece in pieces])
        if vectors.shape != (len(pieces), self.provider.dimensions):
            raise EmbeddingFailed("The provider gave another number or length of vectors.")
        return [
            Embedding(
                item_id=piece.item.id,
                kind=kind_of(piece.item),
                space=space,
                chunk_index=piece.index,
                agent_id=piece.item.agent_id,
                start_char=piece.start,
                end_char=piece.end,
                content_hash=piece.hash,
                vector=vector.tobytes(),
            )
            for piece, vector in zip(pieces, vectors.astype("<f4"), strict=True)
        ]

    async def _split(self, items: Sequence[Any], provider: EmbeddingProvider) -> list[_Piece]:
        """The pieces of all texts; long ones are tokenized off the event loop."""

        def split() -> list[_Piece]:
            return [piece for item in items for piece in _pieces(item, provider)]

        chars = sum(len(EMBEDDED_TEXT[type(item)](item)) for item in items)
        return await asyncio.to_thread(split) if chars > _LONG_TEXT_CHARS else split()

    async def embed_unstored(self, items: Sequence[Any]) -> list[Embedding]:
        """The vectors of items, as they are given, to compare with those of the database.

        Raises ``EmbeddingFailed``.
        """
        return await self._embed(items, self._current())

    async def embed_query(self, text: str) -> Vector | None:
        """The vector of a question's first 10,000 characters; ``None`` without a provider."""
        if self.provider is None:
            return None
        return await self.provider.embed_query(text[:_LONG_TEXT_CHARS])

    # the queue

    def wake(self) -> None:
        """Work through the queue in the background, unless that is happening already."""
        if self.provider is None or self._working():
            return
        self._worker = asyncio.get_running_loop().create_task(
            self._drain_quietly(),
            context=Context(),  # not inside the transaction that queued
        )

    def _working(self) -> bool:
        """Whether the worker runs; one whose event loop is gone does not."""
        worker = self._worker
        return worker is not None and not worker.done() and not worker.get_loop().is_closed()

    async def _drain_quietly(self) -> int:
        try:
            await self._store.write([])  # behind the transaction that queued
            return await self.drain()
        except PatternError as error:
            log.warning("queued embeddings wait: %s", error)
            return 0

    async def pending(self) -> int:
        """How many items wait for a vector."""
        waiting: int = await self._store.execute(_QUEUE_LENGTH)
        return waiting

    async def drain(self) -> int:
        """Embed everything that is queued; gives how many items.

        A text that the provider refuses stays queued and holds up no other. Raises
        ``EmbeddingFailed`` at the end if there was one, and sooner if the provider takes none.
        """
        if self.provider is None:
            return 0
        done, refused = 0, dict[tuple[str, str], EmbeddingFailed]()
        while True:
            queued = await self._store.execute(_QUEUED, limit=_PAGE + len(refused))
            waiting = [entry for entry in queued if (entry.kind, entry.item_id) not in refused]
            if not waiting:
                break
            failed = await self._embed_queued(waiting, self._current())
            done += len(waiting) - len(failed)
            refused |= failed
        if refused:
            first = next(iter(refused.values()))
            raise EmbeddingFailed(f"{len(refused)} of the queued texts were refused: {first}")
        return done

    async def _embed_queued(
        self, queued: list[QueuedEmbedding], space: int
    ) -> dict[tuple[str, str], EmbeddingFailed]:
        """Gives those that were refused."""
        by_kind: dict[str, list[QueuedEmbedding]] = {}
        for entry in queued:
            by_kind.setdefault(entry.kind, []).append(entry)
        refused: dict[tuple[str, str], EmbeddingFailed] = {}
        for kind, entries in by_kind.items():
            found = await _load(self._store, SEARCHABLE[kind], [e.item_id for e in entries])
            rows, failed = await self._embed_each(list(found.values()), space)
            refused |= {(kind, id): error for id, error in failed.items()}
            for entry in entries:
                if entry.item_id not in failed:
                    await self._settle(entry, [r for r in rows if r.item_id == entry.item_id])
        return refused

    async def _embed_each(
        self, items: list[Any], space: int
    ) -> tuple[list[Embedding], dict[str, EmbeddingFailed]]:
        """The vectors of those that the provider takes, and why it refused the others.

        What is refused together is tried by halves. Raises ``EmbeddingFailed`` if many are refused
        and none is taken.
        """
        rows: list[Embedding] = []
        failed: dict[str, EmbeddingFailed] = {}
        parts = [items]
        while parts:
            part = parts.pop()
            try:
                rows += await self._embed(part, space)
            except EmbeddingFailed as error:
                if len(part) > 1:
                    half = len(part) // 2
                    parts += [part[:half], part[half:]]
                    continue
                failed[part[0].id] = error
                if not rows and len(failed) == _MOST_REFUSED:
                    raise
        return rows, failed

    async def _settle(self, entry: QueuedEmbedding, rows: list[Embedding]) -> None:
        """Store the vectors of one item, unless it was written again since it was read."""
        key = {"item_id": entry.item_id, "kind": entry.kind}
        seen = _DEQUEUE_SEEN(**key, token=entry.token).expect(1)
        try:
            await self._store.write([seen, _REMOVE(**key), *(_ADD(row=row) for row in rows)])
        except (Conflict, AlreadyExists):
            log.debug("%s %s changed while it was embedded", entry.kind, entry.item_id)

    # another model

    async def reembed(self, *, progress: Progress | None = None, everything: bool = False) -> int:
        """Give every item a vector of this provider's; gives how many were embedded.

        Searches go on with the old vectors until all new ones are there. Stopped at any point it
        goes on where it was. ``everything`` embeds again also what has a current vector.
        """
        if self.provider is None:
            raise EmbeddingFailed("No embedding provider is configured; set embeddings.provider.")
        space = await self._own_space(current=False)
        total = sum([await self._store.execute(Count(table)) for table in SEARCHABLE.values()])
        embedded = 0
        for _ in range(_MOST_PASSES):
            done = await self._reembed_pass(space, total, progress, everything=everything)
            embedded += done
            if done < _PAGE or everything:
                break
        await self._switch(space)
        return embedded

    async def _reembed_pass(
        self, space: int, total: int, progress: Progress | None, *, everything: bool
    ) -> int:
        seen = embedded = 0
        for table in SEARCHABLE.values():
            after = ""
            while page := await self._page(table, after):
                after = page[-1].id
                stale = page if everything else await self._stale(table, page, space)
                await self._replace(stale, space)
                seen, embedded = seen + len(page), embedded + len(stale)
                if progress is not None:
                    progress(seen, total)
        return embedded

    async def _page(self, table: Table, after: str) -> list[Any]:
        rows: list[Any] = await self._store.execute(_page_query(table), after=after, limit=_PAGE)
        return rows

    async def _stale(self, table: Table, page: list[Any], space: int) -> list[Any]:
        """The live items without a current vector."""
        assert table.text is not None
        hashes = dict(
            await self._store.execute(
                _HASHES, ids=[item.id for item in page], kind=table.text.kind, space=space
            )
        )
        hidden, value = table.text.hidden
        return [
            item
            for item in page
            if getattr(item, hidden) is not value
            and (text := EMBEDDED_TEXT[type(item)](item)).strip()
            and hashes.get(item.id) != content_hash(text)
        ]

    async def _replace(self, items: list[Any], space: int) -> None:
        """Add vectors of the new space; of the same one the old ones go."""
        if not items:
            return
        rows = await self._embed(items, space)
        clear = delete(Embedding).where(
            _E.item_id == param("item_id"), _E.kind == param("kind"), _E.space == space
        )
        await self._store.write(
            [
                *(clear(item_id=item.id, kind=kind_of(item)) for item in items),
                *(_ADD(row=row) for row in rows),
            ]
        )

    async def _switch(self, space: int) -> None:
        """From now on the new vectors count; the old ones go with their space.

        What others wrote with the old model until now is embedded here, under the write lock; what
        they write later is refused, because their space is gone.
        """
        async with self._store.transaction(alone=True):
            await self._reembed_pass(space, 0, None, everything=False)
            writes = [self._naming(), _DROP_SPACE(space=space), _EMPTY_QUEUE()]
            await self._store.write(writes)
        self._space = space

    async def close(self) -> None:
        """Stop working; what is queued stays queued."""
        try:
            await self._stop_working()
        finally:
            if self.provider is not None:
                await self.provider.close()

    async def _stop_working(self) -> None:
        if self._worker is None or not self._working():
            return
        if (loop := self._worker.get_loop()) is not asyncio.get_running_loop():
            loop.call_soon_threadsafe(self._worker.cancel)
            return
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)


class _Piece(msgspec.Struct, frozen=True):
    item: Any
    index: int
    start: int
    end: int
    text: str
    hash: bytes


def _pieces(item: Any, provider: EmbeddingProvider) -> list[_Piece]:
    """The parts of an item's text, each within the model's window."""
    text = EMBEDDED_TEXT[type(item)](item)
    if not text.strip():
        return []
    digest = content_hash(text)
    return [
        _Piece(item, index, start, end, text[start:end], digest)
        for index, (start, end) in enumerate(provider.split(text))
    ]


def kind_of(item: Any) -> str:
    """The kind under which an item is found."""
    text = table_of(type(item)).text
    assert text is not None
    return text.kind


_PAGES: dict[Table, Any] = {}
_BY_IDS: dict[Table, Any] = {}


def _page_query(table: Table) -> Any:
    if table not in _PAGES:
        id_column = table.column("id")
        _PAGES[table] = (
            select(table.model)
            .where(id_column > param("after"))
            .order_by(id_column)
            .limit(param("limit"))
        )
    return _PAGES[table]


async def _load(store: Store, table: Table, ids: Sequence[str]) -> dict[str, Any]:
    """Live items by id."""
    if table not in _BY_IDS:
        assert table.text is not None
        hidden, value = table.text.hidden
        _BY_IDS[table] = select(table.model).where(
            table.column("id").in_(param("ids")), table.column(hidden) != value
        )
    items: list[Any] = await store.execute(_BY_IDS[table], ids=list(ids))
    return {item.id: item for item in items}
