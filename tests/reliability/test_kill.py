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

from .load import TALKER, broken_promises
from .soundness import flaws
from .tiny import TinyEmbeddings

ROOT = Path(__file__).parents[2]


def die(path: Path, cycles: int, *, processes: int = 1) -> int:
    """Kill that often and check the file after each kill; gives how many promises it keeps.

    Later cycles die in a database that has survived the earlier ones.
    """
    command = [sys.executable, "-u", "-m", "tests.reliability.load", str(path)]
    acks: list[str] = []
    for cycle in kills(command, cycles, int(path.stem), 0.12, processes=processes, cwd=ROOT):
        assert cycle.returncode == -9
        acks += cycle.acks
        if cycle.child == processes - 1:
            asyncio.run(survive(path, acks))
    return len(acks)


async def survive(path: Path, acks: list[str]) -> None:
    """The file opens, goes on working, keeps every promise and agrees with itself."""
    async with pattern_db.open(path, embeddings=TinyEmbeddings()) as db:
        await db.messages.repair()
        assert await db.messages.batches.list(TALKER, status=BatchStatus.OPEN) == []
        await db.embed_pending()
        before = await db.messages.count()
        after = await db.messages.append(TALKER, role="user", content=f"survivor {before}")
        assert after in [hit.item for hit in await db.search(TALKER, f"survivor {before}")]
    assert broken_promises(path, acks) == []
    assert flaws(path) == []


def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    assert die(tmp_path / "1.db", 10) > 100


@pytest.mark.slow
def test_a_hundred_killed_processes_lose_nothing(tmp_path: Path) -> None:
    """Ten files, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        kept = pool.map(lambda seed: die(tmp_path / f"{seed}.db", 10), range(100, 110))
        assert sum(kept) > 1000


@pytest.mark.slow
def test_two_processes_killed_while_they_write_one_file_lose_nothing(tmp_path: Path) -> None:
    assert die(tmp_path / "2.db", 12, processes=2) > 100
