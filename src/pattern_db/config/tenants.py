"""Where the data of a tenant is: a file, a schema or a database of its own, never a mere filter.

==============  ==========================================================================
engine          tenant ``ada`` of …
==============  ==========================================================================
sqlite, turso   the file ``mind.db``: the file ``mind.db-tenants/ada.db``
postgres        the schema ``public``: the schema ``public__ada`` of the same database
surreal         the database ``pattern``: the database ``pattern__ada`` of the same namespace
==============  ==========================================================================

Names hold no double underscore, so no two tenants, of whatever base, share a place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from pattern_db.config.urls import MEMORY, Engine, file_url

if TYPE_CHECKING:
    from pattern_db.config.settings import DatabaseConfig

MOST_NAME_CHARS = 40
NAME = r"^[a-z0-9](?:_?[a-z0-9-])*\Z"
ALLOWED = (
    "a name of lower-case letters, digits, `-` and single `_`, beginning with a letter or digit, "
    f"of at most {MOST_NAME_CHARS} characters"
)


def folder_of(path: str) -> str:
    """Where the files of the tenants of a database file lie."""
    return f"{path}-tenants"


def located(base: DatabaseConfig, tenant: str) -> DatabaseConfig:
    """The place of a tenant of this database, as a database of its own."""
    return _PLACES[base.engine](msgspec.structs.replace(base, tenant=None), tenant)


def impossible(database: DatabaseConfig) -> str | None:
    """Why this database cannot have tenants, if it cannot."""
    url = database.url or ""
    if url.startswith("mem:") or (database.engine == "sqlite" and database.location == MEMORY):
        return "database.tenant is set, but nothing in memory outlives its handle; name a file."
    if database.engine == "turso" and "?" in url:
        return (
            "database.tenant is set, but all tenants would sync with the one server of "
            "database.url; give each tenant a URL of its own instead."
        )
    return None


def _file(base: DatabaseConfig, tenant: str) -> DatabaseConfig:
    path = f"{folder_of(base.location)}/{tenant}.db"
    if base.url is None:
        return msgspec.structs.replace(base, path=path)
    return msgspec.structs.replace(base, path=None, url=file_url(base.url, path))


def _schema(base: DatabaseConfig, tenant: str) -> DatabaseConfig:
    return msgspec.structs.replace(base, namespace=f"{base.namespace or 'public'}__{tenant}")


def _database(base: DatabaseConfig, tenant: str) -> DatabaseConfig:
    return msgspec.structs.replace(base, database=f"{base.database or 'pattern'}__{tenant}")


_PLACES: dict[Engine, Callable[[DatabaseConfig, str], DatabaseConfig]] = {
    "sqlite": _file,
    "turso": _file,
    "postgres": _schema,
    "surreal": _database,
}
