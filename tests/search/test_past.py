"""``as_of``: what was known at a time in the past, in every mode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import pattern_db
from pattern_db import Agent, Hit, PatternDB
from pattern_db.embeddings import EmbeddingProvider
from pattern_db.search import gathering, past
from tests.conftest import Shared

MODES = ["hybrid", "semantic", "keyword"]
DAY = timedelta(days=1)


class Calendar:
    """A clock that stands still until a test turns it to another day."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def day(self, number: int) -> datetime:
        """Turn to a day; gives a time of that day, after what is done now."""
        self.now = datetime(2026, 1, 1, tzinfo=UTC) + number * DAY
        return self.now + DAY / 2


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
async def db(
    path: str, provider: EmbeddingProvider, calendar: Calendar
) -> AsyncIterator[PatternDB]:
    async with pattern_db.open(path, embeddings=Shared(provider), clock=calendar) as opened:
        yield opened


@pytest.fixture
async def flux(db: PatternDB) -> Agent:
    return await db.agents.create(name="Flux")


def texts(hits: list[Hit]) -> list[str]:
    return [hit.item.content for hit in hits]


@pytest.mark.parametrize("mode", MODES)
async def test_a_block_is_found_as_it_was(
    db: PatternDB, flux: Agent, calendar: Calendar, mode: str
) -> None:
    first = calendar.day(1)
    block = await db.memory.create(flux.id, label="home", content="Ada lives in Bergen.")
    second = calendar.day(2)
    await db.memory.update(block.id, content="Ada lives in a lighthouse.")
    third = calendar.day(3)
    await db.memory.update(block.id, content="Nothing is known any more.")

    for moment, text, version in (
        (first, "Ada lives in Bergen.", 1),
        (second, "Ada lives in a lighthouse.", 2),
        (third, "Nothing is known any more.", 3),
    ):
        (hit,) = await db.search(flux.id, text, mode=mode, as_of=moment)
        assert (hit.item.content, hit.item.version, hit.item.id) == (text, version, block.id)
        assert hit.item.updated_at == moment - DAY / 2
        assert hit.mode == mode
        assert sum(hit.why.values()) == pytest.approx(hit.score, abs=1e-6)
        assert 0 < hit.score <= 1
    assert await db.search(flux.id, "Bergen", mode=mode, as_of=first - DAY) == []
    if mode == "keyword":
        assert await db.search(flux.id, "Bergen", mode=mode) == []
        assert await db.search(flux.id, "Bergen", mode=mode, as_of=second) == []


async def test_an_earlier_text_is_found_by_its_meaning(
    db: PatternDB, flux: Agent, calendar: Calendar
) -> None:
    moment = calendar.day(1)
    pet = await db.memory.create(flux.id, label="a", content="The dog ate a whole cake.")
    await db.memory.create(flux.id, label="b", content="The bridge is made of timber.")
    calendar.day(2)
    await db.memory.update(pet.id, content="Taxes are due in April.")
    question = "which pet swallowed dessert"
    hits = await db.search(flux.id, question, mode="semantic", as_of=moment)
    assert texts(hits) == ["The dog ate a whole cake.", "The bridge is made of timber."]
    now = await db.search(flux.id, question, mode="semantic")
    assert "The dog ate a whole cake." not in texts(now)


@pytest.mark.parametrize("mode", MODES)
async def test_what_came_later_is_left_out(
    db: PatternDB, flux: Agent, calendar: Calendar, mode: str
) -> None:
    made = {}
    for number in (1, 2, 3):
        moment = calendar.day(number)
        await db.memory.create(flux.id, label=f"l{number}", content=f"Oslo block {number}")
        await db.archival.create(flux.id, f"Oslo entry {number}")
        await db.messages.append(flux.id, role="user", content=f"Oslo message {number}")
        made[number] = moment
    for number, moment in made.items():
        hits = await db.search(flux.id, "Oslo", mode=mode, as_of=moment, limit=50)
        assert set(texts(hits)) == {
            f"Oslo {kind} {n}"
            for kind in ("block", "entry", "message")
            for n in range(1, number + 1)
        }
    assert await db.search(flux.id, "Oslo", mode=mode, as_of=made[1] - DAY) == []
    assert await db.search(flux.id, "Oslo", mode=mode, as_of=made[3]) == await db.search(
        flux.id, "Oslo", mode=mode
    )


