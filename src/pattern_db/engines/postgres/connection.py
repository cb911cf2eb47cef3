"""Connecting to a server, and what every connection is told before it is used."""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, conninfo
from psycopg import errors as pg

from ...errors import ConfigError, QueryFailed, Unsupported
from ..sql import quoted
from .codecs import Adapting, adapters_for
from .failures import driver_errors, refused_connection
from .names import Schema
from .pool import Connection

_FIRST_SERVER, _FIRST_TO_FOLD, _FIRST_PGVECTOR = 140_000, 180_000, (0, 8, 2)
_PREPARED = 500
_DEFAULTS = {"target_session_attrs": "read-write", "application_name": "pattern-db"}
_ALWAYS = {"client_encoding": "utf8"}
_NO_EXTENSION = (
    "The server lacks the extension pgvector; install it there, and run CREATE EXTENSION vector "
    "in this database as a user who may."
)


class Options(msgspec.Struct, frozen=True):
    """Where the server is and how it is used. ``url`` may hold several hosts and any parameter that
    libpq knows."""

    url: str
    username: str | None = None
    password: str | None = None
    database: str | None = None
    schema: str = "public"
    durability: str = "full"
    lock_timeout_s: float = 5.0
    statement_timeout_s: float = 60.0
    connections: int = 10


class Server(msgspec.Struct, frozen=True):
    """What was found out when the first connection was made.

    ``collation`` knows the letters of every language. Before PostgreSQL 18 case is ignored letter
    by letter only: ``ß`` and ``SS`` differ.
    """

    version: str
    durable: bool
    collation: str
    full_folding: bool
    adapting: Adapting
    conninfo: str
    address: str
    settings: tuple[tuple[str, str], ...]


def conninfo_of(options: Options) -> str:
    """The connection string for libpq: with several hosts, the one that can write is taken."""
    given = {"user": options.username, "password": options.password, "dbname": options.database}
    try:
        asked = conninfo.conninfo_to_dict(options.url)
        defaults = {"target_session_attrs": "read-write", "application_name": "pattern-db"}
        known = {name: value for name, value in given.items() if value is not None}
        return conninfo.make_conninfo(
            "", **{**defaults, **asked, **known, "client_encoding": "utf8"}
        )
    except psycopg.ProgrammingError:  # its message may hold the password
        raise ConfigError(
            "database.url is not a URL that libpq understands; check it for typing errors."
        ) from None


async def first_connection(options: Options) -> tuple[Server, Connection]:
    """Connect, look at the server, and make the schema and the extension if they are missing."""
    dsn = conninfo_of(options)
    connection = await _connected(dsn, None)
    try:
        with driver_errors():
            await _prepare(connection, Schema(options.schema))
            server = await _examined(connection, options, dsn)
    except BaseException:
        connection.pgconn.finish()
        raise
    connection.pgconn.finish()
    return server, await connect(server)


async def connect(server: Server) -> Connection:
    """A connection with every setting that safety needs."""
    connection = await _connected(server.conninfo, server.adapting)
    try:
        with driver_errors():
            await _configure(connection, server)
    except BaseException:
        connection.pgconn.finish()
        raise
    return connection


async def _connected(dsn: str, context: Adapting | None) -> Connection:
    try:
        connection = await AsyncConnection.connect(
            dsn,
            autocommit=True,
            prepare_threshold=0,
            cursor_factory=AsyncRawCursor,
            context=context,
        )
    except (psycopg.Error, OSError) as error:
        raise refused_connection(error) from error
    connection.prepared_max = _PREPARED
    return connection


async def _configure(connection: Connection, server: Server) -> None:
    names = ", ".join(f"set_config('{name}', ${n}, false)" for n, (name, _) in _numbered(server))
    values = [value for _, value in server.settings]
    await connection.execute(f"SELECT {names}", values, prepare=False)


def _numbered(server: Server) -> list[tuple[int, tuple[str, str]]]:
    return list(enumerate(server.settings, start=1))


