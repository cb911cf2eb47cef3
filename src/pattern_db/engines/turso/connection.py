"""Opening a Turso file the way it has to be opened."""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from turso import _turso as driver

from ...errors import ConnectionFailed, DatabaseCorrupt, QueryFailed
from ..sqlite.connection import APPLICATION_ID as SQLITE_ENGINE
from .failures import HELD_ELSEWHERE, disconnect, driver_errors
from .log import LOG

OWN_FILES = ("", "-wal", "-info", "-changes", "-wal-revert", "-pushing")
"""What the driver puts beside each other; the last three only where the file follows a server."""
FOLLOWS = (
    "The database follows a server, which would miss what is written without it; open it with "
    "?sync= and the URL of the server."
)
_HEADER_BYTES, _ROLLBACK_JOURNAL = 100, 1
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_REMEMBERED_STATEMENTS = 256
_Status = driver.PyTursoStatusCode
_handles: Counter[str] = Counter()
_opening = threading.Lock()


class Options(msgspec.Struct, frozen=True):
    """How to open a file. ``server`` is the URL it follows, ``token`` what the server asks for;
    ``experimental`` names features of Turso to turn on."""

    path: str
    durability: str = "full"
    busy_timeout_s: float = 5.0
    readers: int = 2
    strict: bool = False
    server: str | None = None
    token: str | None = None
    timeout_s: float = 30.0
    experimental: tuple[str, ...] = ()