async def test_the_turns_beside_a_hit_are_not_of_later(
    db: PatternDB, flux: Agent, calendar: Calendar
) -> None:
    talk = await db.conversations.create(flux.id)
    for number in (1, 2):
        moment = calendar.day(number)
        await db.messages.append(
            flux.id, role="user", content=f"Oslo on day {number}", conversation_id=talk.id
        )
    hits = await db.messages.search(flux.id, "Oslo day", as_of=moment - DAY)
    assert texts(hits) == ["Oslo on day 1"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_block_deleted_since_was_known_and_one_deleted_before_was_not(
    db: PatternDB, flux: Agent, calendar: Calendar, mode: str
) -> None:
    known = calendar.day(1)
    block = await db.memory.create(flux.id, label="home", content="Ada lives in Bergen.")
    gone = calendar.day(2)
    await db.memory.delete(block.id)
    (hit,) = await db.search(flux.id, "Bergen", mode=mode, as_of=known)
    assert hit.item.content == "Ada lives in Bergen."
    assert hit.item.is_active
    assert await db.search(flux.id, "Bergen", mode=mode, as_of=gone) == []
    await db.memory.purge(block.id)
    assert await db.search(flux.id, "Bergen", mode=mode, as_of=known) == []


@pytest.mark.parametrize("mode", MODES)
async def test_a_shared_block_counts_from_when_it_was_shared(
    db: PatternDB, flux: Agent, calendar: Calendar, mode: str
) -> None:
    sol = await db.agents.create(name="Sol")
    first = calendar.day(1)
    block = await db.memory.create(flux.id, label="home", content="Ada lives in Bergen.")
    second = calendar.day(2)
    await db.memory.share(block.id, sol.id)
    for _ in range(2):  # as it is, and once more after it changed
        assert await db.search(sol.id, "Bergen", mode=mode, as_of=first) == []
        assert texts(await db.search(sol.id, "Bergen", mode=mode, as_of=second)) == [
            "Ada lives in Bergen."
        ]
        assert len(await db.search([sol.id, flux.id], "Bergen", mode=mode, as_of=second)) == 1
        calendar.day(3)
        await db.memory.update(block.id, content="Ada lives on a boat.")


@pytest.mark.parametrize("mode", MODES)
async def test_filters_hold_in_the_past_too(
    db: PatternDB, flux: Agent, calendar: Calendar, mode: str
) -> None:
    calendar.day(1)
    blocks = {
        level: await db.memory.create(
            flux.id, label=f"l{level}", content=f"Oslo {level}", metadata={"level": level}
        )
        for level in (1, 2)
    }
    moment = calendar.day(2)
    await db.memory.update(blocks[2].id, content="Oslo 2 again")
    calendar.day(5)
    for block in blocks.values():
        await db.memory.update(block.id, content="Rome")

    async def found(**filters: Any) -> list[str]:
        hits = await db.search(flux.id, "Oslo", mode=mode, as_of=moment, **filters)
        return sorted(texts(hits))

    assert await found() == ["Oslo 1", "Oslo 2 again"]
    assert await found(metadata={"level": {"$gt": 1}}) == ["Oslo 2 again"]
    assert await found(since=moment - DAY / 2) == ["Oslo 2 again"]
    assert await found(until=moment - DAY / 2) == ["Oslo 1"]
    assert await found(roles=["user"]) == []
    assert await found(kinds=["message"]) == []
    assert len(await found(limit=1)) == 1


async def test_an_undo_is_known_while_it_is_the_last_change(
    db: PatternDB, flux: Agent, calendar: Calendar
) -> None:
    block = await db.memory.create(flux.id, label="home", content="Ada lives in Bergen.")
    second = calendar.day(2)
    await db.memory.update(block.id, content="Ada lives in Oslo.")
    third = calendar.day(3)
    await db.memory.undo(block.id)
    for moment, text, version in (
        (second, "Ada lives in Oslo.", 2),
        (third, "Ada lives in Bergen.", 1),
    ):
        (hit,) = await db.search(flux.id, "Ada lives", as_of=moment)
        assert (hit.item.content, hit.item.version) == (text, version)


async def test_a_change_of_the_label_alone_keeps_the_text(
    db: PatternDB, flux: Agent, calendar: Calendar
) -> None:
    moment = calendar.day(1)
    block = await db.memory.create(flux.id, label="home", content="Ada lives in Bergen.")
    calendar.day(2)
    await db.memory.update(block.id, label="house", pinned=True)
    for mode in MODES:
        (hit,) = await db.search(flux.id, "Bergen", mode=mode, as_of=moment)
        assert (hit.item.content, hit.item.version) == ("Ada lives in Bergen.", 1)


@pytest.mark.parametrize("mode", MODES)
async def test_of_many_changed_blocks_the_one_with_the_words_comes_first(
    db: PatternDB, flux: Agent, calendar: Calendar, mode: str
) -> None:
    """More blocks changed than are embedded for one search: words choose which."""
    moment = calendar.day(1)
    wanted = await db.memory.create(flux.id, label="w", content="Ada lives in a lighthouse.")
    others = [
        await db.memory.create(flux.id, label=f"o{n}", content=f"Note {n} about taxes.")
        for n in range(past.MOST_EMBEDDED + 5)
    ]
    kept = await db.memory.create(flux.id, label="k", content="The lighthouse is red.")
    calendar.day(2)
    for block in (wanted, *others):
        await db.memory.update(block.id, content="Forgotten.")
    hits = await db.search(flux.id, "Who lives in the lighthouse?", mode=mode, as_of=moment)
    assert hits[0].item.content == "Ada lives in a lighthouse."
    assert kept.id in {hit.item.id for hit in hits[:2]}
    assert "Forgotten." not in texts(hits)


async def test_what_is_not_embedded_is_not_found_by_what_it_says_today(
    db: PatternDB, flux: Agent, calendar: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "MOST_EMBEDDED", 1)
    moment = calendar.day(1)
    blocks = [
        await db.memory.create(flux.id, label=f"l{n}", content=text)
        for n, text in enumerate(("Taxes are due.", "Trains are late."))
    ]
    calendar.day(2)
    for block in blocks:
        await db.memory.update(block.id, content="late trains, due dog cake")
    hits = await db.search(flux.id, "late dog cake", mode="semantic", as_of=moment)
    assert texts(hits) == ["Trains are late."]
    hits = await db.search(flux.id, "late trains, due dog cake", as_of=moment)
    assert {hit.item.content: hit.why["dense"] > 0 for hit in hits} == {
        "Trains are late.": True,
        "Taxes are due.": False,
    }


async def test_earlier_texts_differ_by_what_they_said(
    db: PatternDB, flux: Agent, calendar: Calendar
) -> None:
    moment = calendar.day(1)
    same = "Ada lives in Oslo near the river."
    for n, text in enumerate((same, same, "Oslo has trams.")):
        await db.memory.create(flux.id, label=f"l{n}", content=text)
    calendar.day(2)
    for n, block in enumerate(await db.memory.list(flux.id)):
        await db.memory.update(block.id, content=("Rain.", "Wool is warm.", "Rain.")[n])
    options = {"mode": "semantic", "as_of": moment, "limit": 2}
    plain = await db.search(flux.id, "Where does Ada live?", **options)
    diverse = await db.search(flux.id, "Where does Ada live?", diversity=0.9, **options)
    assert texts(plain) == [same, same]
    assert texts(diverse) == [same, "Oslo has trams."]


async def test_a_time_to_come_is_now(db: PatternDB, flux: Agent, calendar: Calendar) -> None:
    moment = calendar.day(1)
    await db.memory.create(flux.id, label="home", content="Ada lives in Bergen.")
    assert await db.search(flux.id, "Bergen", as_of=moment + 365 * DAY) == await db.search(
        flux.id, "Bergen"
    )


async def test_the_past_is_searched_without_a_provider(path: str, calendar: Calendar) -> None:
    async with pattern_db.open(path, embeddings="none", clock=calendar) as db:
        flux = await db.agents.create(name="Flux")
        moment = calendar.day(1)
        block = await db.memory.create(flux.id, label="home", content="Ada climbs mountains.")
        calendar.day(2)
        await db.memory.update(block.id, content="Ada paints.")
        (hit,) = await db.search(flux.id, "climbing a mountain", as_of=moment)
        assert (hit.item.content, hit.mode) == ("Ada climbs mountains.", "keyword")
