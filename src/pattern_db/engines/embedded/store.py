"""A store in one file that this process keeps: one writer, and readers beside it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import ContextVar, Token
from functools import partial
from itertools import groupby
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from ...errors import DatabaseClosed, InvalidValue, PatternError
from ...models import Agent, EmbeddingSpace, User
from ...query import Bound, Count, Delete, Get, Query
from ...schema import table_of
from ..sql import Compiled, Statement, compile_query, quoted
from .driver import Connection, Driver
from .writer import End, Held, Job, Run, Writer
from .writes import write_one, write_run

_MOST_ROWS_INLINE = 1000
_forks = 0


Opened = TypeVar("Opened", bound="EmbeddedStore")


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_forked)


class EmbeddedStore:
    """What is the same for every engine of a file; see ``DatabaseBackend``.

    Short reads run on the thread that opened the store, long ones on reader threads, each with a
    connection of its own, and writes on the writer's thread.
    """

    _statement: type[Statement] = Statement

    def __init__(
        self,
        driver: Driver,
        writing: Connection,
        open_reader: Callable[[], Any],
        *,
        readers: int,
    ):
        self._driver = driver
        self._compiled: WeakKeyDictionary[Query, Compiled] = WeakKeyDictionary()
        self._closed = False
        self._forks = _forks
        self._held: ContextVar[Held | None] = ContextVar("held", default=None)
        self._local = threading.local()
        self._connections: list[Any] = []
        self._home = threading.get_ident()
        self._open_reader = open_reader
        try:
            self._inline = open_reader()
        except BaseException:
            driver.disconnect(writing)
            raise
        self._writer = Writer(writing, driver, name="pattern-db-writer")
        self._readers = ThreadPoolExecutor(readers, "pattern-db-reader")

    def _settle(self) -> None:
        """Run short reads on this thread from now on."""
        self._home = threading.get_ident()

    async def close(self) -> None:
        """See ``DatabaseBackend.close``."""
        if self._closed:
            return
        self._closed = True
        if self._forks != _forks:
            return
        closing = asyncio.ensure_future(asyncio.to_thread(self._release))
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await closing  # who was cancelled may open the file again at once
            raise

    def release(self) -> None:
        """``close`` without an event loop. Blocks."""
        if not self._closed:
            self._closed = True
            self._release()

    def _release(self) -> None:
        self._readers.shutdown(wait=True)
        self._close_indexes()
        for connection in [*self._connections, self._inline]:
            self._driver.disconnect(connection)
        self._writer.stop()

    def _close_indexes(self) -> None:
        """Let go of what searches derive from the data."""

    def _sweep_indexes(self) -> None:
        """Remove what searches derived from vectors that are gone."""

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
            with self._driver.errors():
                return _fetch(self._inline, query, compiled, params)
        return await self._read(lambda c: _fetch(c, query, compiled, params))

    async def write(self, statements: Sequence[Bound], /) -> list[Any]:
        """See ``DatabaseBackend.write``."""
        runs = [
            (self._compile(query), list(bounds))
            for query, bounds in groupby(statements, key=lambda bound: bound.query)
        ]

        def run(connection: Connection) -> list[Any]:
            return [
                result
                for compiled, bounds in runs
                for result in write_run(connection, bounds, compiled, self._driver)
            ]

        guarded = len(statements) > 1 or any(b.expected is not None for b in statements)
        results: list[Any] = await self._submit(run, savepoint=guarded)
        if any(_erases_vectors(bound.query) for bound in statements):
            if (held := self._current()) is None:
                await asyncio.to_thread(self._sweep_indexes)
            else:
                held.erases_vectors = True
        return results

    async def _write_one(self, query: Query, compiled: Compiled, params: dict[str, Any]) -> Any:
        bound = Bound(query, params)
        return await self._submit(
            lambda c: write_one(c, bound, compiled, self._driver),
            savepoint=False,
            part=(compiled, bound, partial(write_run, compiled=compiled, driver=self._driver)),
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
        return await self._read_committed(run)

    async def _read_short(self, run: Run) -> Any:
        """Run a read that is over sooner than another thread would begin: in this one, if it may
        be."""
        if self._current() is not None or threading.get_ident() != self._home:
            return await self._read(run)
        self._check_open()
        with self._driver.errors():
            return run(self._inline)

    async def _read_committed(self, run: Run) -> Any:
        """Run a read on a reader thread, outside of any transaction."""
        self._check_open()

        def work() -> Any:
            with self._driver.errors():
                return run(self._reader())

        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    def _reader(self) -> Connection:
        """The connection of this reader thread, opened when the thread first needs it."""
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._open_reader()
            self._connections.append(connection)
        return connection

    def _current(self) -> Held | None:
        held = self._held.get()
        return None if held is None or held.finished else held

    def _compile(self, query: Query) -> Compiled:
        compiled = self._compiled.get(query)
        if compiled is None:
            compiled = self._compiled[query] = compile_query(query, self._statement)
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

    async def has_table(self, name: str, /) -> bool:
        """See ``DatabaseBackend.has_table``."""
        sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?"
        return await self._read(lambda c: c.execute(sql, (name,)).fetchone() is not None)  # type: ignore[no-any-return]

    async def _run_statements(self, statements: list[str]) -> None:
        def run(connection: Connection) -> None:
            for sql in statements:
                connection.execute(sql)

        await self._submit(run, savepoint=True)


class _Scope:
    """A transaction, or a savepoint of the one that is open when it is entered."""

    def __init__(self, store: EmbeddedStore):
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

    def __init__(self, store: EmbeddedStore):
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
                await asyncio.to_thread(self._store._sweep_indexes)

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

    def __init__(self, store: EmbeddedStore, held: Held):
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
        def run(connection: Connection) -> None:
            for sql in statements:
                connection.execute(sql)

        job = Job(run, savepoint=False)
        self._held.send(job)
        return job


async def opened(make: Callable[[], Opened]) -> Opened:
    """The store that ``make`` opens in another thread. Who is cancelled meanwhile, and be it again
    and again, leaves none open."""
    opening = asyncio.ensure_future(asyncio.to_thread(make))
    try:
        store = await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.shield(asyncio.ensure_future(_closed_again(opening)))
        raise
    store._settle()
    return store


async def _closed_again(opening: asyncio.Future[Opened]) -> None:
    with suppress(PatternError):  # then there is nothing to close
        await (await opening).close()


def _fetch(connection: Connection, query: Query, compiled: Compiled, params: dict[str, Any]) -> Any:
    read = compiled.read
    assert read is not None
    rows = connection.execute(compiled.sql, compiled.bind(params))
    if type(query) in _ONE_ROW:
        row = rows.fetchone()
        return None if row is None else read(row)
    return [read(row) for row in rows.fetchall()]


def _erases_vectors(query: Query) -> bool:
    """Whether a statement erases all vectors of an agent or of a model."""
    return isinstance(query, Delete) and query.table in _OWNERS_OF_VECTORS


_OWNERS_OF_VECTORS = (table_of(Agent), table_of(User), table_of(EmbeddingSpace))
_ONE_ROW: tuple[type, ...] = (Get, Count)
