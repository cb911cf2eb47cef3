"""``kill -9`` while episodes are recorded: each acknowledged step is there, each completion whole."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import pattern_db
from pattern_db import Episode, PatternDB
from pattern_db.models import (
    EpisodeSummary,
    Pattern,
    PatternEvidence,
    SpatiotemporalKey,
    Step,
)
from pattern_db.query import select
from tests.reliability.soundness import flaws
from tests.reliability.tiny import TinyEmbeddings
from tests.rigs.ackpipe import kills

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def record_until_killed(path: Path, cycles: int, *, processes: int = 1) -> int:
    """Kill that often and check after each; gives how many episodes were begun."""
    command = [sys.executable, "-u", "-m", "tests.episodes.recorder", str(path)]
    acks: list[str] = []
    for cycle in kills(command, cycles, 5, 0.4, processes=processes, cwd=ROOT):
        assert cycle.returncode == -9
        acks += cycle.acks
        if cycle.child == processes - 1:
            asyncio.run(check(path, acks))
    assert flaws(path) == []
    return sum(ack.startswith("begin ") for ack in acks)


async def check(path: Path, acks: list[str]) -> None:
    async with pattern_db.open(str(path), embeddings=TinyEmbeddings()) as db:
        kept = {row.id: row for row in await db.store.execute(select(Episode))}
        numbers = defaultdict(list)
        for step in await db.store.execute(select(Step)):
            numbers[step.episode_id].append(step.step_number)
        for ack in acks:
            kind, *told = ack.split()
            if kind == "begin":
                assert told[0] in kept
            elif kind == "step":
                assert int(told[1]) in numbers[told[0]]
            elif kind == "end":
                assert kept[told[0]].outcome is not None
        for id, found in numbers.items():
            assert sorted(found) == list(range(1, kept[id].step_count + 1))
        await whole(db, kept)


async def whole(db: PatternDB, kept: dict[str, Episode]) -> None:
    """What has ended has everything that completing writes, the others have nothing of it."""
    ended = {id for id, episode in kept.items() if episode.outcome is not None}
    for id, episode in kept.items():
        told = (episode.outcome_kind, episode.reward, episode.completed_at, episode.quality)
        assert [part is not None for part in told] == [id in ended] * 4
        assert (episode.status == "active") is (id not in ended)
    for model in (EpisodeSummary, SpatiotemporalKey):
        assert {row.episode_id for row in await db.store.execute(select(model))} == ended
    seen = defaultdict(set)
    for row in await db.store.execute(select(PatternEvidence)):
        seen[row.pattern_id].add(row.episode_id)
    patterns = await db.store.execute(select(Pattern))
    assert {row.id: row.occurrences for row in patterns} == {
        id: len(episodes) for id, episodes in seen.items()
    }
    assert set().union(*seen.values()) <= ended
    assert len({row.content_key for row in patterns}) == len(patterns)


def test_a_killed_recording_keeps_each_step_and_completes_whole_or_not(tmp_path: Path) -> None:
    assert record_until_killed(tmp_path / "1.db", 3) > 5


@pytest.mark.slow
def test_two_hundred_episodes_killed_at_random_points(tmp_path: Path) -> None:
    begun = 0
    for seed in range(10):
        begun += record_until_killed(tmp_path / f"{seed}.db", 8)
        if begun >= 200:
            break
    assert begun >= 200


@pytest.mark.slow
def test_two_processes_killed_while_they_learn_the_same(tmp_path: Path) -> None:
    assert record_until_killed(tmp_path / "2.db", 5, processes=2) > 20