async def _prepare(connection: Connection, schema: Schema) -> None:
    """Make the tenant's schema and the extension, where they are missing."""
    version = connection.info.server_version
    if version < _FIRST_SERVER:
        raise Unsupported("PostgreSQL 14 or newer is needed; upgrade the server.")
    if connection.info.encoding != "utf-8" or await _one(connection, "SHOW server_encoding") != (
        "UTF8"
    ):
        raise Unsupported("The database is not encoded in UTF-8; create one that is.")
    there = "SELECT count(*) FROM pg_namespace WHERE nspname = $1::text"
    if not await _one(connection, there, schema.plain):
        await _made(connection, f"CREATE SCHEMA IF NOT EXISTS {schema.name}")
    if not await _one(connection, "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"):
        await _made(connection, "CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
    found = await _one(connection, "SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    if tuple(int(part) for part in found.split(".")[:3]) < _FIRST_PGVECTOR:
        raise Unsupported(
            "pgvector 0.8.2 or newer is needed (CVE-2026-3172); upgrade it and run ALTER EXTENSION "
            "vector UPDATE."
        )


async def _made(connection: Connection, statement: str) -> None:
    """Create something, unless another process does it at the same time."""
    try:
        await connection.execute(statement, prepare=False)
    except (pg.UniqueViolation, pg.DuplicateObject, pg.DuplicateSchema):
        return
    except (pg.UndefinedFile, pg.FeatureNotSupported) as error:
        raise Unsupported(_NO_EXTENSION) from error
    except pg.InsufficientPrivilege as error:
        if "EXTENSION" in statement:
            raise Unsupported(_NO_EXTENSION) from error
        raise QueryFailed(
            "The user may not create the schema of database.namespace; create it, or grant the "
            "right to."
        ) from error


async def _examined(connection: Connection, options: Options, dsn: str) -> Server:
    version = connection.info.server_version
    home, oid = await _row(
        connection,
        "SELECT n.nspname, t.oid::bigint FROM pg_type AS t JOIN pg_extension AS e "
        "ON e.extname = 'vector' AND t.typnamespace = e.extnamespace AND t.typname = 'vector' "
        "JOIN pg_namespace AS n ON n.oid = e.extnamespace",
    )
    commits = await _one(connection, "SHOW synchronous_commit")
    synced = await _one(connection, "SHOW fsync")
    if options.durability == "relaxed":
        commits = "off"
    elif commits == "off":
        commits = "on"
    return Server(
        version=str(await _one(connection, "SHOW server_version")).split()[0],
        durable=commits != "off" and synced == "on",
        collation=await _collation(connection),
        full_folding=version >= _FIRST_TO_FOLD,
        adapting=Adapting(adapters_for(connection, oid)),
        conninfo=dsn,
        address=_address(connection),
        settings=(
            ("search_path", f"{Schema(options.schema).name}, {quoted(home)}"),
            ("synchronous_commit", commits),
            ("lock_timeout", _ms(options.lock_timeout_s)),
            ("statement_timeout", _ms(options.statement_timeout_s)),
            ("idle_in_transaction_session_timeout", _ms(options.statement_timeout_s)),
            ("TimeZone", "UTC"),
            ("client_min_messages", "error"),
            ("hnsw.iterative_scan", "relaxed_order"),
            ("hnsw.ef_search", "200"),
        ),
    )


def _address(connection: Connection) -> str:
    """The host, or the folder of the socket, and the port."""
    return f"{connection.info.host or 'localhost'}:{connection.info.port}"


def _ms(seconds: float) -> str:
    """A timeout; PostgreSQL takes 0 for none."""
    return str(max(1, round(seconds * 1000)))


async def _collation(connection: Connection) -> str:
    """Letters of every language are letters; which collation knows them depends on the server."""
    found = await _one(
        connection,
        "SELECT collname FROM pg_collation WHERE collname = ANY($1::text[]) "
        "ORDER BY array_position($1::text[], collname::text) LIMIT 1",
        ["pg_c_utf8", "und-x-icu", "C.utf8", "default"],
    )
    return str(found)


async def _row(connection: Connection, sql: str, *values: Any) -> Any:
    return await (await connection.execute(sql, values, prepare=False)).fetchone()


async def _one(connection: Connection, sql: str, *values: Any) -> Any:
    return (await _row(connection, sql, *values))[0]
