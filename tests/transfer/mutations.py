"""Strategies for files that were damaged: by hand, by programs, on the way."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

_STRINGS = st.text(max_size=20) | st.sampled_from(["", "\0", "\ud800", "é", "root", "tool", "D1"])
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | _STRINGS
    | st.sampled_from([10**400, -0.0, 1e300, 1704067200])
)
VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_STRINGS, inner, max_size=3),
    max_leaves=8,
)


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [at, *(place for key, v in inner for place in _places(v, (*at, key)))]


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    """The JSON value with up to four of its parts replaced, removed or repeated."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.sampled_from(_places(value)))
        if not place:
            continue
        parent = value
        for key in place[:-1]:
            parent = parent[key]
        match draw(st.sampled_from(["replace", "remove", "repeat"])):
            case "replace":
                parent[place[-1]] = draw(VALUES)
            case "remove":
                del parent[place[-1]]
            case "repeat" if isinstance(parent, list):
                parent.append(copy.deepcopy(parent[place[-1]]))
            case "repeat":
                parent[draw(_STRINGS)] = copy.deepcopy(parent[place[-1]])
    return value


@st.composite
def damaged_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with some of them cut out, overwritten or added."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        data = data[:start] + draw(st.binary(max_size=8)) + data[end:]
    return data


def as_bytes(kind: str, value: Any) -> bytes:
    """How a program would write it."""
    if kind == "jsonl" and isinstance(value, list):
        return b"".join(json.dumps(line).encode() + b"\n" for line in value)
    return json.dumps(value).encode()
