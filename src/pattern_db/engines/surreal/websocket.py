"""A server over a WebSocket."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from ...errors import QueryFailed
from .codecs import decode
from .failures import LOST, ConnectionLost, SurrealError, Unreachable
from .links import OPEN_TIMEOUT_S, UNREACHABLE, Login, refused, request, result, too_slow


class WebSocket:
    """A connection to a server; made when it is needed, and again when it was lost."""

    others = 0

    def __init__(self, url: str, login: Login, *, timeout_s: float):
        self._url = f"{url.rstrip('/').removesuffix('/rpc')}/rpc"
        self._login = login
        self._timeout_s = timeout_s
        self.turn = asyncio.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._socket: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._making = asyncio.Lock()

    async def call(self, method: str, params: list[Any]) -> Any:
        """See ``Link.call``."""
        await self._connected()
        try:
            return await self._ask(method, params)
        except SurrealError as error:
            if error.kind != "NotAllowed" or self._login.signin is None:
                raise
        await self._drop()  # the session ran out: nothing was done
        await self._connected()
        return await self._ask(method, params)

    async def _connected(self) -> None:
        async with self._making:
            if self._socket is not None:
                return
            from websockets.asyncio.client import connect
            from websockets.exceptions import WebSocketException
            from websockets.typing import Subprotocol

            try:
                self._socket = await connect(
                    self._url,
                    subprotocols=[Subprotocol("cbor")],
                    max_size=None,
                    compression=None,
                    open_timeout=OPEN_TIMEOUT_S,
                    close_timeout=1,
                )
            except (OSError, WebSocketException, EOFError) as error:
                raise refused(error) from error
            self._reader = asyncio.get_running_loop().create_task(self._read(self._socket))
            await self._log_in()

    async def _log_in(self) -> None:
        try:
            for method, params in self._login.calls():
                await self._ask(method, params)
        except ConnectionLost as error:
            raise Unreachable(UNREACHABLE) from error
        except BaseException:
            await self._drop()
            raise

    async def _ask(self, method: str, params: list[Any]) -> Any:
        from websockets.exceptions import ConnectionClosed

        socket, number = self._socket, next(self._numbers)
        if socket is None:
            raise ConnectionLost(LOST)
        asked = request(number, method, params)
        answer = self._waiting[str(number)] = asyncio.get_running_loop().create_future()
        try:
            await socket.send(asked)
            return result(await asyncio.wait_for(answer, self._timeout_s))
        except ConnectionClosed as error:
            raise ConnectionLost(LOST) from error
        except TimeoutError as error:
            await self._drop()
            raise too_slow() from error
        finally:
            self._waiting.pop(str(number), None)
            if answer.done() and not answer.cancelled():
                answer.exception()

    async def _read(self, socket: Any) -> None:
        from websockets.exceptions import WebSocketException

        try:
            async for data in socket:
                answer = decode(data) if isinstance(data, bytes) else {}
                waiting = self._waiting.get(str(answer.get("id")))
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
        except (OSError, WebSocketException, QueryFailed):
            socket.transport.abort()
        finally:
            if self._socket is socket:
                self._socket = None
            self._fail_all()

    def _fail_all(self) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionLost(LOST))

    async def _drop(self) -> None:
        socket, self._socket = self._socket, None
        self._fail_all()
        if socket is not None:
            await socket.close()

    async def close(self) -> None:
        """See ``Link.close``."""
        await self._drop()
        if self._reader is not None:
            await asyncio.wait([self._reader])
