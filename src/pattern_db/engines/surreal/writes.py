"""Query values that write, as steps of a script.

Rows are chosen and changed by ``SELECT … FROM $rows``, not by ``map`` with a closure: each call of
one costs what all values of the script weigh, so that a row would cost more the more rows are
written at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec
import numpy as np

from ...query import Bound, Insert, Query
from ...schema import Column, Table, all_tables
from ..sql import counted_columns
from . import ddl
from .codecs import NONE, encoder_of, key_of, record
from .compiler import Compiled, is_searched
from .names import NEAR, SPACES, VECTORS, near_key, near_table, quoted, words_of
from .script import Write
from .stems import stemmed

Compile = Callable[[Query], Compiled]


def steps(statements: Sequence[Bound], compile_: Compile) -> list[Write]:
    """The writes in their order; new rows of one table go together."""
    made: list[Write] = []
    for query, group in groupby(statements, key=lambda bound: bound.query):
        bounds = list(group)
        if isinstance(query, Insert):
            made += _inserts(query, bounds)
        else:
            made += [_changing(bound, compile_(query)) for bound in bounds]
    return made


def _changing(bound: Bound, compiled: Compiled) -> Write:
    text = f"LET $_r = {compiled.text}"
    values = compiled.bind(bound.params)
    return Write((text,), values, lambda raw: [raw], bound.expected)


def _inserts(query: Insert, bounds: list[Bound]) -> Iterator[Write]:
    if query.on_conflict != "fail" or any(bound.expected is not None for bound in bounds):
        for bound in bounds:
            yield _single(query, bound)
        return
    for _, group in groupby((bound.params["row"] for bound in bounds), key=_alike(query.table)):
        yield _Rows(query.table, list(group)).write()


def _alike(table: Table) -> Callable[[Any], Any]:
    """What rows that go together have in common: the kind of vector, the numbers they bring."""
    counted = counted_columns(table)

    def read(row: Any) -> Any:
        if table.name in (VECTORS, SPACES):
            return (row.kind, row.space) if table.name == VECTORS else row.id
        return tuple(getattr(row, name) is None for name in counted)

    return read


def _single(query: Insert, bound: Bound) -> Write:
    """A row that may be there already."""
    rows = _Rows(query.table, [bound.params["row"]])
    made = rows.write()
    if query.on_conflict == "fail":
        return msgspec.structs.replace(made, expected=bound.expected, touched="count($_stored)")
    there = f"record::exists({rows.value(rows.id(rows.rows[0]))})"
    other, read = "[]", _unless_there(made.read)
    if query.on_conflict == "replace":
        changes = rows.value(_changes(query.table, rows.rows[0]))
        other = f"(UPDATE {rows.value([rows.id(rows.rows[0])])} MERGE {changes} RETURN VALUE id)"
        read = _either(rows.rows)
    first, (stored, *rest) = made.texts[: rows.stored], made.texts[rows.stored :]
    insertion = stored.removeprefix("LET $_stored = ")
    texts = (
        f"LET $_there = {there}",
        *first,
        f"LET $_stored = IF $_there {{ {other} }} ELSE {{ {insertion} }}",
        *rest[:-1],
        f"LET $_r = [$_there, {rest[-1].removeprefix('LET $_r = ')}]",
    )
    return Write(texts, rows.values, read, bound.expected, "count($_stored)")


def _unless_there(read: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    return lambda raw: [None] if raw[0] else read(raw[1])


def _either(rows: list[Any]) -> Callable[[Any], list[Any]]:
    return lambda _raw: rows


def _changes(table: Table, row: Any) -> dict[str, Any]:
    """All that replacing a row changes in the one that is there."""
    kept = {*table.key, "created_at"}
    return _content(table, row, [c for c in table.columns if c.name not in kept], absent=True)


def _content(
    table: Table, row: Any, columns: Sequence[Column], *, absent: bool = False
) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for column in columns:
        value = getattr(row, column.name)
        if value is None:
            if absent:
                content[column.name] = NONE
            continue
        if is_searched(table, column):
            content[words_of(column.name)] = stemmed(value)
        encode = encoder_of(table, column)
        content[column.name] = value if encode is None else encode(value)
    return content


class _Rows:
    """New rows of one table on their way into a script."""

    def __init__(self, table: Table, rows: list[Any]):
        self.table, self.rows = table, rows
        self.values: list[Any] = []
        self.stored = 0
        """How many statements come before the one that stores."""
        self._key = key_of(table)

    def value(self, value: Any) -> str:
        """A place for a value."""
        self.values.append(value)
        return f"$_{len(self.values) - 1}_"

    def id(self, row: Any) -> Any:
        """A row's record."""
        return record(self.table.name, self._key(row))

    def write(self) -> Write:
        """The step that stores them."""
        if self.table.name == VECTORS:
            return self._vectors()
        columns = [c for c in self.table.columns if c.counted]
        columns = [c for c in columns if getattr(self.rows[0], c.name) is None]
        if columns:
            return self._counted(columns)
        extra = _of_space(self.rows[0]) if self.table.name == SPACES else ()
        texts = (self._insert(self.value(self._contents())), *extra, "LET $_r = count($_stored)")
        return Write(texts, self.values, lambda _raw: self.rows)

    def _contents(self) -> list[dict[str, Any]]:
        columns = self.table.columns
        return [{**_content(self.table, row, columns), "id": self.id(row)} for row in self.rows]

    def _insert(self, rows: str) -> str:
        return f"LET $_stored = (INSERT INTO {quoted(self.table.name)} {rows} RETURN VALUE id)"

    def _counted(self, columns: list[Column]) -> Write:
        """Each row says the place of its group's newest number among those that are asked for, and
        how many numbers later its own is."""
        places: list[list[int]] = [[] for _ in self.rows]
        before, numbers = [], []
        for n, column in enumerate(columns):
            newest = [self._newest(column, group) for group in self._groups(column)]
            before.append(f"LET $_{column.name} = [{', '.join(newest)}]")
            numbers.append(f"{quoted(column.name)}: $_{column.name}[at[{2 * n}]] + at[{2 * n + 1}]")
            self._number(places, column)
        rows = zip(self._contents(), places, strict=True)
        given = self.value([{"row": row, "at": at} for row, at in rows])
        numbered = f"(SELECT VALUE object::extend(row, {{ {', '.join(numbers)} }}) FROM {given})"
        self.stored = len(before)
        found = ", ".join(f"$_{column.name}" for column in columns)
        texts = (*before, self._insert(numbered), f"LET $_r = [{found}]")
        return Write(texts, self.values, self._with_numbers(columns, places))

    def _newest(self, column: Column, group: Sequence[Any]) -> str:
        """The newest number of a group. Its values stand alone: with one that is taken out of a
        list the planner reads the whole group."""
        assert column.counted is not None
        names = column.counted.within
        same = " AND ".join(
            f"{quoted(name)} = {self.value(value)}"
            for name, value in zip(names, group, strict=True)
        )
        name, home = quoted(column.name), quoted(self.table.name)
        newest = f"SELECT VALUE {name} FROM {home} WHERE {same} ORDER BY {name} DESC LIMIT 1"
        return f"(({newest})[0] ?? {column.counted.first - 1})"

    def _group_of(self, column: Column) -> Callable[[Any], tuple[Any, ...]]:
        assert column.counted is not None
        within = [self.table.column(name) for name in column.counted.within]
        return lambda row: tuple(getattr(row, each.name) for each in within)

    def _groups(self, column: Column) -> list[tuple[Any, ...]]:
        """The groups of the rows, as values of the engine."""
        assert column.counted is not None
        within = [self.table.column(name) for name in column.counted.within]
        encoders = [encoder_of(self.table, each) or (lambda value: value) for each in within]
        groups = dict.fromkeys(map(self._group_of(column), self.rows))
        return [
            tuple(
                NONE if value is None else encode(value)
                for value, encode in zip(group, encoders, strict=True)
            )
            for group in groups
        ]

    def _number(self, places: list[list[int]], column: Column) -> None:
        group_of = self._group_of(column)
        place_of = {group: n for n, group in enumerate(dict.fromkeys(map(group_of, self.rows)))}
        seen = [0] * len(place_of)
        for row, at in zip(self.rows, places, strict=True):
            place = place_of[group_of(row)]
            seen[place] += 1
            at += [place, seen[place]]

    def _with_numbers(
        self, columns: list[Column], places: list[list[int]]
    ) -> Callable[[Any], list[Any]]:
        def read(found: Any) -> list[Any]:
            return [
                msgspec.structs.replace(
                    row,
                    **{
                        column.name: found[n][at[2 * n]] + at[2 * n + 1]
                        for n, column in enumerate(columns)
                    },
                )
                for row, at in zip(self.rows, places, strict=True)
            ]

        return read

    def _vectors(self) -> Write:
        """Vectors of items that are there and shown; the others are not kept."""
        kind, space = self.rows[0].kind, self.rows[0].space
        near = near_table(space)
        items = {t.text.kind: t for t in all_tables() if t.text is not None}
        item = items.get(kind)
        given = self.value(
            [
                {
                    "row": content,
                    "near": {"id": _near_id(near, row), NEAR: _numbers(row.vector)},
                    "item": record(item.name if item else "", row.item_id),
                }
                for content, row in zip(self._contents(), self.rows, strict=True)
            ]
        )
        shown = _is_shown(item)
        numbers = f"SELECT VALUE near FROM {given} WHERE {shown}"
        self.stored = 1
        texts = (
            f"LET $_live = (SELECT VALUE {shown} FROM {given})",
            self._insert(f"(SELECT VALUE row FROM {given} WHERE {shown})"),
            f"INSERT INTO {quoted(near)} ({numbers}) RETURN NONE",
            "LET $_r = $_live",
        )
        return Write(texts, self.values, self._if_live)

    def _if_live(self, live: list[bool]) -> list[Any]:
        return [row if kept else None for row, kept in zip(self.rows, live, strict=True)]


def _is_shown(item: Table | None) -> str:
    if item is None or item.text is None:
        return "false"
    name, value = item.text.hidden
    return f"item.{quoted(name)} = {'false' if value else 'true'}"


def _of_space(row: Any) -> tuple[str, ...]:
    return tuple(ddl.space(row.id, row.dimensions))


def _near_id(near: str, row: Any) -> Any:
    return record(near, near_key(row.item_id, row.kind, row.chunk_index))


def _numbers(vector: bytes) -> list[float]:
    numbers: list[float] = np.frombuffer(vector, "<f4").tolist()
    return numbers
