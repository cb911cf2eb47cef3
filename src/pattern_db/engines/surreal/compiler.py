"""Query values to SurrealQL.

A query becomes an expression that can stand alone or in a script: its values are ``$_0``, ``$_1``,
… until a script gives them names of their own. The planner looks a record up by its id only where
the id is the source, and no index serves ``id IN``; so that is where ids go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from unicodedata import normalize

import msgspec

from ...filters import (
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
)
from ...query import Added, Count, Delete, Get, Query, Select, Update
from ...schema import Column, Table
from ..sql import Binder, binder, encode_json
from .codecs import NONE, encoder_of, is_record, plain_encoder, read_as, record
from .names import quoted, words_of
from .stems import stemmed

MARK = "$_"
"""What the name of a value begins with before a script names it."""


class Compiled(msgspec.Struct, frozen=True):
    """An expression, the values of its places in order, and how to read what it gives."""

    text: str
    binders: tuple[Binder, ...]
    read: Callable[[Any], Any]
    writes: bool

    def bind(self, params: dict[str, Any]) -> list[Any]:
        """The values."""
        return [bind(params) for bind in self.binders]


class Statement:
    """An expression in the making."""

    def __init__(self, table: Table, binders: list[Binder] | None = None):
        self.table = table
        self.binders: list[Binder] = [] if binders is None else binders

    def bound(self, bind: Binder) -> str:
        """A place for what a binder gives."""
        self.binders.append(bind)
        return f"{MARK}{len(self.binders) - 1}_"

    def value(self, value: Any, encode: Callable[[Any], Any] | None = None) -> str:
        """A place for a parameter or a fixed value; JSON's null stays null."""
        return self.bound(binder(value, encode))

    def values(self, column: Column, value: Any) -> str:
        """A place for a value of this column; ``None`` is absence."""
        return self.bound(_absent(binder(value, encoder_of(self.table, column))))

    def listed(self, column: Column, values: Any) -> str:
        """A place for a list of values of this column; ``None`` is never one of them."""
        encode = encoder_of(self.table, column) or _same
        return self.value(values, lambda given: [encode(v) for v in given if v is not None])

    def where(self, filters: Iterable[Filter]) -> str:
        """``WHERE …``, or nothing."""
        parts = [self.condition(part) for part in filters]
        return f" WHERE {' AND '.join(parts)}" if parts else ""

    def condition(self, part: Filter) -> str:
        """A filter as a condition."""
        return _CONDITIONS[type(part)](self, part)

    def ranked(self, column: Column) -> str:
        """The column, or its rank if it is an enum."""
        return rank(quoted(column.name), column) if column.ranks else quoted(column.name)

    def rows(self, filters: Sequence[Filter]) -> str:
        """The source of the rows that meet all conditions, and the rest of the conditions."""
        for taken in filters:
            if (source := self._source(taken)) is not None:
                return source + self.where(f for f in filters if f is not taken)
        if (source := self._by_key(filters)) is not None:
            keyed = {f for f in filters if isinstance(f, Comparison) and f.column in self.table.key}
            return source + self.where(f for f in filters if f not in keyed)
        return quoted(self.table.name) + self.where(filters)

    def _source(self, part: Filter) -> str | None:
        if isinstance(part, Comparison) and part.column == "id" and part.operator == "=":
            bind = binder(part.value, encoder_of(self.table, self.table.column("id")))
            return self.bound(lambda params: [v] if (v := bind(params)) is not None else [])
        if isinstance(part, In) and part.column == "id":
            name = self.table.name
            return self.value(part.values, lambda keys: [record(name, k) for k in _once(keys)])
        return _rows_of(self, part) if isinstance(part, InRows) else None

    def _by_key(self, filters: Sequence[Filter]) -> str | None:
        """The row with this key, where the key has several columns."""
        equal = {f.column: f for f in filters if isinstance(f, Comparison) and f.operator == "="}
        table = self.table
        if table.key == ("id",) or not set(table.key) <= set(equal):
            return None
        binders = [
            binder(equal[name].value, plain_encoder(table.column(name))) for name in table.key
        ]

        def bind(params: dict[str, Any]) -> list[Any]:
            key = [each(params) for each in binders]
            return [] if None in key else [record(table.name, key if len(key) > 1 else key[0])]

        return self.bound(bind)

    def finish(self, text: str, read: Callable[[Any], Any], *, writes: bool = False) -> Compiled:
        """The compiled expression."""
        return Compiled(text, tuple(self.binders), read, writes)


