"""Ways to an engine: in this process, over a WebSocket, over HTTP.

Each carries SurrealDB's RPC: a method and its parameters as CBOR. ``Sent`` says of a failure
whether the engine may have done what was asked.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import ssl
from collections import Counter
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Protocol
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from ...errors import ConfigError, MissingExtra, PatternError, QueryFailed
from .codecs import decode, encode
from .failures import LOST, ConnectionLost, SurrealError, Unreachable, driver_errors

_OPEN_TIMEOUT_S = 10.0
_SETTLE_S = 0.02
_UNREACHABLE = (
    "The database server cannot be reached; check database.url, and that the server runs."
)


class Link(Protocol):
    """A session with an engine. ``turn`` is whose it is to write, among the handles here."""

    turn: asyncio.Lock

    @property
    def others(self) -> int:
        """How many other handles are known to have the database open."""
        ...

    async def call(self, method: str, params: list[Any]) -> Any:
        """The answer to a call. Raises ``SurrealError`` for the engine's own errors,
        ``Unreachable`` when nothing was asked, ``ConnectionLost`` when nobody knows."""
        ...

    async def close(self) -> None:
        """End it."""
        ...


def _result(answer: Any) -> Any:
    if not isinstance(answer, dict) or ("error" not in answer and "result" not in answer):
        raise ConnectionLost(LOST)
    if answer.get("error"):
        raise SurrealError(answer["error"])
    return answer.get("result")


def _request(number: int, method: str, params: list[Any]) -> bytes:
    return encode({"id": str(number), "method": method, "params": params})


class _Engine:
    """An engine in this process, with all the handles that share it: a directory can be opened only
    once, and holds a database for each tenant."""

    def __init__(self) -> None:
        self.opening = asyncio.Lock()
        self.driver: Any = None
        self.handles: Counter[tuple[str, str]] = Counter()
        self.turns: dict[tuple[str, str], asyncio.Lock] = {}


_engines: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Engine]] = WeakKeyDictionary()


class Embedded:
    """One database of an engine in this process. Each request says which: all share a session."""

    def __init__(self, engine: _Engine, place: tuple[str, str]):
        self._engine, self._place = engine, place
        self._use = "USE NS `{}` DB `{}`; ".format(*place)
        self._numbers = itertools.count()
        self.turn = engine.turns.setdefault(place, asyncio.Lock())

    @classmethod
    async def open(cls, url: str, place: tuple[str, str], *, durable: bool) -> Embedded:
        """Open ``mem://`` or ``surrealkv://…``.

        SurrealDB 3.2 syncs each commit to the disk if the URL says so; builds before it looked,
        when they were loaded, for a variable of the environment. Both are told.
        """
        if durable:
            os.environ["SURREAL_SYNC_DATA"] = "true"
        url = _with_sync(url, durable=durable)
        engine = _engine_of(url)
        async with engine.opening:
            if engine.driver is None:
                engine.driver = await _opened(url)
            engine.handles[place] += 1
        return cls(engine, place)

    @property
    def others(self) -> int:
        """How many other handles of this process have the database open."""
        return self._engine.handles[self._place] - 1

    async def call(self, method: str, params: list[Any]) -> Any:
        """See ``Link.call``."""
        if method != "query":
            return await self._ask(method, params)
        text, values = params
        return (await self._ask(method, [self._use + text, values]))[1:]

    async def _ask(self, method: str, params: list[Any]) -> Any:
        request = _request(next(self._numbers), method, params)
        return _result(decode(await self._engine.driver.execute(request)))

    async def close(self) -> None:
        """See ``Link.close``. The engine's threads let go of Python a moment later; ending the
        process before that prints a panic."""
        async with self._engine.opening:
            self._engine.handles[self._place] -= 1
            if not self._engine.handles.total():
                driver, self._engine.driver = self._engine.driver, None
                with suppress(RuntimeError):
                    await driver.close()
                await asyncio.sleep(_SETTLE_S)


def _engine_of(url: str) -> _Engine:
    """The engine of a directory in this event loop; one in memory belongs to its handle alone."""
    if url.startswith("mem://"):
        return _Engine()
    engines = _engines.setdefault(asyncio.get_running_loop(), {})
    return engines.setdefault(
        os.path.realpath(url.partition("://")[2].partition("?")[0]), _Engine()
    )


async def _opened(url: str) -> Any:
    try:
        from surrealdb_embedded import AsyncEmbeddedDB
    except ModuleNotFoundError as error:
        raise MissingExtra("surreal", "A SurrealDB database in this process") from error

    with driver_errors():
        driver = await asyncio.to_thread(AsyncEmbeddedDB, url)
        await driver.connect()
    return driver


def _with_sync(url: str, *, durable: bool) -> str:
    """The URL with what is synced when. Relaxed writes are synced each second."""
    place, _, asked = url.partition("?")
    if not place.startswith("surrealkv://"):
        return url
    if "sync=" in asked:
        raise ConfigError(
            "database.url says when to sync; write database.durability = full or relaxed instead."
        )
    return f"{place}?{asked}{'&' if asked else ''}sync={'every' if durable else '1s'}"


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
                    open_timeout=_OPEN_TIMEOUT_S,
                    close_timeout=1,
                )
            except (OSError, WebSocketException, EOFError) as error:
                raise _refused(error) from error
            self._reader = asyncio.get_running_loop().create_task(self._read(self._socket))
            await self._log_in()

    async def _log_in(self) -> None:
        try:
            for method, params in self._login.calls():
                await self._ask(method, params)
        except ConnectionLost as error:
            raise Unreachable(_UNREACHABLE) from error
        except BaseException:
            await self._drop()
            raise

    async def _ask(self, method: str, params: list[Any]) -> Any:
        from websockets.exceptions import ConnectionClosed

        socket, number = self._socket, next(self._numbers)
        if socket is None:
            raise ConnectionLost(LOST)
        request = _request(number, method, params)
        answer = self._waiting[str(number)] = asyncio.get_running_loop().create_future()
        try:
            await socket.send(request)
            return _result(await asyncio.wait_for(answer, self._timeout_s))
        except ConnectionClosed as error:
            raise ConnectionLost(LOST) from error
        except TimeoutError as error:
            await self._drop()
            raise ConnectionLost(
                "The server did not answer in time; it may have done what was asked or not. "
                "Narrow the query, or raise database.statement_timeout_s."
            ) from error
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
        except (OSError, WebSocketException, ValueError):
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


class Http:
    """A server asked over HTTP: each call is a request of its own, over connections that stay."""

    others = 0

    def __init__(self, url: str, login: Login, *, timeout_s: float):
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._path = f"{parts.path.rstrip('/').removesuffix('/rpc')}/rpc"
        self._login = login
        self._timeout_s = timeout_s
        self.turn = asyncio.Lock()
        self._numbers = itertools.count()
        self._idle: list[HTTPConnection] = []
        self._headers: dict[str, str] | None = None
        self._making = asyncio.Lock()

    async def call(self, method: str, params: list[Any]) -> Any:
        """See ``Link.call``."""
        async with self._making:
            if self._headers is None:
                self._headers = await self._log_in()
        try:
            return await self._post(method, params, self._headers)
        except SurrealError as error:
            if error.kind == "NotAllowed":
                self._headers = None  # the token may have run out
            raise

    async def _log_in(self) -> dict[str, str]:
        headers = {"Content-Type": "application/cbor", "Accept": "application/cbor"}
        token = self._login.token
        if self._login.signin is not None:
            token = await self._post("signin", [self._login.signin], headers)
            token = token.get("access") if isinstance(token, dict) else token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if self._login.namespace:
            headers |= {"Surreal-NS": self._login.namespace, "Surreal-DB": self._login.database}
        return headers

    async def _post(self, method: str, params: list[Any], headers: dict[str, str]) -> Any:
        body = _request(next(self._numbers), method, params)
        return await asyncio.to_thread(self._send, body, headers)

    def _send(self, body: bytes, headers: dict[str, str]) -> Any:
        connection = self._idle.pop() if self._idle else self._made()
        try:
            connection.request("POST", self._path, body, headers)
            response = connection.getresponse()
            data = response.read()
        except (OSError, HTTPException) as error:
            connection.close()
            raise ConnectionLost(LOST) from error
        self._idle.append(connection)
        if response.status in (401, 403):
            raise SurrealError({"kind": "NotAllowed", "details": {"kind": "Auth"}})
        if response.status != 200:
            raise QueryFailed(
                f"The server answered with HTTP status {response.status}; check database.url."
            )
        try:
            return _result(decode(data))
        except ValueError as error:
            raise QueryFailed(
                "What answers at database.url does not speak SurrealDB's RPC; check the address."
            ) from error

    def _made(self) -> HTTPConnection:
        connection = (
            HTTPSConnection(
                self._host,
                self._port,
                timeout=self._timeout_s,
                context=ssl.create_default_context(),
            )
            if self._secure
            else HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        )
        try:
            connection.connect()
        except OSError as error:
            raise _refused(error) from error
        return connection

    async def close(self) -> None:
        """See ``Link.close``."""
        while self._idle:
            self._idle.pop().close()


class Login:
    """Who asks, and for which database."""

    def __init__(
        self,
        *,
        signin: dict[str, Any] | None,
        token: str | None,
        namespace: str,
        database: str,
    ):
        self.signin, self.token = signin, token
        self.namespace, self.database = namespace, database

    def calls(self) -> list[tuple[str, list[Any]]]:
        """What a new session is told."""
        first: list[tuple[str, list[Any]]] = []
        if self.signin is not None:
            first.append(("signin", [self.signin]))
        if self.token is not None:
            first.append(("authenticate", [self.token]))
        return [*first, ("use", [self.namespace, self.database])]


def _refused(error: BaseException) -> PatternError:
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return Unreachable(
            "The server's certificate is not trusted; name the file of its authority in the "
            "variable SSL_CERT_FILE, or use the name that it was made for."
        )
    return Unreachable(_UNREACHABLE)
