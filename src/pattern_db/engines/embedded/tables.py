"""The schema as statements of SQLite's dialect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...schema import Column, ColumnType, Index, Table, TextIndex
from ..sql import quoted

_VECTOR_TRIGGERS = ("vectors_gone", "vectors_hidden", "vectors_live")
_TYPES = {
    ColumnType.TEXT: "TEXT",
    ColumnType.INTEGER: "INTEGER",
    ColumnType.REAL: "REAL",
    ColumnType.BOOLEAN: "INTEGER",
    ColumnType.BYTES: "BLOB",
    ColumnType.TIME: "INTEGER",
    ColumnType.ENUM: "TEXT",
    ColumnType.JSON: "TEXT",
}


def create_table(
    table: Table,
    *,
    first: Sequence[str] = (),
    key: str = "UNIQUE",
    types: Mapping[ColumnType, str] | None = None,
) -> Iterator[str]:
    """Statements that create a table and its indexes. ``first`` are columns of the engine's own,
    ``key`` is what the table's key is to it, ``types`` those that it calls otherwise."""
    lines = [*first, *(_column(column, types or {}) for column in table.columns)]
    lines.append(f"{key} ({', '.join(map(quoted, table.key))})")
    yield f"CREATE TABLE {quoted(table.name)} ({', '.join(lines)}) STRICT"
    yield from (create_index(table, index) for index in table.indexes)


def create_index(table: Table, index: Index) -> str:
    """The statement that creates an index."""
    unique = "UNIQUE " if index.unique else ""
    name = quoted(f"{table.name}_by_{'_'.join(index.columns)}")
    where = " WHERE is_active = 1" if index.live_only else ""
    columns = ", ".join(map(quoted, index.columns))
    return f"CREATE {unique}INDEX {name} ON {quoted(table.name)} ({columns}){where}"


def _column(column: Column, types: Mapping[ColumnType, str]) -> str:
    null = "" if column.nullable and not column.counted else " NOT NULL"
    reference = ""
    if column.references:
        action = column.references.on_delete.upper()
        reference = f' REFERENCES {quoted(column.references.table)} ("id") ON DELETE {action}'
    kind = types.get(column.type, _TYPES[column.type])
    return f"{quoted(column.name)} {kind}{null}{reference}"


def vector_triggers(table: Table, text: TextIndex) -> Iterator[str]:
    """No vector outlives its item, whoever removes that, and none is added to one that is gone."""
    name, (hidden, value) = quoted(table.name), text.hidden
    forget = (
        f"DELETE FROM \"embeddings\" WHERE item_id = old.id AND kind = '{text.kind}'; "
        f"DELETE FROM \"embedding_queue\" WHERE item_id = old.id AND kind = '{text.kind}'"
    )
    gone = f"new.{quoted(hidden)} = {int(value)}"
    live = f"SELECT 1 FROM {name} WHERE id = new.item_id AND {quoted(hidden)} <> {int(value)}"
    unwanted = f"new.kind = '{text.kind}' AND NOT EXISTS ({live})"
    yield trigger(table, "vectors_gone", f"AFTER DELETE ON {name}", forget)
    hides = f"AFTER UPDATE OF {quoted(hidden)} ON {name} WHEN {gone}"
    yield trigger(table, "vectors_hidden", hides, forget)
    adds = f'BEFORE INSERT ON "embeddings" WHEN {unwanted}'
    yield trigger(table, "vectors_live", adds, "SELECT RAISE(IGNORE)")


def trigger(table: Table, name: str, event: str, body: str) -> str:
    """The statement that creates a trigger of a table's texts."""
    return f"CREATE TRIGGER {trigger_name(table, name)} {event} BEGIN {body}; END"


def trigger_name(table: Table, name: str) -> str:
    """The name of such a trigger."""
    return quoted(f"{table.name}_text_{name}")


def drop_triggers(tables: Sequence[Table], names: Sequence[str] = ()) -> Iterator[str]:
    """Statements that remove the triggers of some tables, those of ``names`` too: before any table,
    for a trigger that names a dropped one would stop the next drop."""
    for table in tables:
        for name in (*names, *_VECTOR_TRIGGERS) if table.text is not None else ():
            yield f"DROP TRIGGER IF EXISTS {trigger_name(table, name)}"
