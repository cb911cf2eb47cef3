"""The database that a verb works on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pattern_db.config import Config, load
from pattern_db.config.urls import MEMORY
from pattern_db.errors import ConnectionFailed

from .options import Options

if TYPE_CHECKING:
    from pattern_db.engines.base import Store
    from pattern_db.migrations import MigrationRunner
    from pattern_db.service import PatternDB

_VARIABLES = "PATTERN_DATABASE__"


def settings(options: Options, *, db: str | None = None) -> Config:
    """The settings that hold for a verb; ``db`` stands in for ``--db``.

    A database that is given as a .toml file is the one that this file describes, whatever the
    variables about databases say.
    """
    place = db or options.db
    given: dict[str, Any] = {"embeddings": options.embeddings, "tenant": options.tenant}
    if place is None or not place.endswith(".toml"):
        return load(place, **given)
    environ = {k: v for k, v in os.environ.items() if not k.upper().startswith(_VARIABLES)}
    return load(config_file=place, environ=environ, **given)


@asynccontextmanager
async def opened(
    options: Options, *, embeds: bool = False, create: bool = False, any_model: bool = False
) -> AsyncIterator[PatternDB]:
    """The database of a verb, which has to exist unless the verb may ``create`` it.

    What does not embed opens it without a provider: no model is loaded, and it works whichever
    model the database was embedded with.
    """
    from pattern_db.service import open as open_database

    config = settings(options)
    if not create:
        require_database(config)
    provider = None if embeds else "none"
    async with open_database(config, embeddings=provider, allow_other_model=any_model) as db:
        yield db


@asynccontextmanager
async def unmigrated(options: Options) -> AsyncIterator[tuple[Store, MigrationRunner]]:
    """A database, which has to exist and is not migrated by opening it, and its migrations."""
    from pattern_db.migrations import MigrationRunner
    from pattern_db.service import _connect

    config = settings(options)
    require_database(config)
    store = await _connect(config.database)
    try:
        yield store, MigrationRunner(store)
    finally:
        await store.close()


def require_database(config: Config) -> None:
    """Raise ``ConnectionFailed`` if the file of an embedded database is not there."""
    path = file_of(config)
    if path is not None and not existing(config):
        name = config.database.tenant
        make = "pattern init" if name is None else f"pattern tenant create {name}"
        raise ConnectionFailed(f"There is no database at {path}; run `{make}` first.")


def existing(config: Config) -> bool:
    """Whether the file of an embedded database is there; that of others is not known."""
    path = file_of(config)
    return path is not None and os.path.lexists(path)


def file_of(config: Config) -> str | None:
    """The path of the database; ``None`` in memory and for a server."""
    database = config.database.located
    if database.type == "remote" or database.location == MEMORY:
        return None
    return database.location
