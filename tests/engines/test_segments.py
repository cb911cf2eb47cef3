"""Large scopes are searched through files beside the database, which are never trusted."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pattern_db
from pattern_db import Agent, PatternDB, QueryFailed
from pattern_db.engines.sqlite.vectors import segments_folder
from pattern_db.vectors import Scope, building, calibration, index
from pattern_db.vectors.building import Builder
from pattern_db.vectors.locking import only_builder
from pattern_db.vectors.segment import header_of, open_segment
from tests.reliability.segments import (
    DIMENSIONS,
    LARGE,
    Spread,
    built,
    files,
    index_of,
    make_small,
    missing,
    nearest,
    same,
    say,
    texts,
    truth,
    vector_of,
    wrong,
)

MANY = 3 * LARGE


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch.setattr)


@asynccontextmanager
async def opened(path: str, **more: Any) -> AsyncIterator[PatternDB]:
    before = set(threading.enumerate())
    async with pattern_db.open(path, **{"embeddings": Spread(), **more}) as db:
        yield db
    started = set(threading.enumerate()) - before
    assert not [thread.name for thread in started if thread.name.startswith("pattern-db")]


@pytest.fixture
async def db(path: str) -> AsyncIterator[PatternDB]:
    async with opened(path) as database:
        yield database


@pytest.fixture
async def large(db: PatternDB, flux: Agent) -> Agent:
    """An agent with a segment."""
    await say(db, flux.id, texts(MANY))
    await db.optimize()
    return flux


class Gate:
    """Stops builders at a step until told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: str):
        self.reached, self.open = threading.Event(), threading.Event()
        before = getattr(Builder, step)

        def wait(builder: Builder, *args: Any, **more: Any) -> Any:
            self.reached.set()
            assert self.open.wait(60)
            return before(builder, *args, **more)

        monkeypatch.setattr(Builder, step, wait)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Gate]]:
    made: list[Gate] = []

    def make(step: str) -> Gate:
        made.append(Gate(monkeypatch, step))
        return made[-1]

    yield make
    for each in made:
        each.open.set()


async def reached(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.reached.wait, 60)


# building


async def test_a_large_scope_gets_its_segment_while_searches_stay_right(
    db: PatternDB, flux: Agent, path: str, gate: Callable[[str], Gate]
) -> None:
    await say(db, flux.id, texts(LARGE - 1))
    assert await wrong(db, path, flux.id) == []
    adding = gate("_add")
    await say(db, flux.id, texts(20, "more"))
    assert await wrong(db, path, flux.id) == []
    await reached(adding)
    await say(db, flux.id, texts(20, "meanwhile"))
    assert await wrong(db, path, flux.id) == []
    assert files(path) == []
    adding.open.set()
    await built(db)
    assert len(files(path)) == 1
    assert await wrong(db, path, flux.id) == []
    await say(db, flux.id, texts(3, "after"))
    assert await missing(db, flux.id, [*texts(3, "after"), *texts(3, "meanwhile")]) == []
    assert await wrong(db, path, flux.id) == []


