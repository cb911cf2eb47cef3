"""``kill -9`` at random times of processes that write everything at once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import pattern_db
from pattern_db import BatchStatus
from tests.rigs.ackpipe import kills

from .load import TALKER, broken_promises
from .soundness import flaws
from .tiny import TinyEmbeddings

ROOT = Path(__file__).parents[2]
PER_FILE = 10
"""Cycles on one file: later ones die in a database that has survived the earlier ones."""


async def die(tmp_path: Path, cycles: int, *, seed: int, processes: int = 1) -> int:
    """Kill that often, check the file after each kill; gives how many acknowledgements it kept."""
    kept = 0
    for first in range(0, cycles, PER_FILE):
        path = tmp_path / f"{first}.db"
        command = [sys.executable, "-u", "-m", "tests.reliability.load", str(path)]
        number = min(PER_FILE, cycles - first)
        acks: list[str] = []
        for cycle in kills(command, number, seed + first, processes=processes, cwd=ROOT):
            assert cycle.returncode == -9
            acks += cycle.acks
            if cycle.child == processes - 1:
                await survive(path, acks)
        kept += len(acks)
    return kept


async def survive(path: Path, acks: list[str]) -> None:
    """The file opens, keeps every promise, agrees with itself and goes on working."""
    async with pattern_db.open(path, embeddings=TinyEmbeddings()) as db:
        await db.messages.repair()
        assert await db.messages.batches.list(TALKER, status=BatchStatus.OPEN) == []
        await db.embed_pending()
        before = await db.messages.count()
        after = await db.messages.append(TALKER, role="user", content=f"survivor {before}")
        hits = await db.search(TALKER, f"survivor {before}", limit=1)
        assert [hit.item for hit in hits] == [after]
    assert broken_promises(path, acks) == []
    assert flaws(path) == []


async def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    assert await die(tmp_path, 10, seed=1) > 100


@pytest.mark.slow
async def test_a_hundred_killed_processes_lose_nothing(tmp_path: Path) -> None:
    assert await die(tmp_path, 100, seed=100) > 1000


@pytest.mark.slow
async def test_two_processes_killed_while_they_write_one_file_lose_nothing(tmp_path: Path) -> None:
    assert await die(tmp_path, 20, seed=2, processes=2) > 200
