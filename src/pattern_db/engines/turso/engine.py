"""The Turso engine."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from ...embeddings.provider import Vector
from ...errors import (
    ConnectionFailed,
    DatabaseBusy,
    DatabaseCorrupt,
    InvalidValue,
    PatternError,
    Unsupported,
)
from ...filters import Filter
from ...query import Query
from ...schema import Table
from ..base import Capabilities, Prefer, Progress, SyncReport
from ..embedded.files import check_place, create_private
from ..embedded.store import EmbeddedStore, opened
from ..embedded.writer import Alone, Job
from ..sqlite.engine import SqliteStore
from . import ddl, log
from .compiler import TursoStatement
from .connection import OWN_FILES, Connection, File, Options, check_owner
from .failures import DRIVER
from .following import FollowingFile
from .mirror import COPIED, Mirror, mirror_path, remove_mirror
from .syncing import Syncing, mend_triggers_of

MEMORY = ":memory:"
OPEN_ELSEWHERE = "The database is open elsewhere; close it there first."
_FOLDED = "fold_case("
_COPIED = {table.name for table in COPIED}
_LOG_SHORTENED_AFTER = 10_000

Ask = Callable[[SqliteStore], Awaitable[Any]]


class TursoStore(EmbeddedStore):
    """One Turso file. ``await TursoStore.connect(options)`` opens it.

    Rows are Turso's; searches are answered by a mirror of them (``mirror.py``). The path
    ``:memory:`` is a file of its own in the temporary directory, gone when closed.
    """

    _statement = TursoStatement

    def __init__(self, options: Options):
        self._options = options
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._mirror: Mirror | None = None
        self._mirroring = threading.Lock()
        self._shortened = 0
        self._file = File(options) if options.server is None else FollowingFile(options)
        self._one_sync = threading.Lock()
        try:
            self._prepare()
            super().__init__(
                DRIVER,
                self._file.connect(writes=True),
                lambda: self._file.connect(writes=False),
                readers=options.readers,
            )
        except BaseException:
            self._file.close()
            raise
        self._file.keep_private()

    def _prepare(self) -> None:
        with self._file.connected(writes=False) as connection:
            check_owner(connection)
        if isinstance(self._file, FollowingFile):
            mend_triggers_of(self._file)
            return
        with self._file.connected(writes=True) as connection:
            log.keep_short(connection)

    @classmethod
    async def connect(cls, options: Options) -> TursoStore:
        """Open or create the file; refuse one that is not ours, or that another process has."""
        temporary = None
        if options.path == MEMORY:
            temporary = tempfile.TemporaryDirectory(prefix="pattern-db-")
            path = os.path.join(temporary.name, "memory.db")
            options = msgspec.structs.replace(options, path=path, durability="relaxed")
        await asyncio.to_thread(_prepare_file, options)
        store = await opened(partial(cls, options))
        store._temporary = temporary
        return store

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        return Capabilities(
            engine="turso",
            version=version("pyturso"),
            durable=self._options.durability == "full",
            several_processes=False,
            vacuums=self._options.server is None and "vacuum" in self._options.experimental,
            experimental=(
                "change data capture",
                *(["sync"] if self._options.server is not None else []),
                *self._options.experimental,
            ),
            follows_server=self._options.server is not None,
        )

    def _close_indexes(self) -> None:
        if self._mirror is not None:
            self._mirror.release()

    def _sweep_indexes(self) -> None:
        if self._mirror is not None or Path(mirror_path(self._options.path)).exists():
            with self._file.connected(writes=False) as connection:
                self._caught_up(connection)._sweep_indexes()

    def _release(self) -> None:
        super()._release()
        with suppress(PatternError):  # it is read from the log the next time
            self._file.fold_log()
        self._file.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    # schema

    async def create(self, tables: Sequence[Table], /) -> None:
        """See ``DatabaseBackend.create``."""
        await self._run_statements(list(ddl.create_tables(tables)))

    async def drop(self, tables: Sequence[Table], /) -> None:
        """See ``DatabaseBackend.drop``."""
        await self._run_statements(list(ddl.drop_tables(tables)))

    async def vacuum(self) -> None:
        """Rebuild the file without removed rows, where that was turned on."""
        if self._current() is not None:
            raise InvalidValue("transaction", "a database cannot be vacuumed inside one.")
        self._check_open()
        if self._options.server is not None:
            raise Unsupported("A file that follows a Turso server cannot be vacuumed.")
        if not self.capabilities.vacuums:
            raise Unsupported(
                "Vacuuming is experimental in Turso; open the file as "
                "turso://…?experimental=vacuum to allow it."
            )

        def run(connection: Connection) -> None:
            log.shorten(connection, log.newest(connection, ""))
            connection.execute("VACUUM")

        await self._writer.submit(Alone(run, savepoint=False))
        await self._asked(lambda mirror: mirror.vacuum())

    async def optimize(self, *, progress: Progress | None = None) -> None:
        """See ``DatabaseBackend.optimize``."""
        await self._asked(lambda mirror: mirror.optimize(progress=progress))

    async def erase(self) -> None:
        """See ``DatabaseBackend.erase``; a server's data is not ours to remove."""
        if self._current() is not None:
            raise InvalidValue("transaction", "a database cannot be erased inside one.")
        if self._options.server is not None:
            raise Unsupported(
                "The server has this database too; erase it there, then remove the files here."
            )
        self._check_open()
        await self.close()
        if self._temporary is None:
            await asyncio.shield(asyncio.to_thread(_remove_files, self._options))

    async def describe(self) -> dict[str, Any]:
        """Sizes, for ``pattern status``."""

        def run(connection: Connection) -> dict[str, Any]:
            size, free = (
                connection.execute(f"PRAGMA {name}").fetchone() or (0,)
                for name in ("page_size", "freelist_count")
            )
            return {"free_bytes": size[0] * free[0]}

        path = self._options.path
        shown: dict[str, Any] = await self._read(run)
        if isinstance(self._file, FollowingFile):
            shown |= await asyncio.to_thread(self._file.state)
        return {
            "path": path,
            "bytes": sum(map(_size, (path + suffix for suffix in OWN_FILES))),
            "search_bytes": sum(map(_size, (mirror_path(path), f"{mirror_path(path)}-wal"))),
            **shown,
        }

    # the server

    async def sync(self, *, prefer: Prefer | None = None) -> SyncReport:
        """See ``SyncedStore.sync``."""
        if not isinstance(self._file, FollowingFile):
            raise Unsupported("The database follows no server; open it with ?sync= and its URL.")
        if prefer not in (None, "ours", "theirs"):
            raise InvalidValue("prefer", 'it must be "ours" or "theirs".')
        if self._current() is not None:
            raise InvalidValue("transaction", "a database cannot be synced inside one.")
        self._check_open()
        if not self._one_sync.acquire(blocking=False):
            raise DatabaseBusy("This database is being synced already; wait for that.")
        try:
            return await Syncing(self._file, self._writer, self._renewed).sync(prefer)
        finally:
            self._one_sync.release()

    def _renewed(self) -> None:
        with self._mirroring:
            if self._mirror is not None:
                self._mirror.forget_place()

    # what the mirror answers

    async def execute(self, query: Query, /, **params: Any) -> Any:
        """See ``DatabaseBackend.execute``; the mirror knows how to ignore case."""
        if _FOLDED not in self._compile(query).sql:
            return await super().execute(query, **params)
        if query.table.name not in _COPIED or self._compile(query).writes:
            raise Unsupported("Turso ignores case only when it reads what can be searched.")
        return await self._asked(lambda mirror: mirror.execute(query, **params))

    async def text_search(
        self,
        table: Table,
        terms: Sequence[str],
        *,
        agent_ids: Sequence[str],
        limit: int,
        condition: Filter | None = None,
        params: dict[str, Any] | None = None,
        exclude: Sequence[str] = (),
    ) -> list[tuple[str, float]]:
        """See ``TextStore.text_search``."""
        found: list[tuple[str, float]] = await self._asked(
            lambda mirror: mirror.text_search(
                table,
                terms,
                agent_ids=agent_ids,
                limit=limit,
                condition=condition,
                params=params,
                exclude=exclude,
            )
        )
        return found

    async def vector_search(
        self,
        table: Table,
        vector: Vector,
        *,
        space: int,
        agent_ids: Sequence[str],
        limit: int,
        condition: Filter | None = None,
        params: dict[str, Any] | None = None,
        exclude: Sequence[str] = (),
    ) -> list[tuple[str, float]]:
        """See ``VectorStore.vector_search``."""
        found: list[tuple[str, float]] = await self._asked(
            lambda mirror: mirror.vector_search(
                table,
                vector,
                space=space,
                agent_ids=agent_ids,
                limit=limit,
                condition=condition,
                params=params,
                exclude=exclude,
            )
        )
        return found

    async def vector_scores(
        self,
        table: Table,
        vector: Vector,
        *,
        space: int,
        agent_ids: Sequence[str],
        ids: Sequence[str],
    ) -> dict[str, float]:
        """See ``VectorStore.vector_scores``."""
        found: dict[str, float] = await self._asked(
            lambda mirror: mirror.vector_scores(
                table, vector, space=space, agent_ids=agent_ids, ids=ids
            )
        )
        return found

    async def _asked(self, ask: Ask) -> Any:
        """What the mirror answers when it shows what this task may see."""
        mirror = await self._read_committed(self._caught_up)
        if (held := self._current()) is not None:
            pending = await self._send(held, lambda c: mirror.pending(c, self._file.revision()))
            return await (mirror.pretend(pending, ask) if pending else ask(mirror))
        if self._options.server is None and mirror.place.number > self._shortened:
            self._shorten_log(mirror)
        try:
            return await ask(mirror)
        except DatabaseCorrupt:
            await asyncio.to_thread(self._forget_mirror, mirror)
            return await ask(await self._read_committed(self._caught_up))

    def _caught_up(self, connection: Connection) -> Mirror:
        mirror = self._opened_mirror()
        mirror.catch_up(connection, self._file.revision())
        return mirror

    def _opened_mirror(self) -> Mirror:
        with self._mirroring:
            if self._mirror is None:
                self._mirror = Mirror.of(self._options.path, readers=self._options.readers)
            return self._mirror

    def _forget_mirror(self, damaged: Mirror) -> None:
        with self._mirroring:
            if self._mirror is damaged:
                damaged.release()
                remove_mirror(self._options.path)
                self._mirror = None

    def _shorten_log(self, mirror: Mirror) -> None:
        """Forget what the mirror has read, now and then; nobody waits for that."""
        self._shortened = mirror.place.number + _LOG_SHORTENED_AFTER
        place = mirror.place
        self._writer.submit(Job(lambda c: log.shorten(c, place), savepoint=False))


def _prepare_file(options: Options) -> None:
    check_place(Path(options.path), strict=options.strict)
    create_private(Path(options.path))


def _remove_files(options: Options) -> None:
    try:
        file = File(options)  # so that nobody else has it
    except ConnectionFailed as error:
        raise DatabaseBusy(OPEN_ELSEWHERE) from error
    try:
        if not file.alone:
            raise DatabaseBusy(OPEN_ELSEWHERE)
        remove_mirror(options.path)
        for suffix in OWN_FILES:
            Path(options.path + suffix).unlink(missing_ok=True)
    finally:
        file.close()


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
