"""Filters and orders: what a query finds is what Python finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ..engines.base import Store
from ..filters import (
    After,
    Filter,
    InFolded,
    InRows,
    JsonContains,
    JsonIn,
    JsonKey,
    JsonOrder,
    NotInQuery,
)
from ..models import Agent, Episode, MemoryBlock, Permission, SharedBlock, User
from ..query import param, select
from ..schema import columns_of
from .rows import add, agent, block, episode, later, shared, user

pytestmark = pytest.mark.asyncio
_A, _B, _U = columns_of(Agent), columns_of(MemoryBlock), columns_of(User)
_EP = columns_of(Episode)
_JSON: list[Any] = [
    True, False, None, 0, 1, 1.0, -1, 2.5, "1", "true", "null", "", "a", "é", [], {}, [1], {"a": 1},
    2**53, 2**53 + 1, 1e300, -(2**63), 2**63 - 1,
]  # fmt: skip

Has = Callable[[Any], bool]

AGENTS = [
    agent("a1", name="Flux", model_name="m1", user_id="ada", created_at=later(3)),
    agent("a2", name="flux", model_name=None, created_at=later(2)),
    agent("a3", name="STRASSE", model_name="M1", user_id="ada", created_at=later(1)),
    agent("a4", name="Straße", model_name="", is_active=False, created_at=later(0)),
    agent("a5", name="é", model_name=None, description="x", created_at=later(3)),
]
CASES: dict[str, tuple[Filter, dict[str, Any], Has]] = {
    "equal": (_A.name == "Flux", {}, lambda a: a.name == "Flux"),
    "equal to a parameter": (_A.name == param("n"), {"n": "flux"}, lambda a: a.name == "flux"),
    "not equal": (_A.name != "Flux", {}, lambda a: a.name != "Flux"),
    "absent": (_A.model_name == None, {}, lambda a: a.model_name is None),  # noqa: E711
    "present": (_A.model_name != None, {}, lambda a: a.model_name is not None),  # noqa: E711
    "absent by parameter": (
        _A.model_name == param("m"),
        {"m": None},
        lambda a: a.model_name is None,
    ),
    "present by parameter": (
        _A.model_name != param("m"),
        {"m": None},
        lambda a: a.model_name is not None,
    ),
    "absent is not equal": (_A.model_name == param("m"), {"m": ""}, lambda a: a.model_name == ""),
    "absent differs": (_A.model_name != param("m"), {"m": "m1"}, lambda a: a.model_name != "m1"),
    "a truth": (_A.is_active == False, {}, lambda a: not a.is_active),  # noqa: E712
    "before": (
        _A.created_at < param("t"),
        {"t": later(2)},
        lambda a: a.created_at < later(2),
    ),
    "from": (_A.created_at >= param("t"), {"t": later(2)}, lambda a: a.created_at >= later(2)),
    "text by code point": (_A.name > "STRASSE", {}, lambda a: a.name > "STRASSE"),
    "one of": (_A.id.in_(param("ids")), {"ids": ["a1", "a5", "a9"]}, lambda a: a.id in "a1a5"),
    "one of none": (_A.id.in_(param("ids")), {"ids": []}, lambda _a: False),
    "one of, and absent": (
        _A.model_name.in_(param("m")),
        {"m": ["m1", ""]},
        lambda a: a.model_name in ("m1", ""),
    ),
    "one of some rows": (
        InRows(("user_id", "name"), param("rows")),
        {"rows": [("ada", "Flux"), ("ada", "flux"), (None, "é")]},
        lambda a: a.id == "a1",
    ),
    "one of no rows": (InRows(("user_id", "name"), param("rows")), {"rows": []}, lambda _a: False),
    "any": (
        (_A.name == "flux") | (_A.description == "x"),
        {},
        lambda a: a.name == "flux" or a.description == "x",
    ),
    "all": (
        (_A.user_id == "ada") & (_A.name == "Flux"),
        {},
        lambda a: a.user_id == "ada" and a.name == "Flux",
    ),
    "not": (~(_A.name == "Flux"), {}, lambda a: a.name != "Flux"),
    "in any case": (
        InFolded("name", param("names")),
        {"names": ["FLUX", "É"]},
        lambda a: a.id in ("a1", "a2", "a5"),
    ),
    "not in a query": (
        NotInQuery("user_id", select(User).where(_U.name == param("n")), "id"),
        {"n": "Ada"},
        lambda a: a.user_id is None,
    ),
    "after": (
        After(("created_at", "id"), (param("t"), param("i"))),
        {"t": later(2), "i": "a2"},
        lambda a: (a.created_at, a.id) > (later(2), "a2"),
    ),
    "before in falling order": (
        After(("created_at", "id"), (param("t"), param("i")), descending=True),
        {"t": later(3), "i": "a5"},
        lambda a: (a.created_at, a.id) < (later(3), "a5"),
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_filter_finds_what_python_finds(store: Store, name: str) -> None:
    condition, params, has = CASES[name]
    await add(store, user("ada", name="Ada"), *AGENTS)
    found = await store.execute(select(Agent).where(condition).order_by(_A.id), **params)
    assert found == [row for row in AGENTS if has(row)]


async def _with_values(store: Store, values: list[Any]) -> None:
    rows = [user(f"u{n:02}", metadata={"key": value}) for n, value in enumerate(values)]
    others = [
        user("v1"), user("v2", metadata={"Key": 1}), user("v3", metadata={"x": {"key": 1}})
    ]  # fmt: skip
    await add(store, *rows, *others)


async def _found(store: Store, condition: Filter, **params: Any) -> list[str]:
    rows = await store.execute(select(User).where(condition).order_by(_U.id).only(_U.id), **params)
    return [id for (id,) in rows]


def _same(left: Any, right: Any) -> bool:
    """Equal as JSON: a truth is no number, 1 and 1.0 are the same."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    return (numbers or type(left) is type(right)) and bool(left == right)


