"""Advice through the public API: what is stored speaks, with evidence, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

import pattern_db
from pattern_db import Agent, EmbeddingProvider, Failure, InvalidValue, NotFound, PatternDB, Success
from pattern_db.models import OutcomeKind
from tests.conftest import Shared

BOOK = ("find_user", "search_flight", "book_flight")
CANCEL = ("find_user", "get_booking", "cancel_booking")


@pytest.fixture
def path(location: str) -> str:
    """All of this holds on every engine."""
    return location


async def took(
    db: PatternDB, agent: Agent, task: str, tools: Any = BOOK, *, well: bool = True, **given: Any
) -> str:
    """A run of these tools that has ended; gives its id."""
    fields = {"domain": "travel", **given}
    async with db.episodes.record(agent.id, task=task, **fields) as episode:
        for tool in tools:
            await episode.step(tool=tool, success=True)
        await episode.complete(Success("done") if well else Failure("refused"))
    return episode.id


async def began(db: PatternDB, agent: Agent, task: str, *tools: str) -> str:
    """A run that goes on; gives its id."""
    episode = await db.episodes.start(agent.id, task=task, domain="travel")
    for tool in tools:
        await db.episodes.step(episode.id, tool=tool, success=True)
    return episode.id


async def test_the_next_step_is_what_similar_runs_did(db: PatternDB, flux: Agent) -> None:
    booked = await took(db, flux, "Book a flight to Oslo")
    cancelled = await took(db, flux, "Cancel the booking", CANCEL)
    mine = await began(db, flux, "Book a flight to Rome", "find_user")

    advice = await db.episodes.next_step(mine)
    assert (advice[0].tool, advice[0].episodes, advice.runs) == ("search_flight", [booked], 2)
    assert advice.reason is None
    other = await db.episodes.next_step(await began(db, flux, "Cancel my booking", "find_user"))
    assert (other[0].tool, other[0].episodes) == ("get_booking", [cancelled])


async def test_the_next_step_names_the_pattern_that_it_would_complete(
    db: PatternDB, flux: Agent
) -> None:
    await took(db, flux, "Book a flight to Oslo")
    mine = await began(db, flux, "Book a flight", "find_user", "search_flight")
    (tip,) = [t for t in await db.episodes.next_step(mine) if t.tool == "book_flight"]
    (pattern_id,) = tip.patterns
    pattern = await db.patterns.require(pattern_id)
    assert pattern.pattern_data.tools == list(BOOK)  # type: ignore[union-attr]


async def test_recall_shows_what_was_done_for_such_tasks(db: PatternDB, flux: Agent) -> None:
    for place in ("Oslo", "Rome", "Lima"):
        await took(db, flux, f"Book a flight to {place}")
    failed = await took(db, flux, "Book a flight to the moon", CANCEL, well=False)

    hits = await db.episodes.recall("Book a flight to Paris", domain="travel", limit=2)
    assert [hit.item.tools for hit in hits] == [list(BOOK), list(CANCEL)]
    for hit in hits:
        assert hit.score == pytest.approx(sum(hit.why.values()))
        assert 0 <= hit.score <= 1
    well = await db.episodes.recall("Book a flight", outcome="success", limit=10)
    assert len(well) == 3
    assert failed not in [hit.item.id for hit in well]


async def test_a_plan_counts_what_was_needed_before_what_was_done(
    db: PatternDB, flux: Agent
) -> None:
    done = await took(db, flux, "Book a flight to Oslo")
    plan = await db.episodes.plan("Book a flight", domain="travel")
    assert {p.tool for p in plan if p.is_likely} == set(BOOK)
    assert {id for p in plan for id in p.episodes} == {done}
    only = await db.episodes.plan("Book a flight", among=["book_flight", "pay"])
    assert [p.tool for p in only] == ["book_flight"]

    needed = {"needed_tools": ["book_flight"]}
    for _ in range(3):
        await took(db, flux, "Book a flight to Rome", metadata=needed)
    plan = await db.episodes.plan("Book a flight to Rome", domain="travel")
    assert {p.tool for p in plan if p.is_likely} == {"book_flight"}


async def test_the_outlook_of_a_finished_run(db: PatternDB, flux: Agent) -> None:
    good = [await took(db, flux, "Book a flight") for _ in range(4)]
    bad = [await took(db, flux, "Book a flight", CANCEL, well=False) for _ in range(4)]
    mine = await began(db, flux, "Book a flight", *BOOK)

    goes_on = await db.episodes.outlook(mine)
    assert (goes_on.probability, goes_on.runs) == (None, 0)
    assert goes_on.reason
    ended = await db.episodes.outlook(mine, finished=True)
    assert ended.probability is not None
    assert ended.base_rate == 0.5 < ended.probability
    assert set(ended.in_favour) <= set(good)
    assert ended.runs == 8
    other = await db.episodes.outlook(await began(db, flux, "Book", *CANCEL), finished=True)
    assert other.probability is not None
    assert other.probability < 0.5
    assert set(other.against) <= set(bad)


async def test_an_ended_run_is_no_evidence_about_itself(db: PatternDB, flux: Agent) -> None:
    alone = await took(db, flux, "Book a flight")
    assert (await db.episodes.outlook(alone)).probability is None
    assert len(await db.episodes.next_step(alone)) == 0


async def test_after_an_error_comes_what_resolved_it(db: PatternDB, flux: Agent) -> None:
    async with db.episodes.record(flux.id, task="Book", domain="travel") as episode:
        await episode.step(tool="pay", success=False, error="Card 4711 has not enough money")
        await episode.step(tool="ask_for_card", success=True)
        await episode.step(tool="pay", success=True)
        await episode.complete(Success())

    advice = await db.episodes.on_error("pay", "card 12 has not enough money", domain="travel")
    first = advice[0]
    assert (first.tool, first.times, first.resolved) == ("ask_for_card", 1, 1)
    assert (first.episodes, advice.runs) == ([episode.id], 1)
    (pattern_id,) = first.patterns
    pattern = await db.patterns.require(pattern_id)
    assert pattern.pattern_data.resolution == ["ask_for_card"]  # type: ignore[union-attr]
    unlike = await db.episodes.on_error("pay", "the server is on fire")
    assert (unlike[0].tool, unlike[0].times, unlike[0].episodes) == ("ask_for_card", 0, [])


async def test_where_nothing_is_stored_advice_is_empty_and_says_why(
    db: PatternDB, flux: Agent
) -> None:
    mine = await began(db, flux, "Book a flight", "find_user")
    for answer in (
        await db.episodes.recall("Book", domain="travel", outcome=OutcomeKind.SUCCESS),
        await db.episodes.plan("Book", domain="travel"),
        await db.episodes.next_step(mine),
        await db.episodes.on_error("pay", "no money"),
    ):
        assert (len(answer), answer.runs) == (0, 0)
        assert answer.reason
        assert answer.reason.endswith(".")
    assert (await db.episodes.outlook(mine, finished=True)).reason
    await took(db, flux, "Something else", domain="elsewhere")
    assert len(await db.episodes.next_step(mine)) == 0
    assert len(await db.episodes.recall("Book", domain="travel")) == 0


async def test_what_is_deleted_is_no_evidence(db: PatternDB, flux: Agent) -> None:
    gone = await took(db, flux, "Book a flight to Oslo")
    await db.episodes.delete(gone)
    mine = await began(db, flux, "Book a flight to Rome", "find_user")
    assert len(await db.episodes.next_step(mine)) == 0
    assert len(await db.episodes.recall("Book a flight")) == 0
    assert len(await db.episodes.plan("Book a flight")) == 0


async def test_a_question_that_cannot_be_is_refused(db: PatternDB, flux: Agent) -> None:
    with pytest.raises(NotFound):
        await db.episodes.next_step("ep_none")
    with pytest.raises(NotFound):
        await db.episodes.outlook("ep_none")
    with pytest.raises(InvalidValue, match="task"):
        await db.episodes.recall("  ")
    with pytest.raises(InvalidValue, match="task"):
        await db.episodes.plan("")
    with pytest.raises(InvalidValue, match="outcome"):
        await db.episodes.recall("Book", outcome="splendid")
    with pytest.raises(InvalidValue, match="tool"):
        await db.episodes.on_error("", "no money")
    with pytest.raises(InvalidValue, match="limit"):
        await db.episodes.recall("Book", limit=0)


async def test_the_same_store_gives_the_same_advice_after_reopening(location: str) -> None:
    async def advice(db: PatternDB, mine: str) -> list[Any]:
        return [
            await db.episodes.recall("Book a flight"),
            await db.episodes.plan("Book a flight"),
            await db.episodes.next_step(mine),
            await db.episodes.outlook(mine, finished=True),
        ]

    async with pattern_db.open(location, embeddings="none") as db:
        flux = await db.agents.create(name="Flux")
        for place, tools in (("Oslo", BOOK), ("Rome", BOOK), ("Lima", CANCEL)):
            await took(db, flux, f"Book a flight to {place}", tools)
        mine = await began(db, flux, "Book a flight", "find_user")
        before = await advice(db, mine)
    async with pattern_db.open(location, embeddings="none") as again:
        assert await advice(again, mine) == before
    assert all(len(answer) for answer in before[:3])


async def test_meaning_finds_what_shares_no_word(
    tmp_path: Any, provider: EmbeddingProvider
) -> None:
    async with pattern_db.open(tmp_path / "mind.db", embeddings=Shared(provider)) as db:
        flux = await db.agents.create(name="Flux")
        wanted = await took(db, flux, "Repair the sign-in page", ("grep", "edit"))
        for n in range(3):
            await took(db, flux, f"Bake {n + 2} loaves of bread", ("oven", "flour"))
        hits = await db.episodes.recall("login form is broken", domain="travel", limit=4)
        nearest = max(hits, key=lambda hit: hit.why["likeness"])
        assert nearest.item.id == wanted
        assert nearest.mode == "hybrid"
        mine = await db.episodes.start(flux.id, task="login form is broken", domain="travel")
        advice = await db.episodes.next_step(mine.id)
        assert advice[0].tool == "grep"
