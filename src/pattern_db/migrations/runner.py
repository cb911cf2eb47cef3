"""Bringing a database to a version of the schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache, cached_property

import msgspec

from ..clock import Clock, utc_now
from ..engines.base import DatabaseBackend
from ..errors import InvalidValue, MigrationFailed, PatternError, SchemaVersionMismatch
from ..models import MigrationRecord
from ..query import Insert, delete, param, select
from ..schema import columns_of, table_of
from .operations import Operation

_RECORD = columns_of(MigrationRecord)
_APPLIED = select(MigrationRecord).order_by(_RECORD.version)
_ADD = Insert(table_of(MigrationRecord))
_REMOVE = delete(MigrationRecord).where(_RECORD.version == param("version"))


class Migration(msgspec.Struct, frozen=True, dict=True):
    """One numbered change: its operations run forwards on the way up, backwards on the way down."""

    version: int
    description: str
    operations: tuple[Operation, ...]

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of what it does; a changed migration no longer matches its record."""
        described = [operation.describe() for operation in self.operations]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    async def up(self, store: DatabaseBackend) -> None:
        """Apply every operation."""
        for operation in self.operations:
            await operation.up(store)

    async def down(self, store: DatabaseBackend) -> None:
        """Undo every operation, last one first."""
        for operation in reversed(self.operations):
            await operation.down(store)


class MigrationStatus(msgspec.Struct, frozen=True):
    """Where a database stands: the version it has, the newest one known, and what is to be done."""

    current: int
    newest: int
    pending: list[str]


@cache
def known_migrations() -> tuple[Migration, ...]:
    """Every migration of this program, in order."""
    from . import m0001_initial, m0002_constellations, m0003_episodes

    modules = (m0001_initial, m0002_constellations, m0003_episodes)
    return tuple(Migration(m.version, m.description, m.operations) for m in modules)


class MigrationRunner:
    """Runs migrations on one database. Safe when several processes open it at once."""

    def __init__(
        self,
        store: DatabaseBackend,
        *,
        migrations: Sequence[Migration] | None = None,
        clock: Clock = utc_now,
    ):
        self._store = store
        self._migrations = tuple(migrations if migrations is not None else known_migrations())
        self._clock = clock

    @property
    def newest(self) -> int:
        """The newest version this program knows; 0 if it knows none."""
        return max((migration.version for migration in self._migrations), default=0)

    async def status(self) -> MigrationStatus:
        """Where the database stands. Raises ``SchemaVersionMismatch`` as ``check``."""
        current = await self.check()
        pending = [self._title(m) for m in self._migrations if m.version > current]
        return MigrationStatus(current, self.newest, pending)

    async def check(self) -> int:
        """The version of the database.

        Raises ``SchemaVersionMismatch`` if it is newer than this program, or was migrated by
        something else than these migrations.
        """
        applied = await self._applied()
        current = max((record.version for record in applied), default=0)
        if current > self.newest:
            raise SchemaVersionMismatch(
                f"The database has schema version {current} but this program knows only up to "
                f"{self.newest}; install a newer pattern-db.",
                found=current,
                expected=self.newest,
            )
        known = {migration.version: migration.checksum for migration in self._migrations}
        for record in applied:
            if known.get(record.version) != record.checksum:
                raise SchemaVersionMismatch(
                    f"Migration {record.version} of the database is not the one this program has; "
                    "use the version of pattern-db that made it.",
                    found=record.version,
                    expected=record.version,
                )
        return current

    async def migrate(self, *, to: int | None = None, dry_run: bool = False) -> list[str]:
        """Go up (or down) to a version, the newest by default; gives what was (or would be) done.

        Each migration and its record are one transaction, so a crash leaves the version before or
        after it. Raises ``MigrationFailed`` with the cause if one stops.
        """
        target = self.newest if to is None else to
        if not isinstance(target, int) or not 0 <= target <= self.newest:
            raise InvalidValue("version", f"it must be between 0 and {self.newest}.")
        current = await self.check()
        steps = self._steps(current, target)
        if not dry_run:
            for migration, upwards in steps:
                await self._apply(migration, upwards=upwards)
        return [f"{'up' if up else 'down'} {self._title(m)}" for m, up in steps]

    def _steps(self, current: int, target: int) -> list[tuple[Migration, bool]]:
        up = [(m, True) for m in self._migrations if current < m.version <= target]
        down = [(m, False) for m in self._migrations[::-1] if target < m.version <= current]
        return up + down

    async def _apply(self, migration: Migration, *, upwards: bool) -> None:
        try:
            async with self._store.transaction(alone=True):
                done = any(r.version == migration.version for r in await self._applied())
                if done != upwards:
                    await (self._up if upwards else self._down)(migration)
        except PatternError as error:
            raise MigrationFailed(
                f"Migration {self._title(migration)} stopped and was undone: {error}",
                expected=migration.version,
            ) from error

    async def _up(self, migration: Migration) -> None:
        await migration.up(self._store)
        record = MigrationRecord(
            version=migration.version,
            description=migration.description,
            checksum=migration.checksum,
            applied_at=self._clock(),
        )
        await self._store.execute(_ADD, row=record)

    async def _down(self, migration: Migration) -> None:
        await self._store.execute(_REMOVE, version=migration.version)
        await migration.down(self._store)

    async def _applied(self) -> list[MigrationRecord]:
        if not await self._store.has_table("schema_migrations"):
            return []
        records: list[MigrationRecord] = await self._store.execute(_APPLIED)
        return records

    @staticmethod
    def _title(migration: Migration) -> str:
        return f"{migration.version:04d} {migration.description}"
