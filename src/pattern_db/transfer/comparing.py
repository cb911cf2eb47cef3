"""Whether what one database holds is in another one, value for value."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from pattern_db.clock import monotonic
from pattern_db.engines.base import Store
from pattern_db.errors import CopyFailed
from pattern_db.filters import In, param
from pattern_db.query import Count
from pattern_db.schema import Table
from pattern_db.service import PatternDB

from .rows import ahead, renumbered, there
from .spaces import numbers_in
from .walking import CONTENT, EMBEDDINGS, Key, Page, Walk, closure, key_of

Progress = Callable[[int, int], None]

_EXAMPLES = 5
_HASH_BYTES = 16
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def canonical(row: Any) -> bytes:
    """A row's values as bytes: equal for equal values on every engine, and only for those.

    JSON objects are equal in any order of their keys; 1, 1.0 and true are three values.
    """
    return _encode(row)


class TableComparison(msgspec.Struct, kw_only=True):
    """One table: how many rows of the source there are in the destination, and what they hold.

    The hashes are sums over rows of their BLAKE2b-128, so that no order matters: they are equal
    where the same rows with the same values are. ``extra`` are rows that only the destination has
    (``None`` if only some agents were looked at). ``examples`` are keys of rows that are not equal.
    """

    table: str
    source_rows: int = 0
    destination_rows: int = 0
    missing: int = 0
    different: int = 0
    extra: int | None = None
    source_hash: str = ""
    destination_hash: str = ""
    examples: list[str] = []

    @property
    def equal(self) -> bool:
        """Whether every row of the source arrived as it is."""
        return not self.missing and not self.different and self.source_hash == self.destination_hash


class Comparison(msgspec.Struct, kw_only=True):
    """What a comparison found; ``equal`` if every row of the source is in the destination."""

    equal: bool
    tables: list[TableComparison]
    seconds: float


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What of a database is copied or compared."""

    tables: Sequence[Table]
    agents: Sequence[str] = ()
    embeddings: bool = True

    def walk(self, source: Store) -> Walk:
        """Its rows in a source."""
        return Walk(source, tables=self.tables, agents=self.agents)


async def chosen(
    source: PatternDB,
    *,
    tables: Sequence[str] | None,
    agents: Sequence[str] | None,
    embeddings: bool,
) -> Chosen:
    """What a caller chose, checked. Raises ``CopyFailed`` (a table), ``NotFound`` (an agent)."""
    known = [table.name for table in CONTENT]
    for name in tables or ():
        if name not in known:
            raise CopyFailed(f"There is no table {name!r} to copy; there are {', '.join(known)}.")
    for agent in agents or ():
        await source.agents.require(agent, include_deleted=True)
    return Chosen(
        tables=closure(known if tables is None else tables),
        agents=tuple(agents or ()),
        embeddings=embeddings,
    )


async def compare_databases(
    source: PatternDB,
    destination: PatternDB,
    *,
    tables: Sequence[str] | None = None,
    agents: Sequence[str] | None = None,
    embeddings: bool = True,
    progress: Progress | None = None,
) -> Comparison:
    """Look for every row of the source in the destination, and compare all values; changes nothing.

    The arguments are those of ``copy_database``. Both are read page by page, whatever their size.
    """
    started = monotonic()
    what = await chosen(source, tables=tables, agents=agents, embeddings=embeddings)
    return await compared(source.store, destination.store, what, progress, started)


async def compared(
    source: Store,
    destination: Store,
    what: Chosen,
    progress: Progress | None,
    started: float,
) -> Comparison:
    """See ``compare_databases``."""
    walk, spaces = what.walk(source), await numbers_in(destination, source)
    found = {t.name: _Sums(t) for t in (*what.tables, *([EMBEDDINGS] if what.embeddings else []))}
    done, total = 0, await walk.count(embeddings=what.embeddings)
    async for page in ahead(pages(walk, what)):
        rows = renumbered(page, spaces)
        found[page.table.name].add(rows, await there(destination, page.table, rows))
        done += len(rows)
        if progress is not None:
            progress(done, max(done, total))
    tables = [sums.result() for sums in found.values()]
    if not what.agents:
        for each in tables:
            each.extra = await _count(destination, found[each.table].table, what) - (
                each.destination_rows
            )
    return Comparison(
        equal=all(each.equal for each in tables), tables=tables, seconds=monotonic() - started
    )


async def pages(walk: Walk, what: Chosen) -> AsyncIterator[Page]:
    """The rows that are compared: the content, then its vectors."""
    async for page in walk.content():
        yield page
    if what.embeddings:
        async for page in walk.derived(EMBEDDINGS):
            yield page


async def _count(store: Store, table: Table, what: Chosen) -> int:
    kinds = [t.text.kind for t in what.tables if t.text is not None]
    filters = (In("kind", param("kinds")),) if table is EMBEDDINGS else ()
    count: int = await store.execute(Count(table, filters), kinds=kinds)
    return count


class _Sums:
    """One table while it is compared."""

    def __init__(self, table: Table):
        self.table = table
        self._result = TableComparison(table=table.name, examples=[])
        self._sums = [0, 0]

    def add(self, rows: list[Any], there: dict[Key, Any]) -> None:
        """Some rows of the source, and those with their keys in the destination."""
        result = self._result
        for row in rows:
            key = key_of(self.table, row)
            ours = _hashed(row)
            self._sums[0] += ours
            result.source_rows += 1
            if (other := there.get(key)) is None:
                result.missing += 1
                self._exemplify(key)
                continue
            theirs = _hashed(other)
            self._sums[1] += theirs
            result.destination_rows += 1
            if ours != theirs:
                result.different += 1
                self._exemplify(key)

    def _exemplify(self, key: Key) -> None:
        if len(self._result.examples) < _EXAMPLES:
            self._result.examples.append(shown(key))

    def result(self) -> TableComparison:
        """The comparison of what was added."""
        self._result.source_hash, self._result.destination_hash = (
            f"{value % (1 << 8 * _HASH_BYTES):0{2 * _HASH_BYTES}x}" for value in self._sums
        )
        return self._result


def _hashed(row: Any) -> int:
    return int.from_bytes(hashlib.blake2b(canonical(row), digest_size=_HASH_BYTES).digest())


def shown(key: Key) -> str:
    """A key as people read it."""
    return " ".join(map(str, key))
