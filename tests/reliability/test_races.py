"""Many tasks that change the same thing at once: each succeeds or learns why not, none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import pattern_db
from pattern_db import Agent, AlreadyExists, BatchStatus, InvalidValue, MemoryBlock, PatternDB

from .soundness import flaws
from .tiny import TinyEmbeddings

pytestmark = pytest.mark.slow

MANY = 40
"""More than the attempts that a task makes before it gives up."""


@pytest.fixture
async def db(path: str) -> AsyncIterator[PatternDB]:
    async with pattern_db.open(path, embeddings=TinyEmbeddings()) as opened:
        yield opened


async def test_all_append_to_one_block(db: PatternDB, flux: Agent, path: str) -> None:
    """Without a pause between the attempts six of thirty gave up."""
    block = await db.memory.create(flux.id, label="log")
    await asyncio.gather(*(db.memory.append(block.id, f"line {n}") for n in range(MANY)))
    lines = (await db.memory.require(block.id)).content.split("\n")
    assert sorted(lines) == sorted(f"line {n}" for n in range(MANY))
    assert flaws(path) == []


async def test_all_append_to_one_new_batch(db: PatternDB, flux: Agent, path: str) -> None:
    """All but the first were refused: "A live batch with this id is already there"."""
    said = [
        db.messages.append(flux.id, role="user", content=f"{n}", batch_id="batch")
        for n in range(MANY)
    ]
    await asyncio.gather(*said)
    batch = await db.messages.batches.require("batch")
    assert batch.message_count == MANY
    assert flaws(path) == []


async def test_all_answer_calls_of_one_batch(db: PatternDB, flux: Agent, path: str) -> None:
    calls = [{"call_id": f"call {n}", "name": "look"} for n in range(MANY)]
    asked = await db.messages.append(flux.id, role="assistant", tool_calls=calls)
    answers = [
        db.messages.append(
            flux.id, role="tool", tool_responses=[{"call_id": f"call {n}", "content": "seen"}]
        )
        for n in range(MANY)
    ]
    await asyncio.gather(*answers)
    batch = await db.messages.batches.require(asked.batch_id or "")
    assert (batch.status, batch.pending) == (BatchStatus.COMPLETE, [])
    assert flaws(path) == []


async def test_a_label_goes_to_one_of_all_who_want_it(db: PatternDB, flux: Agent) -> None:
    made = await asyncio.gather(
        *(db.memory.create(flux.id, label="only") for _ in range(MANY)), return_exceptions=True
    )
    assert sum(isinstance(one, MemoryBlock) for one in made) == 1
    assert sum(isinstance(one, AlreadyExists) for one in made) == MANY - 1


async def test_a_block_is_undone_once_for_each_who_asks(
    db: PatternDB, flux: Agent, path: str
) -> None:
    block = await db.memory.create(flux.id, label="log", content="0")
    for n in range(1, 6):
        await db.memory.update(block.id, content=f"{n}")
    results = await asyncio.gather(
        *(db.memory.undo(block.id) for _ in range(MANY)), return_exceptions=True
    )
    undone = sum(isinstance(result, MemoryBlock) for result in results)
    now = await db.memory.require(block.id)
    assert now.content == f"{5 - undone}"
    assert all(isinstance(result, MemoryBlock | pattern_db.PatternError) for result in results)
    while now.content != "0":
        now = await db.memory.undo(block.id)
    with pytest.raises(InvalidValue):
        await db.memory.undo(block.id)
    assert flaws(path) == []


async def test_transactions_of_many_tasks_take_turns(db: PatternDB, flux: Agent, path: str) -> None:
    async def count_up(n: int) -> None:
        async with db.transaction():
            agent = await db.agents.require(flux.id)
            await asyncio.sleep(0)
            await db.agents.update(flux.id, state={"count": agent.state.get("count", 0) + 1})
            if n % 4 == 0:
                raise KeyError

    results = await asyncio.gather(*(count_up(n) for n in range(MANY)), return_exceptions=True)
    assert sum(isinstance(result, KeyError) for result in results) == MANY // 4
    assert (await db.agents.require(flux.id)).state == {"count": MANY - MANY // 4}


async def test_everything_at_once_on_one_message(db: PatternDB, flux: Agent, path: str) -> None:
    message = await db.messages.append(flux.id, role="user", speaker="Ada", content="first")
    changes = [
        *(db.messages.update(message.id, content=f"text {n}") for n in range(MANY)),
        *(db.messages.update(message.id, speaker=f"speaker {n}") for n in range(MANY)),
        *(db.messages.update(message.id, metadata={"n": n}) for n in range(MANY)),
        *(db.search(flux.id, "text") for _ in range(5)),
    ]
    await asyncio.gather(*changes)
    now = await db.messages.require(message.id)
    assert now.content.startswith("text")
    assert (now.speaker or "").startswith("speaker")
    assert now.metadata.keys() == {"n"}
    assert flaws(path) == []
