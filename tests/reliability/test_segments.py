"""Vector segments under several threads, several processes and ``kill -9``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

import pattern_db
from pattern_db.engines.sqlite.vectors import segments_folder
from pattern_db.vectors import scope
from tests.rigs.ackpipe import kills

from .segment_builder import AGENT, STEPS
from .segment_machine import SegmentMachine
from .segments import (
    LARGE,
    Spread,
    built,
    files,
    make_small,
    missing,
    nearest,
    say,
    texts,
    truth,
    wrong,
)
from .soundness import flaws
from .test_processes import crowd

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

WRITER = """
import asyncio, sys, pattern_db
from tests.reliability.segments import *

async def main(path, agent, name):
    make_small()
    async with pattern_db.open(path, embeddings=Spread()) as db:
        print("ready", flush=True)
        for line in sys.stdin:
            act, _, about = line.strip().partition(" ")
            if act == "say":
                await say(db, agent, [about])
            elif act == "purge":
                await db.messages.purge(about)
            elif act == "optimize":
                await db.optimize()
            print(await wrong(db, path, agent), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch.setattr)


@pytest.fixture(autouse=True)
def _found_by_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)


def test_random_lives_are_searched_as_a_model_is() -> None:
    run_state_machine_as_test(
        SegmentMachine,
        settings=settings(
            max_examples=20,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


async def test_every_commit_of_another_process_is_found_by_the_next_search(path: str) -> None:
    async with pattern_db.open(path, embeddings=Spread()) as db:
        agent = await db.agents.create(name="Flux")
        await say(db, agent.id, texts(LARGE - 20))
        async with crowd(WRITER, 1, path, agent.id) as writers:
            for n in range(60):
                await writers.tell(f"say news {n}")
                assert await writers.answers() == ["[]\n"]
                assert await missing(db, agent.id, [f"news {n}"]) == []
                if n % 5 == 0:
                    gone = (await nearest(db, agent.id, f"gone {n}", 1))[0][0]
                    await writers.tell(f"purge {gone}")
                    assert await writers.answers() == ["[]\n"]
                    assert gone not in dict(await nearest(db, agent.id, f"gone {n}", 1000))
                assert await wrong(db, path, agent.id) == []
        await built(db)
        assert len(files(path)) == 1


async def test_three_processes_that_build_at_once_answer_right(path: str) -> None:
    async with pattern_db.open(path, embeddings=Spread()) as db:
        agent = await db.agents.create(name="Flux")
        await say(db, agent.id, texts(20 * LARGE))
        async with crowd(WRITER, 3, path, agent.id) as builders:
            for n in range(10):
                for file in files(path):
                    file.unlink()
                await say(db, agent.id, texts(30, f"more {n}"))
                await builders.tell("optimize")
                assert await builders.answers() == ["[]\n"] * 3
        assert [file.suffix for file in segments_folder(path).iterdir() if file.name != "lock"] == [
            ".segment"
        ]


async def test_readers_stay_right_while_segments_are_made_and_replaced(path: str) -> None:
    async with pattern_db.open(path, embeddings=Spread(), readers=4) as db:
        agent = await db.agents.create(name="Flux")
        await say(db, agent.id, texts(5 * LARGE))
        done = asyncio.Event()

        async def ask() -> int:
            """What is there all the time is found all the time."""
            count = 0
            while not done.is_set():
                assert await missing(db, agent.id, [f"text {count % (5 * LARGE)}"]) == []
                count += 1
            return count

        async def work() -> None:
            try:
                for n in range(15):
                    ids = await say(db, agent.id, texts(LARGE, f"round {n}"))
                    assert await missing(db, agent.id, texts(LARGE, f"round {n}")[::9]) == []
                    for id in ids[::4]:
                        await db.messages.purge(id)
                    found = dict(await nearest(db, agent.id, "gone", 1_000_000))
                    assert not found.keys() & set(ids[::4])
                    await db.optimize()
                    if n % 5 == 4:
                        await db.vacuum()
            finally:
                done.set()

        *counts, _ = await asyncio.gather(*(ask() for _ in range(6)), work())
        assert min(counts) > 0
        assert await wrong(db, path, agent.id) == []


async def test_handles_with_little_memory_stay_right(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tails are given up during searches of them, and too long to be held."""
    monkeypatch.setattr(scope, "HELD_BYTES", 2 * LARGE * 8 * 4)
    async with pattern_db.open(path, embeddings=Spread(), readers=4) as db:
        agents = [(await db.agents.create(name=f"{n}")).id for n in range(6)]
        for round in range(6):
            for agent in agents:
                await say(db, agent, texts(LARGE * 2, f"{agent} {round}"))
            answers = await asyncio.gather(*(wrong(db, path, agent) for agent in agents * 3))
            assert answers == [[]] * len(answers)


def die(path: Path, cycles: int, seed: int, within_s: float, **env: str) -> Counter[str]:
    """Kill a builder that often and look what is left; gives what the builders were doing."""
    command = [sys.executable, "-u", "-m", "tests.reliability.segment_builder", str(path)]
    said: list[str] = []
    phases: Counter[str] = Counter()
    for cycle in kills(command, cycles, seed, within_s, env=env, cwd=ROOT):
        assert cycle.returncode == -9
        said += [ack.removeprefix("said ") for ack in cycle.acks if ack.startswith("said ")]
        phases[[ack for ack in cycle.acks if ack.startswith("phase ")][-1]] += 1
        phases["half a file left"] += any(segments_folder(str(path)).glob("*.new"))
        asyncio.run(survive(path, said))
    assert len(said) >= 10 * cycles
    return phases


def test_fifty_kills_during_rebuilds_lose_nothing(tmp_path: Path) -> None:
    phases = die(tmp_path / "mind.db", 50, 11, 0.5)
    assert phases["phase idle"] < 25, phases


@pytest.mark.parametrize("step", [step for _, _, step in STEPS])
def test_a_builder_killed_at_any_step_loses_nothing(tmp_path: Path, step: str) -> None:
    phases = die(tmp_path / "mind.db", 2, 1, 60.0, DIE_AT=step)
    assert phases[f"phase {step}"] == 2
    assert phases["half a file left"] == (2 if step in ("half written", "renaming") else 0)


async def survive(path: Path, said: list[str]) -> None:
    """All that was acknowledged is found, before and after the segment is made again."""
    async with pattern_db.open(path, embeddings=Spread()) as db:
        for _ in range(2):
            assert await missing(db, AGENT, said[-40:] + said[:: len(said) // 20 or 1]) == []
            assert await wrong(db, path, AGENT) == []
            await db.optimize()
        assert len(truth(path, AGENT, "all", 1_000_000)) >= len(said)
    left = {file.suffix for file in segments_folder(str(path)).iterdir()}
    assert left == {".segment", ""}, "no half of a file stays"
    assert flaws(path, embedded=False) == []