def _same(value: Any) -> Any:
    return value


def _absent(bind: Binder) -> Binder:
    return lambda params: NONE if (value := bind(params)) is None else value


def _once(keys: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(key for key in keys if key is not None))


def rank(expression: str, column: Column) -> str:
    """The place of an enum's value among its members."""
    members = ", ".join(f"'{value}'" for value in column.ranks)
    return f"array::find_index([{members}], {expression})"


def _comparison(statement: Statement, part: Comparison) -> str:
    column = statement.table.column(part.column)
    name, given = quoted(column.name), statement.values(column, part.value)
    if part.operator in ("=", "!="):
        return f"{name} {part.operator} {given}"
    if column.ranks:
        return f"{statement.ranked(column)} {part.operator} {rank(given, column)}"
    compared = f"{name} {part.operator} {given}"
    return f"({name} != NONE AND {compared})" if column.nullable else compared


def _in(statement: Statement, part: In) -> str:
    column = statement.table.column(part.column)
    return f"{quoted(column.name)} IN {statement.listed(column, part.values)}"


def _in_rows(statement: Statement, part: InRows) -> str:
    return f"id IN {_rows_of(statement, part)}"


def _rows_of(statement: Statement, part: InRows) -> str:
    """The rows with these values, each looked up through an index."""
    table = statement.table
    encoders = [encoder_of(table, table.column(name)) or _same for name in part.columns]

    def encode(rows: Any) -> list[Any]:
        whole = [row for row in rows if None not in row]
        return [[e(v) for e, v in zip(encoders, row, strict=True)] for row in whole]

    same = " AND ".join(f"{quoted(name)} = $row[{n}]" for n, name in enumerate(part.columns))
    found = f"(SELECT VALUE id FROM {quoted(table.name)} WHERE {same})"
    rows = statement.value(part.rows, encode)
    return f"array::distinct(array::flatten({rows}.map(|$row| {found})))"


def _not_in_query(statement: Statement, part: NotInQuery) -> str:
    column, query = statement.table.column(part.column), part.query
    inner = Statement(query.table, statement.binders)
    other = query.table.column(part.selects)
    names = [quoted(column.name), quoted(other.name)]
    if is_record(column) != is_record(other):
        names = [
            f"record::id({n})" if is_record(c) else n
            for n, c in zip(names, (column, other), strict=True)
        ]
    source = inner.rows(query.filters)
    found = f"(SELECT VALUE {names[1]} FROM {source})"
    return f"({quoted(column.name)} = NONE OR {names[0]} NOT IN {found})"


def _in_folded(statement: Statement, part: InFolded) -> str:
    """Lower case, upper case, lower case: what differs in case only becomes equal, ``ß``, ``ẞ`` and
    ``SS`` too. The dotless ``ı``, which would become ``i``, is set aside."""
    name = quoted(part.column)
    wanted = statement.value(
        part.values, lambda texts: [form for text in texts for form in caseless(text)]
    )
    have = f"string::replace({name} ?? '', '{_DOTLESS}', '{_ASIDE}')"
    for case in ("lowercase", "uppercase", "lowercase"):
        have = f"string::{case}({have})"
    return f"({name} != NONE AND {have} IN {wanted})"


_DOTLESS, _ASIDE = "\u0131", "\ue131"


def caseless(text: str) -> list[str]:
    """A text without case, with its accents written either way."""
    forms = {normalize(form, text.replace(_DOTLESS, _ASIDE)) for form in ("NFC", "NFD")}
    return [form.lower().upper().lower() for form in forms]


def _decoded(part: JsonKey | JsonIn | JsonOrder | JsonContains) -> str:
    return f"encoding::json::decode({quoted(part.column)} ?? 'null')"


