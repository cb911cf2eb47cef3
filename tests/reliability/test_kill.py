"""``kill -9`` at random times of processes that write everything at once."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pattern_db
from pattern_db import BatchStatus
from tests.rigs.ackpipe import kills

from .load import READER, broken_promises
from .soundness import flaws
from .tiny import TinyEmbeddings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def die(path: Path, cycles: int, *, within_s: float, processes: int = 1) -> int:
    """Kill that often, each time within so many seconds of the beginning, and check the file; gives
    how many promises it keeps.

    Later cycles die in a database that has survived the earlier ones.
    """
    command = [sys.executable, "-u", "-m", "tests.reliability.load", str(path)]
    acks: list[str] = []
    for cycle in kills(command, cycles, int(path.stem), within_s, processes=processes, cwd=ROOT):
        assert cycle.returncode == -9
        acks += cycle.acks
        if cycle.child == processes - 1:
            asyncio.run(survive(path, acks))
    return len(acks)


async def survive(path: Path, acks: list[str]) -> None:
    """The file opens, goes on working, keeps every promise and agrees with itself."""
    async with pattern_db.open(path, embeddings=TinyEmbeddings()) as db:
        repaired = await db.messages.repair()
        assert {batch.status for batch in repaired} <= {BatchStatus.REPAIRED}
        assert await db.messages.repair() == []
        await db.embed_pending()
        if await db.agents.get(READER) is None:
            await db.agents.create(name=READER, id=READER)
        before = await db.messages.count()
        after = await db.messages.append(READER, role="user", content=f"survivor {before}")
        assert after in [hit.item for hit in await db.search(READER, f"survivor {before}")]
    assert broken_promises(path, acks) == []
    assert flaws(path) == []


def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    assert die(tmp_path / "1.db", 10, within_s=0.3) > 100


@pytest.mark.slow
def test_a_hundred_killed_processes_lose_nothing(tmp_path: Path) -> None:
    """Ten files, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        kept = pool.map(
            lambda seed: die(tmp_path / f"{seed}.db", 10, within_s=0.3), range(100, 110)
        )
        assert sum(kept) > 1000


@pytest.mark.slow
def test_two_processes_killed_while_they_write_one_file_lose_nothing(tmp_path: Path) -> None:
    assert die(tmp_path / "2.db", 8, within_s=0.4, processes=2) > 100


@pytest.mark.slow
def test_a_process_killed_while_it_makes_a_new_file_leaves_one_that_opens(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda n: die(tmp_path / f"{n}.db", 1, within_s=0.06), range(24)))
