"""Which rows of a database go together, page by page, what is referred to first.

Everything is read off the schema. Pages are read by key, so that memory holds a few of them however
large a table is, and so that a walk that was stopped can begin again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import msgspec

from pattern_db.engines.base import Store
from pattern_db.filters import After, Filter, In, Or, param
from pattern_db.models import Agent, Embedding, QueuedEmbedding
from pattern_db.query import Count, Select, select
from pattern_db.schema import Column, Table, all_tables, table_of

AGENTS, EMBEDDINGS, QUEUE = table_of(Agent), table_of(Embedding), table_of(QueuedEmbedding)
_ITS_OWN = {"system_metadata", "schema_migrations", "embedding_spaces", "embeddings"}
_ITS_OWN |= {"embedding_queue", "constellations"}
CONTENT = tuple(table for table in all_tables() if table.name not in _ITS_OWN)
"""The tables that people fill; the others say what a database is, or follow from these."""

_TABLES = {table.name: table for table in CONTENT}
_FEWEST, _MOST_ROWS = 16, 1000
_PAGE_BYTES = 4 * 1024 * 1024
_REMEMBERED = 50_000

Key = tuple[Any, ...]


class Page(msgspec.Struct, frozen=True):
    """Some rows of one table."""

    table: Table
    rows: list[Any]


def key_of(table: Table, row: Any) -> Key:
    """The values of a row's key."""
    return tuple([getattr(row, name) for name in table.key])


def late_columns(table: Table) -> tuple[str, ...]:
    """The references to rows that may be copied after the row itself: those of the same table."""
    return tuple(c.name for c, target in _references(table) if target == table.name)


def closure(names: Iterable[str]) -> tuple[Table, ...]:
    """These tables and those they refer to, what is referred to first."""
    wanted = set(names)
    for table in reversed(CONTENT):
        if table.name in wanted:
            wanted |= {target for _, target in _references(table)}
    return tuple(table for table in CONTENT if table.name in wanted)