def _field(statement: Statement, part: JsonKey | JsonIn | JsonOrder | JsonContains) -> str:
    """The value that the JSON object of a column has under a key; absent if there is none."""
    return f"({_object(part)})[{statement.value(part.key)}]"


def _object(part: JsonKey | JsonIn | JsonOrder | JsonContains) -> str:
    decoded = _decoded(part)
    return f"IF type::is_object({decoded}) {{ {decoded} }} ELSE {{ {{}} }}"


def _json_key(statement: Statement, part: JsonKey) -> str:
    return f"{statement.value(part.key)} IN object::keys({_object(part)})"


def _json_in(statement: Statement, part: JsonIn) -> str:
    return f"{_field(statement, part)} IN {_as_json(statement, part.values, list)}"


def _as_json(statement: Statement, value: Any, encode: Callable[[Any], Any] | None = None) -> str:
    """A value that the engine reads from JSON, as it reads the column: its reader may be wrong in a
    float's last bit, and is then wrong in both."""
    written = encode_json if encode is None else lambda given: encode_json(encode(given))
    return f"encoding::json::decode({statement.bound(_written(value, written))})"


def _written(value: Any, encode: Callable[[Any], str]) -> Binder:
    """As ``binder``, but ``None`` is JSON's null."""
    if not isinstance(value, Param):
        fixed = encode(value)
        return lambda _params: fixed
    return lambda params: encode(params[value.name])


def _json_order(statement: Statement, part: JsonOrder) -> str:
    have, want = _field(statement, part), _as_json(statement, part.value)
    alike = " OR ".join(
        f"type::is_{kind}({have}) AND type::is_{kind}({want})" for kind in ("number", "string")
    )
    return f"(({alike}) AND {have} {part.operator} {want})"


def _json_contains(statement: Statement, part: JsonContains) -> str:
    have = _decoded(part) if part.key is None else _field(statement, part)
    want = statement.value(part.values, list)
    return f"(array::is_empty({want}) OR (type::is_array({have}) AND {have} CONTAINSALL {want}))"


def _after(statement: Statement, part: After) -> str:
    """In the order of all columns; the first alone is said too, for the index."""
    sign = "<" if part.descending else ">"
    pairs = [
        (quoted(name), statement.values(statement.table.column(name), value))
        for name, value in zip(part.columns, part.values, strict=True)
    ]
    name, value = pairs[-1]
    condition = f"{name} {sign} {value}"
    for name, value in pairs[-2::-1]:
        condition = f"({name} {sign} {value} OR ({name} = {value} AND {condition}))"
    name, value = pairs[0]
    return f"({name} {sign}= {value} AND {condition})"


def _all(statement: Statement, part: And) -> str:
    return f"({' AND '.join(statement.condition(inner) for inner in part.parts)})"


def _any(statement: Statement, part: Or) -> str:
    return f"({' OR '.join(statement.condition(inner) for inner in part.parts)})"


def _not(statement: Statement, part: Not) -> str:
    return f"!({statement.condition(part.part)})"


_CONDITIONS: dict[type, Callable[[Statement, Any], str]] = {
    Comparison: _comparison,
    In: _in,
    InRows: _in_rows,
    NotInQuery: _not_in_query,
    InFolded: _in_folded,
    JsonKey: _json_key,
    JsonIn: _json_in,
    JsonOrder: _json_order,
    JsonContains: _json_contains,
    After: _after,
    And: _all,
    Or: _any,
    Not: _not,
}


def row_reader(columns: Sequence[Column]) -> Callable[[list[Any]], list[Any]]:
    """Turns a row of the engine into Python values."""
    decoders = [(n, decode) for n, c in enumerate(columns) if (decode := read_as(c)) is not None]

    def read(row: list[Any]) -> list[Any]:
        for place, decode in decoders:
            if row[place] is not None:
                row[place] = decode(row[place])
        return row

    return read


def _model_reader(table: Table) -> Callable[[list[Any]], Any]:
    read, model = row_reader(table.columns), table.model
    return lambda row: model(*read(row))


def columns_as_list(columns: Iterable[Column]) -> str:
    """Columns as one value a row."""
    return f"[{', '.join(quoted(column.name) for column in columns)}]"