async def test_an_opened_database_uses_the_segment_that_is_there(
    db: PatternDB, large: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(path)[0].stat().st_ino
    monkeypatch.setattr(Builder, "add_page", None)
    async with opened(path) as again:
        assert await wrong(again, path, large.id) == []
        assert segment_of(again) is not None
        await built(again)
    assert files(path)[0].stat().st_ino == before


def segment_of(db: PatternDB) -> Any:
    """The segment of the only scope that was searched."""
    (found,) = index_of(db)._scopes.values()
    return found.segment


async def test_a_segment_grows_by_what_was_added_since(
    db: PatternDB, large: Agent, path: str
) -> None:
    await say(db, large.id, texts(LARGE + 1, "more"))
    assert await wrong(db, path, large.id) == []
    await built(db)
    assert header_of(files(path)[0]).count == MANY + LARGE + 1
    assert await wrong(db, path, large.id) == []


async def test_optimize_tells_how_far_it_is_and_leaves_nothing_to_do(
    db: PatternDB, flux: Agent, path: str
) -> None:
    await say(db, flux.id, texts(MANY))
    told: list[tuple[int, int]] = []
    await db.optimize(progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (MANY, MANY)
    file = files(path)[0].stat().st_ino
    await db.optimize()
    assert files(path)[0].stat().st_ino == file


async def test_a_graph_finds_nearly_all_of_the_nearest(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "EXPANSIONS", (64, 128, 256))
    async with opened(path) as db:
        agent = await db.agents.create(name="Flux")
        await say(db, agent.id, texts(3000))
        await db.optimize()
        assert header_of(files(path)[0]).expansion > 0
        found = expected = 0
        for n in range(50):
            nearby = {item for item, _ in await nearest(db, agent.id, f"question {n}")}
            real = {item for item, _ in truth(path, agent.id, f"question {n}")}
            found, expected = found + len(nearby & real), expected + len(real)
        assert found >= 0.98 * expected


async def test_a_graph_that_reaches_only_some_of_its_rows_hides_none(
    db: PatternDB, large: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = segment_of(db)
    real = segment.nearest
    monkeypatch.setattr(segment, "nearest", lambda vector, wanted: real(vector, wanted)[:20])
    assert same(
        await nearest(db, large.id, "all", 2 * MANY), truth(path, large.id, "all", 2 * MANY)
    )


# what is found


async def test_what_is_gone_is_not_found_whoever_removed_it(
    db: PatternDB, large: Agent, path: str
) -> None:
    async with opened(path) as other:
        for handle in (db, other):
            for act in (handle.messages.delete, handle.messages.purge):
                first = (await nearest(db, large.id, "where", 1))[0][0]
                await act(first)
                for each in (db, other):
                    found = await nearest(each, large.id, "where", MANY)
                    assert first not in dict(found)
                    assert same(found, truth(path, large.id, "where", MANY))


async def test_what_was_rewritten_is_found_by_its_new_text(
    db: PatternDB, large: Agent, path: str
) -> None:
    first = (await nearest(db, large.id, "where", 1))[0][0]
    await db.messages.update(first, content="elsewhere")
    assert await missing(db, large.id, ["elsewhere"]) == []
    assert await wrong(db, path, large.id) == []


async def test_what_another_handle_wrote_is_found(db: PatternDB, large: Agent, path: str) -> None:
    async with opened(path) as other:
        assert await wrong(other, path, large.id) == []
        for n in range(5):
            await say(db, large.id, [f"news {n}"])
            assert await missing(other, large.id, [f"news {n}"]) == []


async def test_a_filter_that_leaves_ten_gets_its_ten(
    db: PatternDB, large: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "MOST_COMPARED", 40)
    turns = [{"role": "system", "content": f"rare {n}"} for n in range(10)]
    rare = {m.id for m in await db.messages.append_many(large.id, turns)}
    await say(db, large.id, texts(100, "more"))
    await db.optimize()
    for question in texts(5, "question"):
        hits = await db.search(large.id, question, mode="semantic", roles=["system"], limit=10)
        assert {hit.item.id for hit in hits} == rare


async def test_what_is_excluded_makes_room_for_the_next(
    db: PatternDB, large: Agent, path: str
) -> None:
    await say(db, large.id, texts(5, "tail"))
    ranked = [item for item, _ in truth(path, large.id, "where", 60)]
    found = await nearest(db, large.id, "where", 10, exclude=ranked[:50])
    assert [item for item, _ in found] == ranked[50:60]


async def test_several_agents_are_searched_together_and_apart(
    db: PatternDB, large: Agent, path: str
) -> None:
    other, few = [await db.agents.create(name=name) for name in ("Other", "Few")]
    await say(db, other.id, texts(MANY, "other"))
    await say(db, few.id, texts(5, "few"))
    await db.optimize()
    assert len(files(path)) == 2
    for agents in ([large.id], [other.id], [few.id], [large.id, other.id, few.id]):
        assert await wrong(db, path, agents) == []


async def test_a_long_message_is_found_once_by_its_best_part(
    db: PatternDB, flux: Agent, path: str
) -> None:
    await say(db, flux.id, [" ".join(texts(50, f"long {n}")) for n in range(40)])
    await db.optimize()
    await say(db, flux.id, [" ".join(texts(50, f"longer {n}")) for n in range(5)])
    assert len(files(path)) == 1
    found = await nearest(db, flux.id, "where", 100)
    assert len(found) == len(dict(found)) == 45
    assert await wrong(db, path, flux.id) == []


async def test_uncommitted_messages_are_found_inside_and_never_outside(
    db: PatternDB, large: Agent, path: str
) -> None:
    gone = (await nearest(db, large.id, "where", 1))[0][0]
    async with opened(path) as other:
        with pytest.raises(KeyError):
            async with db.transaction():
                await say(db, large.id, ["undone"])
                await db.messages.delete(gone)
                assert await missing(db, large.id, ["undone"]) == []
                assert gone not in dict(await nearest(db, large.id, "where", MANY))
                assert await wrong(other, path, large.id) == []
                assert gone in dict(await nearest(other, large.id, "where", MANY))
                raise KeyError
        await say(db, large.id, ["said with the number of what was undone"])
        for each in (db, other):
            assert await missing(each, large.id, ["said with the number of what was undone"]) == []
            assert await wrong(each, path, large.id) == []


async def test_the_scores_of_named_items_are_exact(db: PatternDB, large: Agent, path: str) -> None:
    await say(db, large.id, texts(5, "tail"))
    expected = truth(path, large.id, "where", 2 * MANY)
    found = await db.store.vector_scores(
        table_of_messages(),
        vector_of("where"),
        space=db.embeddings.space,
        agent_ids=[large.id],
        ids=[item for item, _ in expected] + ["nothing"],
    )
    assert same(sorted(found.items(), key=lambda pair: -pair[1]), expected)


def table_of_messages() -> Any:
    from pattern_db.models import Message
    from pattern_db.schema import table_of

    return table_of(Message)


async def test_a_segment_that_comes_while_scores_are_asked_hides_nothing(
    db: PatternDB, flux: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tail begins after the segment, so both have to be looked at in one go."""
    ids = await say(db, flux.id, texts(LARGE - 1))
    assert await wrong(db, path, flux.id) == []
    (scope,) = index_of(db)._scopes.values()
    await say(db, flux.id, texts(2, "more"))
    lock = scope._lock

    class Late:
        """Somebody else has the lock first, and gives the scope a segment."""

        def __enter__(self) -> None:
            scope._lock = lock
            index_of(db).build(scope.scope, DIMENSIONS)
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    scope._lock = Late()
    found = await db.store.vector_scores(
        table_of_messages(),
        vector_of("where"),
        space=db.embeddings.space,
        agent_ids=[flux.id],
        ids=ids,
    )
    assert scope.segment is not None
    assert len(found) == len(ids)


# what goes


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


async def test_an_agent_purged_while_its_segment_is_made_leaves_none(
    db: PatternDB, flux: Agent, path: str, gate: Callable[[str], Gate]
) -> None:
    finishing = gate("_survey")
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


async def test_a_segment_that_is_made_during_a_vacuum_does_not_keep_what_was_removed(
    db: PatternDB, large: Agent, path: str, gate: Callable[[str], Gate]
) -> None:
    finishing = gate("_survey")
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
