"""The schema as SurrealQL.

References are record links that SurrealDB keeps whole: it asserts that the record is there, and
removes what belongs to one that goes. A table that is searched has a field with the stems of its
text and a word for its agent, under a full-text index; the stems are made here, because its own
analyzers cut words otherwise than the other engines do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ...schema import Column, ColumnType, Index, Table, TextIndex, all_tables
from .compiler import is_searched
from .failures import MISSING
from .names import (
    ANALYZER,
    NEAR,
    QUEUE,
    SPACES,
    TURN,
    VECTORS,
    WORDS,
    index_name,
    live,
    near_table,
    quoted,
    words_of,
)

_TYPES = {
    ColumnType.TEXT: "string",
    ColumnType.INTEGER: "int",
    ColumnType.REAL: "float",
    ColumnType.BOOLEAN: "bool",
    ColumnType.BYTES: "bytes",
    ColumnType.TIME: "datetime",
    ColumnType.ENUM: "string",
    ColumnType.JSON: "string",
}
_NEAR = re.compile(r"near_-?\d+")
_ACTIONS = {"cascade": "CASCADE", "set null": "UNSET", "restrict": "REJECT"}
_OF_ITEM = ("item_id", "kind")


def create(tables: Sequence[Table]) -> Iterator[str]:
    """Statements that create tables and everything that belongs to them."""
    yield f"DEFINE ANALYZER IF NOT EXISTS {ANALYZER} TOKENIZERS blank"
    for table in tables:
        yield f"DEFINE TABLE {quoted(table.name)} SCHEMAFULL"
        yield from (_field(table, column) for column in table.columns if column.name != "id")
        yield from (_index(table, index) for index in table.indexes if _columns(index))
        if table.text is not None:
            yield from _text(table, table.text)
        if table.name in (VECTORS, QUEUE):
            yield from _of_items(table)


def drop(tables: Sequence[Table], spaces: Sequence[int]) -> Iterator[str]:
    """Statements that remove tables and everything that belongs to them."""
    for table in tables:
        yield f"REMOVE TABLE IF EXISTS {quoted(table.name)}"
        if table.name == SPACES:
            for space in spaces:
                yield f"REMOVE TABLE IF EXISTS {quoted(near_table(space))}"


def is_ours(name: str) -> bool:
    """Whether a table of this name is one that this program makes."""
    known = {TURN, *(table.name for table in all_tables())}
    return name in known or _NEAR.fullmatch(name) is not None


def space(number: int, dimensions: int) -> Iterator[str]:
    """Statements for the vectors of a new space: HNSW indexes vectors of one length."""
    name = quoted(near_table(number))
    yield f"DEFINE TABLE IF NOT EXISTS {name} SCHEMAFULL"
    yield f"DEFINE FIELD IF NOT EXISTS {NEAR} ON {name} TYPE array<float>"
    yield (
        f"DEFINE INDEX OVERWRITE {NEAR} ON {name} FIELDS {NEAR} "
        f"HNSW DIMENSION {int(dimensions)} DIST COSINE TYPE F32 EFC 150 M 16"
    )


def _field(table: Table, column: Column) -> str:
    type_ = _TYPES[column.type]
    rest = ""
    if column.references is not None:
        type_ = f"record<{quoted(column.references.table)}>"
        rest = (
            " ASSERT $value = NONE OR record::exists($value) OR { THROW "
            f"'{MISSING}' + encoding::json::encode([record::tb($value), record::id($value)]) }} "
            f"REFERENCE ON DELETE {_ACTIONS[column.references.on_delete]}"
        )
    if column.type is ColumnType.ENUM:
        members = ", ".join(f"'{value}'" for value in column.ranks)
        rest = f" ASSERT $value = NONE OR $value IN [{members}]"
    if column.nullable and not column.counted:
        type_ = f"option<{type_}>"
    return f"DEFINE FIELD {quoted(column.name)} ON {quoted(table.name)} TYPE {type_}{rest}"


def _columns(index: Index) -> list[str]:
    """The fields of an index: the id, which ends every entry anyway, cannot be one."""
    fields = [column for column in index.columns if column != "id"]
    if index.live_only and index.unique:
        fields[-1] = live(fields[-1])
    return fields


def _index(table: Table, index: Index) -> str:
    fields = ", ".join(map(quoted, _columns(index)))
    unique = " UNIQUE" if index.unique else ""
    name, home = quoted(index_name(table, index)), quoted(table.name)
    define = f"DEFINE INDEX {name} ON {home} FIELDS {fields}{unique}"
    if not (index.live_only and index.unique):
        return define
    last = index.columns[-1]
    value = f"IF is_active {{ {quoted(last)} }} ELSE {{ NONE }}"
    return f"DEFINE FIELD {quoted(live(last))} ON {home} TYPE any VALUE {value}; {define}"


# text


def _text(table: Table, text: TextIndex) -> Iterator[str]:
    name = quoted(table.name)
    searched = [column for column in table.columns if is_searched(table, column)]
    for column in searched:
        yield f"DEFINE FIELD {quoted(words_of(column.name))} ON {name} TYPE option<string>"
    stems = ", ".join(f"{quoted(words_of(column.name))} ?? ''" for column in searched)
    hidden = f"{quoted(text.hidden[0])} = {_literal(text.hidden[1])}"
    owner = f"'@' + crypto::md5(record::id({quoted(text.owner)}))"
    yield (
        f"DEFINE FIELD {WORDS} ON {name} TYPE string VALUE "
        f"IF {hidden} {{ '' }} ELSE {{ string::join(' ', {owner}, {stems}) }}"
    )
    yield f"DEFINE INDEX {WORDS} ON {name} FIELDS {WORDS} FULLTEXT ANALYZER {ANALYZER} BM25"
    same = f"WHERE item_id = record::id($before.id) AND kind = '{text.kind}'"
    yield (
        f"DEFINE EVENT vectors_gone ON {name} "
        f"WHEN $event = 'DELETE' OR ($event = 'UPDATE' AND $after.{hidden}) "
        f"THEN {{ DELETE {VECTORS} {same}; DELETE {QUEUE} {same} }}"
    )


def _of_items(table: Table) -> Iterator[str]:
    """What a search finds an item's vectors by, and what forgets them in the table of the space."""
    name = quoted(table.name)
    yield f"DEFINE INDEX of_item ON {name} FIELDS {', '.join(_OF_ITEM)}"
    if table.name == VECTORS:
        key = "<string> $before.chunk_index + '/' + $before.kind + '/' + $before.item_id"
        near = f"type::record('near_' + <string> record::id($before.space), {key})"
        yield f"DEFINE EVENT near_gone ON {name} WHEN $event = 'DELETE' THEN {{ DELETE {near} }}"


def _literal(value: bool) -> str:
    return "true" if value else "false"
