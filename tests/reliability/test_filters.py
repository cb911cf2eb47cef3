"""Filters compared with Python: what a search gives is what they ask for, and nothing beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pattern_db
from pattern_db import InvalidValue, PatternDB
from pattern_db.filters import fold_case
from pattern_db.models import Message
from tests.rigs.hostile import identical, json_objects, storable, texts

from .test_hostile import IDS, TEXTS

pytestmark = pytest.mark.slow

KEPT = tuple(text for text in TEXTS if storable(text) and len(text) < 70_000)

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs coroutines on one event loop: Hypothesis calls plain functions."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def db(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PatternDB]:
    path = tmp_path_factory.mktemp("filters") / "mind.db"

    async def opened() -> PatternDB:
        return await pattern_db.open(
            path, embeddings="none", config_file="/dev/null", durability="relaxed"
        )

    made = run(opened())
    yield made
    run(made.close())


async def said(db: PatternDB, metadata: list[dict[str, Any]]) -> str:
    """A new agent whose messages say "common" and have this metadata."""
    agent = await db.agents.create(name="x")
    rows = [{"role": "user", "content": "common", "metadata": each} for each in metadata]
    await db.messages.append_many(agent.id, rows)
    return agent.id


async def found(db: PatternDB, agent_id: str, **filters: Any) -> list[dict[str, Any]]:
    """The metadata of what a search for "common" finds."""
    hits = await db.search(agent_id, "common", limit=250, **filters)
    return [hit.item.metadata for hit in hits]


def same(left: Any, right: Any) -> bool:
    """Equal as JSON: ``True`` and 1 differ, 1 and 1.0 do not, objects have no order."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) in (type(right), *_NUMBERS.get(type(right), ())) and left == right


_NUMBERS: dict[type, tuple[type, ...]] = {int: (float,), float: (int,)}


def has(
    metadata: dict[str, Any], wanted: dict[str, Any], equal: Callable[[Any, Any], bool]
) -> bool:
    return all(key in metadata and equal(metadata[key], wanted[key]) for key in wanted)


def assert_exactly(
    given: list[dict[str, Any]], metadata: list[dict[str, Any]], wanted: dict[str, Any]
) -> None:
    """Never more than what is equal, never less than what is identical; scalars to the point."""
    scalars = not any(isinstance(value, dict | list) for value in wanted.values())
    most = [each for each in metadata if has(each, wanted, same)]
    least = most if scalars else [each for each in metadata if has(each, wanted, identical)]
    assert all(any(identical(each, one) for one in most) for each in given), "too much was found"
    assert all(any(identical(each, one) for one in given) for each in least), "too little was found"


def test_metadata_values_are_compared_by_type(db: PatternDB, run: Run) -> None:
    values: list[Any] = [
        True, False, None, 0, 1, 1.0, -1, "1", "true", "null", "", [], {}, [1], {"a": 1}, "[1]",
        2**53, 2**53 + 1, float(2**53), 0.1, "0.1", 1e300, -(2**63), 2**63 - 1,
    ]  # fmt: skip
    metadata = [{"value": value} for value in values] + [{}, {"other": True}]
    agent = run(said(db, metadata))
    for value in values:
        given = run(found(db, agent, metadata={"value": value}))
        assert_exactly(given, metadata, {"value": value})
        assert {"value": value} in given
    assert run(found(db, agent, metadata={"value": True})) == [{"value": True}]
    ones = [each["value"] for each in run(found(db, agent, metadata={"value": 1.0}))]
    assert sorted(map(repr, ones)) == ["1", "1.0"]


@pytest.mark.parametrize(
    "key",
    [
        "a.b",
        "a",
        "$.a",
        "$",
        "a[0]",
        '"a"',
        'a"b',
        "a\\b",
        "",
        " ",
        "\n",
        "é",
        "e\u0301",
        "😀",
        "'",
    ],
)
def test_a_key_is_a_name_and_never_a_path(db: PatternDB, run: Run, key: str) -> None:
    others = [{"a": {"b": 1}}, {"a": [1]}, {"a": 1}, {"a.b": 1}, {'"a"': 1}, {"b": 1}, {"é": 1}]
    metadata = [{key: 1}, {key: 2}, *others]
    agent = run(said(db, metadata))
    given = run(found(db, agent, metadata={key: 1}))
    assert_exactly(given, metadata, {key: 1})
    assert {key: 1} in given


_SCALARS = st.sampled_from(
    [None, True, False, 0, 1, 1.0, -0.0, "", "1", "x", [], {}, [None], ["x"]]
)
_SMALL = st.dictionaries(st.sampled_from(["a", "b", "a.b", "tags"]), _SCALARS, max_size=3)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(metadata=st.lists(_SMALL, min_size=1, max_size=8), wanted=_SMALL)
def test_small_metadata_filters_find_what_python_finds(
    db: PatternDB, run: Run, metadata: list[dict[str, Any]], wanted: dict[str, Any]
) -> None:
    agent = run(said(db, metadata))
    assert_exactly(run(found(db, agent, metadata=wanted)), metadata, wanted)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(metadata=st.lists(json_objects(max_leaves=8), min_size=1, max_size=4), data=st.data())
def test_any_metadata_is_found_by_any_part_of_it(
    db: PatternDB, run: Run, metadata: list[dict[str, Any]], data: st.DataObject
) -> None:
    chosen = data.draw(st.sampled_from(metadata))
    keys = data.draw(st.sets(st.sampled_from(sorted(chosen)))) if chosen else set()
    wanted = {key: chosen[key] for key in keys}
    agent = run(said(db, metadata))
    given = run(found(db, agent, metadata={key: {"$eq": wanted[key]} for key in keys}))
    assert_exactly(given, metadata, wanted)
    assert any(identical(each, chosen) for each in given)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=texts(), value=json_objects())
