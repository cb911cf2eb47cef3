"""Transactions that a task holds open, and savepoints in them.

What is done inside runs in tasks of its own: a caller that is cancelled leaves, and its statement
ends whole. Each end, commit or undo, is such a task too, so that no way out leaves a transaction
open. A failed write is undone by a savepoint; without it PostgreSQL gives up the whole.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any, Protocol

from ...errors import Conflict, ConnectionFailed, DatabaseClosed, InvalidValue
from .failures import ConnectionLost, OutcomeUnknown, RolledBack, Unreachable, driver_errors
from .pool import Connection, Pool

Work = Callable[[Connection], Awaitable[Any]]
_ENDED = "The transaction had ended; nothing was written."
_UNKNOWN = (
    "The connection was lost while the transaction was being kept; it may have been or not, so "
    "look before you write it again."
)
ATTEMPTS = 8
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 1.0


class Owner(Protocol):
    """What a transaction needs of its store."""

    pool: Pool
    held: ContextVar[Held | None]
    transactions: set[Held]

    def current(self) -> Held | None:
        """The transaction this task takes part in."""
        ...

    def check_open(self) -> None:
        """Raise ``DatabaseClosed`` if the store was closed."""
        ...

    def detached(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something to its end, whoever waits for it."""
        ...

    async def lock(self, connection: Connection) -> None:
        """Keep all others from writing until the transaction ends."""
        ...


class Held:
    """A transaction that a task holds open."""

    def __init__(self, store: Owner, connection: Connection):
        self._store = store
        self._connection = connection
        self._turn = asyncio.Lock()
        self.owner = asyncio.current_task()
        self.finished = False
        self.over = asyncio.get_running_loop().create_future()
        self.depth = 0

    async def run(self, work: Work, *, savepoint: bool) -> Any:
        """Do something inside, after what was asked for before."""
        return await asyncio.shield(self.queue(work, savepoint=savepoint))

    def queue(self, work: Work, *, savepoint: bool = False) -> asyncio.Task[Any]:
        """The same; it happens even if nobody waits."""
        if self.finished:
            raise DatabaseClosed(_ENDED)
        return self._store.detached(self._do(work, savepoint=savepoint))

    def end(self, *, commit: bool) -> asyncio.Task[Any]:
        """Keep or undo everything; nothing is taken any more."""
        if self.finished:
            raise DatabaseClosed(_ENDED)
        self.finished = True
        return self._store.detached(self._end(commit=commit))

    def abandon(self) -> None:
        """Undo everything by closing the connection, at once."""
        self.finished = True
        self._release()

    async def _do(self, work: Work, *, savepoint: bool) -> Any:
        async with self._turn:
            if self.over.done():
                raise DatabaseClosed(_ENDED)
            with driver_errors():
                if not savepoint:
                    return await work(self._connection)
                return await self._undoably(work)

    async def _undoably(self, work: Work) -> Any:
        await self._connection.execute("SAVEPOINT statement")
        try:
            result = await work(self._connection)
        except BaseException:
            if not self._connection.closed:
                await self._connection.execute("ROLLBACK TO statement")
                await self._connection.execute("RELEASE statement")
            raise
        await self._connection.execute("RELEASE statement")
        return result

    async def _end(self, *, commit: bool) -> None:
        async with self._turn:
            if self.over.done():
                raise DatabaseClosed(_ENDED)
            try:
                with driver_errors():
                    await finish(self._connection, commit=commit)
            finally:
                self._release()

    def _release(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
            self._store.transactions.discard(self)
            self._store.pool.release(self._connection)


async def finish(connection: Connection, *, commit: bool) -> None:
    """End the open transaction. Raises ``OutcomeUnknown`` if nobody can know how it ended."""
    if not commit:
        await connection.execute("ROLLBACK")
        return
    if connection.closed:
        raise ConnectionFailed("The connection was lost; nothing of the transaction was kept.")
    try:
        cursor = await connection.execute("COMMIT")
    except Exception as error:
        if connection.closed:
            raise OutcomeUnknown(_UNKNOWN) from error
        raise
    if cursor.statusmessage != "COMMIT":
        raise Conflict("The server gave the transaction up; nothing of it was kept, try again.")


class Scope:
    """A transaction, or a savepoint of the one that is open when it is entered."""

    def __init__(self, store: Owner, *, alone: bool):
        self._store, self._alone = store, alone

    async def __aenter__(self) -> None:
        self._store.check_open()
        held = self._store.current()
        self._scope = _Outer(self._store, self._alone) if held is None else _Inner(held)
        await self._scope.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        await self._scope.__aexit__(kind, *rest)


class _Outer:
    """Takes a connection for a task. Every way out begins the end without an await."""

    def __init__(self, store: Owner, alone: bool):
        self._store, self._alone = store, alone

    async def __aenter__(self) -> None:
        connection = await self._begun()
        self._held = Held(self._store, connection)
        self._store.transactions.add(self._held)
        self._token: Token[Held | None] = self._store.held.set(self._held)

    async def _begun(self) -> Connection:
        """A connection in a transaction; nothing was done yet, so what fails is tried again."""
        for attempt in range(ATTEMPTS):
            try:
                return await self._try_to_begin()
            except (RolledBack, ConnectionLost, Unreachable):
                if attempt == ATTEMPTS - 1:
                    raise
            await asyncio.sleep(pause_s(attempt))
        raise AssertionError

    async def _try_to_begin(self) -> Connection:
        connection = await self._store.pool.acquire()
        try:
            with driver_errors():
                await connection.execute("BEGIN")
                if self._alone:
                    await self._store.lock(connection)
        except BaseException:
            self._store.pool.release(connection)
            raise
        return connection

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        end = _ended(self._held, commit=kind is None)
        with suppress(ValueError):  # a generator may be finalized in another context
            self._store.held.reset(self._token)
        if end is not None:
            await asyncio.shield(end)


def _ended(held: Held, *, commit: bool) -> asyncio.Task[Any] | None:
    """The end under way; ``None`` if it was undone before it could be asked to end."""
    try:
        return held.end(commit=commit)
    except DatabaseClosed:
        if commit:
            raise
        return None


class _Inner:
    """A savepoint inside a held transaction."""

    def __init__(self, held: Held):
        if asyncio.current_task() is not held.owner:
            raise InvalidValue(
                "transaction", "only the task that opened a transaction can nest another in it."
            )
        self._held = held

    async def __aenter__(self) -> None:
        self._held.depth += 1
        self._name = f"level_{self._held.depth}"
        try:
            await asyncio.shield(self._held.queue(_statements(f"SAVEPOINT {self._name}")))
        except BaseException:
            self._leave(commit=False)
            raise

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if (task := self._leave(commit=kind is None)) is not None:
            await asyncio.shield(task)

    def _leave(self, *, commit: bool) -> asyncio.Task[Any] | None:
        self._held.depth -= 1
        undo = [] if commit else [f"ROLLBACK TO {self._name}"]
        try:
            return self._held.queue(_statements(*undo, f"RELEASE {self._name}"))
        except DatabaseClosed:
            if commit:
                raise
            return None


def pause_s(attempt: int) -> float:
    """How long to wait before something is tried again: at random, and longer each time."""
    return random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt))


def _statements(*statements: str) -> Work:
    async def run(connection: Connection) -> None:
        for sql in statements:
            await connection.execute(sql)

    return run