async def test_json_values_are_equal_by_type_and_value(store: Store) -> None:
    await _with_values(store, _JSON)
    has = JsonIn("metadata", param("key"), param("values"))
    for value in _JSON:
        expected = [f"u{n:02}" for n, other in enumerate(_JSON) if _same(value, other)]
        assert await _found(store, has, key="key", values=[value]) == expected, repr(value)
    assert await _found(store, has, key="key", values=[]) == []
    assert len(await _found(store, has, key="key", values=[None, "a"])) == 2


@pytest.mark.parametrize("operator", ["<", "<=", ">", ">="])
async def test_json_numbers_compare_with_numbers_and_texts_with_texts(
    store: Store, operator: Any
) -> None:
    await _with_values(store, _JSON)
    compare: dict[str, Callable[[Any, Any], bool]] = {
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }
    condition = JsonOrder("metadata", param("key"), operator, param("value"))
    for value in (1, 1.0, 0, "a", "", True, None, [1]):
        kind = str if isinstance(value, str) else int | float
        expected = [
            f"u{n:02}"
            for n, other in enumerate(_JSON)
            if not isinstance(value, bool | list | None)
            and not isinstance(other, bool)
            and isinstance(other, kind)
            and compare[operator](other, value)
        ]
        assert await _found(store, condition, key="key", value=value) == expected, repr(value)


@pytest.mark.parametrize("key", ["key", "a.b", "$", "$.key", '"', "'", "", "a[0]", "é", "\n"])
async def test_a_json_key_is_a_name_and_never_a_path(store: Store, key: str) -> None:
    others = [{"a": {"b": 1}}, {"key ": 1}, {"KEY": 1}, {"a": [1]}, {}]
    rows = [user("u1", metadata={key: None}), user("u2", metadata={key: 1})]
    await add(store, *rows, *(user(f"v{n}", metadata=each) for n, each in enumerate(others)))
    assert await _found(store, JsonKey("metadata", param("key")), key=key) == ["u1", "u2"]
    equal = JsonIn("metadata", param("key"), param("values"))
    assert await _found(store, equal, key=key, values=[1]) == ["u2"]


async def test_a_json_list_holds_every_wanted_text(store: Store) -> None:
    values: list[Any] = [["x", "y"], ["x"], "x", {"x": 1}, [None, "x"], [["x"]], None, []]
    await _with_values(store, values)
    holds = JsonContains("metadata", param("key"), param("values"))
    assert await _found(store, holds, key="key", values=["x"]) == ["u00", "u01", "u04"]
    assert await _found(store, holds, key="key", values=["y", "x", "x"]) == ["u00"]
    assert await _found(store, holds, key="nothing", values=["x"]) == []


