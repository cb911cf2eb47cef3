"""Large scopes are searched through files beside the database, which are never trusted."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pattern_db
from pattern_db import Agent, PatternDB, QueryFailed
from pattern_db.embeddings import Matrix, Vector
from pattern_db.engines.sqlite.vectors import SqliteSource, segments_folder
from pattern_db.vectors import Scope, building, calibration, index
from pattern_db.vectors import scope as scopes
from pattern_db.vectors.building import Builder
from pattern_db.vectors.locking import only_builder
from pattern_db.vectors.segment import Segment, header_of, new_index, open_segment, quantized
from tests.reliability.segments import (
    DIMENSIONS,
    LARGE,
    MESSAGES,
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

pytestmark = pytest.mark.slow

MANY = 3 * LARGE


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch.setattr)


@asynccontextmanager
async def opened(path: str, **more: Any) -> AsyncIterator[PatternDB]:
    async with pattern_db.open(path, **{"embeddings": Spread(), **more}) as db:
        yield db


@pytest.fixture
async def db(path: str) -> AsyncIterator[PatternDB]:
    """A database that leaves no thread behind when it is closed."""
    before = set(threading.enumerate())
    async with opened(path) as database:
        yield database
    started = set(threading.enumerate()) - before
    assert not [thread.name for thread in started if thread.name.startswith("pattern-db")]


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
        owner = Segment if step == "save" else Builder
        before = getattr(owner, step)

        def wait(*args: Any, **more: Any) -> Any:
            self.reached.set()
            assert self.open.wait(60)
            return before(*args, **more)

        monkeypatch.setattr(owner, step, wait)


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
        await say(db, agent.id, texts(1000))
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
    monkeypatch.setattr(segment, "nearest", lambda *asked: (real(*asked)[0][:20], 20))
    assert same(
        await nearest(db, large.id, "all", 2 * MANY), truth(path, large.id, "all", 2 * MANY)
    )


async def test_only_rows_that_can_be_among_the_nearest_are_confirmed(
    db: PatternDB, large: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirmed: list[int] = []
    real = SqliteSource.rows_numbered

    def seen(source: SqliteSource, scope: Scope, numbers: Sequence[int]) -> list[Any]:
        confirmed.append(len(numbers))
        return real(source, scope, numbers)

    monkeypatch.setattr(SqliteSource, "rows_numbered", seen)
    assert same(await nearest(db, large.id, "few"), truth(path, large.id, "few"))
    assert len(confirmed) == 1
    assert 10 <= confirmed[0] < 10 + calibration.SLACK


class Coarse(Spread):
    """Vectors of which one number is so large that integers hardly tell the others apart."""

    async def embed(self, text: str) -> Vector:
        return coarse(text)

    async def embed_batch(self, texts: Sequence[str]) -> Matrix:
        return np.array([coarse(text) for text in texts], np.float32)

    async def embed_query(self, text: str) -> Vector:
        return coarse(text)


def coarse(text: str) -> Vector:
    vector = 0.05 * vector_of(text)
    vector[0] += 1
    unit: Vector = vector / np.linalg.norm(vector)
    return unit


async def test_the_nearest_are_found_where_integers_hardly_tell_vectors_apart(path: str) -> None:
    async with opened(path, embeddings=Coarse()) as db:
        agent = await db.agents.create(name="Flux")
        said = texts(400)
        ids = dict(zip(said, await say(db, agent.id, said), strict=True))
        await db.optimize()
        vectors = np.array([coarse(text) for text in said])
        for n in range(50):
            question = coarse(f"question {n}")
            found = await db.store.vector_search(
                MESSAGES, question, space=1, agent_ids=[agent.id], limit=10
            )
            best = np.argsort(-(vectors @ question))[:10]
            assert {item for item, _ in found} == {ids[said[place]] for place in best}


# what is found


async def test_what_is_gone_is_not_found_whoever_removed_it(
    db: PatternDB, large: Agent, path: str
) -> None:
    tail = await say(db, large.id, texts(20, "tail"))
    async with opened(path) as other:
        assert await wrong(other, path, large.id) == []
        for handle in (db, other):
            for act in (handle.messages.delete, handle.messages.purge):
                first = (await nearest(db, large.id, "where", 1))[0][0]
                gone = {first, tail.pop()}
                for id in gone:
                    await act(id)
                for each in (db, other):
                    found = await nearest(each, large.id, "where", 2 * MANY)
                    assert not gone & set(dict(found))
                    assert same(found, truth(path, large.id, "where", 2 * MANY))


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


async def test_what_is_at_hand_is_so_until_somebody_writes(
    db: PatternDB, flux: Agent, path: str
) -> None:
    await say(db, flux.id, texts(LARGE // 2))
    scope = Scope(db.embeddings.space or 1, flux.id, "message")

    async def at_hand() -> bool:
        found: bool = await db.store._read(  # type: ignore[attr-defined]
            lambda c: index_of(db).is_at_hand(SqliteSource(c), [scope], DIMENSIONS)
        )
        return found

    assert not await at_hand()
    await nearest(db, flux.id, "anything")
    assert await at_hand()
    async with opened(path) as other:
        (newest,) = await say(other, flux.id, ["written elsewhere"])
    assert not await at_hand()
    assert (await nearest(db, flux.id, "written elsewhere", 1))[0][0] == newest
    assert await at_hand()


async def test_a_filter_that_leaves_ten_gets_its_ten(
    db: PatternDB, large: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scopes, "MOST_COMPARED", 40)
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
        MESSAGES,
        vector_of("where"),
        space=db.embeddings.space,
        agent_ids=[large.id],
        ids=[item for item, _ in expected] + ["nothing"],
    )
    assert same(sorted(found.items(), key=lambda pair: -pair[1]), expected)


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

        def locked(self) -> bool:
            return False

        def __enter__(self) -> None:
            scope._lock = lock
            index_of(db).build(scope.scope, DIMENSIONS)
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    scope._lock = Late()
    found = await db.store.vector_scores(
        MESSAGES,
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


# files that are not to be trusted


def nothing(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_bytes(b"")


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def beheaded(file: Path) -> None:
    file.write_bytes(file.read_bytes()[1:])


def prolonged(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"more")


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [nothing, empty, zeroed, truncated, beheaded, prolonged, flipped],
    ids=lambda f: f.__name__,
)
async def test_a_damaged_segment_is_made_anew_while_searches_stay_right(
    db: PatternDB, large: Agent, path: str, damage: Callable[[Path], None]
) -> None:
    damage(files(path)[0])
    async with opened(path) as again:
        assert await wrong(again, path, large.id) == []
        await built(again)
        assert header_of(files(path)[0]).count == MANY
        assert await wrong(again, path, large.id) == []


async def test_no_changed_byte_goes_unnoticed(db: PatternDB, large: Agent, path: str) -> None:
    file = files(path)[0]
    content, scope = file.read_bytes(), header_of(file).scope

    with index_of(db)._connect() as source:
        assert open_segment(file, source, scope, DIMENSIONS) is not None

        @given(st.integers(0, len(content) - 1), st.integers(1, 255))
        @settings(max_examples=300, deadline=None)
        def changed(place: int, by: int) -> None:
            other = bytearray(content)
            other[place] ^= by
            file.write_bytes(other)
            assert open_segment(file, source, scope, DIMENSIONS) is None
            header_of(file)

        @given(st.integers(0, len(content) - 1))
        @settings(max_examples=100, deadline=None)
        def cut(length: int) -> None:
            file.write_bytes(content[:length])
            assert open_segment(file, source, scope, DIMENSIONS) is None
            header_of(file)

        changed()
        cut()


async def test_a_segment_of_another_scope_is_not_used(
    db: PatternDB, large: Agent, path: str
) -> None:
    other = await db.agents.create(name="Other")
    await say(db, other.id, texts(MANY, "other"))
    await db.optimize()
    one, two = files(path)
    contents = one.read_bytes(), two.read_bytes()
    two.write_bytes(contents[0])
    one.write_bytes(contents[1])
    async with opened(path) as again:
        for agent in (large.id, other.id):
            assert await wrong(again, path, agent) == []


async def test_a_segment_of_another_database_is_not_used(
    db: PatternDB, large: Agent, path: str, tmp_path: Path
) -> None:
    elsewhere = str(tmp_path / "other.db")
    async with opened(elsewhere) as other:
        agent = await other.agents.create(name="Flux", id=large.id)
        await say(other, agent.id, texts(MANY, "other"))
        await other.optimize()
    (theirs,) = files(elsewhere)
    (mine,) = files(path)
    assert mine.name == theirs.name
    shutil.copy(theirs, mine)
    async with opened(path) as again:
        assert await wrong(again, path, large.id) == []
        await built(again)
        assert header_of(mine).database_id != header_of(theirs).database_id


async def test_closing_removes_a_segment_of_another_database(
    db: PatternDB, large: Agent, path: str, tmp_path: Path
) -> None:
    (mine,) = files(path)
    elsewhere = str(tmp_path / "other.db")
    async with opened(elsewhere) as other:
        await other.agents.create(name="Flux")
        segments_folder(elsewhere).mkdir()
        shutil.copy(mine, segments_folder(elsewhere))
    assert files(elsewhere) == []


@pytest.mark.parametrize("newest_gone", [False, True])
@pytest.mark.parametrize("same_ids", [False, True])
async def test_an_older_copy_that_grew_differently_finds_all_it_has(
    path: str, tmp_path: Path, same_ids: bool, newest_gone: bool
) -> None:
    """Its rows have numbers that the segment knows as other rows."""

    async def grow(db: PatternDB, name: str, count: int) -> list[str]:
        turns = [
            {"role": "user", "content": text, **({"id": f"id-{n}"} if same_ids else {})}
            for n, text in enumerate(texts(count, name))
        ]
        return [m.id for m in await db.messages.append_many("agent-flux", turns)]

    async with opened(path) as db:
        await db.agents.create(name="Flux", id="agent-flux")
        await say(db, "agent-flux", texts(LARGE // 2))
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    async with opened(path) as db:
        await grow(db, "one way", MANY)
        await db.optimize()
    assert len(files(path)) == 1
    shutil.copy(copy, path)
    async with opened(path) as db:
        ids = await grow(db, "the other way", MANY + 5)
        if newest_gone:  # the very rows that would have shown that histories differ
            for id in ids[MANY - 16 : MANY]:
                await db.messages.purge(id)
        for _ in range(2):
            assert await missing(db, "agent-flux", texts(MANY - 16, "the other way")) == []
            assert await wrong(db, path, "agent-flux") == []
            await built(db)


# folders that cannot be written


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "pattern_db.vectors"]


async def test_a_folder_that_cannot_be_made_is_told_once(
    db: PatternDB, flux: Agent, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    segments_folder(path).write_text("in the way")
    await say(db, flux.id, texts(MANY))
    for _ in range(3):
        assert await wrong(db, path, flux.id) == []
        await built(db)
    assert len(warnings_of(caplog)) == 1
    with pytest.raises(QueryFailed, match="cannot be written beside the database"):
        await db.optimize()
    await db.vacuum()
    await db.agents.purge(flux.id)
    segments_folder(path).unlink()


async def test_a_directory_in_place_of_a_segment_is_told_once(
    db: PatternDB, large: Agent, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    (file,) = files(path)
    file.unlink()
    file.mkdir()
    (file / "something").write_text("of somebody")
    async with opened(path) as again:
        for _ in range(3):
            assert await wrong(again, path, large.id) == []
            await built(again)
        assert len(warnings_of(caplog)) == 1
        await again.agents.purge(large.id)
    assert (file / "something").read_text() == "of somebody"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
async def test_a_full_disk_is_told_once_and_used_when_there_is_room(
    db: PatternDB,
    flux: Agent,
    path: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await say(db, flux.id, texts(MANY))
    folder = segments_folder(path)
    folder.mkdir()
    real = index._remove_leftovers

    def fill(_folder: Path) -> None:
        real(_folder)
        name = index_of(db)._path(Scope(db.embeddings.space or 0, flux.id, "message"))
        name.with_suffix(f".{os.getpid()}.new").symlink_to("/dev/full")

    monkeypatch.setattr(index, "_remove_leftovers", fill)
    for _ in range(3):
        assert await wrong(db, path, flux.id) == []
        await built(db)
    assert len(warnings_of(caplog)) == 1
    assert files(path) == []
    with pytest.raises(QueryFailed, match="make room"):
        await db.optimize()
    monkeypatch.setattr(index, "_remove_leftovers", real)
    assert await wrong(db, path, flux.id) == []
    await built(db)
    assert len(files(path)) == 1
    assert set(os.listdir(folder)) == {files(path)[0].name, "lock"}


async def test_a_file_that_the_disk_took_by_half_is_not_put_in_place(
    db: PatternDB, large: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = files(path)
    with index_of(db)._connect() as source:
        found = open_segment(file, source, header_of(file).scope, DIMENSIONS)
    before = file.read_bytes()

    class Short:
        def save(self, name: str) -> None:
            Path(name).write_bytes(before[: len(before) // 2])

    monkeypatch.setattr(found, "_index", Short())
    with pytest.raises(OSError, match="did not take all"):
        found.save(file)
    assert file.read_bytes() == before
    assert not list(segments_folder(path).glob("*.new"))


async def test_any_error_of_a_builder_is_told_once_and_harms_no_search(
    db: PatternDB,
    flux: Agent,
    path: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no memory")

    monkeypatch.setattr(Builder, "_add", fail)
    await say(db, flux.id, texts(MANY))
    for _ in range(3):
        assert await wrong(db, path, flux.id) == []
        await built(db)
    assert len(warnings_of(caplog)) == 1


@pytest.mark.parametrize("act", ["build", "close"])
async def test_what_killed_builders_left_is_removed(
    db: PatternDB, large: Agent, path: str, act: str
) -> None:
    left = files(path)[0].with_suffix(".4242.new")
    left.write_bytes(b"half")
    if act == "build":
        await db.optimize()
    else:
        async with opened(path):
            pass
    assert not left.exists()


async def test_closing_leaves_alone_what_another_builder_is_writing(
    db: PatternDB, large: Agent, path: str
) -> None:
    left = files(path)[0].with_suffix(".4242.new")
    left.write_bytes(b"half")
    with only_builder(segments_folder(path)) as alone:
        assert alone()
        async with opened(path):
            pass
        assert left.exists()


async def test_an_encrypted_database_writes_no_vector_file(path: str) -> None:
    async with opened(path, key="a key of a test") as db:
        agent = await db.agents.create(name="Flux")
        await say(db, agent.id, texts(MANY))
        await nearest(db, agent.id, "where")
        await built(db)
        assert len(segment_of(db)) == MANY
        await say(db, agent.id, texts(LARGE + 1, "more"))
        assert await missing(db, agent.id, [*texts(10), *texts(10, "more")]) == []
        await built(db)
        assert len(segment_of(db)) == MANY + LARGE + 1
        assert await missing(db, agent.id, [*texts(10), *texts(10, "more")]) == []
        await db.optimize()
        gone = (await nearest(db, agent.id, "where", 1))[0][0]
        await db.messages.purge(gone)
        await db.vacuum()
        assert gone not in dict(await nearest(db, agent.id, "where", MANY))
        await db.agents.purge(agent.id)
        assert not index_of(db)._scopes
        assert not segments_folder(path).exists()
    assert not segments_folder(path).exists()


async def test_a_database_in_memory_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with opened(":memory:") as db:
        agent = await db.agents.create(name="Flux")
        await say(db, agent.id, texts(MANY))
        await db.optimize()
        assert len(segment_of(db)) == MANY
        assert list(tmp_path.rglob("*.segment"))
    assert list(tmp_path.iterdir()) == []


# several at once


async def test_closing_stops_a_builder(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait until all rows are added."""
    monkeypatch.setattr(building, "_ADD_ROWS", 1)
    added: list[int] = []
    first, closing = threading.Event(), threading.Event()
    real = Builder._add

    def add(builder: Builder, rows: Any) -> None:
        added.append(len(rows))
        first.set()
        assert closing.wait(60)
        real(builder, rows)

    monkeypatch.setattr(Builder, "_add", add)
    async with opened(path) as db:
        agent = await db.agents.create(name="Flux")
        await say(db, agent.id, texts(MANY))
        await nearest(db, agent.id, "where")
        assert await asyncio.to_thread(first.wait, 60)
        monkeypatch.setattr(
            index_of(db)._closing, "set", both(index_of(db)._closing.set, closing.set)
        )
    assert len(added) == 1
    assert files(path) == []


