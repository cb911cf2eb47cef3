"""The SurrealDB engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from ...embeddings.provider import Vector
from ...errors import ConnectionFailed, DatabaseBusy, DatabaseClosed, InvalidValue, Unsupported
from ...filters import Filter
from ...models import Embedding, EmbeddingSpace
from ...query import Bound, Count, Insert, Query, select
from ...schema import Table, columns_of, table_of
from ..base import Capabilities, Progress
from . import ddl
from .compiler import Compiled, compile_query
from .connection import Options, Session, connect
from .failures import (
    ConnectionLost,
    RolledBack,
    SurrealError,
    Unreachable,
    driver_errors,
    first_error,
)
from .locking import Lock
from .names import quoted
from .script import Script, Write, unpacked
from .script import ddl as defining
from .text import TextSearch
from .transactions import ATTEMPTS, Held, Scope, pause_s
from .vectors import VectorSearch
from .writes import steps

_UNKNOWN = (
    "The connection was lost during a write; it may have been kept or not, so look before you "
    "write it again."
)
_SPACES = select(EmbeddingSpace).only(columns_of(EmbeddingSpace).id)
_VECTORS = Count(table_of(Embedding))


class SurrealStore:
    """One database of SurrealDB. ``await SurrealStore.connect(options)`` opens it.

    It belongs to the event loop and the process that opened it. One write at a time: ``turn`` is
    whose it is.
    """

    def __init__(self, options: Options, session: Session):
        self.held: ContextVar[Held | None] = ContextVar("held", default=None)
        self.transactions: set[Held] = set()
        self._options = options
        self._link, self._version = session.link, session.version
        self.turn = session.link.turn
        self._lock = Lock() if options.remote else None
        self._compiled: WeakKeyDictionary[Query, Compiled] = WeakKeyDictionary()
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._text = TextSearch(self.rows)
        self._vectors = VectorSearch(self.rows)

    @classmethod
    async def connect(cls, options: Options) -> SurrealStore:
        """Connect; make the namespace and the database if they are missing."""
        return cls(options, await connect(options))

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do. How durable a server is it does not say."""
        return Capabilities(
            engine="surreal",
            version=self._version,
            durable=self._options.scheme != "mem" and self._options.durability == "full",
            interactive_transactions=False,
            several_processes=self._options.remote,
            vacuums=False,
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
        await asyncio.shield(self._loop.create_task(self._link.close()))

    # running queries

    async def execute(self, query: Query, /, **params: Any) -> Any:
        """See ``DatabaseBackend.execute``."""
        if not isinstance(query, Insert):
            compiled = self._compile(query)
            if not compiled.writes:
                return await self.rows(compiled, params)
        return (await self.write([Bound(query, params)]))[0]

    async def rows(self, compiled: Compiled, params: dict[str, Any]) -> Any:
        """What a read gives, in the transaction this task holds or by itself."""
        self.check_open()
        with driver_errors():
            values = compiled.bind(params)
            if (held := self.current()) is not None:
                return compiled.read(await held.read(compiled, values))
            return compiled.read(await self._retried(lambda: self.ask(compiled, values)))

    async def write(self, statements: Sequence[Bound], /) -> list[Any]:
        """See ``DatabaseBackend.write``."""
        self.check_open()
        if not statements:
            await self._behind_transactions()
            return []
        with driver_errors():
            writes = steps(statements, self._compile)
        gave = await self._write(writes)
        return [result for w, raw in zip(writes, gave, strict=True) for result in w.read(raw)]

    async def _write(self, writes: Sequence[Write]) -> list[Any]:
        if (held := self.current()) is not None:
            return await held.write(writes)
        return await asyncio.shield(self.detached(self._alone(writes)))

    async def _alone(self, writes: Sequence[Write]) -> list[Any]:
        """Writes that are a transaction by themselves."""
        async with self.turn:
            self.check_open()
            script = self.script(alone=False)
            names = [script.write(write) for write in writes]
            return await self.keep(script, f"[{', '.join(names)}]")  # type: ignore[no-any-return]

    async def _behind_transactions(self) -> None:
        open_now = [held.over for held in self.transactions if held is not self.current()]
        if open_now:
            await asyncio.wait(open_now)

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

    def _compile(self, query: Query) -> Compiled:
        compiled = self._compiled.get(query)
        if compiled is None:
            compiled = self._compiled[query] = compile_query(query)
        return compiled

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
                "The database was opened in another event loop, to which it belongs; open it again "
                "here."
            )

    # scripts

    def script(self, *, alone: bool) -> Script:
        """An empty script; on a server it takes its place among those of other handles."""
        return Script(*(self._lock.guard(alone=alone) if self._lock else ()))

    async def keep(self, script: Script, result: str) -> Any:
        """Run a script and keep what it did; gives its result."""
        text, values = script.kept(result)
        with driver_errors():
            return await self._retried(lambda: self._kept(text, values), writes=True)

    async def _kept(self, text: str, values: dict[str, Any]) -> Any:
        return (await self._run(text, values))[-2]["result"]

    async def try_out(self, script: Script, result: str) -> Any:
        """Run a script and keep nothing of it; gives its result."""
        text, values = script.tried(result)
        with driver_errors():
            return await self._retried(lambda: self._tried(text, values))

    async def _tried(self, text: str, values: dict[str, Any]) -> Any:
        try:
            await self._run(text, values)
        except SurrealError as error:
            return unpacked(error)
        raise AssertionError

    async def ask(self, compiled: Compiled, values: Sequence[Any]) -> Any:
        """What a read gives."""
        named = {f"_{place}_": value for place, value in enumerate(values)}
        return (await self._run(f"RETURN {compiled.text}", named))[-1]["result"]

    async def _run(self, text: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = await self._link.call("query", [text, values])
        if (error := first_error(results)) is not None:
            raise error
        return results

    async def _retried(self, work: Callable[[], Awaitable[Any]], *, writes: bool = False) -> Any:
        """Do something again as long as it failed and left nothing behind."""
        waited = 0.0
        for attempt in range(1_000_000):
            try:
                with driver_errors():
                    return await work()
            except ConnectionLost as error:
                if writes:
                    raise ConnectionFailed(_UNKNOWN) from error
                if attempt >= ATTEMPTS:
                    raise
            except (RolledBack, Unreachable, DatabaseBusy):
                if attempt >= ATTEMPTS and waited >= self._options.lock_timeout_s:
                    raise
            waited += (pause := pause_s(attempt))
            await asyncio.sleep(pause)
        raise AssertionError

    # transactions

    def transaction(self, *, alone: bool = False) -> AbstractAsyncContextManager[None]:
        """See ``DatabaseBackend.transaction``."""
        self.check_open()
        return Scope(self, alone=alone)

    async def shut_out(self) -> None:
        """Keep other handles from writing."""
        if self._lock is not None:
            await self._lock.take(self._define_and_run)

    async def let_in(self) -> None:
        """Let other handles write again."""
        if self._lock is not None:
            await self._lock.give_back(self._define_and_run)

    async def _define_and_run(self, text: str) -> None:
        with driver_errors():
            await self._retried(lambda: self._run(text, {}), writes=True)

    # schema

    async def create(self, tables: Sequence[Table], /) -> None:
        """See ``DatabaseBackend.create``."""
        await self._write([defining(list(ddl.create(tables)))])

    async def drop(self, tables: Sequence[Table], /) -> None:
        """See ``DatabaseBackend.drop``."""
        spaces, home = [], table_of(EmbeddingSpace).name
        if any(table.name == home for table in tables) and await self.has_table(home):
            spaces = [number for (number,) in await self.execute(_SPACES)]
        await self._write([defining(list(ddl.drop(tables, spaces)))])

    async def has_table(self, name: str, /) -> bool:
        """See ``DatabaseBackend.has_table``."""
        return name in await self._tables()

    async def _tables(self) -> list[str]:
        text = "object::keys((INFO FOR DB).tables)"
        names: list[str] = await self.rows(Compiled(text, (), _same, False), {})
        return names

    async def optimize(self, *, progress: Progress | None = None) -> None:
        """The engine keeps its indexes by itself."""
        if progress is not None:
            rows = await self.execute(_VECTORS)
            progress(rows, rows)

    async def vacuum(self) -> None:
        """The engine merges its files by itself, and takes no request to."""
        self.check_open()
        if self.current() is not None:
            raise InvalidValue("transaction", "a database cannot be vacuumed inside one.")
        raise Unsupported(
            "SurrealDB merges its files by itself and cannot be asked to; there is nothing to do."
        )

    async def erase(self) -> None:
        """See ``DatabaseBackend.erase``: the database of its namespace."""
        if self.current() is not None:
            raise InvalidValue("transaction", "a database cannot be erased inside one.")
        if self._link.others:
            raise DatabaseBusy("The database is open elsewhere in this process; close it there.")
        if others := [name for name in await self._tables() if not ddl.is_ours(name)]:
            raise Unsupported(
                f"The database holds {len(others)} tables that are not ours, such as "
                f"{others[0]!r}; remove them first, or the database by other means."
            )
        await self._define_and_run(f"REMOVE DATABASE IF EXISTS `{self._options.database}`")
        await self.close()

    async def describe(self) -> dict[str, Any]:
        """Names and sizes, for ``pattern status``."""
        place: dict[str, Any] = {
            "namespace": self._options.namespace,
            "database": self._options.database,
            "indexes": await self._indexes(),
        }
        if self._options.remote:
            return {"server": urlsplit(self._options.url).netloc.rpartition("@")[2], **place}
        if self._options.scheme == "mem":
            return place
        path = self._options.url.partition("://")[2].partition("?")[0]
        size = await asyncio.to_thread(_size_of, path)
        return {"path": path, **place, "bytes": size}

    async def _indexes(self) -> int:
        names = [name for name in await self._tables() if ddl.is_ours(name)]
        each = [f"array::len(object::keys((INFO FOR TABLE {quoted(n)}).indexes))" for n in names]
        counts = await self.rows(Compiled(f"[{', '.join(each)}]", (), _same, False), {})
        return sum(counts)

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
        return await self._text.search(
            table,
            terms,
            agent_ids=agent_ids,
            limit=limit,
            condition=condition,
            params=params or {},
            exclude=exclude,
        )

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


def _same(value: Any) -> Any:
    return value


def _size_of(path: str) -> int:
    """The bytes of all files in a directory."""
    found = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                found += os.path.getsize(os.path.join(folder, name))
            except OSError:  # it was merged into another one meanwhile
                continue
    return found
