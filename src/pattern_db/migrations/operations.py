"""What a migration may do: operations on schema values, so that one migration serves every engine.

A migration describes the schema as it was when it was written, never the models of today; its
tables are therefore frozen in a JSON file beside it (``scripts/freeze_schema.py`` writes one).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import msgspec

from ..engines.base import DatabaseBackend
from ..schema import Table, table_from_description


class Operation(Protocol):
    """One reversible step."""

    async def up(self, store: DatabaseBackend) -> None:
        """Apply it."""
        ...

    async def down(self, store: DatabaseBackend) -> None:
        """Undo it."""
        ...

    def describe(self) -> Any:
        """The step as plain data; the checksum of a migration is made of these."""
        ...


class CreateTables(msgspec.Struct, frozen=True):
    """Create tables with their indexes; undone by dropping them, last one first."""

    tables: tuple[Table, ...]

    async def up(self, store: DatabaseBackend) -> None:
        """Apply it."""
        await store.create(self.tables)

    async def down(self, store: DatabaseBackend) -> None:
        """Undo it."""
        await store.drop(self.tables[::-1])

    def describe(self) -> Any:
        """The step as plain data."""
        return {"create": [table.describe() for table in self.tables]}


def frozen_tables(name: str) -> tuple[Table, ...]:
    """The tables of a JSON file in this package."""
    described = msgspec.json.decode(Path(__file__).with_name(name).read_bytes())
    return tuple(table_from_description(table) for table in described)
