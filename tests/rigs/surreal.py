"""A SurrealDB server for tests: the engine of this process behind a real WebSocket and real HTTP.

No server program can be had here, so this speaks its RPC: methods and answers in CBOR, sessions
with a namespace, a database and a login, which is checked by the engine's own users. It does one
request at a time and gives every login all rights, which a server does not; what is shown is that
the client connects, logs in, asks, understands what comes back, and survives losing the line.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
from websockets.asyncio.server import ServerConnection, serve, unix_serve

_USERS = """
DEFINE USER IF NOT EXISTS root ON ROOT PASSWORD 'secret' ROLES OWNER;
DEFINE NAMESPACE IF NOT EXISTS test; USE NS test;
DEFINE USER IF NOT EXISTS keeper ON NAMESPACE PASSWORD 'secret' ROLES OWNER;
DEFINE DATABASE IF NOT EXISTS test; USE DB test;
DEFINE USER IF NOT EXISTS writer ON DATABASE PASSWORD 'secret' ROLES OWNER;
DEFINE TABLE IF NOT EXISTS people;
UPSERT people:ada SET username = 'ada', pass = crypto::argon2::generate('secret');
DEFINE ACCESS IF NOT EXISTS people ON DATABASE TYPE RECORD SIGNIN (
    SELECT * FROM people WHERE username = $username AND crypto::argon2::compare(pass, $password)
);
"""
PASSWORD = "secret"


class Session:
    """What the server knows of one connection."""

    def __init__(self) -> None:
        self.place: list[Any] = [None, None]
        self.logged_in_at: int | None = None


class Bridge:
    """Runs in a thread of its own until ``stop``."""

    def __init__(self, *, version: str | None = None, tls: ssl.SSLContext | None = None):
        self._version, self._tls = version, tls
        self._folder = Path(tempfile.mkdtemp(prefix="pattern-db-surreal-"))
        self.socket = self._folder / "rpc.sock"
        self.port = self.http_port = 0
        self.slow: Callable[[], float] = lambda: 0.0
        """Seconds to wait before each answer: time in which a line can be cut."""
        self.expired = 0
        """How often every login was made to run out."""
        self.revoked: set[str] = set()
        """Tokens that are taken no more."""
        self._numbers = itertools.count()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(30)

    @property
    def url(self) -> str:
        """Where the WebSocket is."""
        return f"{'wss' if self._tls else 'ws'}://localhost:{self.port}"

    @property
    def http_url(self) -> str:
        """Where HTTP is."""
        return f"{'https' if self._tls else 'http'}://localhost:{self.http_port}"

    def database(self) -> str:
        """A name that no other test uses."""
        return f"db{next(self._numbers)}"

    def stop(self) -> None:
        """End it and forget everything."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _run(self) -> None:
        from surrealdb_embedded import AsyncEmbeddedDB

        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._turn = asyncio.Lock()
        self._engine = AsyncEmbeddedDB("mem://")
        await self._engine.connect()
        await self._direct("use", ["test", "test"])
        await self._direct("query", [_USERS, {}])
        self._token = await self._direct("signin", [{"user": "root", "pass": PASSWORD}])
        options: dict[str, Any] = {"subprotocols": ["cbor"], "max_size": None, "compression": None}
        async with (
            serve(self._talk, "localhost", 0, ssl=self._tls, **options) as tcp,
            unix_serve(self._talk, str(self.socket), **options),
            await asyncio.start_server(self._http, "localhost", 0, ssl=self._tls) as http,
        ):
            self.port = tcp.sockets[0].getsockname()[1]
            self.http_port = http.sockets[0].getsockname()[1]
            self._ready.set()
            await self._over.wait()
        await self._engine.close()
        await asyncio.sleep(0.02)

    async def _direct(self, method: str, params: list[Any]) -> Any:
        asked = cbor2.dumps({"id": "0", "method": method, "params": params})
        answer = cbor2.loads(await self._engine.execute(asked))
        assert "error" not in answer, answer
        return answer["result"]

    async def _talk(self, socket: ServerConnection) -> None:
        session = Session()
        async for message in socket:
            assert isinstance(message, bytes)
            await socket.send(await self._answer(session, message))

    async def _answer(self, session: Session, message: bytes) -> bytes:
        request = cbor2.loads(message)
        async with self._turn:
            answer = await self._reply(session, request, message)
        await asyncio.sleep(self.slow())
        return answer

    async def _reply(self, session: Session, request: dict[str, Any], message: bytes) -> bytes:
        method, number = request["method"], request["id"]
        if method == "use":
            session.place = list(request["params"])
            return cbor2.dumps({"id": number, "result": None})
        if method == "version" and self._version:
            return cbor2.dumps({"id": number, "result": self._version})
        if method in ("signin", "authenticate"):
            return await self._log_in(session, message)
        if method != "version" and session.logged_in_at != self.expired:
            return cbor2.dumps({"id": number, "error": _REFUSED})
        if method == "query":
            await self._direct("use", session.place)
        return bytes(await self._engine.execute(message))

    async def _log_in(self, session: Session, message: bytes) -> bytes:
        """The engine checks it; then it takes up its own again, since all share its session."""
        answer = bytes(await self._engine.execute(message))
        if "error" not in cbor2.loads(answer):
            session.logged_in_at = self.expired
        await self._direct("authenticate", [self._token])
        return answer

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")[1:]
                headers = {k.lower(): v.strip() for k, _, v in (x.partition(":") for x in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                answer = await self._over_http(headers, body)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(answer) + answer
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def _over_http(self, headers: dict[str, str], body: bytes) -> bytes:
        session = Session()
        session.place = [headers.get("surreal-ns"), headers.get("surreal-db")]
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.revoked:
            asked = {"id": "0", "method": "authenticate", "params": [token]}
            await self._answer(session, cbor2.dumps(asked))
        return await self._answer(session, body)


_REFUSED = {"code": -32000, "kind": "NotAllowed", "message": "Not allowed", "details": None}
