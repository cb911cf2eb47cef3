"""``kill -9`` in the middle of copies: run again, they go on, and nothing is there twice or torn."""

from __future__ import annotations

from pathlib import Path

import pytest

import pattern_db
from pattern_db.transfer import compare_databases, copy_database
from tests.reliability.tiny import TinyEmbeddings
from tests.rigs.ackpipe import kills, module

from .constellation import fill

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KILLS = 10


@pytest.mark.slow
@pytest.mark.parametrize("way", ["sqlite to postgres", "postgres to sqlite"])
async def test_a_copy_that_is_killed_ten_times_ends_as_if_it_had_run_once(
    way: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    filled, server = str(tmp_path / "filled.db"), request.getfixturevalue("postgres_server")
    async with pattern_db.open(filled, embeddings=TinyEmbeddings()) as db:
        await fill(db, messages=2500)

    def place(engine: str, number: int) -> str:
        return server.database() if engine == "postgres" else str(tmp_path / f"{number}.db")

    origin, goal = way.split(" to ")
    source = filled if origin == "sqlite" else place(origin, 0)
    if source != filled:
        await _copy(filled, source)
    killed, number = 0, 0
    while killed < KILLS:
        number += 1
        destination = place(goal, number)
        killed += _kill(source, destination, KILLS - killed, seed=number)
        written = await _copy(source, destination)
        assert number < 10, "the copies were done before they could be killed"
    assert written > 0, "the last one was killed before it was done"


def _kill(source: str, destination: str, times: int, *, seed: int) -> int:
    """Copy and be killed at most that often; gives how often it was before the copy was done."""
    command = module("tests.transfer.copier", source, destination)
    killed = 0
    for cycle in kills(command, min(times, 6), seed, 0.25, cwd=ROOT):
        if cycle.returncode == 0:
            break
        killed += 1
    return killed


async def _copy(source: str, destination: str) -> int:
    """Copy to the end, compare everything; gives how much was left to do."""
    async with (
        pattern_db.open(source, embeddings="none") as left,
        pattern_db.open(destination, embeddings="none") as right,
    ):
        report = await copy_database(left, right)
        found = await compare_databases(left, right)
        assert found.equal
        assert {table.extra for table in found.tables} == {0}
        return report.written
