"""Conditions on rows, as immutable values. Engines compile them; values are always bound."""

from __future__ import annotations

import unicodedata
from typing import Any, Literal

import msgspec

Operator = Literal["=", "!=", "<", "<=", ">", ">="]
Order = Literal["<", "<=", ">", ">="]


def fold_case(text: str) -> str:
    """What texts that differ only in case have in common: Unicode canonical caseless matching
    (The Unicode Standard, D145)."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


class Param(msgspec.Struct, frozen=True):
    """A value that is given when the query runs."""

    name: str


def param(name: str) -> Any:
    """A placeholder for a value that is given when the query runs."""
    return Param(name)


class Filter(msgspec.Struct, frozen=True):
    """A condition; combine with ``&``, ``|`` and ``~``."""

    def __and__(self, other: Filter) -> And:
        return And((self, other))

    def __or__(self, other: Filter) -> Or:
        return Or((self, other))

    def __invert__(self) -> Not:
        return Not(self)


class Comparison(Filter, frozen=True):
    """``column operator value``; ``= None`` means "is absent". Enums compare by rank."""

    column: str
    operator: Operator
    value: Any


class In(Filter, frozen=True):
    """The column's value is one of a list (a ``Param`` that will be bound to one, or a tuple)."""

    column: str
    values: Any


class InRows(Filter, frozen=True):
    """The columns' values together are one of a bound list of rows; an absent value is in none."""

    columns: tuple[str, ...]
    rows: Any


class NotInQuery(Filter, frozen=True):
    """The column is absent, or its value is not among those a subquery selects."""

    column: str
    query: Any
    selects: str


class InFolded(Filter, frozen=True):
    """The column's text is one of a bound list of texts, if case is ignored (``fold_case``)."""

    column: str
    values: Any


class JsonKey(Filter, frozen=True):
    """The JSON object has this key, with any value, also null.

    Here and below a key is bound as a value is, means a name at the top level of the object, and is
    never a path: ``a.b``, ``$`` and ``"`` are names as good as any.
    """

    column: str
    key: Any


class JsonIn(Filter, frozen=True):
    """The JSON object has this key, with a value equal to one of the bound list.

    Values of different types are never equal, but 1 equals 1.0. Lists and objects are equal where
    they are written alike; an engine may ignore the order of keys inside.
    """

    column: str
    key: Any
    values: Any


class JsonOrder(Filter, frozen=True):
    """The JSON object has this key, with a value that compares so with the bound one.

    Numbers compare with numbers, texts with texts by code point; anything else never does.
    """

    column: str
    key: Any
    operator: Order
    value: Any


class JsonContains(Filter, frozen=True):
    """The JSON array under ``key`` of the object, or (``None``) the array that the column is, holds
    every string of the bound list."""

    column: str
    key: str | None
    values: Any


class After(Filter, frozen=True):
    """The row comes after the row with these values in the order of ``columns`` (keyset paging)."""

    columns: tuple[str, ...]
    values: tuple[Any, ...]
    descending: bool = False


class And(Filter, frozen=True):
    """All of them hold."""

    parts: tuple[Filter, ...]


class Or(Filter, frozen=True):
    """At least one of them holds."""

    parts: tuple[Filter, ...]


class Not(Filter, frozen=True):
    """It does not hold."""

    part: Filter