def test_any_text_and_metadata_come_back_identical(
    db: PatternDB, run: Run, text: str, value: dict[str, Any]
) -> None:
    async def there_and_back() -> Message:
        agent = await db.agents.create(name="x")
        made = await db.messages.append(
            agent.id, role="user", content=text, speaker=text, source=text, metadata=value
        )
        return await db.messages.require(made.id)

    message = run(there_and_back())
    assert (message.content, message.speaker, message.source) == (text, text, text)
    assert identical(message.metadata, value)


_TAGS = st.lists(st.sampled_from(["x", "y", "", '["x"]', "null", "1"]), max_size=3)
_TAG_VALUES = (
    _TAGS
    | st.sampled_from(
        [None, "x", 1, {"x": "x"}, {"0": "x"}, [None], [["x"]], [{"x": 1}], [1, True]]
    )
    | st.lists(st.sampled_from(["x", None, 1, ["x"]]), max_size=3)
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.lists(_TAG_VALUES, min_size=1, max_size=6), wanted=_TAGS.filter(bool))
def test_tags_are_the_texts_of_a_list(
    db: PatternDB, run: Run, values: list[Any], wanted: list[str]
) -> None:
    """A null among the tags once made every filter match."""
    agent = run(said(db, [{"n": n, "tags": value} for n, value in enumerate(values)] + [{"n": -1}]))
    given = {each["n"] for each in run(found(db, agent, tags=wanted))}
    assert given == {
        n
        for n, value in enumerate(values)
        if isinstance(value, list) and {*wanted} <= {t for t in value if isinstance(t, str)}
    }


@pytest.fixture(scope="module")
def corpus(db: PatternDB, run: Run) -> str:
    """An agent with one message for each hostile text: as speaker, tag, key, value, conversation."""

    async def say() -> str:
        agent = await db.agents.create(name="corpus")
        rows = []
        for n, text in enumerate(KEPT):
            metadata = {"the number": n, "the value": text, "tags": [text, "all"], text: "here"}
            row = {"role": "user", "content": "common", "speaker": text, "metadata": metadata}
            if text in IDS:
                await db.conversations.create(agent.id, id=text)
                row["conversation_id"] = text
            rows.append(row)
        await db.messages.append_many(agent.id, rows)
        return agent.id

    return run(say())


FILTERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "speakers": lambda text: {"speakers": [text]},
    "tags": lambda text: {"tags": [text]},
    "metadata value": lambda text: {"metadata": {"the value": text}},
    "metadata key": lambda text: {"metadata": {text: "here"}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILTERS)
def test_each_hostile_value_finds_its_own_message(
    db: PatternDB, run: Run, corpus: str, name: str
) -> None:
    alike = fold_case if name == "speakers" else str
    for text in KEPT:
        given = run(found(db, corpus, **FILTERS[name](text)))
        expected = {n for n, other in enumerate(KEPT) if alike(other) == alike(text)}
        assert {each["the number"] for each in given} == expected, (name, text[:80])


def test_each_hostile_conversation_id_finds_its_own_message(
    db: PatternDB, run: Run, corpus: str
) -> None:
    for text in IDS:
        expected = [KEPT.index(text)]
        given = run(found(db, corpus, conversation_id=text))
        assert [each["the number"] for each in given] == expected
        listed = run(db.messages.list(corpus, conversation_id=text))
        assert [each.metadata["the number"] for each in listed] == expected


def test_hostile_values_that_cannot_be_stored_are_refused_as_filters(
    db: PatternDB, run: Run, corpus: str
) -> None:
    for text in TEXTS:
        if not storable(text):
            for filter_ in FILTERS.values():
                with pytest.raises(InvalidValue):
                    run(found(db, corpus, **filter_(text)))


@pytest.mark.parametrize(
    "filters",
    [
        {"metadata": {"the value": ["$ne"]}},
        {"metadata": {"the value": {"$eq": {"$ne": ""}}}},
        {"metadata": {"the number": {"$gt": ""}}},
        {"metadata": {"$or": [{}, {"a": "a"}]}},
        {"metadata": {"the value": True}},
        {"metadata": {"the number": "0"}},
        {"metadata": {"The Number": 0}},
        {"tags": ["ALL"]},
        {"tags": ["all", "nothing"]},
        {"tags": ["%"] * 2 + ["all "]},
        {"speakers": []},
        {"roles": ["tool"]},
        {"metadata": {"speaker": "x"}},
    ],
)
def test_operators_and_wildcards_find_nothing(
    db: PatternDB, run: Run, corpus: str, filters: dict[str, Any]
) -> None:
    assert run(found(db, corpus, **filters)) == []


def test_agents_and_blocks_are_found_by_exactly_their_name(db: PatternDB, run: Run) -> None:
    async def check() -> None:
        named = [text for text in KEPT if text.strip()]
        owner = await db.agents.create(name="owner of blocks")
        for text in named:
            await db.agents.create(name=text, description="named")
            await db.memory.create(owner.id, label=text)
        for text in named:
            agents = [a for a in await db.agents.list(name=text) if a.description == "named"]
            assert [agent.name for agent in agents] == [text]
            block = await db.memory.by_label(owner.id, text)
            assert block is not None
            assert block.label == text

    run(check())


def test_the_oracle_tells_types_apart(tmp_path: Path) -> None:
    assert same(1, 1.0)
    assert same({"a": [1], "b": 2}, {"b": 2.0, "a": [1.0]})
    for left, right in (
        (True, 1),
        (False, 0),
        (None, 0),
        ("1", 1),
        ([1], [1, 1]),
        ({}, []),
        ("", None),
    ):
        assert not same(left, right)
