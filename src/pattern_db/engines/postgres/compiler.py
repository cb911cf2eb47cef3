"""Query values to PostgreSQL's SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC
from operator import attrgetter
from typing import Any

import msgspec

from ...filters import (
    Comparison,
    Filter,
    In,
    InFolded,
    InRows,
    JsonContains,
    JsonIn,
    JsonKey,
    JsonOrder,
    NotInQuery,
    Param,
)
from ...query import Count, Delete, Get, Insert, Order, Query, Select, Update
from ...schema import Column, ColumnType, Table
from ..sql import (
    Compiled,
    Decoder,
    Statement,
    binder,
    change,
    counted_columns,
    decoder_of,
    encode_json,
    quoted,
    rank,
)
from .codecs import PackedVector
from .names import FOLD, Schema

TYPES = {
    ColumnType.TEXT: "text",
    ColumnType.INTEGER: "bigint",
    ColumnType.REAL: "double precision",
    ColumnType.BOOLEAN: "boolean",
    ColumnType.BYTES: "bytea",
    ColumnType.TIME: "timestamptz",
    ColumnType.ENUM: "text",
    ColumnType.JSON: "json",
}
VECTOR = ("embeddings", "vector")
"""The column that pgvector keeps; its bytes are those of the model."""


def type_of(table: Table, column: Column) -> str:
    """The type of a column."""
    return "vector" if (table.name, column.name) == VECTOR else TYPES[column.type]


def encoder_of(table: Table, column: Column) -> Callable[[Any], Any] | None:
    """How a value of this column becomes what psycopg takes; ``None`` if it does already."""
    if (table.name, column.name) == VECTOR:
        return PackedVector
    if column.type is ColumnType.JSON:
        return encode_json
    return _plain if column.type is ColumnType.ENUM else None


def _plain(value: Any) -> str:
    return str(getattr(value, "value", value))


def _decoder_of(column: Column) -> Decoder | None:
    if column.type is ColumnType.BOOLEAN:
        return None
    if column.type is ColumnType.TIME:
        return lambda moment: moment.replace(tzinfo=UTC)
    return decoder_of(column)


def row_reader(columns: Iterable[Column]) -> Callable[[tuple[Any, ...]], list[Any]]:
    """Turns a driver's row into Python values."""
    decoders = [(i, d) for i, c in enumerate(columns) if (d := _decoder_of(c)) is not None]

    def read(row: tuple[Any, ...]) -> list[Any]:
        values = list(row)
        for index, decode in decoders:
            if values[index] is not None:
                values[index] = decode(values[index])
        return values

    return read


class Variant(msgspec.Struct, frozen=True):
    """A statement for one choice of parameters that are ``None``.

    ``asked`` are the parameters compared with columns that may be absent. ``IS NOT DISTINCT FROM``
    would do for both, but no index serves it.
    """

    compiled: Compiled
    asked: tuple[str, ...]


class PostgresStatement(Statement):
    """A statement in the making, with numbered placeholders that say their type."""

    def __init__(self, table: Table, schema: Schema, absent: frozenset[str] = frozenset()):
        super().__init__(table)
        self.schema = schema
        self.absent = absent
        self.asked: list[str] = []

    def value(
        self, value: Any, encode: Callable[[Any], Any] | None = None, type_: str = "text"
    ) -> str:
        """A placeholder for a parameter or a fixed value."""
        self.binders.append(binder(value, encode))
        return f"${len(self.binders)}::{type_}"

    def values(self, column: Column, value: Any) -> str:
        """A placeholder for a value of this column."""
        return self.value(value, encoder_of(self.table, column), type_of(self.table, column))

    def listed(self, value: Any, type_: str = "text", encode: Any = None) -> str:
        """A placeholder for a list of values."""
        return self.value(value, _list_of(encode), f"{type_}[]")

    def inside(self, table: Table) -> PostgresStatement:
        """A statement inside this one, whose values are numbered with its own."""
        inner = PostgresStatement(table, self.schema, self.absent)
        inner.binders, inner.asked = self.binders, self.asked
        return inner

    def source(self) -> str:
        """The table, with its schema."""
        return self.schema.of(self.table.name)

    def condition(self, part: Filter) -> str:
        """A filter as a condition."""
        own = _CONDITIONS.get(type(part))
        return own(self, part) if own else super().condition(part)

    def order(self, orders: Iterable[Order]) -> str:
        """``ORDER BY …``, or nothing; enums by rank, what is absent before all else."""
        parts = [self._ordered(order) for order in orders]
        return f" ORDER BY {', '.join(parts)}" if parts else ""

    def _ordered(self, order: Order) -> str:
        column = self.table.column(order.column)
        direction = " DESC" if order.descending else ""
        if column.nullable and not column.counted:
            direction += " NULLS LAST" if order.descending else " NULLS FIRST"
        return self.ranked(column) + direction


