"""What users, models and attackers send: injections and nasty values, as data.

``INJECTIONS`` are strings for every place that takes one: filter keys and values, operators, ids,
labels, tenants, cursors, search queries, configuration, arguments of the command line. All that is
``storable`` comes back exactly and means only itself; the rest is refused by name of the field.

``Case`` values say for themselves whether they can be stored. What no engine can keep is refused by
all: half a surrogate pair (not UTF-8), NUL (PostgreSQL has none), numbers that are not finite or
need more than 64 bits (JSON, SQLite), values that JSON has no type for.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import strategies as st

from .injections import CHARACTERS, INJECTIONS, SENTENCES, WORDS

__all__ = [
    "INJECTIONS",
    "LONE_SURROGATES",
    "NASTY_IDS",
    "NASTY_JSON",
    "NASTY_TEXT",
    "NASTY_TIMES",
    "REFUSED_TEXT",
    "STORABLE_TEXT",
    "Case",
    "identical",
    "json_objects",
    "nested",
    "storable",
    "texts",
]


class Case(NamedTuple):
    """A value, what is nasty about it, and whether it can be stored and read back the same."""

    name: str
    value: Any
    storable: bool


_REFUSED = re.compile("[\0\ud800-\udfff]")


def storable(text: str) -> bool:
    """Whether every engine can keep this text exactly."""
    return _REFUSED.search(text) is None


def identical(left: Any, right: Any) -> bool:
    """Equal JSON values, types and all: ``True``, 1 and 1.0 differ, and so do 0.0 and -0.0."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


NASTY_TEXT: tuple[str, ...] = (*CHARACTERS, "x" * 2**20, "𝕏" * 2**18, *SENTENCES)
STORABLE_TEXT = tuple(text for text in NASTY_TEXT if storable(text))
REFUSED_TEXT = tuple(text for text in NASTY_TEXT if not storable(text))
LONE_SURROGATES = tuple(text for text in REFUSED_TEXT if "\0" not in text)


