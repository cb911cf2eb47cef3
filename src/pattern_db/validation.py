"""What may be stored: every value from outside passes here and leaves as it will be read back."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar

import msgspec

from .errors import InvalidValue, LimitExceeded
from .schema import Column, ColumnType, table_of

S = TypeVar("S", bound=msgspec.Struct)
E = TypeVar("E", bound=Enum)

MAX_TEXT_CHARS = 16 * 1024 * 1024
MAX_ID_CHARS = 512
MAX_JSON_DEPTH = 100
MAX_QUERY_CHARS = 1024 * 1024
MAX_LIMIT = 100_000

_AT_FIELD = re.compile(r"^(?P<problem>.*?)(?: - at .*?\$\.(?P<field>\w+).*)?$", re.DOTALL)


def check_text(field: str, value: Any, *, at_most: int = MAX_TEXT_CHARS) -> str:
    """Text that every engine can store: no NUL, no half surrogate pairs, not endless."""
    if not isinstance(value, str):
        raise InvalidValue(field, f"it must be text, not {type(value).__name__}.")
    if len(value) > at_most:
        raise LimitExceeded(field, f"it has {len(value)} characters, at most {at_most} fit.")
    if "\0" in value or not (value.isascii() or _encodable(value)):
        raise InvalidValue(field, "it holds a NUL character or half a surrogate pair.")
    return value


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_id(field: str, value: Any) -> str:
    """An identifier given from outside."""
    text = check_text(field, value, at_most=MAX_ID_CHARS)
    if not text:
        raise InvalidValue(field, "an id cannot be empty.")
    return text


def check_limit(value: Any, *, field: str = "limit") -> int:
    """A number of rows: 1 to 100,000."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidValue(field, "it must be a whole number.")
    if not 1 <= value <= MAX_LIMIT:
        raise InvalidValue(field, f"it must be between 1 and {MAX_LIMIT}.")
    return value


def check_time(field: str, value: Any) -> datetime:
    """An aware datetime, in UTC."""
    if not isinstance(value, datetime):
        raise InvalidValue(field, f"it must be a datetime, not {type(value).__name__}.")
    if value.tzinfo is None:
        raise InvalidValue(field, "it has no time zone; give an aware datetime.")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidValue(field, "it lies outside the years 1 to 9999 in UTC.") from None


def parse_time(field: str, value: Any) -> datetime:
    """An aware datetime, also from ISO text."""
    try:
        return check_time(field, msgspec.convert(value, datetime))
    except msgspec.ValidationError:
        raise InvalidValue(field, "it must be a datetime or its ISO text.") from None


def check_enum(field: str, kind: type[E], value: Any) -> E:
    """A member of an enum, given as such or by its value."""
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(str(member.value) for member in kind)
        raise InvalidValue(field, f"it must be one of {allowed}.") from None


def check_json(field: str, value: Any, depth: int = 0) -> None:
    """A value JSON holds without loss: finite numbers of 64 bits, string keys, not too deep."""
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int | float) and type(value) not in (int, float):
        raise InvalidValue(field, f"it holds a {type(value).__name__}, which JSON cannot.")
    if isinstance(value, str):
        check_text(field, value)
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise InvalidValue(field, "it holds a number that does not fit into 64 bits.")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValue(field, "it holds a number that is not finite.")
    elif depth >= MAX_JSON_DEPTH:
        raise LimitExceeded(field, f"it is nested deeper than {MAX_JSON_DEPTH} levels.")
    else:
        _check_container(field, value, depth + 1)


def _check_container(field: str, value: Any, depth: int) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidValue(field, "it holds a key that is not text.")
            check_text(field, key)
            check_json(field, inner, depth)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_json(field, inner, depth)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            check_json(field, getattr(value, name), depth)
    else:
        raise InvalidValue(field, f"it holds a {type(value).__name__}, which JSON cannot.")


