"""Questions about metadata: ``{"city": "Oslo", "rating": {"$gte": 4}}``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..errors import InvalidValue
from ..filters import And, Filter, JsonIn, JsonKey, JsonOrder, Order
from ..filters import param as bound
from ..models import Json
from ..validation import check_json, check_known

MOST_TESTS = 100
"""How many conditions one search may hold."""
_COLUMN = "metadata"
Test = tuple[str, str, Any]
"""A key, an operator of ``OPERATORS``, and the value to compare with."""


def tests_of(metadata: Json) -> list[Test]:
    """The conditions that all must hold. A plain value means ``$eq``, and so does an object without
    operators. Raises ``InvalidValue`` naming an operator there is not."""
    found = [test for key, value in metadata.items() for test in _tests(key, value)]
    if len(found) > MOST_TESTS:
        raise InvalidValue("metadata", f"it has more than {MOST_TESTS} conditions.")
    return found


def check_metadata(value: Any) -> Json:
    """What was asked of metadata, if it can be. Raises ``InvalidValue``."""
    if not isinstance(value, dict):
        raise InvalidValue("metadata", "it must be an object of keys and values.")
    check_json("metadata", value)
    for _, operator, wanted in tests_of(value):
        _CHECKS.get(operator, _anything)(operator, wanted)
    return value


def condition_of(operators: tuple[str, ...]) -> Iterator[Filter]:
    """A filter for each test; its key and value are bound by ``values_of``."""
    for index, operator in enumerate(operators):
        yield OPERATORS[operator](bound(f"key_{index}"), bound(f"value_{index}"))


def values_of(tests: list[Test]) -> dict[str, Any]:
    """The keys and values of tests, by the names that ``condition_of`` gives them."""
    values: dict[str, Any] = {}
    for index, (key, operator, value) in enumerate(tests):
        values[f"key_{index}"] = key
        values[f"value_{index}"] = [value] if operator in ("$eq", "$ne") else value
    return values


def _tests(key: str, value: Any) -> Iterator[Test]:
    operators = isinstance(value, dict) and any(name.startswith("$") for name in value)
    if not operators:
        yield key, "$eq", value
        return
    check_known("metadata", value, OPERATORS)
    for operator, wanted in value.items():
        yield key, operator, wanted


def _ordered(operator: Order) -> Callable[[Any, Any], Filter]:
    return lambda key, value: JsonOrder(_COLUMN, key, operator, value)


OPERATORS: dict[str, Callable[[Any, Any], Filter]] = {
    "$eq": lambda key, values: JsonIn(_COLUMN, key, values),
    "$ne": lambda key, values: And((JsonKey(_COLUMN, key), ~JsonIn(_COLUMN, key, values))),
    "$in": lambda key, values: JsonIn(_COLUMN, key, values),
    "$gt": _ordered(">"),
    "$gte": _ordered(">="),
    "$lt": _ordered("<"),
    "$lte": _ordered("<="),
}


def _anything(_operator: str, _wanted: Any) -> None:
    """Any JSON value can be equal or not."""


def _check_ordered(operator: str, wanted: Any) -> None:
    if isinstance(wanted, bool) or not isinstance(wanted, int | float | str):
        raise InvalidValue("metadata", f"{operator} compares with a number or a text.")


def _check_listed(operator: str, wanted: Any) -> None:
    if not isinstance(wanted, list | tuple):
        raise InvalidValue("metadata", f"{operator} needs a list of values.")


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "$in": _check_listed,
    **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), _check_ordered),
}
