"""Names in PostgreSQL. Tables are written with their schema: no query leaves its tenant."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from ...errors import ConfigError
from ...schema import Column, Index, Table, all_tables
from ..sql import quoted

MOST_NAME_BYTES = 63
_NAME = re.compile(r"\w[\w-]*")
FOLD = "pattern_fold"
"""The function that takes case away from a text."""
WORDS = "_words"
"""The column with what a text search finds of a row."""


class Schema:
    """The names of one tenant's schema, ready for a statement."""

    def __init__(self, name: str):
        if not _NAME.fullmatch(name) or len(name.encode()) > MOST_NAME_BYTES:
            raise ConfigError(
                "database.namespace must be letters, digits, `_` and `-`, at most "
                f"{MOST_NAME_BYTES} bytes; choose another."
            )
        self.plain = name
        self.name = quoted(name)

    def of(self, name: str) -> str:
        """A table, function or dictionary of the schema."""
        return f"{self.name}.{quoted(name)}"

    def literal(self, name: str) -> str:
        """The same as text for a cast such as ``::regconfig``."""
        return f"'{self.of(name)}'"


def key_name(table: Table) -> str:
    """The name of the constraint of a table's key."""
    return f"{table.name}_key"


def index_name(table: Table, index: Index) -> str:
    """The name of an index."""
    return f"{table.name}_by_{'_'.join(index.columns)}"


def reference_name(table: Table, column: Column) -> str:
    """The name of the constraint of a foreign key."""
    return f"{table.name}_{column.name}_ref"


def column_of_constraint(table_name: str, constraint: str) -> Column | None:
    """The column that an error about a constraint is about: of a key, the last one."""
    for table in all_tables():
        if table.name == table_name:
            return dict(_constraints(table)).get(constraint)
    return None


def _constraints(table: Table) -> Iterator[tuple[str, Column]]:
    yield key_name(table), table.column(table.key[-1])
    for index in table.indexes:
        yield index_name(table, index), table.column(index.columns[-1])
    for column in table.columns:
        yield reference_name(table, column), column


def scope_word(agent_id: str) -> str:
    """The word that stands for an agent in a text index; no word of a text begins with ``@``."""
    return "@" + hashlib.sha256(agent_id.encode()).hexdigest()[:16]