def build(model: type[S], values: Mapping[str, Any]) -> S:
    """A model of these values. Raises ``InvalidValue`` naming the first field that cannot be."""
    try:
        made = msgspec.convert(values, model)
    except msgspec.ValidationError as error:
        raise _named(model, error) from None
    except UnicodeEncodeError:
        raise _not_encodable(values) from None
    except (RecursionError, OverflowError) as error:
        raise InvalidValue("value", "it is nested too deeply or too large.") from error
    return _checked(made)


def _checked(made: S) -> S:
    """The same with every time in UTC, after checking what types do not say."""
    times = {}
    values = msgspec.structs.astuple(made)
    for index, name, check, plain in _field_checks(type(made)):
        value = values[index]
        if value is None or plain(value):
            continue
        if check == "time":
            times[name] = check_time(name, value)
        else:
            _CAREFUL[check](name, value)
    return msgspec.structs.replace(made, **times) if times else made


def _plain_text(value: str) -> bool:
    return value.isascii() and "\0" not in value and len(value) <= MAX_TEXT_CHARS


def _plain_id(value: str) -> bool:
    return value.isascii() and "\0" not in value and 0 < len(value) <= MAX_ID_CHARS


def _check_integer(name: str, value: int) -> None:
    if not -(2**63) <= value < 2**63:
        raise InvalidValue(name, "it does not fit into 64 bits.")


_PLAIN: dict[str, Callable[[Any], bool]] = {
    "id": _plain_id,
    "integer": lambda value: -(2**63) <= value < 2**63,
    "json": lambda value: type(value) in (dict, list) and not value,
    "real": math.isfinite,
    "text": _plain_text,
    "time": lambda value: value.tzinfo is UTC,
}
"""Quick tests by which almost every value passes; what fails them is looked at with care."""

_CAREFUL: dict[str, Callable[[str, Any], Any]] = {
    "id": check_id,
    "integer": _check_integer,
    "json": check_json,
    "real": check_json,
    "text": check_text,
}

_CHECKED = {
    ColumnType.INTEGER: "integer",
    ColumnType.JSON: "json",
    ColumnType.REAL: "real",
    ColumnType.TEXT: "text",
    ColumnType.TIME: "time",
}


@cache
def _field_checks(
    model: type[msgspec.Struct],
) -> tuple[tuple[int, str, str, Callable[[Any], bool]], ...]:
    """Place, name and check of each field that needs one."""
    return tuple(
        (index, column.name, check, _PLAIN[check])
        for index, column in enumerate(table_of(model).columns)
        if (check := _check_of(column)) is not None
    )


def _check_of(column: Column) -> str | None:
    if column.type is ColumnType.TEXT and (column.name == "id" or column.references):
        return "id"
    return _CHECKED.get(column.type)


def _named(model: type[msgspec.Struct], error: msgspec.ValidationError) -> InvalidValue:
    """Which field it was, without repeating the value."""
    found = _AT_FIELD.match(str(error))
    field = (found and found["field"]) or "value"
    column = next((c for c in table_of(model).columns if c.name == field), None)
    if column is not None and column.ranks:
        return InvalidValue(field, f"it must be one of {', '.join(column.ranks)}.")
    problem = found["problem"] if found else "it is not of the right type"
    return InvalidValue(field, f"{problem.rstrip('.')}.")


def _not_encodable(values: Mapping[str, Any]) -> InvalidValue:
    """Which field it was: msgspec meets half a surrogate pair when it looks for an enum."""
    field = next(
        (n for n, v in values.items() if isinstance(v, str) and not _encodable(v)), "value"
    )
    return InvalidValue(field, "it holds half a surrogate pair.")


def check_known(kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names that nobody knows, with the nearest one that is known."""
    allowed = list(known)
    for name in given:
        if name not in allowed:
            from difflib import get_close_matches

            near = get_close_matches(str(name), allowed, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(allowed)}."
            raise InvalidValue(kind, f"there is no {str(name)[:80]!r}; {hint}")
