"""Query values to SQL, for the engines that speak it.

A query is compiled once per engine: its statement text holds only names from the schema, and every
value has a binder that turns a parameter into what the driver takes.

What ``json_each`` gives is written ``+value``: without the plus Turso compares texts that look like
numbers as numbers.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec

from ..clock import from_micros, to_micros
from ..filters import (
    After,
    And,
    Comparison,
    Filter,
    In,
    InFolded,
    InRows,
    JsonContains,
    JsonIn,
    JsonKey,
    JsonOrder,
    Not,
    NotInQuery,
    Or,
    Param,
    fold_case,
)
from ..query import Added, Count, Delete, Get, Insert, Order, Query, Select, Update
from ..schema import Column, ColumnType, Table

Binder = Callable[[dict[str, Any]], Any]
Decoder = Callable[[Any], Any]

_json_encode = msgspec.json.Encoder().encode


class Compiled(msgspec.Struct, frozen=True):
    """A statement, how to bind it, and how to read its rows."""

    sql: str
    bind: Callable[[dict[str, Any]], tuple[Any, ...]]
    read: Callable[[tuple[Any, ...]], Any] | None
    writes: bool
    bounded: bool


def encode_json(value: Any) -> str:
    """A JSON column's text."""
    if value == {} and isinstance(value, dict):
        return "{}"
    if value == [] and isinstance(value, list):
        return "[]"
    return _json_encode(value).decode()


def _encode_enum(value: Any) -> str:
    return str(value.value if isinstance(value, enum.Enum) else value)


def _encode_time(value: Any) -> Any:
    return to_micros(value) if isinstance(value, datetime) else value


ENCODERS: dict[ColumnType, Callable[[Any], Any]] = {
    ColumnType.TIME: _encode_time,
    ColumnType.ENUM: _encode_enum,
    ColumnType.JSON: encode_json,
}


def _json_decoder(column: Column) -> Decoder:
    decode = msgspec.json.Decoder(type=column.python).decode
    empty: dict[str, Callable[[], Any]] = {"{}": dict, "[]": list}

    def read(text: str) -> Any:
        make = empty.get(text)
        return make() if make else decode(text)

    return read


def decoder_of(column: Column) -> Decoder | None:
    """How a stored value of this column becomes a Python value; ``None`` if it already is one."""
    if column.type is ColumnType.TIME:
        return from_micros
    if column.type is ColumnType.ENUM:
        members: dict[Any, Any] = column.python._value2member_map_
        return members.__getitem__
    if column.type is ColumnType.BOOLEAN:
        return bool
    if column.type is ColumnType.JSON:
        return _json_decoder(column)
    return None


def row_reader(columns: Iterable[Column]) -> Callable[[tuple[Any, ...]], list[Any]]:
    """Turns a driver's row into Python values."""
    decoders = [(i, d) for i, c in enumerate(columns) if (d := decoder_of(c)) is not None]

    def read(row: tuple[Any, ...]) -> list[Any]:
        values = list(row)
        for index, decode in decoders:
            if values[index] is not None:
                values[index] = decode(values[index])
        return values

    return read


