"""The PostgreSQL engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from ...embeddings.provider import Vector
from ...errors import DatabaseClosed, InvalidValue, Unsupported
from ...filters import Filter
from ...models import Embedding
from ...query import Bound, Count, Get, Query
from ...schema import Table, all_tables, table_of
from ..base import Capabilities, Progress
from ..sql import Compiled
from . import upkeep
from .compiler import Variant, compile_query
from .connection import Options, Server, connect, first_connection
from .ddl import Builder
from .failures import (
    ConnectionLost,
    OutcomeUnknown,
    ReadOnlyServer,
    RolledBack,
    Unreachable,
    driver_errors,
)
from .grouping import Groups
from .names import Schema
from .pool import Connection, Pool
from .text import compile_text_search
from .transactions import ATTEMPTS, Held, Scope, Work, finish, pause_s
from .vectors import VectorSearch
from .writes import COPY_FROM, write_all, write_one

_UNKNOWN = (
    "The connection was lost during a write; it may have been kept or not, so look before you "
    "write it again."
)
_WRITES_AT_ONCE = 4
_ONE_ROW: tuple[type, ...] = (Get, Count)
_Variants = dict[frozenset[str], Compiled]


class PostgresStore:
    """One schema of one PostgreSQL database. ``await PostgresStore.connect(options)`` opens it.

    It belongs to the event loop and the process that opened it.
    """

    def __init__(self, options: Options, server: Server):
        self.held: ContextVar[Held | None] = ContextVar("held", default=None)
        self.transactions: set[Held] = set()
        self.pool = Pool(partial(connect, server), size=options.connections)
        self._server = server
        self._schema = Schema(options.schema)
        self._compiled: WeakKeyDictionary[Query, tuple[tuple[str, ...], _Variants]]
        self._compiled = WeakKeyDictionary()
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._vectors = VectorSearch(self._schema, self._rows)
        self._indexes = upkeep.VectorIndexes(self.execute, self._run_statements, self._builder())
        self._groups = Groups(
            alone=self._write_alone,
            together=self._write_together,
            spawn=self.detached,
            size=min(_WRITES_AT_ONCE, options.connections - 1),
        )

    @classmethod
    async def connect(cls, options: Options) -> PostgresStore:
        """Connect; make the schema and the extension if they are missing."""
        server, connection = await first_connection(options)
        store = cls(options, server)
        store.pool.add(connection)
        return store

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        return Capabilities(
            engine="postgres", version=self._server.version, durable=self._server.durable
        )

    async def close(self) -> None:
        """See ``DatabaseBackend.close``."""
        if self._closed:
            return
        self._closed = True
        if self._process != os.getpid() or self._loop is not asyncio.get_running_loop():
            return
        for held in list(self.transactions):
            held.abandon()
        while self._tasks:
            await asyncio.shield(asyncio.wait(self._tasks))
        self.pool.close()

    # running queries

    async def execute(self, query: Query, /, **params: Any) -> Any:
        """See ``DatabaseBackend.execute``."""
        compiled = self._compile(query, params)
        if not compiled.writes:
            return await self._read(lambda c: _fetch(c, query, compiled, params))
        bound = Bound(query, params)
        if (held := self.current()) is not None:
            self.check_open()
            return await held.run(lambda c: write_one(c, bound, compiled), savepoint=True)
        return (await self._groups.submit([bound]))[0]

    async def write(self, statements: Sequence[Bound], /) -> list[Any]:
        """See ``DatabaseBackend.write``."""
        if not statements:
            await self._behind_transactions()
            return []
        if (held := self.current()) is not None:
            self.check_open()
            return await held.run(self._work(statements), savepoint=True)  # type: ignore[no-any-return]
        if len(statements) < COPY_FROM:
            return await self._groups.submit(statements)
        return await self._write_alone(statements)

    def _work(self, statements: Sequence[Bound]) -> Work:
        return partial(
            write_all, statements=statements, schema=self._schema, compile_=self._compile
        )

    async def _write_alone(self, statements: Sequence[Bound]) -> list[Any]:
        """One write, in a transaction if it has several parts; tried again if it was not kept."""
        bound = statements[0]
        if len(statements) == 1 and bound.expected is None:
            compiled = self._compile(bound.query, bound.params)
            return [await self._retried(lambda c: _alone(c, bound, compiled))]
        work = self._work(statements)
        return await self._retried(lambda c: _together(c, work))  # type: ignore[no-any-return]

    async def _write_together(self, statements: Sequence[Bound]) -> list[Any]:
        """Several writes in one transaction, tried once."""
        work = self._work(statements)
        return await self._once(lambda c: _together(c, work))  # type: ignore[no-any-return]

    async def _behind_transactions(self) -> None:
        self.check_open()
        open_now = [held.over for held in self.transactions if held is not self.current()]
        if open_now:
            await asyncio.wait(open_now)

    async def _read(self, work: Work) -> Any:
        """Run a read, in the transaction this task holds or on any connection."""
        self.check_open()
        if (held := self.current()) is not None:
            return await held.run(work, savepoint=False)
        return await self._retried(work)

    async def _retried(self, work: Work) -> Any:
        """Run something that left nothing behind when it fails in one of these ways, until it
        does not: a read, or a write that was not kept."""
        for attempt in range(ATTEMPTS):
            try:
                return await self._once(work)
            except (RolledBack, ConnectionLost, Unreachable, ReadOnlyServer):
                if attempt == ATTEMPTS - 1:
                    raise
            await asyncio.sleep(pause_s(attempt))
        raise AssertionError

    async def _once(self, work: Work) -> Any:
        self.check_open()
        connection = await self.pool.acquire()
        try:
            with driver_errors():
                return await work(connection)
        except ReadOnlyServer:
            connection.pgconn.finish()  # the primary is another one now
            raise
        finally:
            self.pool.release(connection)

    def current(self) -> Held | None:
        """The transaction this task takes part in."""
        held = self.held.get()
        return None if held is None or held.finished else held

    def detached(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something to its end, whoever waits for it; ``close`` does."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # asyncio need not report it if nobody waits any more

    def _compile(self, query: Query, params: dict[str, Any]) -> Compiled:
        asked, variants = self._compiled.get(query) or self._first(query)
        absent = frozenset([name for name in asked if params[name] is None]) if asked else _NONE
        compiled = variants.get(absent)
        if compiled is None:
            compiled = variants[absent] = compile_query(query, self._schema, absent).compiled
        return compiled

    def _first(self, query: Query) -> tuple[tuple[str, ...], _Variants]:
        variant: Variant = compile_query(query, self._schema)
        self._compiled[query] = entry = (variant.asked, {_NONE: variant.compiled})
        return entry

    def check_open(self) -> None:
        """Raise ``DatabaseClosed`` if it was closed, or is used where it was not opened."""
        if self._closed:
            raise DatabaseClosed("The database was closed; open it again.")
        if self._process != os.getpid():
            raise DatabaseClosed(
                "This process was forked from the one that opened the database; open it again here."
            )
        if self._loop is not asyncio.get_running_loop():
            raise Unsupported(
                "The database was opened in another event loop, to which its connections belong; "
                "open it again here."
            )

    # transactions

    def transaction(self, *, alone: bool = False) -> AbstractAsyncContextManager[None]:
        """See ``DatabaseBackend.transaction``."""
        self.check_open()
        return Scope(self, alone=alone)

    async def lock(self, connection: Connection) -> None:
        """Keep all others from writing until the transaction ends; they may read."""
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1::text, 0))",
            [f"pattern-db/{self._schema.plain}"],
        )
        sql = "SELECT tablename FROM pg_tables WHERE schemaname = $1::text"
        cursor = await connection.execute(sql, [self._schema.plain])
        there = {name for (name,) in await cursor.fetchall()}
        ours = [self._schema.of(t.name) for t in all_tables() if t.name in there]
        if ours:
            await connection.execute(f"LOCK TABLE {', '.join(ours)} IN EXCLUSIVE MODE")

    # schema

    async def create(self, tables: Sequence[Table], /) -> None:
        """See ``DatabaseBackend.create``."""
        await self._run_statements(list(self._builder().create(tables)))

    async def drop(self, tables: Sequence[Table], /) -> None:
        """See ``DatabaseBackend.drop``."""
        await self._run_statements(list(self._builder().drop(tables)))

    async def has_table(self, name: str, /) -> bool:
        """See ``DatabaseBackend.has_table``."""
        sql = "SELECT count(*) FROM pg_tables WHERE schemaname = $1::text AND tablename = $2::text"
        rows = await self._read(partial(_all, sql=sql, values=(self._schema.plain, name)))
        return bool(rows[0][0])

    def _builder(self) -> Builder:
        return Builder(
            self._schema, collation=self._server.collation, full_folding=self._server.full_folding
        )

    async def _run_statements(self, statements: list[str]) -> None:
        async def run(connection: Connection) -> None:
            await connection.execute("SET LOCAL statement_timeout = 0")
            for sql in statements:
                await connection.execute(sql, prepare=False)

        if (held := self.current()) is not None:
            await held.run(run, savepoint=True)
        else:
            await self._retried(lambda c: _together(c, run))

    def loading(self) -> AbstractAsyncContextManager[None]:
        """See ``BulkLoads.loading``."""
        return self._indexes.put_off()

    async def optimize(self, *, progress: Progress | None = None) -> None:
        """The server keeps its indexes by itself: those that a crash left out are made, and what
        the planner knows is renewed."""
        await self._indexes.mend()
        await self._read(partial(upkeep.analyze, schema=self._schema))
        if progress is not None:
            rows = await self.execute(_VECTORS)
            progress(rows, rows)

    async def vacuum(self) -> None:
        """Make the space of removed rows free for new ones, and renew what the planner knows."""
        if self.current() is not None:
            raise InvalidValue("transaction", "a database cannot be vacuumed inside one.")
        await self._once(partial(upkeep.vacuum, schema=self._schema))

    async def erase(self) -> None:
        """See ``DatabaseBackend.erase``: the schema, unless it is ``public``."""
        if self.current() is not None:
            raise InvalidValue("transaction", "a database cannot be erased inside one.")
        await self._run_statements(list(self._builder().erase(all_tables())))
        await self.close()

    async def describe(self) -> dict[str, Any]:
        """Where the server is, its extension, and the sizes of the schema."""
        values = (self._schema.plain,)
        (found,) = await self._read(partial(_all, sql=upkeep.DESCRIBE, values=values))
        told = dict(zip(upkeep.DESCRIBED, found, strict=True))
        return {"server": self._server.address, **told, "schema": self._schema.plain}

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
        if not terms or limit <= 0:
            return []
        compiled, values = compile_text_search(
            self._schema,
            table,
            terms,
            agent_ids=agent_ids,
            limit=limit,
            condition=condition,
            params=params or {},
            exclude=exclude,
        )
        return await self._rows(compiled, values)

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

    async def _rows(self, compiled: Compiled, params: dict[str, Any]) -> list[Any]:
        """The rows of a search, planned anew for its values: scopes differ a thousandfold."""
        values = compiled.bind(params)
        return await self._read(  # type: ignore[no-any-return]
            partial(_all, sql=compiled.sql, values=values, prepare=False)
        )


_NONE: frozenset[str] = frozenset()
_VECTORS = Count(table_of(Embedding))


async def _fetch(
    connection: Connection, query: Query, compiled: Compiled, params: dict[str, Any]
) -> Any:
    read = compiled.read
    assert read is not None
    cursor = connection.cursor(binary=True)
    await cursor.execute(compiled.sql, compiled.bind(params), prepare=True)
    if type(query) in _ONE_ROW:
        row = await cursor.fetchone()
        return None if row is None else read(row)
    return [read(row) for row in await cursor.fetchall()]


async def _all(
    connection: Connection, *, sql: str, values: Sequence[Any], prepare: bool = True
) -> list[Any]:
    cursor = connection.cursor(binary=True)
    await cursor.execute(sql, values, prepare=prepare)
    return await cursor.fetchall()


async def _alone(connection: Connection, bound: Bound, compiled: Compiled) -> Any:
    """A write that commits by itself: when the connection is lost nobody knows how it ended."""
    try:
        with driver_errors():
            return await write_one(connection, bound, compiled)
    except ConnectionLost as error:
        raise OutcomeUnknown(_UNKNOWN) from error


async def _together(connection: Connection, work: Callable[[Connection], Awaitable[Any]]) -> Any:
    """Several writes as one; lost before the commit was asked for, nothing was kept."""
    await connection.execute("BEGIN")
    try:
        with driver_errors():
            result = await work(connection)
    except Exception:
        if not connection.closed:
            await connection.execute("ROLLBACK")
        raise
    await finish(connection, commit=True)
    return result
