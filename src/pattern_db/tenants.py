"""The tenants of a database: made, listed, opened, migrated and erased."""

from __future__ import annotations

import builtins
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from .clock import Clock
from .config import DatabaseConfig
from .config.settings import KEYS
from .config.tenants import impossible, located
from .engines.base import Store
from .errors import (
    AlreadyExists,
    ConnectionFailed,
    InvalidValue,
    NotFound,
    PatternError,
    Unsupported,
)
from .migrations import MigrationRunner
from .models import Constellation, ConstellationStatus, Json
from .query import Get, Insert, delete, param, select, update
from .schema import columns_of, table_of
from .validation import build, check_limit

_TABLE = table_of(Constellation)
_C = columns_of(Constellation)
_GET = Get(_TABLE)
_ADD = Insert(_TABLE)
_SET = update(Constellation, "status", "updated_at").where(_C.id == param("id"))
_REMOVE = delete(Constellation).where(_C.id == param("id"))
_PAGE = select(Constellation).where(_C.id > param("after")).order_by(_C.id).limit(param("limit"))
_FIELD = KEYS["database.tenant"]
_PAGE_ROWS = 500


class TenantMigration(msgspec.Struct, frozen=True):
    """What became of one tenant: the steps that were done, or why it could not be migrated."""

    tenant: str
    steps: list[str] = []
    error: str | None = None


Connect = Callable[[DatabaseConfig], Awaitable[Store]]


class Tenants:
    """The registry of tenants in a database, and their databases.

    Each has a file, a schema or a database of its own; no query reaches from one into another. A
    tenant has no tenants itself.
    """

    def __init__(self, store: Store, config: DatabaseConfig, connect: Connect, clock: Clock):
        self._store = store
        self._config = config
        self._connect = connect
        self._clock = clock

    async def create(
        self,
        name: str,
        *,
        user_id: str | None = None,
        title: str = "",
        metadata: Json | None = None,
    ) -> Constellation:
        """Make an empty tenant; one whose making was stopped halfway is finished.

        ``user_id`` is a user of this database. Raises ``AlreadyExists``, ``NotFound`` (user),
        ``InvalidValue`` for a name that cannot be.
        """
        self._check_base()
        now = self._clock()
        row = build(
            Constellation,
            {
                "id": checked_name(name),
                "user_id": user_id,
                "title": title,
                "metadata": metadata or {},
                "created_at": now,
                "updated_at": now,
            },
        )
        there = await self.get(name)
        if there is None:
            await self._store.execute(_ADD, row=row)
        elif there.status is not ConstellationStatus.CREATING:
            raise AlreadyExists(_TABLE.entity, "name")
        await self._migrate(name)
        await self._become(name, ConstellationStatus.ACTIVE)
        return await self.require(name)

    async def get(self, name: str) -> Constellation | None:
        """The registered tenant of this name, in whatever state; ``None`` if there is none."""
        found: Constellation | None = await self._store.execute(_GET, id=checked_name(name))
        return found

    async def require(self, name: str) -> Constellation:
        """The tenant of this name. Raises ``NotFound`` if there is none that can be opened."""
        found = await self.get(name)
        if found is None or found.status is not ConstellationStatus.ACTIVE:
            raise NotFound(_TABLE.entity, name)
        return found

    async def list(
        self, *, limit: int = 100, after: str | None = None
    ) -> builtins.list[Constellation]:
        """Tenants by name, those that are not whole too; ``after`` a name."""
        given = "" if after is None else checked_name(after)
        rows: builtins.list[Constellation] = await self._store.execute(
            _PAGE, after=given, limit=check_limit(limit)
        )
        return rows

    async def drop(self, name: str) -> None:
        """Erase a tenant with all its data, for good; stopped halfway, do it again.

        Raises ``NotFound``, ``DatabaseBusy`` if it is open.
        """
        self._check_base()
        if await self.get(name) is None:
            raise NotFound(_TABLE.entity, name)
        await self._become(name, ConstellationStatus.DROPPING)
        store = await self._connected(name)
        try:
            await store.erase()
        finally:
            await store.close()
        await self._store.execute(_REMOVE, id=name)

    async def migrate(self, names: Sequence[str] | None = None) -> AsyncIterator[TenantMigration]:
        """Bring tenants (all by default) to the newest schema, one after the other.

        One that fails is reported and left as it was, and the others go on; those that are done are
        passed over when it is run again. Also finishes tenants whose making was stopped halfway.
        """
        self._check_base()
        async for tenant in self._chosen(names):
            try:
                steps = await self._migrate(tenant.id)
            except PatternError as error:
                yield TenantMigration(tenant.id, error=str(error))
                continue
            if tenant.status is ConstellationStatus.CREATING:
                await self._become(tenant.id, ConstellationStatus.ACTIVE)
            yield TenantMigration(tenant.id, steps)

    async def _chosen(self, names: Sequence[str] | None) -> AsyncIterator[Constellation]:
        if names is not None:
            for name in names:
                found = await self.get(name)
                if found is None:
                    raise NotFound(_TABLE.entity, name)
                yield found
            return
        after = ""
        while page := await self._store.execute(_PAGE, after=after, limit=_PAGE_ROWS):
            after = page[-1].id
            for tenant in page:
                if tenant.status is not ConstellationStatus.DROPPING:
                    yield tenant

    async def _become(self, name: str, status: ConstellationStatus) -> None:
        await self._store.execute(_SET, id=name, status=status, updated_at=self._clock())

    async def _migrate(self, name: str) -> builtins.list[str]:
        store = await self._connected(name)
        try:
            return await MigrationRunner(store, clock=self._clock).migrate()
        finally:
            await store.close()

    async def _connected(self, name: str) -> Store:
        place = located(self._config, name)
        _make_room(place)
        return await self._connect(place)

    def _check_base(self) -> None:
        if self._config.tenant is not None or impossible(self._config):
            raise Unsupported(
                "This database has no tenants: it is one itself, or it is in memory; open its base."
            )


