"""Any entity that can be: Hypothesis strategies read off the models."""

from __future__ import annotations

import types
from datetime import UTC
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
from hypothesis import strategies as st

from ..models import ToolCall, ToolResponse
from ..schema import Column, ColumnType, Table

NASTY_TEXTS = (
    "", " ", "'", '"', "\\", "%", "_", "?", "$1", ":name", "%s", "--", "/*", ";", "\n\r\t",
    "' OR '1'='1", "'); DROP TABLE users; --", "null", "NaN", "true", "{}", "[]", "é", "e\u0301",
    "ß", "İ", "𝕏", "🏳️‍🌈", "\ufeff", "\u202e", "\uffff", "日本語", "\x01", "\x7f", "x" * 70_000,
)  # fmt: skip
NUMBERS = (0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63))
FLOATS = (0.0, -0.0, 0.1, 5e-324, 1.7976931348623157e308, 1e22, -1.5, 1.0)


def texts(*, at_most: int = 60) -> st.SearchStrategy[str]:
    """Text that can be stored: no NUL, no half surrogate pairs."""
    free = st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=at_most
    )
    return free | st.sampled_from([text for text in NASTY_TEXTS if len(text) <= at_most])


def json_values() -> st.SearchStrategy[Any]:
    """Values that JSON holds without loss."""
    numbers = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(NUMBERS) | st.sampled_from(FLOATS)
    leaves = st.none() | st.booleans() | numbers | texts()
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(), inner, max_size=3),
        max_leaves=6,
    )


def vectors(dimensions: int) -> st.SearchStrategy[bytes]:
    """Packed float32 vectors of unit length."""

    def pack(values: list[float]) -> bytes:
        made = np.array(values, np.float32)
        return (made / np.linalg.norm(made)).astype("<f4").tobytes()

    value = st.floats(-1, 1, width=32).filter(lambda x: abs(x) > 1e-3)
    return st.lists(value, min_size=dimensions, max_size=dimensions).map(pack)


_STRUCTS: dict[Any, st.SearchStrategy[Any]] = {
    ToolCall: st.builds(ToolCall, texts(), texts(), json_values()),
    ToolResponse: st.builds(ToolResponse, texts(), texts(), st.booleans()),
}
_SCALARS: dict[ColumnType, st.SearchStrategy[Any]] = {
    ColumnType.TEXT: texts(),
    ColumnType.INTEGER: st.integers(-(2**63), 2**63 - 1) | st.sampled_from(NUMBERS),
    ColumnType.REAL: st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0),
    ColumnType.BOOLEAN: st.booleans(),
    ColumnType.BYTES: st.binary(max_size=64),
    ColumnType.TIME: st.datetimes(timezones=st.just(UTC)).map(lambda t: t.replace(fold=0)),
}


_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: _SCALARS[ColumnType.INTEGER],
    float: _SCALARS[ColumnType.REAL],
}


def values_of(column: Column) -> st.SearchStrategy[Any]:
    """What a column may hold."""
    if column.type is ColumnType.ENUM:
        values: st.SearchStrategy[Any] = st.sampled_from(list(column.python))
    elif column.type is ColumnType.JSON:
        values = _json_of(column.python)
    else:
        values = _SCALARS[column.type]
    return st.none() | values if column.nullable and not column.counted else values


def _json_of(hint: Any) -> st.SearchStrategy[Any]:
    if hint in _STRUCTS:
        return _STRUCTS[hint]
    if hint is str:
        return texts()
    if hint in _PLAIN:
        return _PLAIN[hint]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return structs(hint)
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return st.one_of(*(st.none() if a is type(None) else _json_of(a) for a in arguments))
    if len(arguments) == 1:
        return st.lists(_json_of(arguments[0]), max_size=3)
    if len(arguments) == 2:
        return st.dictionaries(texts(), json_values(), max_size=3)
    return json_values()


def structs(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Any value of a Struct that is kept within a row."""
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: _json_of(hints[name]) for name in kind.__struct_fields__})


def entities(table: Table, **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[msgspec.Struct]:
    """Any row of a table; ``fixed`` says how some columns are made."""
    columns = {column.name: values_of(column) for column in table.columns}
    made: st.SearchStrategy[msgspec.Struct] = st.builds(table.model, **{**columns, **fixed})
    return made
