"""A constellation with everything in it: every table, nasty values, hidden rows, late references."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from pattern_db import Agent, PatternDB
from pattern_db.testing.entities import FLOATS, NASTY_TEXTS, NUMBERS

NASTY_JSON: dict[str, Any] = {
    "numbers": [*NUMBERS, *FLOATS, 1, 1.0, True],
    "nothing": None,
    "": {"a.b": [], "$": {}, 'q"': "\\"},
    "deep": [[[[{"x": [None]}]]]],
    **{text: text for text in NASTY_TEXTS[:30]},
}


async def fill(db: PatternDB, *, messages: int = 60, seed: int = 1) -> list[Agent]:
    """Three agents who share, talk, forget and group; the first one talks the most."""
    rng = random.Random(seed)
    users = [
        await db.users.create(name=name, metadata=NASTY_JSON, id=f"user_{name}")
        for name in ("ada", "bob")
    ]
    agents = [
        await db.agents.create(
            name=name, user_id=user.id, id=f"agent_{name}", config=NASTY_JSON, system_prompt="Ω\n"
        )
        for name, user in (("flux", users[0]), ("sol", users[1]), ("vega", users[1]))
    ]
    for agent in agents:
        await _memory(db, agent)
        await _talk(db, agent, users[0].id, messages if agent is agents[0] else 8, rng)
    await _together(db, agents)
    return agents


async def ask(db: PatternDB, agent_id: str) -> list[tuple[str, float]]:
    """What searches find, in every mode: ids and scores."""
    found = []
    for mode in ("keyword", "semantic", "hybrid"):
        for question in ("what did flux say", "paints", "'; DROP TABLE", "number 7"):
            hits = await db.search(agent_id, question, mode=mode, limit=8)
            found += [(hit.item.id, round(hit.score, 3)) for hit in hits]
    return found


async def _memory(db: PatternDB, agent: Agent) -> None:
    for number, text in enumerate(NASTY_TEXTS[:32]):
        await db.memory.create(
            agent.id,
            label=f"block {number}",
            content=f"{agent.name} {text}"[:4000],
            description=text[:100],
            metadata=NASTY_JSON,
            id=f"{agent.id}_block_{number}",
        )
    edited = f"{agent.id}_block_0"
    for version in range(3):
        await db.memory.update(edited, content=f"{agent.name} paints version {version}")
    await db.memory.undo(edited)
    await db.memory.delete(f"{agent.id}_block_1")
    first = await db.archival.create(
        agent.id, content=f"{agent.name} long " * 500, chunk_chars=1000
    )
    await db.archival.create(agent.id, content="of a parent", metadata=NASTY_JSON)
    assert len(await db.archival.chunks(first.id)) > 3
    await db.archival.delete((await db.archival.create(agent.id, content="forgotten")).id)


async def _talk(db: PatternDB, agent: Agent, user_id: str, count: int, rng: random.Random) -> None:
    talk = await db.conversations.create(agent.id, title="'; --", user_id=user_id)
    rows = [
        {
            "role": "user",
            "speaker": rng.choice(["Ada", "Tomas", None]),
            "content": f"{agent.name} said {number} {rng.choice(NASTY_TEXTS[:30])}",
            "conversation_id": rng.choice([talk.id, None]),
            "created_at": datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
            "metadata": rng.choice([{}, NASTY_JSON]),
        }
        for number in range(count)
    ]
    written = await db.messages.append_many(agent.id, rows)
    await db.messages.delete(written[1].id)
    last = None
    for row, id in zip(written[2:5], "zyx", strict=True):
        last = await db.messages.summaries.create(
            agent.id,
            f"summary {id}",
            start_position=row.position,
            end_position=row.position,
            previous_summary_id=last.id if last else None,
            id=f"{agent.id}_{id}",
        )
    await db.messages.archive_before(agent.id, written[2].position)
    await db.tool_calls.create(
        agent.id,
        tool_name="look",
        parameters=NASTY_JSON,
        result=[1, 1.0, True, None],
        message_id=written[3].id,
        duration_ms=0.1,
    )
    await db.messages.append(
        agent.id,
        role="assistant",
        tool_calls=[{"call_id": "c1", "name": "look", "arguments": NASTY_JSON}],
    )
    await db.messages.append(
        agent.id, role="tool", tool_responses=[{"call_id": "c1", "content": "seen"}]
    )


async def _together(db: PatternDB, agents: list[Agent]) -> None:
    group = await db.groups.create(name="crew", id="group_crew")
    for agent in agents[:2]:
        await db.groups.add_member(group.id, agent.id)
    await db.memory.share("agent_sol_block_5", agents[0].id)
    await db.memory.share("agent_flux_block_6", agents[1].id)
