"""A file that follows a Turso server: the driver's operations, and what they ask of us.

The driver does no input or output of its own while it syncs; it asks for requests to the server and
for whole small files to be read and written.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from turso import _turso as driver

from ...errors import ConnectionFailed, DatabaseBusy, PatternError, QueryFailed
from .connection import OWN_FILES, Connection, File, Options
from .failures import disconnect, driver_errors
from .server import Server, failure_of

MADE_ALONE = (
    "The database file was made without a server and cannot follow one; open another path with "
    "?sync=, and bring the data there with `pattern db copy`."
)
_CHANGES_A_PUSH = 5000
_MORE_READERS = 2
"""One for the thread that opens the store, and one that looks through the log."""
_STEP = "failed to execute sql"
_BUSY, _BUSY_S, _PAUSE_S = "database is busy", 5.0, 0.005
NOT_UNDERSTOOD = (
    "The Turso server did not answer as it should; nothing here is lost. Check that the URL after "
    "sync= is a Turso server's, of a version that pyturso goes with, and try again."
)
BROKEN = (
    "The Turso server refused one of the changes; nothing here is lost, and syncing again tries "
    "all that it does not have."
)
_Kind = driver.PyTursoSyncIoItemRequestKind


class PushBroken(ConnectionFailed):
    """A statement of a push failed on the server, which went on with those after it."""


class FollowingFile(File):
    """See ``File``. A new one is filled from the server, which has to be there for that only."""

    shared = False

    def __init__(self, options: Options):
        self.server = Server(options.server or "", options.token, timeout_s=options.timeout_s)
        self._driving = threading.RLock()
        self._looking = threading.Lock()
        self._mark = Path(f"{options.path}-pushing")
        self._failure: PatternError | None = None
        self._readers: list[Connection] = []
        super().__init__(options)
        try:
            for _ in range(options.readers + _MORE_READERS):
                self._readers.append(super().connect(writes=False))
        except BaseException:
            self.close()
            raise

    def _open(self) -> Any:
        path = self.options.path
        new = not os.path.exists(f"{path}-info")
        if new and os.path.exists(path) and os.path.getsize(path):
            raise ConnectionFailed(MADE_ALONE)
        try:
            with driver_errors():
                self._database = driver.py_turso_sync_new(
                    driver.PyTursoDatabaseConfig(
                        path=path,
                        experimental_features=",".join(self.options.experimental) or None,
                    ),
                    driver.PyTursoSyncDatabaseConfig(
                        path=path,
                        remote_url=self.server.url,
                        client_name="pattern-db",
                        long_poll_timeout_ms=None,
                        bootstrap_if_empty=True,
                        reserved_bytes=None,
                        partial_sync=None,
                        remote_encryption_key=None,
                        remote_encryption_cipher=None,
                        push_operations_threshold=_CHANGES_A_PUSH,
                        pull_bytes_threshold=None,
                        logical_mvcc_pull=None,
                    ),
                )
            self._run(self._database.create)
        except BaseException:
            self._database = None
            if new:
                for suffix in OWN_FILES:
                    Path(path + suffix).unlink(missing_ok=True)
            raise
        return self._database

    def close(self) -> None:
        """See ``File.close``; waits for what is being done with the server."""
        with self._driving:
            while self._readers:
                disconnect(self._readers.pop())
            super().close()

    def connect(self, *, writes: bool) -> Connection:
        """See ``File.connect``. The driver writes to open a connection, so those to read with are
        opened beforehand: later somebody may hold the file."""
        return super().connect(writes=True) if writes else self._readers.pop()

    @contextmanager
    def connected(self, *, writes: bool) -> Iterator[Connection]:
        """See ``File.connected``."""
        if writes:
            with super().connected(writes=True) as connection:
                yield connection
            return
        with self._looking, driver_errors():
            yield self._readers[0]

    def _connection(self) -> Connection:
        return Connection(self._run(self._database.connect).connection)

    @contextmanager
    def unnoted(self) -> Iterator[Connection]:
        """A connection for a while, whose changes do not go to the server."""
        with self.connected(writes=True) as connection:
            connection.execute("PRAGMA capture_data_changes_conn('off')")
            yield connection

    def revision(self) -> str:
        """What tells this state of the server's data from every other one."""
        return str(self._info().get("synced_revision"))

    def last_pushed(self) -> int:
        """The number of the last entry of the log that the server has."""
        return int(self._info().get("last_pushed_change_id_hint") or 0)

    def _info(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            found = json.loads(Path(f"{self.options.path}-info").read_bytes())
            return found if isinstance(found, dict) else {}
        return {}

    def state(self) -> dict[str, Any]:
        """For people to read: the server's host, how many changes wait, when it was reached."""
        stats = self._run(self._database.stats).stats
        return {
            "follows": urlsplit(self.server.url).hostname,
            "waiting_changes": int(stats.cdc_operations),
            "last_pushed_at": _moment(stats.last_push_unix_time),
            "last_pulled_at": _moment(stats.last_pull_unix_time),
        }

    def waiting(self) -> int:
        """How many changes the server does not have."""
        return int(self._run(self._database.stats).stats.cdc_operations)

    def push_began(self) -> bool:
        """Whether a push did not end well, as far as is known here."""
        return self._mark.exists()

    def push(self) -> int:
        """Give the server what it does not have; how many changes that were. If it raises, the
        server may have any of them, and counts them all as pushed."""
        waiting = self.waiting()
        if waiting:
            write_whole(str(self._mark), b"")
            self._run(self._database.push_changes)
        self._mark.unlink(missing_ok=True)
        return waiting

    def fetch(self) -> Any:
        """What the server has that is not here, to be applied; ``None`` if there is nothing."""
        changes = self._run(self._database.wait_changes).changes
        return None if changes is None or changes.empty() else changes

    def apply(self, changes: Any) -> None:
        """Make what was fetched part of the file. Nothing else may write meanwhile, and nothing
        may wait: the driver drops a waiting change that breaks a rule with a fetched one."""
        self._run(lambda: self._database.apply_changes(changes))

    def fold_log(self) -> None:
        """Bring the write-ahead log into the file."""
        self._run(self._database.checkpoint)

    def _run(self, begin: Callable[[], Any]) -> Any:
        """The result of an operation, once all it asks for is done; waits for a writer."""
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                with self._driving:
                    return self._driven(begin())
            except DatabaseBusy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)

    def _driven(self, operation: Any) -> Any:
        self._failure = None
        try:
            with driver_errors():
                while not operation.resume():
                    self._serve(operation)
                return operation.take_result()
        except QueryFailed as error:
            if self._failure is not None:
                raise self._failure from error
            if _BUSY in str(error.__cause__):
                raise DatabaseBusy(
                    "A transaction here takes too long; end it, then sync."
                ) from error
            if _STEP in str(error.__cause__):
                raise PushBroken(BROKEN) from error.__cause__
            if type(error) is QueryFailed:
                raise ConnectionFailed(NOT_UNDERSTOOD) from error.__cause__
            raise

    def _serve(self, operation: Any) -> None:
        while (item := self._database.take_io_item()) is not None:
            try:
                self._answer(item, operation)
            except (PatternError, OSError) as error:
                self._failure = error if isinstance(error, PatternError) else self._failure
                item.poison("failed")
            finally:
                self._database.step_io_callbacks()

    def _answer(self, item: Any, operation: Any) -> None:
        request = item.request()
        if request.kind == _Kind.Http:
            self._ask_server(item, request.http, operation)
        elif request.kind == _Kind.FullRead:
            with suppress(FileNotFoundError):
                item.push_buffer(Path(request.full_read.path).read_bytes())
            item.done()
        else:
            write_whole(request.full_write.path, bytes(request.full_write.content or b""))
            item.done()

    def _ask_server(self, item: Any, request: Any, operation: Any) -> None:
        body = bytes(request.body) if request.body is not None else None
        headers = [(str(name), str(value)) for name, value in request.headers or ()]
        path = request.path if request.path.startswith("/") else f"/{request.path}"
        with self.server.answer(request.method, path, body, headers) as (status, parts):
            self._failure = failure_of(status)
            item.status(status)
            for part in parts:
                item.push_buffer(part)
                operation.resume()  # takes the part, so that it need not be held
            item.done()


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def write_whole(path: str, content: bytes) -> None:
    """Replace a file so that a power cut leaves the old or the new one."""
    new = f"{path}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