class Walk:
    """The rows of some tables: all of them, or those of some agents.

    A row is an agent's if a column of it says so, or if it belongs to a row that is (a version to
    its block). What these refer to comes along, row by row: a shared block of somebody else with
    its vectors, and that agent's own row.
    """

    def __init__(self, store: Store, *, tables: Sequence[Table], agents: Sequence[str] = ()):
        self._store = store
        self._tables = tables
        self._agents = frozenset(agents)
        self._known: dict[str, set[str]] = {table.name: set() for table in CONTENT}
        self._guests: dict[str, list[str]] = {}
        self._kinds = [table.text.kind for table in tables if table.text is not None]

    async def count(self, *, embeddings: bool) -> int:
        """How many rows there are, but for those that only come along."""
        tables = [*self._tables, *([EMBEDDINGS] if embeddings else [])]
        return sum([await self._count(table) for table in tables])

    async def _count(self, table: Table) -> int:
        filters = self._filters(table)
        if filters is None:
            return 0
        found: int = await self._store.execute(Count(table, filters), **self._params())
        return found

    async def content(self, *, only: Sequence[Table] | None = None) -> AsyncIterator[Page]:
        """The rows of the tables (of ``only`` these), what they refer to before them."""
        for table in self._tables if only is None else only:
            async for rows in self._rows_of(table):
                async for page in self._referred(table, rows):
                    yield page
                yield Page(table, rows)

    async def derived(self, table: Table) -> AsyncIterator[Page]:
        """The vectors, or the queue, of all that ``content`` gave."""
        async for rows in self._rows_of(table):
            yield Page(table, rows)
        for kind, ids in self._guests.items():
            chosen = (table.column("kind") == param("kind"), In("item_id", param("ids")))
            for start in range(0, len(ids), _MOST_ROWS):
                params = {"kind": kind, "ids": ids[start : start + _MOST_ROWS]}
                async for rows in self._stream(table, chosen, params):
                    yield Page(table, rows)

    async def _rows_of(self, table: Table) -> AsyncIterator[list[Any]]:
        filters = self._filters(table)
        if filters is not None:
            async for rows in self._stream(table, filters, self._params()):
                self._remember(table, rows)
                yield rows
        elif (parent := _parent(table)) is not None:
            async for rows in self._children(table, *parent):
                yield rows

    async def _children(
        self, table: Table, column: Column, parent: Table
    ) -> AsyncIterator[list[Any]]:
        async for parents in self._rows_of(parent):
            chosen = (In(column.name, param("ids")),)
            params = {"ids": [row.id for row in parents]}
            async for rows in self._stream(table, chosen, params):
                yield rows

    def _filters(self, table: Table) -> tuple[Filter, ...] | None:
        """The conditions of the rows to take; ``None`` if no column tells."""
        kinds = (In("kind", param("kinds")),) if table in (EMBEDDINGS, QUEUE) else ()
        if not self._agents:
            return kinds
        owners = _owners(table)
        return (*kinds, Or(tuple(In(c, param("agents")) for c in owners))) if owners else None

    def _params(self) -> dict[str, Any]:
        return {"agents": sorted(self._agents), "kinds": self._kinds}

    async def _stream(
        self, table: Table, filters: Sequence[Filter], params: dict[str, Any]
    ) -> AsyncIterator[list[Any]]:
        """The rows that meet the filters, by key, as many at once as fit some megabytes."""
        first = _by_key(table, filters)
        following = first.where(After(table.key, tuple(param(f"after_{n}") for n in table.key)))
        limit, after = _FEWEST, dict[str, Any]()
        while rows := await self._store.execute(
            following if after else first, **params, **after, limit=limit
        ):
            yield rows
            last = dict(zip(table.key, key_of(table, rows[-1]), strict=True))
            after = {f"after_{name}": value for name, value in last.items()}
            if len(rows) < limit:
                return
            limit = _next_limit(rows)

    # rows that come along

    async def _referred(self, table: Table, rows: list[Any]) -> AsyncIterator[Page]:
        """The rows of others that these refer to, and in turn what those do."""
        if not self._agents:
            return
        for column, target in _references(table):
            wanted = {getattr(row, column.name) for row in rows} - {None} - self._known[target]
            async for page in self._guests_among(_TABLES[target], wanted):
                yield page

    async def _guests_among(self, table: Table, ids: set[str]) -> AsyncIterator[Page]:
        if not ids:
            return
        asked = select(table.model).where(In("id", param("ids")))
        found = await self._store.execute(asked, ids=sorted(ids))
        self._remember(table, found)
        guests = [row for row in found if not self._is_taken(table, row)]
        if not guests:
            return
        async for page in self._referred(table, guests):
            yield page
        if table.text is not None:
            self._guests.setdefault(table.text.kind, []).extend(row.id for row in guests)
        yield Page(table, guests)

    def _is_taken(self, table: Table, row: Any) -> bool:
        """Whether a row is one of the agents', and so comes by itself."""
        return any(getattr(row, column) in self._agents for column in _owners(table))

    def _remember(self, table: Table, rows: list[Any]) -> None:
        known = self._known.get(table.name)
        if known is None or not self._agents or table.key != ("id",):
            return
        if len(known) > _REMEMBERED:
            known.clear()
        known.update(row.id for row in rows)


def _references(table: Table) -> list[tuple[Column, str]]:
    """The columns that refer to content, and to which table."""
    refer = [(c, c.references.table) for c in table.columns if c.references]
    return [(column, target) for column, target in refer if target in _TABLES]


def _owners(table: Table) -> list[str]:
    """The columns that say whose a row is."""
    if table is AGENTS:
        return ["id"]
    refers = [column.name for column, target in _references(table) if target == AGENTS.name]
    named = [c.name for c in table.columns if c.name == "agent_id"]
    return refers or named


def _parent(table: Table) -> tuple[Column, Table] | None:
    """Through which column, and to which table, a row belongs that names no agent."""
    for column, target in _references(table):
        if not column.nullable and _owners(_TABLES[target]):
            return column, _TABLES[target]
    return None


def _by_key(table: Table, filters: Sequence[Filter]) -> Select:
    order = [table.column(name) for name in table.key]
    return select(table.model).where(*filters).order_by(*order).limit(param("limit"))


def _next_limit(rows: list[Any]) -> int:
    """How many rows of this size fit a page."""
    n_bytes = sum(len(_packed(row)) for row in rows)
    return max(1, min(_PAGE_BYTES * len(rows) // n_bytes, _MOST_ROWS, 4 * len(rows)))


_packed = msgspec.msgpack.Encoder().encode