def _get(query: Get) -> Compiled:
    statement, table = Statement(query.table), query.table
    source = statement.rows([Comparison(name, "=", Param(name)) for name in table.key])
    read = _model_reader(table)
    text = f"(SELECT VALUE {columns_as_list(table.columns)} FROM {source})"
    return statement.finish(text, lambda rows: read(rows[0]) if rows else None)


def _select(query: Select) -> Compiled:
    statement, table = Statement(query.table), query.table
    columns = [table.column(name) for name in query.columns] or list(table.columns)
    source = statement.rows(_first_bound_first(query))
    ranks = [table.column(order.column) for order in query.orders]
    ranks = [column for column in ranks if column.ranks]
    order = _order(query, table)
    limit = "" if query.at_most is None else f" LIMIT {statement.value(query.at_most)}"
    if ranks:
        shown = ", ".join(f"{statement.ranked(c)} AS {quoted(_place(c))}" for c in ranks)
        source, order, limit = f"(SELECT *, {shown} FROM {source}{order}{limit})", "", ""
    text = f"(SELECT VALUE {columns_as_list(columns)} FROM {source}{order}{limit})"
    values = row_reader(columns)
    read = (lambda row: tuple(values(row))) if query.columns else _model_reader(table)
    return statement.finish(text, lambda rows: [read(row) for row in rows])


def _first_bound_first(query: Select) -> list[Filter]:
    """The filters, and before the others the one that says where an ordered read begins: of two
    bounds of a column the planner gives the index only the first."""
    if not query.orders:
        return list(query.filters)
    first = query.orders[0]
    begins = ("<", "<=") if first.descending else (">", ">=")

    def is_other(part: Filter) -> bool:
        return not (
            isinstance(part, Comparison) and part.column == first.column and part.operator in begins
        )

    return sorted(query.filters, key=is_other)


def _place(column: Column) -> str:
    return f"_rank_{column.name}"


def _order(query: Select, table: Table) -> str:
    """``ORDER BY …``, or nothing; enums by rank. What is absent comes before all else."""
    parts = [
        quoted(_place(column) if (column := table.column(order.column)).ranks else column.name)
        + (" DESC" if order.descending else "")
        for order in query.orders
    ]
    return f" ORDER BY {', '.join(parts)}" if parts else ""


def _count(query: Count) -> Compiled:
    statement = Statement(query.table)
    source = statement.rows(query.filters)
    text = f"((SELECT count() FROM {source} GROUP ALL)[0].count ?? 0)"
    return statement.finish(text, _same)


def _update(query: Update) -> Compiled:
    statement, table = Statement(query.table), query.table
    changes = []
    for name, value in query.changes:
        column = table.column(name)
        changes.append(_change(statement, column, value))
        if is_searched(table, column):
            stems = statement.bound(_absent(binder(value, stemmed)))
            changes.append(f"{quoted(words_of(name))} = {stems}")
    ids = f"(SELECT VALUE id FROM {statement.rows(query.filters)})"
    text = f"count(UPDATE {ids} SET {', '.join(changes)} RETURN VALUE 1)"
    return statement.finish(text, _same, writes=True)


def _change(statement: Statement, column: Column, value: Any) -> str:
    name = quoted(column.name)
    if isinstance(value, Added):
        return f"{name} = {name} + {statement.values(column, value.number)}"
    return f"{name} = {statement.values(column, value)}"


def is_searched(table: Table, column: Column) -> bool:
    """Whether a text search looks into the column."""
    return table.text is not None and column.name in table.text.columns


def _delete(query: Delete) -> Compiled:
    statement = Statement(query.table)
    ids = f"(SELECT VALUE id FROM {statement.rows(query.filters)})"
    return statement.finish(f"count(DELETE {ids} RETURN BEFORE)", _same, writes=True)


_COMPILERS: dict[type, Callable[[Any], Compiled]] = {
    Get: _get,
    Select: _select,
    Count: _count,
    Update: _update,
    Delete: _delete,
}


def compile_query(query: Query) -> Compiled:
    """The expression of a query that is no ``Insert``."""
    return _COMPILERS[type(query)](query)