class Rows:
    """What a statement gave; all of it was read, so that nothing holds the database."""

    __slots__ = ("_rows",)

    def __init__(self, rows: list[tuple[Any, ...]]):
        self._rows = iter(rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row, or ``None``."""
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows that are left."""
        return list(self._rows)


class Connection:
    """See ``embedded.driver.Connection``; statements are prepared once."""

    def __init__(self, raw: Any, io: Callable[[], None] | None = None):
        self._raw = raw
        self._io = io
        self._prepared: OrderedDict[str, tuple[Any, bool]] = OrderedDict()
        self._changes = 0

    def execute(self, sql: str, values: Iterable[Any] = (), /) -> Rows:
        """Run one statement."""
        statement, gives_rows = (
            self._prepared.pop(sql) if sql in self._prepared else self._prepare(sql)
        )
        try:
            _bind(statement, values)
            rows = self._fetch(statement) if gives_rows else self._run(statement)
            statement.reset()
        except BaseException:
            statement.finalize()
            raise
        self._remember(sql, statement, gives_rows)
        return Rows(rows)

    def executemany(self, sql: str, many: Iterable[Iterable[Any]], /) -> None:
        """Run a statement that gives no rows once for each of these values."""
        for values in many:
            self.execute(sql, values)

    def changes(self) -> int:
        """How many rows the last statement wrote, without those of triggers and cascades."""
        return self._changes

    def last_insert_rowid(self) -> int:
        """The number of the row that was added last."""
        return int(self._raw.last_insert_rowid())

    def get_autocommit(self) -> bool:
        """Whether no transaction is open."""
        return bool(self._raw.get_auto_commit())

    def close(self) -> None:
        """Give everything back."""
        while self._prepared:
            self._prepared.popitem()[1][0].finalize()
        raw, self._raw = self._raw, None  # the file is let go when nothing refers to it any more
        raw.close()

    def _prepare(self, sql: str) -> tuple[Any, bool]:
        statement = self._raw.prepare_single(sql)
        return statement, bool(statement.columns())

    def _remember(self, sql: str, statement: Any, gives_rows: bool) -> None:
        self._prepared[sql] = (statement, gives_rows)
        if len(self._prepared) > _REMEMBERED_STATEMENTS:
            self._prepared.popitem(last=False)[1][0].finalize()

    def _fetch(self, statement: Any) -> list[tuple[Any, ...]]:
        rows = []
        while (status := statement.step()) != _Status.Done:
            if status == _Status.Row:
                rows.append(tuple(statement.row()))
            else:
                self._wait(statement)
        return rows

    def _run(self, statement: Any) -> list[tuple[Any, ...]]:
        while (result := statement.execute()).status == _Status.Io:
            self._wait(statement)
        self._changes = int(result.rows_changed)
        return []

    def _wait(self, statement: Any) -> None:
        statement.run_io()
        if self._io is not None:
            self._io()


def _bind(statement: Any, values: Iterable[Any]) -> None:
    bound = tuple(values)
    for value in bound:
        if isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
            raise OverflowError  # the driver would store a rounded number
    if not bound:
        return
    try:
        statement.bind(bound)
    except driver.Error:
        for value in bound:
            if isinstance(value, str):
                value.encode()  # says what is wrong with a text
        raise


class File:
    """A database file that this process has; ``connect`` opens connections to it.

    Raises ``ConnectionFailed`` if another process has it.
    """

    shared = True
    """Whether several handles in this process may have it."""

    def __init__(self, options: Options):
        self.options = options
        self._path = os.path.realpath(options.path)
        self._open_here = True
        with _opening:
            if _handles[self._path] and not self.shared:
                raise ConnectionFailed(HELD_ELSEWHERE)
            _handles[self._path] += 1
        try:
            check_header(options.path)
            self._database: Any = self._open()
        except BaseException:
            self.close()
            raise

    @property
    def alone(self) -> bool:
        """Whether no other handle in this process has it."""
        return _handles[self._path] == 1

    def _open(self) -> Any:
        if os.path.exists(f"{self.options.path}-info"):
            raise ConnectionFailed(FOLLOWS)
        with driver_errors():
            return driver.py_turso_database_open(
                driver.PyTursoDatabaseConfig(
                    path=self.options.path,
                    experimental_features=",".join(self.options.experimental) or None,
                )
            )

    def connect(self, *, writes: bool) -> Connection:
        """A connection with every setting that durability and safety need, each read back."""
        with driver_errors():
            connection = self._connection()
            try:
                configure(connection, self.options, writes=writes)
            except BaseException:
                disconnect(connection)
                raise
        return connection

    @contextmanager
    def connected(self, *, writes: bool) -> Iterator[Connection]:
        """A connection for a while; what it raises is ours."""
        connection = self.connect(writes=writes)
        try:
            with driver_errors():
                yield connection
        finally:
            disconnect(connection)

    def _connection(self) -> Connection:
        return Connection(self._database.connect())

    def revision(self) -> str:
        """What tells this state of a server's data from every other one; empty without a server."""
        return ""

    def fold_log(self) -> None:
        """Bring the write-ahead log into the file."""
        with self.connected(writes=False) as connection:
            connection.execute("PRAGMA query_only = 0")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Let others have the file, once every connection is closed."""
        self._database = None
        with _opening:
            if self._open_here:
                self._open_here = False
                _handles[self._path] -= 1

    def keep_private(self) -> None:
        """What the driver made beside the file is its owner's alone too."""
        for suffix in OWN_FILES:
            path = Path(self.options.path + suffix)
            if path.exists():
                path.chmod(0o600)


def configure(connection: Connection, options: Options, *, writes: bool) -> None:
    """``synchronous`` FULL syncs each commit. The writer notes what it changes, for searches."""
    synchronous = 2 if options.durability == "full" else 1
    _set(connection, "synchronous", synchronous)
    if writes:
        _set(connection, "busy_timeout", int(options.busy_timeout_s * 1000))
        _set(connection, "foreign_keys", 1)
        if options.server is None:  # else the driver notes it, and more, for the server
            connection.execute(f"PRAGMA capture_data_changes_conn('before,{LOG}')")
    else:
        _set(connection, "query_only", 1)


def _set(connection: Connection, setting: str, value: int) -> None:
    connection.execute(f"PRAGMA {setting} = {value}")
    (found,) = connection.execute(f"PRAGMA {setting}").fetchone() or (None,)
    if found != value:
        raise QueryFailed(f"Turso did not accept {setting} = {value!r} (it is {found!r}).")


_STRANGERS = (
    "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
    "AND name NOT LIKE 'turso\\_%' ESCAPE '\\' AND name NOT LIKE '\\_\\_turso%' ESCAPE '\\' LIMIT 1"
)
_NOT_OURS = (
    "The file is a database of another program, or of pattern-db's SQLite engine; choose another "
    "path, or copy it here with `pattern db copy`."
)
_OURS = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migrations'"


def check_header(path: str) -> None:
    """Refuse what Turso would change by opening it: it makes every file one with a log."""
    with open(path, "rb") as file:
        header = file.read(_HEADER_BYTES)
    owner = int.from_bytes(header[68:72], "big")
    if owner == SQLITE_ENGINE or header[18:19] == bytes([_ROLLBACK_JOURNAL]):
        raise DatabaseCorrupt(_NOT_OURS)


def check_owner(connection: Connection) -> None:
    """Never touch a file that belongs to another program."""
    if connection.execute(_STRANGERS).fetchone() and not connection.execute(_OURS).fetchone():
        raise DatabaseCorrupt(_NOT_OURS)