def _list_of(encode: Callable[[Any], Any] | None) -> Callable[[Any], list[Any]]:
    return list if encode is None else lambda values: [encode(value) for value in values]


def _comparison(statement: PostgresStatement, part: Comparison) -> str:
    column = statement.table.column(part.column)
    if part.operator in ("=", "!="):
        return _equality(statement, column, part)
    if column.ranks:
        bound = rank(statement.values(column, part.value), column)
        return f"{statement.ranked(column)} {part.operator} {bound}"
    return f"{statement.name(column)} {part.operator} {statement.values(column, part.value)}"


def _equality(statement: PostgresStatement, column: Column, part: Comparison) -> str:
    name, equal = statement.name(column), part.operator == "="
    if column.type is ColumnType.JSON:
        name += "::text"
    if column.nullable and isinstance(part.value, Param):
        statement.asked.append(part.value.name)
    if part.value is None or (
        isinstance(part.value, Param) and column.nullable and part.value.name in statement.absent
    ):
        return f"{name} IS {'' if equal else 'NOT '}NULL"
    placeholder = statement.values(column, part.value)
    if column.type is ColumnType.JSON:
        placeholder += "::text"
    if equal:
        return f"{name} = {placeholder}"
    return f"{name} {'IS DISTINCT FROM' if column.nullable else '!='} {placeholder}"


def _in(statement: PostgresStatement, part: In) -> str:
    column = statement.table.column(part.column)
    encode = encoder_of(statement.table, column)
    listed = statement.listed(part.values, type_of(statement.table, column), encode)
    return f"{statement.name(column)} = ANY({listed})"


def _in_rows(statement: PostgresStatement, part: InRows) -> str:
    columns = [statement.table.column(name) for name in part.columns]
    names = ", ".join(statement.name(column) for column in columns)
    lists = ", ".join(
        statement.value(part.rows, _column_of(place), f"{type_of(statement.table, column)}[]")
        for place, column in enumerate(columns)
    )
    return f"({names}) IN (SELECT * FROM unnest({lists}))"


def _column_of(place: int) -> Callable[[Any], list[Any]]:
    return lambda rows: [row[place] for row in rows]


def _not_in_query(statement: PostgresStatement, part: NotInQuery) -> str:
    column = statement.name(statement.table.column(part.column))
    inner = statement.inside(part.query.table)
    selected = inner.name(part.query.table.column(part.selects))
    where = inner.where(part.query.filters)
    return f"({column} IS NULL OR {column} NOT IN (SELECT {selected} FROM {inner.source()}{where}))"


def _json(statement: PostgresStatement, name: str) -> str:
    return f"{statement.name(statement.table.column(name))}::jsonb"


def _in_folded(statement: PostgresStatement, part: InFolded) -> str:
    column, fold = statement.name(statement.table.column(part.column)), statement.schema.of(FOLD)
    wanted = statement.listed(part.values)
    return f"{fold}({column}) IN (SELECT {fold}(wanted) FROM unnest({wanted}) AS wanted)"


def _field(statement: PostgresStatement, column: str, key: Any) -> str:
    """The value that the JSON object of a column has under a key; absent if there is none."""
    return f"({_json(statement, column)} -> {statement.value(key)})"


def _json_key(statement: PostgresStatement, part: JsonKey) -> str:
    return f"{_field(statement, part.column, part.key)} IS NOT NULL"


def _json_in(statement: PostgresStatement, part: JsonIn) -> str:
    wanted = statement.value(part.values, encode_json, "jsonb")
    field = _field(statement, part.column, part.key)
    return f"EXISTS (SELECT 1 FROM jsonb_array_elements({wanted}) AS want WHERE want = {field})"


def _json_order(statement: PostgresStatement, part: JsonOrder) -> str:
    """Each side is read as a number or text only where it is one."""
    wanted = statement.value(part.value, encode_json, "jsonb")
    field = _field(statement, part.column, part.key)
    numbers, texts = (_compared(part.operator, cast) for cast in ("::numeric", ' COLLATE "C"'))
    return (
        f"EXISTS (SELECT 1 FROM (SELECT {field} AS have, {wanted} AS want) AS pair "
        "WHERE jsonb_typeof(have) = jsonb_typeof(want) AND CASE jsonb_typeof(want) "
        f"WHEN 'number' THEN {numbers} WHEN 'string' THEN {texts} ELSE false END)"
    )


def _compared(operator: str, cast: str) -> str:
    return f"(have #>> '{{}}'){cast} {operator} (want #>> '{{}}'){cast}"


