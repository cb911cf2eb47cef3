"""Connections that are kept for the next statement.

``psycopg_pool`` takes a connection back in a coroutine; when that is cancelled, the connection is
lost to the pool, and an open transaction stays open. Here ``release`` never waits: what is not idle
is closed on the spot, which ends its transaction. A server that cannot be reached is an error at
once, not a timeout.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from psycopg import AsyncConnection
from psycopg.pq import PipelineStatus, TransactionStatus

from ...errors import DatabaseClosed

Connection = AsyncConnection[Any]


class Pool:
    """At most ``size`` connections, made when they are needed. For tasks of one event loop."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], *, size: int):
        self._connect = connect
        self._size = size
        self._count = 0
        self._idle: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._closed = False

    @property
    def in_use(self) -> int:
        """How many connections are taken or being made."""
        return self._count - len(self._idle)

    async def acquire(self) -> Connection:
        """A connection outside of any transaction; waits while all are taken."""
        while True:
            self._check_open()
            if (connection := self._usable()) is not None:
                return connection
            if self._count < self._size:
                return await self._another()
            if (handed := await self._wait()) is not None:
                return handed

    def release(self, connection: Connection) -> None:
        """Take a connection back; one that is not idle is closed."""
        if self._closed or not _is_idle(connection):
            self._discard(connection)
        elif (waiter := self._next_waiter()) is not None:
            waiter.set_result(connection)
        else:
            self._idle.append(connection)

    def add(self, connection: Connection) -> None:
        """Adopt a connection that was made elsewhere."""
        self._count += 1
        self.release(connection)

    def close(self) -> None:
        """Close what is idle now and what is taken when it comes back; nobody gets another one."""
        self._closed = True
        while self._idle:
            self._discard(self._idle.pop())
        while (waiter := self._next_waiter()) is not None:
            waiter.set_result(None)

    async def _another(self) -> Connection:
        self._count += 1
        try:
            return await self._connect()
        except BaseException:
            self._gone()
            raise

    async def _wait(self) -> Connection | None:
        """A connection that somebody hands over, or ``None`` when there is room for another."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._pass_on(waiter.result())
            raise

    def _pass_on(self, handed: Connection | None) -> None:
        if handed is not None:
            self.release(handed)
        elif (waiter := self._next_waiter()) is not None:
            waiter.set_result(None)

    def _usable(self) -> Connection | None:
        """The connection that was used last and still lives."""
        while self._idle:
            connection = self._idle.pop()
            if not _has_news(connection):
                return connection
            self._discard(connection)
        return None

    def _discard(self, connection: Connection) -> None:
        connection.pgconn.finish()
        self._gone()

    def _gone(self) -> None:
        self._count -= 1
        if (waiter := self._next_waiter()) is not None:
            waiter.set_result(None)

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None

    def _check_open(self) -> None:
        if self._closed:
            raise DatabaseClosed("The database was closed; open it again.")


def _is_idle(connection: Connection) -> bool:
    raw = connection.pgconn
    return (
        not connection.closed
        and raw.transaction_status == TransactionStatus.IDLE
        and raw.pipeline_status == PipelineStatus.OFF
    )


def _has_news(connection: Connection) -> bool:
    """Whether the server sent something unasked: almost always that it closed the connection.

    Seen before a statement is sent, a lost connection cannot leave its outcome unknown.
    """
    if connection.closed:
        return True
    waiting = select.poll()
    waiting.register(connection.pgconn.socket, select.POLLIN)
    return bool(waiting.poll(0))
