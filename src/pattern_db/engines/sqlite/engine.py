"""The SQLite engine."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import ContextVar, Token
from functools import partial
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

import apsw
import msgspec

from ...embeddings.provider import Vector
from ...errors import DatabaseClosed, InvalidValue
from ...filters import Filter
from ...models import Agent, EmbeddingSpace, User
from ...query import Bound, Count, Delete, Get, Query
from ...schema import Table, all_tables, table_of
from ..base import Capabilities, Progress
from ..sql import Compiled, compile_query, quoted
from . import ddl
from .connection import Options, claim, connect, disconnect, prepare_file
from .failures import driver_errors
from .files import remove_files
from .text import TextSearch
from .vectors import VectorSearch, segments_folder
from .writer import Alone, End, Held, Job, Run, Writer
from .writes import write_one, write_run

MEMORY = ":memory:"
_MOST_ROWS_INLINE = 1000
_forks = 0


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_forked)


class SqliteStore:
    """One SQLite file. ``await SqliteStore.connect(options)`` opens it.

    The path ``:memory:`` is a file of its own in the temporary directory, gone when closed: every
    connection must see the same database, and SQLite keeps one in memory for each.
    """

    def __init__(self, options: Options):
        self._options = options
        self._compiled: WeakKeyDictionary[Query, Compiled] = WeakKeyDictionary()
        self._closed = False
        self._forks = _forks
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._held: ContextVar[Held | None] = ContextVar("held", default=None)
        self._local = threading.local()
        self._connections: list[apsw.Connection] = []
        self._home = threading.get_ident()
        writing = connect(options, writes=True)
        try:
            with driver_errors():
                claim(writing)
            self._inline = connect(options, writes=False)
        except BaseException:
            disconnect(writing)
            raise
        self._writer = Writer(writing, name="pattern-db-writer")
        self._readers = ThreadPoolExecutor(options.readers, "pattern-db-reader")
        self._text = TextSearch()
        self._vectors = VectorSearch(self._read, options)

    @classmethod
    async def connect(cls, options: Options) -> SqliteStore:
        """Open or create the file; refuse one that is not ours."""

        temporary = None
        if options.path == MEMORY:
            temporary = tempfile.TemporaryDirectory(prefix="pattern-db-")
            path = os.path.join(temporary.name, "memory.db")
            options = msgspec.structs.replace(options, path=path, durability="relaxed")
        await asyncio.to_thread(prepare_file, options)
        opening = asyncio.ensure_future(asyncio.to_thread(cls, options))
        try:
            store = await asyncio.shield(opening)
        except asyncio.CancelledError:
            await (await opening).close()
            raise
        store._home = threading.get_ident()
        store._temporary = temporary
        return store

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        return Capabilities(
            engine="sqlite",
            version=apsw.sqlite_lib_version(),
            durable=self._options.durability == "full",
            encrypted=self._options.key is not None,
        )

    async def close(self) -> None:
        """See ``DatabaseBackend.close``."""
        if self._closed:
            return
        self._closed = True
        if self._forks != _forks:
            return
        await asyncio.shield(asyncio.to_thread(self._release))

    def _release(self) -> None:
        self._readers.shutdown(wait=True)
        self._vectors.close()
        for connection in [*self._connections, self._inline]:
            disconnect(connection)
        self._writer.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    # running queries

    async def execute(self, query: Query, /, **params: Any) -> Any:
        """See ``DatabaseBackend.execute``."""
        compiled = self._compiled.get(query) or self._compile(query)
        if compiled.writes:
            return await self._write_one(query, compiled, params)
        held = self._current()
        if held is not None:
            return await self._send(held, lambda c: _fetch(c, query, compiled, params))
        short = compiled.bounded and params.get("limit", 0) <= _MOST_ROWS_INLINE
        if short and threading.get_ident() == self._home:
            self._check_open()
            with driver_errors():
                return _fetch(self._inline, query, compiled, params)
        return await self._read(lambda c: _fetch(c, query, compiled, params))

    async def write(self, statements: Sequence[Bound], /) -> list[Any]:
        """See ``DatabaseBackend.write``."""
        runs = [
            (self._compile(query), list(bounds))
            for query, bounds in groupby(statements, key=lambda bound: bound.query)
        ]

        def run(connection: apsw.Connection) -> list[Any]:
            return [
                result
                for compiled, bounds in runs
                for result in write_run(connection, bounds, compiled)
            ]

        guarded = len(statements) > 1 or any(b.expected is not None for b in statements)
        results: list[Any] = await self._submit(run, savepoint=guarded)
        if any(_erases_vectors(bound.query) for bound in statements):
            if (held := self._current()) is None:
                await asyncio.to_thread(self._vectors.sweep)
            else:
                held.erases_vectors = True
        return results

    async def _write_one(self, query: Query, compiled: Compiled, params: dict[str, Any]) -> Any:
        bound = Bound(query, params)
        return await self._submit(
            lambda c: write_one(c, bound, compiled),
            savepoint=False,
            part=(compiled, bound, partial(write_run, compiled=compiled)),
        )

    async def _submit(
        self, run: Run, *, savepoint: bool, part: tuple[Any, Any, Any] | None = None
    ) -> Any:
        """Send a write to the writer, inside the transaction this task holds, if any."""
        held = self._current()
        if held is not None:
            return await self._send(held, run, savepoint=savepoint)
        self._check_open()
        return await self._writer.submit(Job(run, savepoint=savepoint, part=part))

    async def _send(self, held: Held, run: Run, *, savepoint: bool = False) -> Any:
        self._check_open()
        job = Job(run, savepoint=savepoint)
        held.send(job)
        return await job.future

    async def _read(self, run: Run) -> Any:
        """Run a read on a reader thread (or in the transaction this task holds)."""
        held = self._current()
        if held is not None:
            return await self._send(held, run)
        self._check_open()

        def work() -> Any:
            with driver_errors():
                return run(self._reader())

        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    def _reader(self) -> apsw.Connection:
        """The connection of this reader thread, opened when the thread first needs it."""
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self._options, writes=False)
            self._connections.append(connection)
        return connection

    def _current(self) -> Held | None:
        held = self._held.get()
        return None if held is None or held.finished else held

    def _compile(self, query: Query) -> Compiled:
        compiled = self._compiled.get(query)
        if compiled is None:
            compiled = self._compiled[query] = compile_query(query)
        return compiled

    def _check_open(self) -> None:
        if self._closed:
            raise DatabaseClosed("The database was closed; open it again.")
        if self._forks != _forks:
            raise DatabaseClosed(
                "This process was forked from the one that opened the database; open it again here."
            )

    # transactions

    def transaction(self, *, alone: bool = False) -> AbstractAsyncContextManager[None]:  # noqa: ARG002
        """See ``DatabaseBackend.transaction``; a file has one writer, so each is alone."""
        self._check_open()
        return _Scope(self)

    # schema

    async def create(self, tables: Sequence[Table], /) -> None:
        """See ``DatabaseBackend.create``."""
        await self._run_statements(list(ddl.create_tables(tables)))

    async def drop(self, tables: Sequence[Table], /) -> None:
        """See ``DatabaseBackend.drop``."""
        await self._run_statements(list(ddl.drop_tables(tables)))

    async def has_table(self, name: str, /) -> bool:
        """See ``DatabaseBackend.has_table``."""
        sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?"
        return await self._read(lambda c: c.execute(sql, (name,)).fetchone() is not None)  # type: ignore[no-any-return]

    async def vacuum(self) -> None:
        """Rebuild the file without removed rows, and the text indexes without their words."""
        if self._current() is not None:
            raise InvalidValue("transaction", "a database cannot be vacuumed inside one.")
        self._check_open()

        def run(connection: apsw.Connection) -> None:
            for index in _text_indexes():
                connection.execute(f"INSERT INTO {index} ({index}) VALUES ('optimize')")
            connection.execute("VACUUM")
            with suppress(apsw.BusyError):  # somebody still reads the log; it shrinks later
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

        await self._writer.submit(Alone(run, savepoint=False))
        await asyncio.to_thread(partial(self._vectors.sweep, whole=True))

    async def optimize(self, *, progress: Progress | None = None) -> None:
        """See ``DatabaseBackend.optimize``: merge the text indexes and build vector segments."""
        self._check_open()
        await self._run_statements(
            [f"INSERT INTO {index} ({index}) VALUES ('optimize')" for index in _text_indexes()]
        )
        await self._vectors.build(progress)

    async def erase(self) -> None:
        """See ``DatabaseBackend.erase``."""
        if self._current() is not None:
            raise InvalidValue("transaction", "a database cannot be erased inside one.")
        self._check_open()
        await self.close()
        if self._temporary is None:
            await asyncio.shield(asyncio.to_thread(remove_files, self._options))

    async def describe(self) -> dict[str, Any]:
        """Sizes and versions, for ``pattern status``."""

        def run(connection: apsw.Connection) -> dict[str, Any]:
            page_size, pages = connection.pragma("page_size"), connection.pragma("page_count")
            free = connection.pragma("freelist_count")
            sql = "SELECT name FROM sqlite_schema WHERE type = 'index'"
            indexes = len(connection.execute(sql).fetchall())
            return {
                "bytes": page_size * pages,
                "free_bytes": page_size * free,
                "indexes": indexes,
            }

        shown: dict[str, Any] = await self._read(run)
        segments = segments_folder(self._options.path).glob("*.segment")
        return {"path": self._options.path, **shown, "vector_segments": len(list(segments))}

    async def _run_statements(self, statements: list[str]) -> None:
        def run(connection: apsw.Connection) -> None:
            for sql in statements:
                connection.execute(sql)

        await self._submit(run, savepoint=True)

    # search

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
        if not terms:
            return []
        run = self._text.compile(
            table,
            terms,
            agent_ids=agent_ids,
            limit=limit,
            condition=condition,
            params=params or {},
            exclude=exclude,
        )
        return await self._read(run)  # type: ignore[no-any-return]

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
        return await self._vectors.search(
            table,
            vector,
            space=space,
            agent_ids=agent_ids,
            limit=limit,
            condition=condition,
            params=params or {},
            exclude=exclude,
        )

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
        return await self._vectors.scores(table, vector, space=space, agent_ids=agent_ids, ids=ids)


class _Scope:
    """A transaction, or a savepoint of the one that is open when it is entered."""

    def __init__(self, store: SqliteStore):
        self._store = store

    async def __aenter__(self) -> None:
        self._store._check_open()
        held = self._store._current()
        self._scope = _Outer(self._store) if held is None else _Inner(self._store, held)
        await self._scope.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        await self._scope.__aexit__(kind, *rest)


class _Outer:
    """Holds the writer for a task. Every way out queues the end without an await."""

    def __init__(self, store: SqliteStore):
        self._store = store

    async def __aenter__(self) -> None:
        self._held = Held()
        future = self._store._writer.submit(self._held)
        try:
            await future
        except BaseException:
            self._end(commit=False)
            raise
        self._token: Token[Held | None] = self._store._held.set(self._held)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        end = self._end(commit=kind is None)
        with suppress(ValueError):  # a generator may be finalized in another context
            self._store._held.reset(self._token)
        if end is not None:
            await end.future
            if kind is None and self._held.erases_vectors:
                await asyncio.to_thread(self._store._vectors.sweep)

    def _end(self, *, commit: bool) -> End | None:
        """Queue the end; ``None`` if the transaction was undone before it could be asked to end."""
        end = End(commit=commit)
        try:
            self._held.send(end)
        except DatabaseClosed:
            if commit:
                raise
            return None
        return end


class _Inner:
    """A savepoint inside a held transaction."""

    def __init__(self, store: SqliteStore, held: Held):
        if asyncio.current_task() is not held.owner:
            raise InvalidValue(
                "transaction", "only the task that opened a transaction can nest another in it."
            )
        self._store, self._held = store, held

    async def __aenter__(self) -> None:
        self._held.depth += 1
        self._name = quoted(f"level_{self._held.depth}")
        job = self._queue([f"SAVEPOINT {self._name}"])
        try:
            await job.future
        except BaseException:
            self._leave(commit=False)
            raise

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if (job := self._leave(commit=kind is None)) is not None:
            await job.future

    def _leave(self, *, commit: bool) -> Job | None:
        self._held.depth -= 1
        undo = [] if commit else [f"ROLLBACK TO {self._name}"]
        try:
            return self._queue([*undo, f"RELEASE {self._name}"])
        except DatabaseClosed:
            if commit:
                raise
            return None

    def _queue(self, statements: list[str]) -> Job:
        def run(connection: apsw.Connection) -> None:
            for sql in statements:
                connection.execute(sql)

        job = Job(run, savepoint=False)
        self._held.send(job)
        return job


def _fetch(
    connection: apsw.Connection, query: Query, compiled: Compiled, params: dict[str, Any]
) -> Any:
    read = compiled.read
    assert read is not None
    rows = connection.execute(compiled.sql, compiled.bind(params))
    if type(query) in _ONE_ROW:
        row = rows.fetchone()
        return None if row is None else read(row)
    return [read(row) for row in rows.fetchall()]


def _text_indexes() -> list[str]:
    return [quoted(ddl.text_table(table)) for table in all_tables() if table.text is not None]


def _erases_vectors(query: Query) -> bool:
    """Whether a statement erases all vectors of an agent or of a model."""
    return isinstance(query, Delete) and query.table in _OWNERS_OF_VECTORS


_OWNERS_OF_VECTORS = (table_of(Agent), table_of(User), table_of(EmbeddingSpace))
_ONE_ROW: tuple[type, ...] = (Get, Count)