def _json_contains(statement: PostgresStatement, part: JsonContains) -> str:
    column = part.column
    have = _json(statement, column) if part.key is None else _field(statement, column, part.key)
    wanted = statement.listed(part.values)
    return (
        f"(cardinality({wanted}) = 0 OR "
        f"(jsonb_typeof({have}) IS NOT DISTINCT FROM 'array' AND {have} ?& {wanted}))"
    )


_CONDITIONS: dict[type, Callable[[PostgresStatement, Any], str]] = {
    Comparison: _comparison,
    In: _in,
    InRows: _in_rows,
    NotInQuery: _not_in_query,
    InFolded: _in_folded,
    JsonKey: _json_key,
    JsonIn: _json_in,
    JsonOrder: _json_order,
    JsonContains: _json_contains,
}


def _column_list(statement: Statement, columns: Iterable[Column]) -> str:
    return ", ".join(statement.name(column) for column in columns)


def _model_reader(table: Table) -> Callable[[tuple[Any, ...]], Any]:
    read, model = row_reader(table.columns), table.model
    return lambda row: model(*read(row))


def _get(query: Get, statement: PostgresStatement) -> Compiled:
    table = query.table
    where = statement.where(Comparison(name, "=", Param(name)) for name in table.key)
    sql = f"SELECT {_column_list(statement, table.columns)} FROM {statement.source()}{where}"
    return statement.finish(sql, _model_reader(table), writes=False, bounded=True)


def _select(query: Select, statement: PostgresStatement) -> Compiled:
    table = query.table
    columns = [table.column(name) for name in query.columns] or list(table.columns)
    sql = f"SELECT {_column_list(statement, columns)} FROM {statement.source()}"
    sql += statement.where(query.filters) + statement.order(query.orders)
    if query.at_most is not None:
        sql += f" LIMIT {statement.value(query.at_most, None, 'bigint')}"
    read_values = row_reader(columns)
    read = (lambda row: tuple(read_values(row))) if query.columns else _model_reader(table)
    return statement.finish(sql, read, writes=False, bounded=query.at_most is not None)


def _count(query: Count, statement: PostgresStatement) -> Compiled:
    sql = f"SELECT count(*) FROM {statement.source()}{statement.where(query.filters)}"
    return statement.finish(sql, lambda row: row[0], writes=False, bounded=False)


def _insert(query: Insert, statement: PostgresStatement) -> Compiled:
    table = query.table
    listed = ", ".join(quoted(column.name) for column in table.columns)
    places = ", ".join(f"${n}::{type_of(table, c)}" for n, c in enumerate(table.columns, start=1))
    sql = f"INSERT INTO {statement.source()} ({listed}) VALUES ({places}){_on_conflict(query)}"
    if counted := counted_columns(table):
        sql += f" RETURNING {', '.join(map(quoted, counted))}"
    return Compiled(sql, _row_binder(table), None, True, True)


def _on_conflict(query: Insert) -> str:
    table, key = query.table, ", ".join(map(quoted, query.table.key))
    if query.on_conflict == "fail":
        return ""
    if query.on_conflict == "ignore":
        return f" ON CONFLICT ({key}) DO NOTHING"
    kept = {*table.key, "created_at"}
    changes = ", ".join(
        f"{quoted(c.name)} = excluded.{quoted(c.name)}" for c in table.columns if c.name not in kept
    )
    return f" ON CONFLICT ({key}) DO UPDATE SET {changes}"


def _row_binder(table: Table) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    fetch = attrgetter(*(column.name for column in table.columns))
    encoders = [
        (index, encode)
        for index, column in enumerate(table.columns)
        if (encode := encoder_of(table, column)) is not None
    ]

    def bind(params: dict[str, Any]) -> tuple[Any, ...]:
        values = list(fetch(params["row"]))
        for index, encode in encoders:
            if values[index] is not None:
                values[index] = encode(values[index])
        return tuple(values)

    return bind


def _update(query: Update, statement: PostgresStatement) -> Compiled:
    changes = ", ".join(change(statement, name, value) for name, value in query.changes)
    sql = f"UPDATE {statement.source()} SET {changes}{statement.where(query.filters)}"
    return statement.finish(sql, None, writes=True, bounded=False)


def _delete(query: Delete, statement: PostgresStatement) -> Compiled:
    sql = f"DELETE FROM {statement.source()}{statement.where(query.filters)}"
    return statement.finish(sql, None, writes=True, bounded=False)


_COMPILERS: dict[type, Callable[[Any, PostgresStatement], Compiled]] = {
    Get: _get,
    Select: _select,
    Count: _count,
    Insert: _insert,
    Update: _update,
    Delete: _delete,
}


def compile_query(query: Query, schema: Schema, absent: frozenset[str] = frozenset()) -> Variant:
    """The statement of a query when these parameters are ``None``."""
    statement = PostgresStatement(query.table, schema, absent)
    compiled = _COMPILERS[type(query)](query, statement)
    return Variant(compiled, tuple(statement.asked))