async def test_a_column_that_is_a_list_holds_every_wanted_text(store: Store) -> None:
    tags = [["x", "y"], ["x"], [], ["xy"]]
    rows = [episode(f"e{n}", tags=each) for n, each in enumerate(tags)]
    await add(store, agent("flux"), *rows)
    holds = JsonContains("tags", None, param("values"))
    query = select(Episode).where(holds, _EP.agent_id == param("own")).order_by(_EP.id)
    for wanted, ids in (
        (["x"], ["e0", "e1"]),
        (["y", "x"], ["e0"]),
        ([], ["e0", "e1", "e2", "e3"]),
    ):
        found = await store.execute(query, values=wanted, own="flux")
        assert [row.id for row in found] == ids


async def test_enums_sort_and_compare_by_rank(store: Store) -> None:
    ranks = list(Permission)
    blocks = [block(f"b{n}", permission=rank) for n, rank in enumerate(reversed(ranks))]
    await add(store, agent("flux"), *blocks)
    ordered = await store.execute(select(MemoryBlock).order_by(_B.permission))
    assert [row.permission for row in ordered] == ranks
    least = select(MemoryBlock).where(_B.permission >= param("p")).order_by(_B.permission)
    found = await store.execute(least, p=Permission.APPEND)
    assert [row.permission for row in found] == ranks[ranks.index(Permission.APPEND) :]


async def test_what_is_absent_comes_first(store: Store) -> None:
    await add(store, user("ada"), *AGENTS)
    query = select(Agent).order_by(_A.model_name, _A.id)
    rising = [row.id for row in await store.execute(query)]
    assert rising == ["a2", "a5", "a4", "a3", "a1"]
    falling = select(Agent).order_by(_A.model_name, _A.id, descending=True)
    assert [row.id for row in await store.execute(falling)] == rising[::-1]


async def test_text_sorts_by_code_point(store: Store) -> None:
    names = ["a", "B", "é", "Z", "_", "", " ", "ß", "zz", "😀", "\uffff", "10", "9"]
    await add(store, *(user(f"u{n}", name=name) for n, name in enumerate(names)))
    ordered = await store.execute(select(User).order_by(_U.name))
    assert [row.name for row in ordered] == sorted(names)


@pytest.mark.parametrize("descending", [False, True])
async def test_pages_hold_every_row_once(store: Store, descending: bool) -> None:
    rows = [user(f"u{n:02}", created_at=later(n // 3)) for n in range(20)]
    await add(store, *rows)
    first = select(User).order_by(_U.created_at, _U.id, descending=descending).limit(7)
    columns, values = ("created_at", "id"), (param("t"), param("i"))
    further = first.where(After(columns, values, descending))
    seen = page = await store.execute(first)
    while page:
        page = await store.execute(further, t=seen[-1].created_at, i=seen[-1].id)
        seen = [*seen, *page]
    assert seen == (rows[::-1] if descending else rows)


async def test_a_query_in_a_query_has_parameters_too(store: Store) -> None:
    columns = columns_of(SharedBlock)
    theirs = select(SharedBlock).where(columns.agent_id == param("agent"))
    blocks = [block(f"b{n}") for n in range(3)]
    await add(store, agent("flux"), agent("sol"), *blocks, shared(blocks[1], "sol"))
    query = select(MemoryBlock).where(
        _B.label != param("label"),
        NotInQuery("id", theirs, "block_id"),
        _B.agent_id == param("own"),
    )
    found = await store.execute(query.order_by(_B.id), label="b0", agent="sol", own="flux")
    assert [row.id for row in found] == ["b2"]
    assert await store.execute(query.only(_B.id), label="b2", agent="nobody", own="sol") == []


async def test_texts_that_look_like_numbers_are_texts(store: Store) -> None:
    ids = ["1", "01", "1.0", "1e0", "+1", " 1"]
    await add(store, *(user(id, name=id, metadata={"n": id, "l": [id]}) for id in ids))
    for id in ids:
        assert await _found(store, _U.id.in_(param("ids")), ids=[id]) == [id]
        assert await _found(store, InRows(("id", "name"), param("rows")), rows=[[id, id]]) == [id]
        same = JsonIn("metadata", "n", param("values"))
        assert await _found(store, same, values=[id]) == [id]
        listed = JsonContains("metadata", "l", param("values"))
        assert await _found(store, listed, values=[id]) == [id]
