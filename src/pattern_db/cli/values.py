"""How values on a command line are read. What cannot be read is wrong usage."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter, Token, validators

from pattern_db.errors import InvalidValue

STDIN = "standard input"

Kind = Literal["message", "memory", "archival", "episode"]
Mode = Literal["hybrid", "semantic", "keyword"]


class UsageError(Exception):
    """A command line that cannot be meant; the message says what to write."""


def _moment(_: Any, tokens: Sequence[Token]) -> datetime:
    text = tokens[0].value
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f'"{text}" is no ISO date or time; write 2025-05-07 or 2025-05-07T18:30.'
        ) from None


def _object(_: Any, tokens: Sequence[Token]) -> dict[str, Any]:
    try:
        return msgspec.json.decode(tokens[0].value, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        raise ValueError('it is no JSON object; write one such as {"tag": "home"}.') from None


def _any_json(_: Any, tokens: Sequence[Token]) -> Any:
    try:
        return msgspec.json.decode(tokens[0].value)
    except (msgspec.DecodeError, RecursionError):
        raise ValueError('it is no JSON; write such as {"path": "tests"} or 3.') from None


def _numbers(_: Any, tokens: Sequence[Token]) -> tuple[int, ...]:
    parts = [part.strip() for token in tokens for part in token.value.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError("write whole numbers with commas between them, such as 1,5,10.")
    return tuple(dict.fromkeys(int(part) for part in parts))


Moment = Annotated[datetime, Parameter(converter=_moment, metavar="ISO", n_tokens=1)]
"""A date or a date and time; without a zone it is local time."""

JsonObject = Annotated[
    dict[str, Any], Parameter(converter=_object, metavar="JSON", n_tokens=1, accepts_keys=False)
]

Json = Annotated[
    Any, Parameter(converter=_any_json, metavar="JSON", n_tokens=1, accepts_keys=False)
]

Numbers = Annotated[tuple[int, ...], Parameter(converter=_numbers, metavar="N,N", n_tokens=1)]

Limit = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=100_000))]

Stdin = Annotated[bool, Parameter(name=("--stdin", "-"))]
"""The flag that says that a text comes from standard input."""


def text_of(given: str | None, *, stdin: bool) -> str | None:
    """The text that was given, or that standard input holds (without its last line end)."""
    if not stdin:
        return given
    if given is not None:
        raise UsageError("The text is given twice, as an argument and as `-`; give it once.")
    try:
        return _standard_input().removesuffix("\n")
    except UnicodeDecodeError:
        raise InvalidValue(STDIN, "it is not UTF-8 text.") from None


def _standard_input() -> str:
    """All of it. Ctrl-C ends the wait at once; asyncio would end it only once there is a line."""
    asyncios = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return sys.stdin.read()
    finally:
        signal.signal(signal.SIGINT, asyncios)


def required_text(given: str | None, *, stdin: bool) -> str:
    """As ``text_of``, where there must be one."""
    text = text_of(given, stdin=stdin)
    if text is None:
        raise UsageError("There is no text; give it as an argument, or `-` to read standard input.")
    return text


def pairs_of(written: Sequence[str] | None) -> dict[str, Any] | None:
    """What ``--where key=value`` options ask for; ``None`` without any.

    A value is JSON if it can be read as such and else text.
    """
    if not written:
        return None
    found = {}
    for pair in written:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise UsageError(f'"{pair}" is no condition; write --where key=value.')
        found[key] = _json_or_text(value)
    return found


def _json_or_text(value: str) -> Any:
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return value
