"""What a search is narrowed to: agents, speakers, metadata; compared with Python where it is open."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pattern_db
from pattern_db import Agent, InvalidValue, NotFound, PatternDB
from pattern_db.search import gathering
from tests.conftest import OTHERS, REFUSED_UNHEARD, located
from tests.reliability.tiny import TinyEmbeddings

Run = Callable[[Coroutine[Any, Any, Any]], Any]
START = datetime(2024, 3, 1, tzinfo=UTC)
MODES = ["hybrid", "semantic", "keyword"]
QUIET = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(params=["sqlite", *OTHERS])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return located(request, tmp_path)


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs coroutines on one event loop: Hypothesis calls plain functions."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def shared_db(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PatternDB]:
    path = tmp_path_factory.mktemp("scopes") / "mind.db"

    async def opened() -> PatternDB:
        return await pattern_db.open(path, embeddings=TinyEmbeddings(), durability="relaxed")

    made = run(opened())
    yield made
    run(made.close())


async def said(db: PatternDB, agent: Agent, *texts: str, **fields: Any) -> None:
    for text in texts:
        await db.messages.append(agent.id, role="user", content=text, **fields)


# agents


@pytest.mark.parametrize("mode", MODES)
async def test_several_agents_are_searched_at_once(minded: PatternDB, mode: str) -> None:
    agents = [await minded.agents.create(name=name) for name in ("Flux", "Sol", "Luna")]
    flux, sol, luna = agents
    for agent in agents:
        await said(minded, agent, f"{agent.name} moved to Oslo.")
    await minded.memory.create(sol.id, label="home", content="The flat in Oslo is small.")
    await minded.archival.create(luna.id, "Oslo has a fjord.")

    async def whose(agent_id: Any) -> set[str]:
        hits = await minded.search(agent_id, "Oslo", mode=mode, limit=50)
        return {hit.item.agent_id for hit in hits}

    assert await whose([flux.id, sol.id]) == {flux.id, sol.id}
    assert await whose((flux.id, flux.id)) == {flux.id} == await whose(flux.id)
    hits = await minded.search([agent.id for agent in agents], "Oslo", mode=mode, limit=50)
    assert len(hits) == len({hit.item.id for hit in hits}) == 5
    assert {hit.item.agent_id for hit in await minded.memory.search([flux.id, sol.id], "Oslo")} == {
        sol.id
    }
    assert await minded.archival.search([flux.id, sol.id], "Oslo", mode=mode) == []


@pytest.mark.parametrize("mode", MODES)
async def test_a_block_shared_among_the_agents_is_found_once(minded: PatternDB, mode: str) -> None:
    flux, sol, luna = [await minded.agents.create(name=name) for name in ("Flux", "Sol", "Luna")]
    block = await minded.memory.create(flux.id, label="city", content="Ada lives in Oslo.")
    await minded.memory.share(block.id, sol.id)
    await minded.memory.share(block.id, luna.id)
    for agents in ([flux.id, sol.id], [sol.id, luna.id], [luna.id, flux.id, sol.id]):
        for filters in ({}, {"since": START}):
            hits = await minded.search(agents, "Ada Oslo", mode=mode, **filters)
            assert [hit.item.id for hit in hits] == [block.id]


async def test_an_agent_that_is_not_there_is_named(db: PatternDB, flux: Agent) -> None:
    gone = await db.agents.create(name="Gone")
    await db.agents.delete(gone.id)
    for missing in ("agent_nobody", gone.id):
        with pytest.raises(NotFound, match=missing):
            await db.search([flux.id, missing], "x")


@REFUSED_UNHEARD
@pytest.mark.parametrize("agents", [[], 5, None, [5], [""], b"x", ["agent"] * 2 + [[]], {"a": 1}])
async def test_what_cannot_be_agents_is_refused(db: PatternDB, flux: Agent, agents: Any) -> None:
    with pytest.raises(InvalidValue) as refused:
        await db.search(agents, "x")
    assert refused.value.field == "agent_id"


async def test_too_many_agents_are_refused(db: PatternDB, flux: Agent) -> None:
    with pytest.raises(InvalidValue, match="at most 100"):
        await db.search([f"agent_{n}" for n in range(101)], "x")


async def test_the_turns_beside_a_hit_are_those_of_its_own_agent(minded: PatternDB) -> None:
    """Messages outside conversations once were one conversation to the ranking."""
    flux, sol = [await minded.agents.create(name=name) for name in ("Flux", "Sol")]
    await said(minded, flux, "Where does she live?", "In Oslo, of course.")
    await said(minded, sol, "What is for lunch?", "Herring, as on every day.")
    for question, answer in (
        ("What is for lunch?", "Herring, as on every day."),
        ("Where does she live?", "In Oslo, of course."),
    ):
        hits = await minded.messages.search([flux.id, sol.id], question)
        answers = {hit.item.content for hit in hits if hit.why["answer"] > 0}
        assert answers == {answer}


async def test_turns_beside_are_offered_for_each_agent(
    minded: PatternDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "candidates_for", lambda _options, _mode: 2)
    agents = [await minded.agents.create(name=name) for name in ("Flux", "Sol")]
    for agent in agents:
        await said(minded, agent, "Tea?", "Herring for lunch.", "Good.", "Rain.", "Snow.", "Fog.")
    hits = await minded.messages.search([agent.id for agent in agents], "herring lunch", limit=50)
    for agent in agents:
        found = {hit.item.content for hit in hits if hit.item.agent_id == agent.id}
        assert {"Tea?", "Herring for lunch.", "Good.", "Rain."} <= found
        assert "Fog." not in found


@pytest.mark.parametrize("mode", MODES)
async def test_an_open_batch_of_any_of_the_agents_is_not_found(
    minded: PatternDB, mode: str
) -> None:
    flux, sol = [await minded.agents.create(name=name) for name in ("Flux", "Sol")]
    await said(minded, flux, "Oslo in spring.")
    call = {"call_id": "c1", "name": "weather", "arguments": {"city": "Oslo"}}
    await minded.messages.append(
        sol.id, role="assistant", content="Oslo? I look.", tool_calls=[call]
    )
    hits = await minded.search([flux.id, sol.id], "Oslo", mode=mode)
    assert [hit.item.content for hit in hits] == ["Oslo in spring."]


# speakers


@pytest.mark.parametrize("mode", MODES)
async def test_speakers_are_found_in_any_case(minded: PatternDB, mode: str) -> None:
    flux = await minded.agents.create(name="Flux")
    for speaker in ("Ada", "ÉMILE", "Straße", "Ζήνων"):
        await said(minded, flux, "Oslo it is.", speaker=speaker)
    await said(minded, flux, "Oslo it is.")
    for asked, found in (
        ("ada", {"Ada"}),
        ("e\u0301mile", {"ÉMILE"}),
        ("STRASSE", {"Straße"}),
        (["ζήνωΝ", "ADA"], {"Ζήνων", "Ada"}),
        ("Adam", set()),
        ([], set()),
    ):
        hits = await minded.search(flux.id, "Oslo", mode=mode, speakers=asked)
        assert {hit.item.speaker for hit in hits} == found


# conversations


async def test_a_conversation_that_is_not_there_is_an_error(db: PatternDB, flux: Agent) -> None:
    """It once gave no hits, as a conversation in which nothing is found does."""
    with pytest.raises(NotFound, match="conv_nothing"):
        await db.search(flux.id, "x", conversation_id="conv_nothing")
    talk = await db.conversations.create(flux.id)
    assert await db.search(flux.id, "x", conversation_id=talk.id) == []


# metadata

RATED: list[dict[str, Any]] = [
    {"rating": 3, "city": "Oslo"},
    {"rating": 4, "city": "Rome"},
    {"rating": 4.5, "city": "Lima", "status": "done"},
    {"rating": "5", "city": None, "status": "open"},
    {"rating": True, "city": "oslo", "status": None},
    {"city": ["Oslo"], "status": {"code": 1}},
    {},
]


@pytest.fixture
async def rated(minded: PatternDB) -> Agent:
    flux = await minded.agents.create(name="Flux")
    for n, metadata in enumerate(RATED):
        await said(minded, flux, f"common {n}", metadata={"n": n, **metadata})
    return flux


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"rating": {"$gte": 4}}, {1, 2}),
        ({"rating": {"$gt": 4}}, {2}),
        ({"rating": {"$gt": 3, "$lt": 4.5}}, {1}),
        ({"rating": {"$lte": 4.0}}, {0, 1}),
        ({"rating": {"$lt": "6"}}, {3}),
        ({"rating": {"$eq": 4}}, {1}),
        ({"rating": {"$in": [1]}}, set()),
        ({"rating": {"$ne": 1}}, {0, 1, 2, 3, 4}),
        ({"rating": 4.0}, {1}),
        ({"rating": {"$ne": 4}}, {0, 2, 3, 4}),
        ({"city": {"$in": ["Oslo", "Rome"]}}, {0, 1}),
        ({"city": {"$in": [["Oslo"], None]}}, {3, 5}),
        ({"city": {"$in": []}}, set()),
        ({"city": {"$gt": "Lima"}}, {0, 1, 4}),
        ({"city": {"$ne": None}}, {0, 1, 2, 4, 5}),
        ({"status": {"$ne": "done"}}, {3, 4, 5}),
        ({"status": {"code": 1}}, {5}),
        ({"status": {"$eq": {"code": 1}}}, {5}),
        ({"status": None}, {4}),
        ({"rating": {"$gte": 3}, "city": {"$in": ["Oslo", "Lima"]}}, {0, 2}),
        ({}, {0, 1, 2, 3, 4, 5, 6}),
        ({"nothing": {"$ne": 1}}, set()),
    ],
)
async def test_metadata_is_compared(
    minded: PatternDB, rated: Agent, metadata: dict[str, Any], expected: set[int]
) -> None:
    for mode in MODES:
        hits = await minded.search(rated.id, "common", mode=mode, metadata=metadata, limit=50)
        assert {hit.item.metadata["n"] for hit in hits} == expected, mode


async def test_blocks_and_entries_are_compared_too(db: PatternDB, flux: Agent) -> None:
    for level in (1, 2, 3):
        await db.memory.create(
            flux.id, label=f"l{level}", content="common", metadata={"level": level}
        )
        await db.archival.create(flux.id, "common", metadata={"level": level})
    hits = await db.search(flux.id, "common", metadata={"level": {"$gte": 2}})
    found = [(hit.kind, hit.item.metadata["level"]) for hit in hits]
    assert sorted(found) == [("archival", 2), ("archival", 3), ("memory", 2), ("memory", 3)]


@REFUSED_UNHEARD
@pytest.mark.parametrize(
    ("metadata", "said_"),
    [
        ({"x": {"$near": 1}}, r"'\$near'"),
        ({"x": {"$gtt": 1}}, r"did you mean '\$gt'"),
        ({"x": {"$gte": 1, "y": 2}}, "'y'"),
        ({"x": {"$gte": True}}, r"\$gte"),
        ({"x": {"$lt": [1]}}, r"\$lt"),
        ({"x": {"$in": "Oslo"}}, r"\$in"),
        ({"x": {"$gt": None}}, r"\$gt"),
        ({"x": {"$in": [float("inf")]}}, "finite"),
        ({str(n): n for n in range(101)}, "100"),
    ],
)
async def test_a_condition_that_cannot_be_is_refused(
    db: PatternDB, flux: Agent, metadata: dict[str, Any], said_: str
) -> None:
    with pytest.raises(InvalidValue, match=said_) as refused:
        await db.search(flux.id, "x", metadata=metadata)
    assert refused.value.field == "metadata"


KEYS = ["a", "a.b", "$", "$.a", "$gte", "a[0]", '"a"', "a'b", "a\\b", "", "é", "e\u0301", "😀", "["]
VALUES = st.one_of(
    st.sampled_from(
        [None, True, False, 0, 1, -1, 1.0, 2.5, "", "1", "a", "B", "é", "😀", "\uffff"]
    ),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4),
)
FEW_KEYS = st.sampled_from(["a", "a.b", "$gte"])
METADATA = st.dictionaries(FEW_KEYS, VALUES, max_size=3)
TESTS = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), VALUES),
    st.tuples(st.just("$in"), st.lists(VALUES, max_size=4)),
    st.tuples(
        st.sampled_from(["$gt", "$gte", "$lt", "$lte"]),
        VALUES.filter(lambda value: value is not None and not isinstance(value, bool)),
    ),
)
ORDERS = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


async def test_a_key_is_a_name_to_every_operator(db: PatternDB) -> None:
    for key in KEYS:
        await _is_a_name(db, await db.agents.create(name="Flux"), key)


async def _is_a_name(db: PatternDB, flux: Agent, key: str) -> None:
    for each in ({key: 1}, {key: 2}, {"a": {"b": 1}}, {"x": {key: 1}}):
        await said(db, flux, "common", metadata={"which": repr(each), **each})
    for test, expected in (
        ({"$eq": 1}, [1]),
        ({"$in": [1, 3]}, [1]),
        ({"$ne": 1}, [2]),
        ({"$gte": 1}, [1, 2]),
        ({"$lt": 2}, [1]),
    ):
        hits = await db.search(flux.id, "common", metadata={key: test})
        found = [hit.item.metadata[key] for hit in hits]
        assert sorted(value for value in found if value != {"b": 1}) == expected, key
        assert key == "a" or {"b": 1} not in found


def sort_of(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return repr(value)
    return "number" if isinstance(value, int | float) else "text"


def equal(left: Any, right: Any) -> bool:
    return sort_of(left) == sort_of(right) and left == right


def holds(metadata: dict[str, Any], key: str, name: str, wanted: Any) -> bool:
    """What a condition means, in Python."""
    if key not in metadata:
        return False
    value = metadata[key]
    if name == "$in":
        return any(equal(value, one) for one in wanted)
    if name in ORDERS:
        return sort_of(value) == sort_of(wanted) and bool(ORDERS[name](value, wanted))
    return equal(value, wanted) is (name == "$eq")


@pytest.mark.slow
@QUIET
@given(
    metadata=st.lists(METADATA, min_size=1, max_size=6),
    asked=st.dictionaries(FEW_KEYS, TESTS, min_size=1, max_size=2),
    mode=st.sampled_from(MODES),
)
def test_any_comparison_finds_what_python_finds(
    shared_db: PatternDB,
    run: Run,
    metadata: list[dict[str, Any]],
    asked: dict[str, tuple[str, Any]],
    mode: str,
) -> None:
    async def check() -> None:
        agent = await shared_db.agents.create(name="x")
        rows = [
            {"role": "user", "content": "common", "metadata": each, "source": str(n)}
            for n, each in enumerate(metadata)
        ]
        await shared_db.messages.append_many(agent.id, rows)
        hits = await shared_db.search(
            agent.id,
            "common",
            mode=mode,
            limit=50,
            metadata={key: {name: wanted} for key, (name, wanted) in asked.items()},
        )
        expected = {
            str(n)
            for n, each in enumerate(metadata)
            if all(holds(each, key, name, wanted) for key, (name, wanted) in asked.items())
        }
        assert {hit.item.source for hit in hits} == expected

    run(check())


# everything together

PEOPLE = ["Ada", "ada", "Tomas", None]
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "agent": st.integers(0, 2),
            "role": st.sampled_from(["user", "assistant", "system"]),
            "speaker": st.sampled_from(PEOPLE),
            "day": st.integers(0, 6),
            "level": st.integers(0, 3),
            "tags": st.lists(st.sampled_from(["x", "y"]), unique=True),
        }
    ),
    min_size=1,
    max_size=12,
)
SCOPES = st.fixed_dictionaries(
    {},
    optional={
        "agents": st.lists(st.integers(0, 2), min_size=1, max_size=3),
        "roles": st.lists(st.sampled_from(["user", "assistant", "system"]), max_size=2),
        "speakers": st.lists(st.sampled_from(["ADA", "tomas", "Adam"]), max_size=2),
        "since": st.integers(0, 6),
        "until": st.integers(0, 6),
        "as_of": st.integers(0, 6),
        "tags": st.lists(st.sampled_from(["x", "y"]), max_size=2),
        "level": st.integers(0, 3),
    },
)


def in_scope(row: dict[str, Any], scope: dict[str, Any]) -> bool:
    speaker = None if row["speaker"] is None else row["speaker"].lower()
    return (
        row["agent"] in scope.get("agents", [0])
        and row["role"] in scope.get("roles", [row["role"]])
        and ("speakers" not in scope or speaker in [name.lower() for name in scope["speakers"]])
        and scope.get("since", 0) <= row["day"] < scope.get("until", 99)
        and row["day"] <= scope.get("as_of", 99)
        and {*scope.get("tags", [])} <= {*row["tags"]}
        and row["level"] >= scope.get("level", 0)
    )


@pytest.mark.slow
@QUIET
@given(rows=MESSAGES, scope=SCOPES, mode=st.sampled_from(MODES))
def test_any_scope_finds_what_python_finds(
    shared_db: PatternDB, run: Run, rows: list[dict[str, Any]], scope: dict[str, Any], mode: str
) -> None:
    async def check() -> None:
        agents = [await shared_db.agents.create(name="x") for _ in range(3)]
        for n, row in enumerate(rows):
            await shared_db.messages.append(
                agents[row["agent"]].id,
                role=row["role"],
                speaker=row["speaker"],
                content="common",
                created_at=START + timedelta(days=row["day"]),
                metadata={"level": row["level"], "tags": row["tags"]},
                source=str(n),
            )
        options: dict[str, Any] = {k: scope[k] for k in ("roles", "speakers", "tags") if k in scope}
        for name in ("since", "until", "as_of"):
            if name in scope:
                options[name] = START + timedelta(days=scope[name])
        if "level" in scope:
            options["metadata"] = {"level": {"$gte": scope["level"]}}
        whose = [agents[n].id for n in scope.get("agents", [0])]
        hits = await shared_db.search(whose, "common", mode=mode, limit=50, **options)
        expected = {str(n) for n, row in enumerate(rows) if in_scope(row, scope)}
        assert {hit.item.source for hit in hits} == expected

    run(check())


@REFUSED_UNHEARD
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"kinds": 5}, "kinds"),
        ({"kinds": [["message"]]}, "kinds"),
        ({"limit": True}, "limit"),
        ({"limit": 2.0}, "limit"),
        ({"mode": ["hybrid"]}, "mode"),
        ({"roles": 5}, "roles"),
        ({"roles": [{}]}, "roles"),
        ({"speakers": {"a": 1}}, "speakers"),
        ({"speakers": [b"Ada"]}, "speakers"),
        ({"tags": [None]}, "tags"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": {1: 1}}, "metadata"),
        ({"conversation_id": 5}, "conversation_id"),
        ({"include_archived": 1}, "include_archived"),
        ({"as_of": "yesterday"}, "as_of"),
        ({"as_of": datetime(2024, 1, 1)}, "as_of"),
        ({"diversity": 2}, "diversity"),
        ({"diversity": float("nan")}, "diversity"),
        ({"diversity": "some"}, "diversity"),
        ({"diversity": True}, "diversity"),
    ],
)
async def test_options_of_a_wrong_type_are_named(
    db: PatternDB, flux: Agent, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        await db.search(flux.id, "x", **options)
    assert refused.value.field == named


async def test_a_search_of_one_kind_takes_no_kinds(db: PatternDB, flux: Agent) -> None:
    """It was a bare TypeError."""
    for repository in (db.memory, db.messages, db.archival):
        with pytest.raises(InvalidValue, match="'kinds'"):
            await repository.search(flux.id, "x", kinds=["message"])


@pytest.mark.parametrize("mode", MODES)
async def test_what_has_no_text_is_not_found(minded: PatternDB, mode: str) -> None:
    """An empty block was found by its label, with nothing to say."""
    flux = await minded.agents.create(name="Flux")
    await minded.memory.create(flux.id, label="hobbies", content="  \n")
    await minded.memory.create(flux.id, label="hobbies of Ada", content="Ada climbs.")
    await minded.messages.append(flux.id, role="user", speaker="Hobbies", content="")
    hits = await minded.search(flux.id, "hobbies", mode=mode)
    assert [hit.item.content for hit in hits] == ["Ada climbs."]
