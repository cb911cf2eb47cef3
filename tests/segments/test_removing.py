"""What is purged, vacuumed away or embedded anew leaves the segments too."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pattern_db import Agent, PatternDB
from pattern_db.vectors.segment import header_of
from tests.reliability.segments import (
    LARGE,
    Spread,
    built,
    files,
    index_of,
    nearest,
    say,
    texts,
    truth,
    wrong,
)

from .conftest import MANY, Gate, opened, reached, segment_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("way", ["agent", "user", "transaction"])
async def test_purging_an_agent_removes_its_vectors_at_once(
    db: PatternDB, large: Agent, path: str, way: str
) -> None:
    ada = await db.users.create(name="Ada")
    other = await db.agents.create(name="Other", user_id=ada.id)
    await say(db, other.id, texts(MANY, "other"))
    await db.optimize()
    assert await wrong(db, path, [other.id, large.id]) == []
    kept = [file for file in files(path) if header_of(file).scope.agent_id == large.id]
    assert len(files(path)) == 2
    if way == "transaction":
        async with db.transaction():
            await db.agents.purge(other.id)
            assert len(files(path)) == 2  # it could still be undone
    elif way == "user":
        await db.users.purge(ada.id)
    else:
        await db.agents.purge(other.id)
    assert files(path) == kept
    assert [key[0].agent_id for key in index_of(db)._scopes] == [large.id]


@pytest.mark.parametrize("step", ["_add", "_survey", "save"])
async def test_an_agent_purged_while_its_segment_is_made_leaves_none(
    db: PatternDB, flux: Agent, path: str, gate: Callable[[str], Gate], step: str
) -> None:
    finishing = gate(step)
    await say(db, flux.id, texts(MANY))
    assert await wrong(db, path, flux.id) == []
    await reached(finishing)
    await db.agents.purge(flux.id)
    finishing.open.set()
    await built(db)
    assert files(path) == []


async def test_vacuum_removes_segments_that_hold_what_was_removed_and_no_others(
    db: PatternDB, large: Agent, path: str
) -> None:
    other = await db.agents.create(name="Other")
    await say(db, other.id, texts(MANY, "other"))
    await db.optimize()
    await db.messages.purge((await nearest(db, large.id, "where", 1))[0][0])
    assert len(files(path)) == 2
    await db.vacuum()
    assert [header_of(file).scope.agent_id for file in files(path)] == [other.id]
    for agent in (large.id, other.id):
        assert await wrong(db, path, agent) == []


@pytest.mark.parametrize("step", ["_add", "_survey", "save"])
async def test_a_segment_that_is_made_during_a_vacuum_does_not_keep_what_was_removed(
    db: PatternDB, large: Agent, path: str, gate: Callable[[str], Gate], step: str
) -> None:
    finishing = gate(step)
    await say(db, large.id, texts(LARGE + 1, "more"))
    assert await wrong(db, path, large.id) == []
    await reached(finishing)
    await db.messages.purge((await nearest(db, large.id, "where", 1))[0][0])
    await db.vacuum()
    finishing.open.set()
    await built(db)
    assert files(path) == []
    assert await wrong(db, path, large.id) == []
    await built(db)
    assert header_of(files(path)[0]).count == MANY + LARGE  # made anew, without what was removed


async def test_what_a_vacuum_removed_does_not_come_back_from_another_handle(
    db: PatternDB, large: Agent, path: str
) -> None:
    async with opened(path) as other:
        assert await wrong(other, path, large.id) == []
        await db.messages.purge((await nearest(db, large.id, "where", 1))[0][0])
        await db.vacuum()
        await say(db, large.id, texts(LARGE + 1, "more"))
        assert await wrong(other, path, large.id) == []
        await built(other)
        assert header_of(files(path)[0]).count == MANY + LARGE
        assert await wrong(other, path, large.id) == []


async def test_embedding_with_another_model_removes_the_segments_of_the_old_one(
    db: PatternDB, large: Agent, path: str
) -> None:
    old = files(path)
    async with opened(path, embeddings=Spread("other-8"), allow_other_model=True) as other:
        await other.reembed()
        assert files(path) == []
        assert await wrong(other, path, large.id) == []
        await built(other)
        assert len(files(path)) == 1
        assert files(path) != old


async def test_a_scope_that_becomes_small_is_searched_exactly_again(
    db: PatternDB, large: Agent, path: str
) -> None:
    ids = [item for item, _ in truth(path, large.id, "where", MANY)]
    for id in ids[: MANY - 10]:
        await db.messages.delete(id)
    assert await wrong(db, path, large.id) == []
    await built(db)
    assert files(path) == []
    assert segment_of(db) is None
    assert await wrong(db, path, large.id) == []
