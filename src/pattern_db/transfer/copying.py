"""Copying one database into another one, whatever their engines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any

import msgspec

from pattern_db.clock import monotonic
from pattern_db.engines.base import BulkLoads, Store
from pattern_db.errors import AlreadyExists, CopyFailed, EmbeddingModelMismatch, NotFound
from pattern_db.filters import param
from pattern_db.query import Bound, Delete, Insert, Update
from pattern_db.schema import Table
from pattern_db.service import PatternDB

from .comparing import Chosen, Comparison, Progress, canonical, chosen, compared, shown
from .rows import ahead, renumbered, there
from .spaces import adopt, model_of
from .walking import EMBEDDINGS, QUEUE, Page, key_of, late_columns


class TableCopy(msgspec.Struct, kw_only=True):
    """What a copy did with one table; ``present`` rows were there already and equal."""

    table: str
    written: int = 0
    present: int = 0
    overwritten: int = 0


class CopyReport(msgspec.Struct, kw_only=True):
    """What a copy did; ``comparison`` if it was verified."""

    tables: list[TableCopy]
    seconds: float
    comparison: Comparison | None = None

    @property
    def written(self) -> int:
        """How many rows were new or overwritten."""
        return sum(table.written + table.overwritten for table in self.tables)


async def copy_database(
    source: PatternDB,
    destination: PatternDB,
    *,
    tables: Sequence[str] | None = None,
    agents: Sequence[str] | None = None,
    embeddings: bool = True,
    overwrite: bool = False,
    verify: bool = False,
    progress: Progress | None = None,
) -> CopyReport:
    """Copy rows as they are, with their ids and times; what is written is durable.

    All of them, or those of ``tables`` and of the tables that these refer to, or those of
    ``agents`` (their ids) and what these refer to. Deleted and archived ones too. Vectors come with
    their items. Without ``embeddings`` the items are queued in the destination instead, to be
    embedded with its own model when it is open with one.

    Pages of rows are written one after the other, each as a whole. A copy that was stopped at any
    point and is run again ends as if it had run once; copying twice changes nothing. Rows that only
    the destination has stay. A row that it holds with other values raises ``CopyFailed``, which
    names the row, unless they are to be replaced (``overwrite``). What is written to the source
    meanwhile may or may not be copied; run it again then.

    ``verify`` compares both afterwards. ``progress`` hears (rows done, rows in all). Raises
    ``CopyFailed`` for what the destination cannot take, ``EmbeddingModelMismatch`` if it is open
    with another model than that of the vectors, ``NotFound`` (agent).
    """
    started = monotonic()
    what = await chosen(source, tables=tables, agents=agents, embeddings=embeddings)
    copy = _Copy(source.store, destination, what, overwrite=overwrite)
    await copy.run(progress)
    comparison = None
    if verify:
        comparison = await compared(source.store, destination.store, what, progress, monotonic())
    return CopyReport(
        tables=list(copy.done.values()), seconds=monotonic() - started, comparison=comparison
    )


class _Copy:
    """One copy while it runs."""

    def __init__(self, source: Store, destination: PatternDB, what: Chosen, *, overwrite: bool):
        self._source, self._what, self._overwrite = source, what, overwrite
        self._store, self._indexer = destination.store, destination.embeddings
        self.done = {table.name: TableCopy(table=table.name) for table in what.tables}

    async def run(self, progress: Progress | None) -> None:
        """Copy everything."""
        walk, with_vectors = self._what.walk(self._source), self._what.embeddings
        seen, total = 0, await walk.count(embeddings=with_vectors)
        spaces = await self._spaces() if with_vectors else {}

        async def take(page: Page) -> None:
            nonlocal seen
            await self._take(page, renumbered(page, spaces))
            seen += len(page.rows)
            if progress is not None:
                progress(seen, max(seen, total))

        async for page in ahead(walk.content()):
            await take(page)
        late = [table for table in self._what.tables if late_columns(table)]
        async for page in ahead(self._what.walk(self._source).content(only=late)):
            await self._connect(page)
        if with_vectors:
            self.done[EMBEDDINGS.name] = TableCopy(table=EMBEDDINGS.name)
            async with (
                self._store.loading() if isinstance(self._store, BulkLoads) else nullcontext()
            ):
                async for page in ahead(walk.derived(EMBEDDINGS)):
                    await take(page)
            async for page in ahead(walk.derived(QUEUE)):
                await self._store.write([_QUEUE_UP(row=row) for row in page.rows])
        self._indexer.wake()

    async def _spaces(self) -> dict[int, int]:
        provider, (model, dimensions) = self._indexer.provider, await model_of(self._source)
        if provider is not None and model not in (None, provider.model_id):
            raise EmbeddingModelMismatch(
                str(model),
                provider.model_id,
                db_dimensions=dimensions,
                config_dimensions=provider.dimensions,
            )
        numbers = await adopt(self._store, self._source)
        await self._indexer.open()
        return numbers

    async def _take(self, page: Page, rows: list[Any]) -> None:
        """Write what is not there of a page."""
        table, done = page.table, self.done[page.table.name]
        others = await there(self._store, table, rows)
        new = [row for row in rows if key_of(table, row) not in others]
        changed = [
            row
            for row in rows
            if (other := others.get(key_of(table, row))) is not None
            and not _same(table, row, other)
        ]
        if changed and not self._overwrite:
            raise _differs(table, changed[0])
        await self._write(table, new, changed)
        done.written += len(new)
        done.overwritten += len(changed)
        done.present += len(rows) - len(new) - len(changed)

    async def _write(self, table: Table, new: list[Any], changed: list[Any]) -> None:
        statements = [bound for row in changed for bound in _replacing(table, row)]
        if table.text is not None:
            statements += [b for row in changed for b in self._indexer.removals_for(row)]
        statements += [_adding(table)(row=_first_form(table, row)) for row in new]
        if table.text is not None and not self._what.embeddings:
            statements += self._indexer.enqueue(_live(table, [*new, *changed]))
        if not statements:
            return
        try:
            await self._store.write(statements)
        except AlreadyExists as error:
            if len(new) + len(changed) == 1:
                raise _in_the_way(table, [*new, *changed][0], error) from error
            await self._write_up_to_the_wrong_one(table, new, changed)
        except NotFound as error:
            raise CopyFailed(
                f"A row of {table.name} refers to {error.entity} {error.key!r}, which was not "
                "there when that was copied: the source is being changed, so copy again."
            ) from error

    async def _write_up_to_the_wrong_one(
        self, table: Table, new: list[Any], changed: list[Any]
    ) -> None:
        for row in new:
            await self._write(table, [row], [])
        for row in changed:
            await self._write(table, [], [row])

    async def _connect(self, page: Page) -> None:
        """Fill in the references to rows that came later."""
        table = page.table
        rows = [row for row in page.rows if _first_form(table, row) is not row]
        others = await there(self._store, table, rows) if rows else {}
        statements = [
            bound
            for row in rows
            if (other := others.get(key_of(table, row))) is not None
            and canonical(other) != canonical(row)
            for bound in _setting(table, row, late_columns(table))
        ]
        if statements:
            await self._store.write(statements)


_QUEUE_UP = Insert(QUEUE, on_conflict="ignore")


@cache
def _adding(table: Table) -> Insert:
    return Insert(table)


@cache
def _changing(table: Table, names: tuple[str, ...]) -> Update:
    changes = tuple((name, param(f"new_{name}")) for name in names)
    return Update(table, changes, tuple(table.column(name) == param(name) for name in table.key))


@cache
def _removing(table: Table) -> Delete:
    return Delete(table, tuple(table.column(name) == param(name) for name in table.key))


def _setting(table: Table, row: Any, names: tuple[str, ...]) -> list[Bound]:
    key = {name: getattr(row, name) for name in table.key}
    return [_changing(table, names)(**key, **{f"new_{name}": getattr(row, name) for name in names})]


def _replacing(table: Table, row: Any) -> list[Bound]:
    """The statements that give a row other values. A vector is made anew: indexes know it by its
    row, and no row changes its vector."""
    first = _first_form(table, row)
    if table.logged_removals:
        key = {name: getattr(row, name) for name in table.key}
        return [_removing(table)(**key), _adding(table)(row=first)]
    return _setting(table, first, tuple(c.name for c in table.columns if c.name not in table.key))


def _first_form(table: Table, row: Any) -> Any:
    """The row as it is written at first: without references to rows that come later."""
    late = {name: None for name in late_columns(table) if getattr(row, name) is not None}
    return msgspec.structs.replace(row, **late) if late else row


def _same(table: Table, row: Any, other: Any) -> bool:
    """Whether the destination has the row, or its first form, or a vector of the same text."""
    if table is EMBEDDINGS:
        return bool(row.content_hash == other.content_hash)
    packed = canonical(other)
    return packed == canonical(row) or packed == canonical(_first_form(table, row))


def _live(table: Table, rows: list[Any]) -> list[Any]:
    assert table.text is not None
    hidden, value = table.text.hidden
    return [row for row in rows if getattr(row, hidden) is not value]


def _differs(table: Table, row: Any) -> CopyFailed:
    return CopyFailed(
        f"The destination has {table.entity} {shown(key_of(table, row))!r} with other values; "
        "nothing more was copied, overwrite what is there, or choose another destination."
    )


def _in_the_way(table: Table, row: Any, error: AlreadyExists) -> CopyFailed:
    return CopyFailed(
        f"The destination cannot take {table.entity} {shown(key_of(table, row))!r}: another one "
        f"there has the same {error.field}; change or purge one of the two."
    )
