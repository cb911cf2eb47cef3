"""Power cuts at random moments of a load: what the disk may hold then, through our engine."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import apsw
import pytest

from pattern_db import PatternDB
from tests.rigs.powervfs import Image, Recorder, images, write_image

from .load import Ack, Load, broken_promises
from .opening import open_over
from .soundness import flaws

pytestmark = pytest.mark.slow


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder()
    yield made
    made.close()


def files_after(
    recorder: Recorder, count: int, path: Path, *, seed: int
) -> Iterator[tuple[Path, Image]]:
    """Where the database lies after each of these cuts."""
    for image in images(recorder, count, seed):
        with tempfile.TemporaryDirectory() as place:
            yield write_image(image, place).get(str(path), Path(place, path.name)), image


async def work(db: PatternDB, ack: Ack, prefix: str, *, rounds: int) -> None:
    """Everything at once."""
    load = Load(db, ack, prefix)
    await load.prepare()
    await load.all_at_once(rounds)


@asynccontextmanager
async def checkpointing(path: Path, vfs: str) -> AsyncIterator[None]:
    """Meanwhile another connection moves the log into the database file, again and again."""

    async def again() -> None:
        with closing(apsw.Connection(str(path), vfs=vfs)) as connection:
            connection.pragma("synchronous", "full")
            while not done.is_set():
                await asyncio.to_thread(connection.wal_checkpoint)

    done = asyncio.Event()
    task = asyncio.create_task(again())
    try:
        yield
    finally:
        done.set()
        await task


def checkpoints(recorder: Recorder, path: Path) -> int:
    """How many syncs moved the log into the database file, where a cut could tear it."""
    inodes = {event[2] for event in recorder.log if event[0] == "found" and event[1] == str(path)}
    return sum(event[0] == "sync" and event[1] in inodes for event in recorder.log)


async def cut(tmp_path: Path, recorder: Recorder, count: int, *, rounds: int) -> None:
    """Three sessions on one file, then the cuts: each file is sound and keeps every promise."""
    path = tmp_path / "mind.db"
    for session in "abc":
        async with (
            open_over(path, recorder.name) as db,
            checkpointing(path, recorder.name),
        ):
            await work(db, recorder.mark, session, rounds=rounds)
    assert checkpoints(recorder, path) > 20
    for number, (copy, image) in enumerate(files_after(recorder, count, path, seed=count)):
        marks = list(image.marks)
        if number % 20 == 0:
            async with open_over(copy, None) as db:
                await work(db, marks.append, "after", rounds=1)
        assert broken_promises(copy, marks) == []
        assert flaws(copy) == []


async def test_a_hundred_power_cuts_lose_and_damage_nothing(
    tmp_path: Path, recorder: Recorder
) -> None:
    await cut(tmp_path, recorder, 100, rounds=2)


@pytest.mark.slow
async def test_a_thousand_power_cuts_lose_and_damage_nothing(
    tmp_path: Path, recorder: Recorder
) -> None:
    await cut(tmp_path, recorder, 1000, rounds=3)


async def test_relaxed_durability_loses_only_the_newest_and_damages_nothing(
    tmp_path: Path, recorder: Recorder
) -> None:
    path = tmp_path / "mind.db"
    async with open_over(path, recorder.name, durability="relaxed") as db:
        load = Load(db, recorder.mark, "a")
        await load.prepare()
        await load.one_of_each(rounds=5)
    losses = 0
    for copy, image in files_after(recorder, 150, path, seed=3):
        marks = [mark for mark in image.marks if not mark.startswith("purged")]
        lost = broken_promises(copy, marks)
        assert lost == marks[len(marks) - len(lost) :], "an older one was lost than was kept"
        losses += len(lost) > 0
        assert flaws(copy) == []
    assert losses > 10, "the rig loses nothing: it would not notice a missing sync either"