async def test_closing_stops_and_awaits_what_optimize_builds(
    path: str, gate: Callable[[str], Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    db = await pattern_db.open(path, embeddings=Spread())
    agent = await db.agents.create(name="Flux")
    await say(db, agent.id, texts(MANY))
    surveying = gate("_survey")
    optimizing = asyncio.create_task(db.optimize())
    await reached(surveying)
    closing = index_of(db)._closing
    monkeypatch.setattr(closing, "set", both(closing.set, surveying.open.set))
    await db.close()
    assert not index_of(db)._one_build.locked()
    assert files(path) == []
    await optimizing


def both(*acts: Callable[[], None]) -> Callable[[], None]:
    def act() -> None:
        for each in acts:
            each()

    return act


async def test_two_builders_do_not_build_at_once(
    db: PatternDB, flux: Agent, path: str, gate: Callable[[str], Gate]
) -> None:
    await say(db, flux.id, texts(MANY))
    adding = gate("_add")
    assert await wrong(db, path, flux.id) == []
    await reached(adding)
    async with opened(path) as other:
        for _ in range(2):
            assert await wrong(other, path, flux.id) == []
            await built(other)  # it found the other one at work
        assert files(path) == []
        adding.open.set()
        await built(db)
        (made,) = [file.stat().st_ino for file in files(path)]
        assert await wrong(other, path, flux.id) == []
        await built(other)
        assert await wrong(other, path, flux.id) == []
        assert len(segment_of(other)) == MANY
        assert [file.stat().st_ino for file in files(path)] == [made]  # it took what was there


async def test_two_searches_at_once_do_not_take_a_row_twice(
    db: PatternDB, flux: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One begins while another has read new rows and not added them yet."""
    await say(db, flux.id, texts(10))
    assert await wrong(db, path, flux.id) == []
    ((scope, _), held), *_ = index_of(db)._scopes.items()
    more = await say(db, flux.id, texts(5, "more"))
    real, lock = scopes.pages, held._lock
    waiting_or_done = threading.Event()

    def search(name: str) -> None:
        with index_of(db)._connect() as source:
            index_of(db).search(source, scope, vector_of(name), 5)
        waiting_or_done.set()

    second = threading.Thread(target=search, args=("second",))

    class Watched:
        def __enter__(self) -> None:
            if threading.current_thread() is second:
                waiting_or_done.set()
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    def pages(*args: Any) -> Iterator[Any]:
        for page in real(*args):
            if threading.current_thread() is not second:
                second.start()
                assert waiting_or_done.wait(60)
            yield page

    held._lock = Watched()
    monkeypatch.setattr(scopes, "pages", pages)
    search("first")
    second.join()
    monkeypatch.setattr(scopes, "pages", real)
    held._lock = lock
    for id in more:
        await db.messages.purge(id)
    assert not dict(await nearest(db, flux.id, "where", 100)).keys() & set(more)
    assert await wrong(db, path, flux.id) == []


async def test_a_forked_child_does_not_keep_the_builders_lock(path: str) -> None:
    folder = segments_folder(path)
    folder.mkdir()
    with only_builder(folder) as alone:
        assert alone()
        ready, go = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(ready, 1)
            os._exit(0)
    os.close(ready)
    try:
        with only_builder(folder) as alone:
            assert alone()
    finally:
        os.close(go)
        assert os.waitpid(child, 0)[1] == 0


# memory


async def test_what_is_held_of_many_scopes_is_bounded(
    db: PatternDB, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = [await db.agents.create(name=f"{n}") for n in range(12)]
    for agent in agents:
        await say(db, agent.id, texts(50, agent.id))
    held_of_one = 64 * DIMENSIONS * 4
    monkeypatch.setattr(scopes, "HELD_BYTES", 4 * held_of_one)
    for agent in [*agents, *agents]:
        assert await wrong(db, path, agent.id) == []
        held = [scope.held_bytes for scope in index_of(db)._scopes.values()]
        assert sum(held) <= scopes.HELD_BYTES
        assert sum(map(bool, held)) <= 4


async def test_a_tail_too_long_to_hold_is_read_until_there_is_a_segment(
    path: str, gate: Callable[[str], Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scopes, "HELD_BYTES", 2 * LARGE * 2 * DIMENSIONS * 4)
    async with opened(path) as db:
        agent = await db.agents.create(name="Flux")
        adding = gate("_add")
        await say(db, agent.id, texts(LARGE * 10))
        assert await wrong(db, path, agent.id) == []
        await reached(adding)
        (scope,) = index_of(db)._scopes.values()
        assert scope.held_bytes == 0
        excluded = [item for item, _ in truth(path, agent.id, "where", 5)]
        found = await nearest(db, agent.id, "where", exclude=excluded)
        assert same(found, truth(path, agent.id, "where", 15)[5:])
        adding.open.set()
        await built(db)
        assert len(segment_of(db)) == LARGE * 10
        assert await wrong(db, path, agent.id) == []
        assert not scope.wants_segment


async def test_a_long_tail_that_goes_again_leaves_nothing_to_build(
    db: PatternDB,
    large: Agent,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    gate: Callable[[str], Gate],
) -> None:
    monkeypatch.setattr(scopes, "HELD_BYTES", 2 * LARGE * 2 * DIMENSIONS * 4)
    ids = await say(db, large.id, texts(LARGE * 3, "more"))
    monkeypatch.setattr(index_of(db), "_build_aside", lambda _index: None)
    assert await wrong(db, path, large.id) == []
    (scope,) = index_of(db)._scopes.values()
    assert scope.wants_segment
    for id in ids:
        await db.messages.purge(id)
    monkeypatch.undo()
    make_small(monkeypatch.setattr)
    assert await wrong(db, path, large.id) == []
    await built(db)
    assert not scope.wants_segment
    assert await wrong(db, path, large.id) == []


async def test_vectors_so_wide_that_few_can_be_held_get_a_segment_sooner(
    db: PatternDB, flux: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scopes, "HELD_BYTES", LARGE * DIMENSIONS * 4)
    await say(db, flux.id, texts(LARGE - 10))
    assert await wrong(db, path, flux.id) == []
    await built(db)
    assert len(segment_of(db)) == LARGE - 10
    (scope,) = index_of(db)._scopes.values()
    assert not scope.wants_segment


async def test_a_segment_is_let_go_when_another_took_its_place(
    db: PatternDB, large: Agent, path: str
) -> None:
    for n in range(3):
        await say(db, large.id, texts(LARGE, f"round {n}"))
        await db.optimize()
        assert await wrong(db, path, large.id) == []
    gc.collect()
    mapped = Path("/proc/self/maps")
    if mapped.exists():
        assert mapped.read_text().count(str(files(path)[0])) == 1


def test_a_vector_of_zeros_harms_no_graph() -> None:
    rows = np.zeros((20, DIMENSIONS), np.float32)
    rows[10:] = [vector_of(f"{n}") for n in range(10)]
    made = new_index(DIMENSIONS)
    made.add(np.arange(20, dtype=np.uint64), quantized(rows), threads=1)
    found = made.search(quantized(rows[15]), 1, exact=True, threads=1).keys
    assert [int(key) for key in found] == [15]


def test_the_bundled_model_can_be_loaded_after_a_segment() -> None:
    script = "from pattern_db.vectors.segment import new_index; new_index(8); import onnxruntime"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
