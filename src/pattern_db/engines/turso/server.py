"""Requests to a Turso server. No error and no log holds the token, or any part of the URL."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ...errors import ConfigError, ConnectionFailed, PatternError

UNREACHABLE = (
    "The Turso server cannot be reached; nothing is lost, local work goes on, and syncing again "
    "later brings it there."
)
REFUSED = "The Turso server refused the token; set database.password to one that it accepts."
_CHUNK_BYTES = 1 << 16
_HERE = ("localhost", "127.0.0.1", "::1")

Take = Callable[[bytes], object]


class Statement(msgspec.Struct, frozen=True):
    """One statement for the server, its values bound."""

    sql: str
    values: Sequence[Any] = ()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Server:
    """A Turso server. Raises ``ConfigError`` if its token would travel in the clear."""

    def __init__(self, url: str, token: str | None, *, timeout_s: float):
        if token and urlsplit(url).scheme != "https" and urlsplit(url).hostname not in _HERE:
            raise ConfigError(
                "The token of a Turso server is not sent over plain http; write https:// in the "
                "URL after sync=."
            )
        self.url = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoRedirects)

    @contextmanager
    def answer(
        self, method: str, path: str, body: bytes | None, headers: Sequence[tuple[str, str]]
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """The status and the parts of the body of an answer. Raises ``ConnectionFailed``."""
        request = urllib.request.Request(self.url + path, data=body, method=method)  # noqa: S310
        for name, value in headers:
            request.add_header(name, value)
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opened(request) as response:
                yield response.status, iter(lambda: response.read(_CHUNK_BYTES), b"")
        except (OSError, HTTPException) as error:
            raise ConnectionFailed(UNREACHABLE) from error

    def _opened(self, request: urllib.request.Request) -> Any:
        try:
            return self._opener.open(request, timeout=self._timeout_s)
        except urllib.error.HTTPError as error:
            return error  # it is an answer too

    def ask(self, statements: Sequence[Statement]) -> list[list[dict[str, Any]] | None]:
        """The rows of each statement, by column; ``None`` where it failed. Raises
        ``ConnectionFailed``. (SQL over HTTP, the Hrana protocol, version 2.)"""
        steps = [{"stmt": _statement(statement)} for statement in statements]
        body = {"baton": None, "requests": [{"type": "batch", "batch": {"steps": steps}}]}
        content = [("Content-Type", "application/json")]
        with self.answer("POST", "/v2/pipeline", json.dumps(body).encode(), content) as answered:
            status, parts = answered
            given = b"".join(parts)
        if (failure := failure_of(status)) is not None:
            raise failure
        try:
            results = json.loads(given)["results"][0]["response"]["result"]["step_results"]
            return [None if result is None else _rows(result) for result in results]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ConnectionFailed(
                "What answered is not a Turso server; check the URL after sync=."
            ) from error


def failure_of(status: int) -> PatternError | None:
    """What an HTTP status says went wrong, if something did."""
    if status in (401, 403):
        return ConnectionFailed(REFUSED)
    if status >= 300:
        return ConnectionFailed(
            f"The Turso server failed (HTTP {status}); nothing is lost, sync again later."
        )
    return None


def _statement(statement: Statement) -> dict[str, Any]:
    return {"sql": statement.sql, "args": [_sent(v) for v in statement.values], "want_rows": True}


def _sent(value: Any) -> dict[str, Any]:
    if value is None:
        return {"type": "null"}
    if isinstance(value, str):
        return {"type": "text", "value": value}
    if isinstance(value, bytes):
        return {"type": "blob", "base64": base64.b64encode(value).decode()}
    if isinstance(value, float):
        return {"type": "float", "value": value}
    return {"type": "integer", "value": str(int(value))}


def _rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    names = [column["name"] for column in result["cols"]]
    return [dict(zip(names, map(_received, row), strict=True)) for row in result["rows"]]


def _received(value: dict[str, Any]) -> Any:
    kind = value["type"]
    if kind == "integer":
        return int(value["value"])
    if kind == "blob":
        text = value["base64"]
        return base64.b64decode(text + "=" * (-len(text) % 4))
    return value.get("value")