def nested(depth: int) -> Any:
    """A list of one list of one list, ``depth`` deep."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


NASTY_JSON: tuple[Case, ...] = (
    Case("empty", {}, True),
    Case("empty key", {"": ""}, True),
    Case("all types", {"a": [None, True, 1, 1.5, "x", [], {}]}, True),
    Case("true, 1 and 1.0 differ", [True, 1, 1.0, False, 0, 0.0], True),
    Case("minus zero", [-0.0], True),
    Case("smallest and largest floats", [5e-324, 2.2250738585072014e-308, 1.7976931348623157e308], True),
    Case("floats that are not exact", [0.1, 1e22, 1e23, 123456789.12345679], True),
    Case("integers past 53 bits", [2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1], True),
    Case("integers of 64 bits", [2**63 - 1, -(2**63)], True),
    Case("nested 64 deep", nested(64), True),
    Case("1,000 keys", {f"key {n}": n for n in range(1000)}, True),
    Case("keys that differ by case", {"a": 1, "A": 2, "ａ": 3}, True),
    Case("keys that differ by normal form", {"\u00e9": 1, "e\u0301": 2}, True),
    Case("keys that look like paths", {"a.b": 1, "a": {"b": 2}, "$.a": 3, "a[0]": 4, '"a"': 5}, True),
    Case("keys that mean something elsewhere", {"__proto__": {"x": 1}, "__class__": "os", "$eq": 1,
         "lc": 1, "id": "x", "rowid": 0, "py/object": "os.system"}, True),
    Case("injections as keys", {text: 1 for text in STORABLE_TEXT if len(text) < 1000}, True),
    Case("strings that look like other types", ["null", "true", "1", "NaN", "2024-01-01", "{}"], True),
    Case("control characters", "".join(map(chr, range(1, 32))), True),
    Case("1 MiB string", "x" * 2**20, True),
    Case("NaN", [float("nan")], False),
    Case("infinity", {"a": {"b": float("inf")}}, False),
    Case("minus infinity", [-float("inf")], False),
    Case("2**63", [2**63], False),
    Case("-2**63 - 1", [-(2**63) - 1], False),
    Case("4,300 digits", [10**4300], False),
    Case("nested 1,000 deep", nested(1_000), False),
    Case("nested 100,000 deep", nested(100_000), False),
    Case("lone surrogate", ["\ud800"], False),
    Case("lone surrogate as key", {"\udfff": 1}, False),
    Case("NUL", ["a\0b"], False),
    Case("NUL as key", {"a\0b": 1}, False),
    Case("bytes", [b"x"], False),
    Case("set", [{1}], False),
    Case("complex", [1j], False),
    Case("Decimal", [Decimal("1.10")], False),
    Case("datetime", [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], False),
    Case("UUID", [UUID(int=1)], False),
    Case("object", [object()], False),
    Case("integer as key", {1: "a", "1": "b"}, False),
    Case("null as key", {None: 1}, False),
)  # fmt: skip


class _AutumnClock(dt.tzinfo):
    """A zone that repeats the hour from 2 to 3: its offset is two hours, then (fold=1) one."""

    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(hours=1 if when and when.fold else 2)

    def dst(self, when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(hours=0 if when and when.fold else 1)

    def tzname(self, when: dt.datetime | None) -> str:
        return "autumn"


def _at(*parts: int, hours: float = 0.0) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.timezone(dt.timedelta(hours=hours)))  # type: ignore[misc,arg-type]


_FOLD = dt.datetime(2024, 10, 27, 2, 30, tzinfo=_AutumnClock())

# Compare as UTC: Python calls a time in a repeated hour unequal to every time of another zone.
NASTY_TIMES: tuple[Case, ...] = (
    Case("first", dt.datetime.min.replace(tzinfo=dt.UTC), True),
    Case("last", dt.datetime.max.replace(tzinfo=dt.UTC), True),
    Case("epoch", _at(1970, 1, 1), True),
    Case("a microsecond before the epoch", _at(1969, 12, 31, 23, 59, 59, 999_999), True),
    Case("one microsecond", _at(2024, 1, 1, 0, 0, 0, 1), True),
    Case("past 31 bits", _at(2038, 1, 19, 3, 14, 8), True),
    Case("leap day", _at(2024, 2, 29, 23, 59, 59, 999_999), True),
    Case("before a leap second", _at(2016, 12, 31, 23, 59, 59), True),
    Case("+14:00", _at(2024, 1, 1, hours=14), True),
    Case("-12:00", _at(2024, 1, 1, hours=-12), True),
    Case("+05:45", _at(2024, 1, 1, hours=5.75), True),
    Case("an offset with seconds", _at(1900, 1, 1, hours=0.0025), True),
    Case("repeated hour, first", _FOLD, True),
    Case("repeated hour, second", _FOLD.replace(fold=1), True),
    Case("no zone", dt.datetime(2024, 1, 1), False),
    Case("before year 1 in UTC", dt.datetime.min.replace(tzinfo=_at(1, 1, 2, hours=14).tzinfo), False),
    Case("after 9999 in UTC", dt.datetime.max.replace(tzinfo=_at(1, 1, 2, hours=-12).tzinfo), False),
    Case("text", "2024-01-01T00:00:00Z", False),
    Case("number", 1_704_067_200, False),
    Case("NaN", float("nan"), False),
    Case("day", dt.date(2024, 1, 1), False),
)  # fmt: skip

NASTY_IDS: tuple[Case, ...] = (
    *(Case(f"text {text!r}", text, storable(text)) for text in CHARACTERS if 0 < len(text) < 100),
    *(Case(f"injection {text!r}", text, True) for text in (*WORDS, *SENTENCES)),
    Case("255 characters", "é" * 255, True),
    Case("empty", "", False),
    Case("64 KiB", "x" * 65536, False),
    Case("nothing", None, False),
    Case("number", 1, False),
    Case("truth", True, False),
    Case("bytes", b"id", False),
    Case("list", ["id"], False),
    Case("operator", {"$ne": ""}, False),
)


def texts(*, max_size: int | None = 200) -> st.SearchStrategy[str]:
    """Text that every engine can keep: any character but NUL and surrogates, or from the corpus."""
    free = st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=max_size
    )
    fits = [
        text
        for text in STORABLE_TEXT + INJECTIONS
        if storable(text) and len(text) <= (max_size or 2**16)
    ]
    return free | st.sampled_from(fits)


def json_objects(*, max_leaves: int = 20) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects that every engine can keep."""
    numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    leaves = st.none() | st.booleans() | numbers | texts()
    values = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts(), inner, max_size=5),
        max_leaves=max_leaves,
    )
    return st.dictionaries(texts(), values, max_size=5)
