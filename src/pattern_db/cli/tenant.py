"""``pattern tenant``: the tenants of a database, each with a place of its own."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
from cyclopts import App

from pattern_db.errors import PatternError

from . import output, progress
from .options import DEFAULTS, Options
from .output import Column
from .session import require_database, settings
from .values import JsonObject, Limit, UsageError

if TYPE_CHECKING:
    from pattern_db.service import PatternDB
    from pattern_db.tenants import TenantMigration

app = App("tenant", help="Tenants: databases of their own, known to one that has them all.")

_TABLE = output.table(
    [
        Column("name", lambda tenant: tenant.id),
        Column("status", lambda tenant: tenant.status.value),
        Column("user", lambda tenant: tenant.user_id or ""),
        Column("created", lambda tenant: output.when(tenant.created_at)),
        Column("title", lambda tenant: output.shorten(tenant.title)),
    ]
)


class NotMigratedError(PatternError):
    """Some tenants could not be migrated; they were named."""


@app.command
async def create(
    name: str,
    /,
    *,
    title: str = "",
    user: str | None = None,
    metadata: JsonObject | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Make an empty tenant; every verb then takes --tenant NAME.

    Parameters
    ----------
    name
        Lower-case letters, digits, `-` and single `_`.
    title
        What people call it.
    user
        The id of the user that it belongs to.
    metadata
        A JSON object to keep with it.
    """
    async with _base(options, create=True) as db:
        made = await db.tenants.create(name, title=title, user_id=user, metadata=metadata)
    output.answer(options, made, f"Made the tenant {name}; use it with --tenant {name}.")


@app.command
async def list(
    *, limit: Limit = 100, after: str | None = None, options: Options = DEFAULTS
) -> None:
    """List tenants by name.

    Parameters
    ----------
    limit
        How many at most.
    after
        Only those after this one.
    """
    async with _base(options) as db:
        found = await db.tenants.list(limit=output.one_more(limit), after=after)
    output.listing(options, found, limit, _TABLE, nothing="no tenants")


@app.command
async def drop(name: str, /, *, yes: bool = False, options: Options = DEFAULTS) -> None:
    """Erase a tenant with all its data, for good.

    Parameters
    ----------
    name
        Which one.
    yes
        Do it without being asked again.
    """
    if not yes:
        raise UsageError("Dropping a tenant erases all its data; add --yes if that is wanted.")
    async with _base(options) as db:
        await db.tenants.drop(name)
    output.answer(options, {"dropped": name}, f"Erased the tenant {name}.")


@app.command
async def migrate(
    name: builtins.list[str] | None = None, /, *, options: Options = DEFAULTS
) -> None:
    """Bring tenants to the newest schema; those that fail are named, and the others go on.

    Parameters
    ----------
    name
        Which ones. [default: all]
    """
    done: builtins.list[TenantMigration] = []
    async with _base(options) as db:
        with progress.waiting("migrating"):
            async for each in db.tenants.migrate(name):
                done.append(each)
                if not options.json:
                    output.line(_sentence(each))
    failed = [each.tenant for each in done if each.error]
    if options.json:
        output.document([msgspec.structs.asdict(each) for each in done])
    else:
        output.line(f"{output.count(len(done) - len(failed), 'tenant')} at the newest schema.")
    if failed:
        raise NotMigratedError(
            f"{output.count(len(failed), 'tenant')} could not be migrated "
            f"({', '.join(failed)}); see why above, then migrate again."
        )


def _sentence(done: TenantMigration) -> str:
    if done.error is not None:
        return f"{done.tenant}: {done.error}"
    return f"{done.tenant}: {', '.join(done.steps) or 'nothing to do'}"


@asynccontextmanager
async def _base(options: Options, *, create: bool = False) -> AsyncIterator[PatternDB]:
    """The database that has the tenants, whichever tenant the settings name."""
    from pattern_db.service import open as open_database

    if options.tenant is not None:
        raise UsageError("A tenant has no tenants; leave --tenant out.")
    config = settings(options)
    database = msgspec.structs.replace(config.database, tenant=None)
    config = msgspec.structs.replace(config, database=database)
    if not create:
        require_database(config)
    async with open_database(config, embeddings="none") as db:
        yield db