async def require_tenant(database: DatabaseConfig, connect: Connect, clock: Clock) -> None:
    """Raise ``NotFound`` unless the tenant of these settings is in its base's registry, whole.

    Where one handle at a time has a file, the base may be open elsewhere; then a file of the
    tenant's own is enough.
    """
    base, name = msgspec.structs.replace(database, tenant=None), database.tenant or ""
    if not _may_be_there(base):
        raise NotFound(_TABLE.entity, name)
    try:
        store = await connect(base)
    except ConnectionFailed:
        if base.type == "remote" or not _has_file_of_its_own(database, base):
            raise
        return
    try:
        if not await store.has_table(_TABLE.name):
            raise NotFound(_TABLE.entity, name)
        await Tenants(store, base, connect, clock).require(name)
    finally:
        await store.close()


def _make_room(place: DatabaseConfig) -> None:
    """Make the folder that the files of tenants lie in."""
    if place.type == "embedded":
        os.makedirs(os.path.dirname(place.location), mode=0o700, exist_ok=True)


def _may_be_there(base: DatabaseConfig) -> bool:
    """Whether there is a file; of a server it is not known."""
    return base.type == "remote" or os.path.lexists(base.location)


def _has_file_of_its_own(tenant: DatabaseConfig, base: DatabaseConfig) -> bool:
    """Whether the tenant has another file than its base. Raises ``NotFound`` if that is missing."""
    place = tenant.located.location
    if place == base.location:
        return False
    if not os.path.lexists(place):
        raise NotFound(_TABLE.entity, tenant.tenant or "") from None
    return True


def checked_name(name: str) -> str:
    """A tenant's name. Raises ``InvalidValue``."""
    try:
        checked: str = msgspec.convert(name, _FIELD.hint)
    except msgspec.ValidationError:
        raise InvalidValue("tenant", f"it must be {_FIELD.allowed}.") from None
    return checked
