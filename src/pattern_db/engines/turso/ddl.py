"""The schema as Turso's statements.

A table's key is its primary key, and rows have no number of their own: a server and all that follow
it know a row by its key, while each numbers its rows anew. An ``INTEGER PRIMARY KEY`` would be such
a number, and the server (0.6.0) cannot overwrite a row that has one; ``INT`` is a key as others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...schema import ColumnType, Table, all_tables
from ..embedded.driver import Connection
from ..embedded.tables import create_table, drop_triggers, vector_triggers
from ..sql import quoted

_NAMES = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'trigger')"


def create_tables(tables: Sequence[Table]) -> Iterator[str]:
    """Statements that create tables and everything that belongs to them."""
    for table in tables:
        yield from create_table(table, key="PRIMARY KEY", types={ColumnType.INTEGER: "INT"})
    for table in tables:
        if table.text is not None:
            yield from vector_triggers(table, table.text)


def drop_tables(tables: Sequence[Table]) -> Iterator[str]:
    """Statements that remove tables and everything that belongs to them."""
    yield from drop_triggers(tables)
    yield from (f"DROP TABLE IF EXISTS {quoted(table.name)}" for table in tables)


def mend_triggers(connection: Connection) -> None:
    """Make the triggers that are missing: a server takes none and gives none back."""
    names = {name for (name,) in connection.execute(_NAMES).fetchall()}
    for table in all_tables():
        if table.text is None or not {table.name, "embeddings", "embedding_queue"} <= names:
            continue
        for statement in vector_triggers(table, table.text):
            if statement.split('"')[1] not in names:
                connection.execute(statement)
