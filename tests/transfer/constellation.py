"""A constellation with everything in it: every table, nasty values, hidden rows, late references."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any, get_origin

import msgspec

from pattern_db import Agent, PatternDB
from pattern_db.models import Json
from pattern_db.query import Count, Insert, select
from pattern_db.schema import Column, ColumnType, Table
from pattern_db.testing.entities import FLOATS, NASTY_TEXTS, NUMBERS
from pattern_db.transfer.walking import CONTENT

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
    await _whatever_else_there_is(db)
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


async def _whatever_else_there_is(db: PatternDB) -> None:
    """Some rows in every table that is still empty, made of what their columns may hold."""
    for table in CONTENT:
        if await db.store.execute(Count(table)) == 0:
            for number in range(3):
                row = [await _value(db, table, column, number) for column in table.columns]
                await db.store.execute(Insert(table), row=table.model(*row))


async def _value(db: PatternDB, table: Table, column: Column, number: int) -> Any:
    if column.references is not None:
        return await _referred(db, table, column, number)
    if column.counted is not None:
        return None
    if column.name in table.key or column.name == "content_key":
        return f"{table.name} {number}" if column.type is ColumnType.TEXT else number
    if column.type is ColumnType.ENUM:
        return list(column.python)[number % len(column.ranks)]
    if column.type is ColumnType.JSON:
        return msgspec.convert({}, column.python) if column.python == Json else _empty(column)
    return _PLAIN[column.type](number)


def _empty(column: Column) -> Any:
    return None if column.nullable else [] if get_origin(column.python) is list else {}


async def _referred(db: PatternDB, table: Table, column: Column, number: int) -> Any:
    assert column.references is not None
    if column.references.table == table.name:
        return None
    target = next(t for t in CONTENT if t.name == column.references.table)
    rows = await db.store.execute(select(target.model).order_by(*_key(target)))
    return rows[number % len(rows)].id


def _key(table: Table) -> list[Column]:
    return [table.column(name) for name in table.key]


_PLAIN: dict[ColumnType, Any] = {
    ColumnType.TEXT: lambda n: f"{n} {NASTY_TEXTS[n + 10]}",
    ColumnType.INTEGER: lambda n: n,
    ColumnType.REAL: lambda n: 0.1 * n,
    ColumnType.BOOLEAN: lambda n: n % 2 == 0,
    ColumnType.BYTES: lambda n: bytes([0, n, 255]),
    ColumnType.TIME: lambda n: datetime(2025, 2, 3, 4, 5, 6, 789_000 + n, tzinfo=UTC),
}
