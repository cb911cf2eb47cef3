"""Opening a SQLite file the way it has to be opened."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import msgspec

from ...errors import ConnectionFailed, DatabaseCorrupt, QueryFailed
from ...filters import fold_case
from ..embedded.files import check_place, create_private
from .failures import disconnect, driver_errors

APPLICATION_ID = 0x50415442
_FIRST_SAFE_SQLITE = 3_051_003
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.0003, 0.004


class Options(msgspec.Struct, frozen=True):
    """How to open a file."""

    path: str
    durability: str = "full"
    busy_timeout_s: float = 5.0
    readers: int = 2
    key: str | None = None
    strict: bool = False
    vfs: str | None = None


def prepare_file(options: Options) -> None:
    """Refuse or warn about paths SQLite is not safe on; make a new file private to its owner."""
    if apsw.SQLITE_VERSION_NUMBER < _FIRST_SAFE_SQLITE:
        raise ConnectionFailed(
            "This SQLite can corrupt a database that two processes write (fixed in 3.51.3); "
            "install a newer apsw-sqlite3mc."
        )
    path = Path(options.path)
    check_place(path, strict=options.strict)
    create_private(path)


def _busy_handler(timeout_s: float) -> Callable[[int], bool]:
    """Wait with jitter until the timeout: SQLite's own back-off lets one process starve."""
    deadline = 0.0

    def wait(attempt: int) -> bool:
        nonlocal deadline
        now = time.monotonic()
        if attempt == 0:
            deadline = now + timeout_s
        if now >= deadline:
            return False
        time.sleep(random.uniform(_SHORTEST_WAIT_S, _LONGEST_WAIT_S))
        return True

    return wait


def connect(options: Options, *, writes: bool) -> apsw.Connection:
    """A connection with every setting that durability and safety need, each read back."""
    with driver_errors():
        connection = apsw.Connection(
            options.path,
            flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE,
            vfs=options.vfs,
            statementcachesize=256,
        )
        try:
            _configure(connection, options, writes=writes)
        except BaseException:
            disconnect(connection)
            raise
    return connection


def _configure(connection: apsw.Connection, options: Options, *, writes: bool) -> None:
    connection.set_busy_handler(_busy_handler(options.busy_timeout_s))
    if options.key is not None:
        connection.pragma("key", options.key)
    _check_owner(connection)
    _enter_wal(connection, options.busy_timeout_s)
    for setting, value in _settings(options, writes=writes):
        _set(connection, setting, value)
    connection.create_scalar_function("fold_case", _fold_case, 1, deterministic=True)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)


def _fold_case(*values: Any) -> Any:
    """``fold_case`` of a column: SQLite's own ``lower`` knows ASCII only."""
    (text,) = values
    return None if text is None else fold_case(text)


def _settings(options: Options, *, writes: bool) -> list[tuple[str, Any]]:
    """FULL syncs each commit (NORMAL loses acknowledged commits in a power cut); mapped reads are
    off because a lying disk then kills the process; temporary tables stay in memory so that no
    text leaves the file."""
    return [
        ("synchronous", 2 if options.durability == "full" else 1),
        ("foreign_keys", 1),
        ("cell_size_check", 1),
        ("temp_store", 2),
        ("cache_size", -65_536 if writes else -16_384),
        ("query_only", 0 if writes else 1),
    ]


def _set(connection: apsw.Connection, setting: str, value: Any) -> None:
    connection.pragma(setting, value)
    if (found := connection.pragma(setting)) != value:
        raise QueryFailed(f"SQLite did not accept {setting} = {value!r} (it is {found!r}).")


def _enter_wal(connection: apsw.Connection, timeout_s: float) -> None:
    """WAL lets readers and the writer work at once.

    SQLite calls no busy handler here: several processes that make a new file their own at once
    would wait for each other.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            mode = connection.pragma("journal_mode", "wal")
        except apsw.BusyError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(random.uniform(_SHORTEST_WAIT_S, _LONGEST_WAIT_S))
        else:
            break
    if mode not in ("wal", "memory"):
        raise ConnectionFailed(
            "The database cannot use write-ahead logging here; move it to a local disk."
        )


def _check_owner(connection: apsw.Connection) -> None:
    """Never touch a file that belongs to another program.

    Both questions are asked of one snapshot: another process may be making the file its own.
    """
    connection.execute("BEGIN")
    owner = connection.pragma("application_id")
    used = connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    connection.execute("COMMIT")
    if owner == APPLICATION_ID:
        return
    if owner != 0 or used:
        raise DatabaseCorrupt(
            "The file is a SQLite database of another program; choose another path."
        )


def claim(connection: apsw.Connection) -> None:
    """Mark a new file as ours."""
    if connection.pragma("application_id") != APPLICATION_ID:
        connection.pragma("application_id", APPLICATION_ID)
