"""Where common words match thousands of episodes: what is asked for is found, however old it is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import pattern_db
from pattern_db import Agent, Episode, OutcomeKind, PatternDB
from pattern_db.engines.sqlite.text import MOST_NEWEST, MOST_SCORED
from pattern_db.query import Insert, update
from pattern_db.schema import columns_of, table_of
from pattern_db.testing.rows import episode

MANY = MOST_NEWEST + 500


@pytest.fixture
async def crowd(path: str) -> AsyncIterator[PatternDB]:
    """Ten old episodes of a small domain and one that failed, below thousands with their words."""
    async with pattern_db.open(path, embeddings="none", durability="relaxed") as db:
        flux: Agent = await db.agents.create(name="Flux", id="flux")
        rare = [
            episode(f"rare{n}", flux.id, task=f"fix the build {n}", domain="naïve | ops")
            for n in range(10)
        ]
        failed = episode("old", flux.id, task="fix the build", outcome_kind=OutcomeKind.FAILURE)
        unique = episode("one", flux.id, task="fix the flux capacitor", domain="web")
        many = [
            episode(f"many{n:05}", flux.id, task=f"fix the build {n}", domain="web")
            for n in range(MANY)
        ]
        add = Insert(table_of(Episode))
        await db.store.write([add(row=row) for row in [*rare, failed, unique, *many]])
        yield db


async def found(db: PatternDB, query: str, **options: object) -> list[str]:
    hits = await db.episodes.search(query, mode="keyword", **options)
    return [hit.item.id for hit in hits]


async def test_what_is_asked_for_is_found_below_many_newer_ones(crowd: PatternDB) -> None:
    assert await found(crowd, "fix build", outcome="failure") == ["old"]
    assert len(await found(crowd, "fix build", domain="naïve | ops", limit=50)) == 10
    assert (await found(crowd, "fix build 7", domain="naïve | ops"))[0] == "rare7"
    assert await found(crowd, "fix build", domain="Naïve | ops") == []
    assert await found(crowd, "fix build", domain="nothing") == []


async def test_a_large_domain_shows_the_best_and_then_the_newest(crowd: PatternDB) -> None:
    assert (await found(crowd, "fix the flux capacitor", domain="web"))[0] == "one"
    newest = await found(crowd, "fix build", domain="web", limit=5)
    assert len(newest) == 5
    assert min(newest) > f"many{MANY - MOST_SCORED:05}"
    assert (await found(crowd, f"fix build {MANY - 3}"))[0] == f"many{MANY - 3:05}"


async def test_an_episode_that_moves_to_another_domain_is_found_there(crowd: PatternDB) -> None:
    """No verb moves one; whoever updates the row keeps the index right."""
    move = update(Episode, "domain").where(columns_of(Episode).id == "rare3")
    await crowd.store.execute(move, domain="docs")
    try:
        assert await found(crowd, "fix build", domain="docs") == ["rare3"]
        assert "rare3" not in await found(crowd, "fix build", domain="naïve | ops", limit=50)
    finally:
        await crowd.store.execute(move, domain="naïve | ops")