def tuple_reader(columns: Iterable[Column]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """The same, as a tuple."""
    listed = list(columns)
    decoders = [(i, d) for i, c in enumerate(listed) if (d := decoder_of(c)) is not None]
    if len(decoders) != 1:
        read = row_reader(listed)
        return lambda row: tuple(read(row))
    ((place, decode),) = decoders

    def read_one(row: tuple[Any, ...]) -> tuple[Any, ...]:
        value = row[place]
        return row if value is None else (*row[:place], decode(value), *row[place + 1 :])

    return read_one


def model_reader(table: Table) -> Callable[[tuple[Any, ...]], Any]:
    """Turns a driver's row of all columns into a model."""
    read, model = row_reader(table.columns), table.model
    return lambda row: model(*read(row))


def quoted(name: str) -> str:
    """An identifier of the schema."""
    return f'"{name}"'


class Statement:
    """A statement in the making: text, and the binders of its placeholders in order."""

    def __init__(self, table: Table, placeholder: str = "?"):
        self.table = table
        self.binders: list[Binder] = []
        self._placeholder = placeholder

    def value(self, value: Any, encode: Callable[[Any], Any] | None = None) -> str:
        """A placeholder for a parameter or a fixed value."""
        self.binders.append(binder(value, encode))
        return self._placeholder

    def values(self, column: Column, value: Any) -> str:
        """A placeholder for a value of this column."""
        return self.value(value, ENCODERS.get(column.type))

    def key(self, key: Any) -> str:
        """A placeholder for a key of JSON objects, as ``json_each`` gives them."""
        return self.value(key)

    def where(self, filters: Iterable[Filter]) -> str:
        """``WHERE …``, or nothing."""
        parts = [self.condition(part) for part in filters]
        return f" WHERE {' AND '.join(parts)}" if parts else ""

    def condition(self, part: Filter) -> str:
        """A filter as a condition."""
        return _CONDITIONS[type(part)](self, part)

    def order(self, orders: Iterable[Order]) -> str:
        """``ORDER BY …``, or nothing; enums by rank."""
        parts = [
            f"{self.ranked(self.table.column(order.column))}{' DESC' if order.descending else ''}"
            for order in orders
        ]
        return f" ORDER BY {', '.join(parts)}" if parts else ""

    def name(self, column: Column) -> str:
        """The column, qualified."""
        return f"{quoted(self.table.name)}.{quoted(column.name)}"

    def ranked(self, column: Column) -> str:
        """The column, or its rank if it is an enum."""
        return rank(self.name(column), column) if column.ranks else self.name(column)

    def finish(self, sql: str, read: Any, *, writes: bool, bounded: bool) -> Compiled:
        """The compiled statement."""
        binders = tuple(self.binders)
        return Compiled(
            sql, lambda params: tuple([b(params) for b in binders]), read, writes, bounded
        )


def binder(value: Any, encode: Callable[[Any], Any] | None) -> Binder:
    """What gives a placeholder its value: a parameter or a fixed value, encoded."""
    if not isinstance(value, Param):
        fixed = value if encode is None or value is None else encode(value)
        return lambda _params: fixed
    name = value.name
    if encode is None:
        return lambda params: params[name]
    return lambda params: None if (given := params[name]) is None else encode(given)


def rank(expression: str, column: Column) -> str:
    """The place of an enum's value among its members."""
    cases = " ".join(f"WHEN '{value}' THEN {place}" for place, value in enumerate(column.ranks))
    return f"CASE {expression} {cases} END"


def _comparison(statement: Statement, part: Comparison) -> str:
    column = statement.table.column(part.column)
    if part.operator in ("=", "!="):
        word = {"=": "IS", "!=": "IS NOT"}[part.operator] if column.nullable else part.operator
        return f"{statement.name(column)} {word} {statement.values(column, part.value)}"
    if column.ranks:
        bound = rank(statement.values(column, part.value), column)
        return f"{statement.ranked(column)} {part.operator} {bound}"
    return f"{statement.name(column)} {part.operator} {statement.values(column, part.value)}"


def _listed(values: Any) -> str:
    """Values as a JSON array; what is absent is never one of them."""
    return encode_json([value for value in values if value is not None])


def _listed_times(values: Any) -> str:
    return encode_json([_encode_time(value) for value in values if value is not None])


def _in(statement: Statement, part: In) -> str:
    column = statement.table.column(part.column)
    encode = _listed_times if column.type is ColumnType.TIME else _listed
    listed = statement.value(part.values, encode)
    return f"{statement.name(column)} IN (SELECT +value FROM json_each({listed}))"


def _in_rows(statement: Statement, part: InRows) -> str:
    columns = [statement.name(statement.table.column(column)) for column in part.columns]
    values = ", ".join(f"value ->> {place}" for place in range(len(columns)))
    listed = statement.value(part.rows, encode_json)
    return f"({', '.join(columns)}) IN (SELECT {values} FROM json_each({listed}))"


def _not_in_query(statement: Statement, part: NotInQuery) -> str:
    column = statement.name(statement.table.column(part.column))
    inner = type(statement)(part.query.table)
    selected = inner.name(part.query.table.column(part.selects))
    where = inner.where(part.query.filters)
    statement.binders += inner.binders
    source = quoted(part.query.table.name)
    return f"({column} IS NULL OR {column} NOT IN (SELECT {selected} FROM {source}{where}))"


def _in_folded(statement: Statement, part: InFolded) -> str:
    column = statement.name(statement.table.column(part.column))
    listed = statement.value(part.values, _folded)
    return f"fold_case({column}) IN (SELECT +value FROM json_each({listed}))"


def _folded(values: Iterable[str]) -> str:
    return encode_json([fold_case(value) for value in values])


def _json_key(statement: Statement, part: JsonKey) -> str:
    column = statement.name(statement.table.column(part.column))
    key = statement.key(part.key)
    return f"EXISTS (SELECT 1 FROM json_each({column}) AS have WHERE have.key = {key})"


_BOTH_NUMBERS = "have.type IN ('integer', 'real') AND want.type IN ('integer', 'real')"


def _json_in(statement: Statement, part: JsonIn) -> str:
    equal = f"+have.value IS +want.value AND (have.type = want.type OR {_BOTH_NUMBERS})"
    return _json_some(statement, part, part.values, encode_json, equal)


def _json_order(statement: Statement, part: JsonOrder) -> str:
    comparable = f"({_BOTH_NUMBERS} OR have.type = 'text' AND want.type = 'text')"
    condition = f"{comparable} AND +have.value {part.operator} +want.value"
    return _json_some(statement, part, part.value, lambda value: encode_json([value]), condition)


def _json_some(
    statement: Statement,
    part: JsonIn | JsonOrder,
    bound: Any,
    encode: Callable[[Any], str],
    condition: str,
) -> str:
    """What an object has under a key meets a condition with one of the bound values."""
    column = statement.name(statement.table.column(part.column))
    wanted = statement.value(bound, encode)
    key = statement.key(part.key)
    return (
        f"EXISTS (SELECT 1 FROM json_each({column}) AS have, json_each({wanted}) AS want "
        f"WHERE have.key = {key} AND {condition})"
    )


def _json_contains(statement: Statement, part: JsonContains) -> str:
    column = statement.name(statement.table.column(part.column))
    wanted = statement.value(part.values, encode_json)
    if part.key is None:
        return (
            f"NOT EXISTS (SELECT 1 FROM json_each({wanted}) AS want WHERE want.value NOT IN "
            f"(SELECT have.value FROM json_each({column}) AS have WHERE have.type = 'text'))"
        )
    key = statement.key(part.key)
    listed = "CASE field.type WHEN 'array' THEN field.value ELSE '[]' END"
    return (
        f"NOT EXISTS (SELECT 1 FROM json_each({wanted}) AS want WHERE NOT EXISTS ("
        f"SELECT 1 FROM json_each({column}) AS field, json_each({listed}) AS have "
        f"WHERE field.key = {key} AND +have.value = +want.value AND have.type = 'text'))"
    )


def _after(statement: Statement, part: After) -> str:
    columns = [statement.table.column(name) for name in part.columns]
    names = ", ".join(statement.name(column) for column in columns)
    values = ", ".join(statement.values(c, v) for c, v in zip(columns, part.values, strict=True))
    return f"({names}) {'<' if part.descending else '>'} ({values})"


def _all(statement: Statement, part: And) -> str:
    return f"({' AND '.join(statement.condition(inner) for inner in part.parts)})"


def _any(statement: Statement, part: Or) -> str:
    return f"({' OR '.join(statement.condition(inner) for inner in part.parts)})"


def _not(statement: Statement, part: Not) -> str:
    return f"NOT ({statement.condition(part.part)})"


_CONDITIONS: dict[type, Callable[[Statement, Any], str]] = {
    Comparison: _comparison,
    In: _in,
    NotInQuery: _not_in_query,
    InFolded: _in_folded,
    InRows: _in_rows,
    JsonKey: _json_key,
    JsonIn: _json_in,
    JsonOrder: _json_order,
    JsonContains: _json_contains,
    After: _after,
    And: _all,
    Or: _any,
    Not: _not,
}


def _column_list(statement: Statement, columns: Iterable[Column]) -> str:
    return ", ".join(statement.name(column) for column in columns)


def _compile_get(query: Get, kind: type[Statement]) -> Compiled:
    statement, table = kind(query.table), query.table
    listed = _column_list(statement, table.columns)
    where = statement.where(Comparison(name, "=", Param(name)) for name in table.key)
    sql = f"SELECT {listed} FROM {quoted(table.name)}{where}"
    return statement.finish(sql, model_reader(table), writes=False, bounded=True)


def _compile_select(query: Select, kind: type[Statement]) -> Compiled:
    statement, table = kind(query.table), query.table
    columns = [table.column(name) for name in query.columns] or list(table.columns)
    listed = _column_list(statement, columns)
    sql = f"SELECT {listed} FROM {quoted(table.name)}{statement.where(query.filters)}"
    sql += statement.order(query.orders)
    if query.at_most is not None:
        sql += f" LIMIT {statement.value(query.at_most)}"
    read = tuple_reader(columns) if query.columns else model_reader(table)
    return statement.finish(sql, read, writes=False, bounded=query.at_most is not None)


def _compile_count(query: Count, kind: type[Statement]) -> Compiled:
    statement = kind(query.table)
    sql = f"SELECT count(*) FROM {quoted(query.table.name)}{statement.where(query.filters)}"
    return statement.finish(sql, lambda row: row[0], writes=False, bounded=False)


def _insert_values(table: Table) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    fetch = attrgetter(*(column.name for column in table.columns))
    encoders = [
        (index, encode)
        for index, column in enumerate(table.columns)
        if (encode := ENCODERS.get(column.type)) is not None
    ]
    repeated = [
        position
        for column in table.columns
        if column.counted
        for position in (
            [c.name for c in table.columns].index(name) for name in column.counted.within
        )
    ]

    def bind(params: dict[str, Any]) -> tuple[Any, ...]:
        values = list(fetch(params["row"]))
        for index, encode in encoders:
            if values[index] is not None:
                values[index] = encode(values[index])
        if repeated:
            values += [values[position] for position in repeated]
        return tuple(values)

    return bind


def _counted(table: Table, column: Column, placeholder: str, first: int) -> str:
    assert column.counted is not None
    name = quoted(column.name)
    within = " AND ".join(
        f"{quoted(other)} IS ?{first + offset}"
        for offset, other in enumerate(column.counted.within)
    )
    before = column.counted.first - 1
    newest = f"SELECT coalesce(max({name}), {before}) + 1 FROM {quoted(table.name)} WHERE {within}"
    return f"coalesce({placeholder}, ({newest}))"


def _insert_places(table: Table) -> str:
    places, extra = [], len(table.columns) + 1
    for index, column in enumerate(table.columns, start=1):
        place = f"?{index}"
        if column.counted:
            place = _counted(table, column, place, extra)
            extra += len(column.counted.within)
        places.append(place)
    return ", ".join(places)


def _conflict_clause(query: Insert) -> str:
    table = query.table
    if query.on_conflict == "fail":
        return ""
    if query.on_conflict == "ignore":
        return f" ON CONFLICT ({', '.join(map(quoted, table.key))}) DO NOTHING"
    kept = {*table.key, "created_at"}
    changes = ", ".join(
        f"{quoted(c.name)} = excluded.{quoted(c.name)}" for c in table.columns if c.name not in kept
    )
    return f" ON CONFLICT ({', '.join(map(quoted, table.key))}) DO UPDATE SET {changes}"


def _compile_insert(query: Insert, _kind: type[Statement]) -> Compiled:
    table = query.table
    listed = ", ".join(quoted(column.name) for column in table.columns)
    sql = f"INSERT INTO {quoted(table.name)} ({listed}) VALUES ({_insert_places(table)})"
    sql += _conflict_clause(query)
    return Compiled(sql, _insert_values(table), None, True, True)


def counted_columns(table: Table) -> list[str]:
    """The columns whose values the database assigns."""
    return [column.name for column in table.columns if column.counted]


def change(statement: Statement, name: str, value: Any) -> str:
    """What an update does to a column."""
    column = statement.table.column(name)
    if isinstance(value, Added):
        return f"{quoted(name)} = {quoted(name)} + {statement.values(column, value.number)}"
    return f"{quoted(name)} = {statement.values(column, value)}"


def _compile_update(query: Update, kind: type[Statement]) -> Compiled:
    statement, table = kind(query.table), query.table
    changes = ", ".join(change(statement, name, value) for name, value in query.changes)
    sql = f"UPDATE {quoted(table.name)} SET {changes}{statement.where(query.filters)}"
    return statement.finish(sql, None, writes=True, bounded=False)


def _compile_delete(query: Delete, kind: type[Statement]) -> Compiled:
    statement = kind(query.table)
    sql = f"DELETE FROM {quoted(query.table.name)}{statement.where(query.filters)}"
    return statement.finish(sql, None, writes=True, bounded=False)


_COMPILERS: dict[type, Callable[[Any, type[Statement]], Compiled]] = {
    Get: _compile_get,
    Select: _compile_select,
    Count: _compile_count,
    Insert: _compile_insert,
    Update: _compile_update,
    Delete: _compile_delete,
}


def compile_query(query: Query, kind: type[Statement] = Statement) -> Compiled:
    """The statement of a query, in the dialect that a kind of statement knows."""
    return _COMPILERS[type(query)](query, kind)
