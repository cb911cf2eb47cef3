"""Ways to an engine, and who goes them.

Each link carries SurrealDB's RPC: a method and its parameters as CBOR.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Protocol

from ...errors import ConnectionFailed
from .codecs import encode
from .failures import LOST, ConnectionLost, SurrealError, Unreachable

OPEN_TIMEOUT_S = 10.0
UNREACHABLE = "The database server cannot be reached; check database.url, and that the server runs."
_SLOW = (
    "The server did not answer in time; it may have done what was asked or not. Narrow the query, "
    "or raise database.statement_timeout_s."
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


def result(answer: Any) -> Any:
    if not isinstance(answer, dict) or ("error" not in answer and "result" not in answer):
        raise ConnectionLost(LOST)
    if answer.get("error"):
        raise SurrealError(answer["error"])
    return answer.get("result")


def request(number: int, method: str, params: list[Any]) -> bytes:
    return encode({"id": str(number), "method": method, "params": params})


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


def too_slow() -> ConnectionFailed:
    """The error for an answer that was not waited for any longer; it is not asked again."""
    return ConnectionFailed(_SLOW)


def refused(error: BaseException) -> Unreachable:
    """Why no connection could be made."""
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return Unreachable(
            "The server's certificate is not trusted; name the file of its authority in the "
            "variable SSL_CERT_FILE, or use the name that it was made for."
        )
    return Unreachable(UNREACHABLE)
