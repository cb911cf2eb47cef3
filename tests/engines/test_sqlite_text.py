"""How SQLite's text search finds what it must, whichever way it takes."""

from __future__ import annotations

import pytest

from pattern_db import PatternDB
from pattern_db.engines.sqlite import text
from pattern_db.models import Episode
from pattern_db.query import param
from pattern_db.schema import columns_of, table_of


@pytest.mark.parametrize("scored", [0, text.MOST_SCORED])
@pytest.mark.parametrize("newest", [2, text.MOST_NEWEST])
async def test_agents_who_own_most_of_a_domain_are_shown_no_others(
    db: PatternDB, monkeypatch: pytest.MonkeyPatch, scored: int, newest: int
) -> None:
    """Those who own most of a table are looked for among its rows, not by the words of its index."""
    monkeypatch.setattr(text, "MOST_SCORED", scored)
    monkeypatch.setattr(text, "MOST_NEWEST", newest)
    theirs = set()
    agents = [await db.agents.create(name=name) for name in ("Flux", "Sol", "Luna")]
    for n in range(4):
        for agent in agents:
            done = await db.episodes.start(agent.id, task=f"repair boat {n}", domain="sea")
            if agent is not agents[2]:
                theirs.add(done.id)
    hits = await db.store.text_search(
        table_of(Episode),
        ["boat", "repair"],
        agent_ids=[agent.id for agent in agents[:2]],
        limit=20,
        condition=columns_of(Episode).domain == param("domain"),
        params={"domain": "sea"},
    )
    assert {id for id, _ in hits} == theirs
