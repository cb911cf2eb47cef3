"""Builders, searches and closing at once; and what is held in memory is bounded."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pattern_db
from pattern_db import Agent, PatternDB
from pattern_db.engines.sqlite.vectors import segments_folder
from pattern_db.vectors import building
from pattern_db.vectors import scope as scopes
from pattern_db.vectors.building import Builder
from pattern_db.vectors.locking import only_builder
from pattern_db.vectors.segment import new_index, quantized
from tests.reliability.segments import (
    DIMENSIONS,
    LARGE,
    Spread,
    built,
    files,
    index_of,
    make_small,
    nearest,
    same,
    say,
    texts,
    truth,
    vector_of,
    wrong,
)

from .conftest import MANY, Gate, opened, reached, segment_of

pytestmark = pytest.mark.slow


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
