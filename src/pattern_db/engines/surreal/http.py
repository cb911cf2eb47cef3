"""A server over HTTP."""

from __future__ import annotations

import asyncio
import itertools
import select
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from ...errors import QueryFailed
from .codecs import decode
from .failures import LOST, ConnectionLost, SurrealError
from .links import Login, refused, request, result, too_slow


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
        try:
            return await self._post(method, params, await self._logged_in())
        except SurrealError as error:
            if error.kind != "NotAllowed" or self._login.signin is None:
                raise
        self._headers = None  # the token ran out: nothing was done
        return await self._post(method, params, await self._logged_in())

    async def _logged_in(self) -> dict[str, str]:
        async with self._making:
            if self._headers is None:
                self._headers = await self._log_in()
            return self._headers

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
        body = request(next(self._numbers), method, params)
        return await asyncio.to_thread(self._send, body, headers)

    def _send(self, body: bytes, headers: dict[str, str]) -> Any:
        connection = self._usable() or self._made()
        try:
            connection.request("POST", self._path, body, headers)
            response = connection.getresponse()
            data = response.read()
        except TimeoutError as error:
            connection.close()
            raise too_slow() from error
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
        return result(decode(data))

    def _usable(self) -> HTTPConnection | None:
        """A connection that still lives: one that has something to read was closed meanwhile, and
        seen before it is used that cannot leave an outcome unknown."""
        while self._idle:
            connection = self._idle.pop()
            waiting = select.poll()
            waiting.register(connection.sock, select.POLLIN)
            if not waiting.poll(0):
                return connection
            connection.close()
        return None

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
            raise refused(error) from error
        return connection

    async def close(self) -> None:
        """See ``Link.close``."""
        while self._idle:
            self._idle.pop().close()
