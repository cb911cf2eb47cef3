"""Opening a database: which engine answers, who asks it, and for which database."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Literal

import msgspec

from ...errors import ConfigError, QueryFailed, Unsupported
from .embedded import Embedded
from .failures import driver_errors, first_error
from .http import Http
from .links import Link, Login
from .names import TURN
from .websocket import WebSocket

Auth = Literal["root", "namespace", "database", "record", "token"]
_NAME = re.compile(r"\w[\w-]*")
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
FIRST_SERVER = (3, 1)
"""Before it, rights could be got around (GHSA-6vg3-hgrw-p5gf, CVE-2026-49997)."""


class Options(msgspec.Struct, frozen=True):
    """Where the database is and how it is used."""

    url: str
    namespace: str = "pattern"
    database: str = "pattern"
    username: str | None = None
    password: str | None = None
    auth: Auth = "root"
    access: str | None = None
    durability: str = "full"
    lock_timeout_s: float = 5.0
    statement_timeout_s: float = 60.0

    @property
    def scheme(self) -> str:
        """What the URL begins with."""
        return self.url.partition("://")[0].lower()

    @property
    def remote(self) -> bool:
        """Whether the database is on a server."""
        return self.scheme in ("ws", "wss", "http", "https")

    def __repr__(self) -> str:
        return f"Options(scheme={self.scheme!r})"


class Session(msgspec.Struct, frozen=True):
    """An open link and what was found out about the engine behind it."""

    link: Link
    version: str


async def connect(options: Options) -> Session:
    """Open the database; make the namespace and the database if they are missing."""
    for key in ("namespace", "database"):
        if not _NAME.fullmatch(getattr(options, key)):
            raise ConfigError(
                f"database.{key} must be letters, digits, `_` and `-`; choose another."
            )
    link = await _link(options)
    try:
        with driver_errors():
            return Session(link, await _examined(link, options))
    except BaseException:
        await asyncio.shield(asyncio.ensure_future(link.close()))
        raise


async def _link(options: Options) -> Link:
    if not options.remote:
        place = (options.namespace, options.database)
        return await Embedded.open(options.url, place, durable=options.durability == "full")
    kind = WebSocket if options.scheme in ("ws", "wss") else Http
    return kind(options.url, login_of(options), timeout_s=options.statement_timeout_s)


def login_of(options: Options) -> Login:
    """Who asks. Raises ``ConfigError`` for a login that lacks something."""
    names: dict[str, Any] = {"namespace": options.namespace, "database": options.database}
    if options.auth == "token":
        return Login(signin=None, token=options.password, **names)
    if options.username is None:
        return Login(signin=None, token=None, **names)
    return Login(signin=_signin(options), token=None, **names)


def _signin(options: Options) -> dict[str, Any]:
    levels: dict[str, dict[str, Any]] = {
        "root": {},
        "namespace": {"NS": options.namespace},
        "database": {"NS": options.namespace, "DB": options.database},
        "record": {"NS": options.namespace, "DB": options.database, "AC": options.access},
    }
    level = levels[options.auth]
    if options.auth != "record":
        return {**level, "user": options.username, "pass": options.password}
    if options.access is None:
        raise ConfigError(
            'database.auth is "record" but there is no database.access; name the access method '
            "that was defined with DEFINE ACCESS."
        )
    return {**level, "username": options.username, "password": options.password}


async def _examined(link: Link, options: Options) -> str:
    version = await link.call("version", [])
    if isinstance(version, dict):
        version = version.get("version")
    found = _VERSION.search(str(version))
    if found is None or (int(found[1]), int(found[2])) < FIRST_SERVER:
        first = ".".join(map(str, FIRST_SERVER))
        shown = found[0] if found else "of an unknown version"
        raise Unsupported(
            f"The server is SurrealDB {shown}; {first} or newer is needed, whose language differs "
            "from 2.x and which closes known holes: export, upgrade the server, import."
        )
    if options.remote:
        await _prepare(link, options)
    else:
        await _defined(link, f"DEFINE NAMESPACE IF NOT EXISTS `{options.namespace}`")
        await _defined(link, f"DEFINE DATABASE IF NOT EXISTS `{options.database}`")
    return found[0]


async def _prepare(link: Link, options: Options) -> None:
    """Make the namespace and the database, where the login may."""
    makes = {
        "root": f"DEFINE NAMESPACE IF NOT EXISTS `{options.namespace}`; "
        f"USE NS `{options.namespace}`; DEFINE DATABASE IF NOT EXISTS `{options.database}`",
        "namespace": f"DEFINE DATABASE IF NOT EXISTS `{options.database}`",
    }
    if (script := makes.get(options.auth)) is not None and options.username is not None:
        await _defined(link, script)
    await _defined(link, f"DEFINE TABLE IF NOT EXISTS {TURN} SCHEMALESS")


async def _defined(link: Link, script: str) -> None:
    if (error := first_error(await link.call("query", [script, {}]))) is not None:
        raise QueryFailed(
            "The login may not use the database; grant it the rights, or set database.auth to its "
            "level."
        ) from error
