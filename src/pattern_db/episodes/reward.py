"""The reward of an episode.

    total = max(0, base + abstention) · efficiency · complexity · quality + learning

Formula and constants: reference/episodic-memory.md §2.2. ``learning`` counts the patterns that the
episode was the first to show, so it is computed after they were extracted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from datetime import timedelta

from ..models import (
    Abstained,
    Complexity,
    Episode,
    Failure,
    Outcome,
    Partial,
    Reward,
    Step,
    Success,
)

EFFICIENT_S, EFFICIENT_STEPS = 60.0, 10
_COMPLEXITY = {Complexity.SIMPLE: 1.0, Complexity.MODERATE: 1.1, Complexity.COMPLEX: 1.2}
_EARLY, _LATE = 3, 10


def reward_of(
    episode: Episode,
    steps: Sequence[Step],
    outcome: Outcome,
    *,
    duration: timedelta | None,
    discovered: int,
) -> Reward:
    """The reward of an episode that ends so; so many patterns were seen in it first."""
    base, abstention = _base(outcome), _abstention(outcome, len(steps))
    efficiency = _efficiency(len(steps), duration)
    complexity, quality = _COMPLEXITY[episode.complexity], _quality(episode, steps, outcome)
    learning = _learning(steps, duration, discovered)
    total = max(0.0, base + abstention) * efficiency * complexity * quality + learning
    return Reward(total, base, abstention, efficiency, complexity, quality, learning)


def _base(outcome: Outcome) -> float:
    if isinstance(outcome, Success):
        return 1.0
    if isinstance(outcome, Partial):
        told = len(outcome.completed) + len(outcome.failed)
        return len(outcome.completed) / told if told else 0.5
    return 0.3 if isinstance(outcome, Abstained) else 0.0


def _abstention(outcome: Outcome, steps: int) -> float:
    """To stop early what cannot be done is worth something; to go on long with it costs."""
    if isinstance(outcome, Abstained):
        stopped = steps if outcome.stopped_at_step is None else outcome.stopped_at_step
        late = (min(max(stopped, _EARLY), _LATE) - _EARLY) / (_LATE - _EARLY)
        return 0.5 - 0.8 * late
    return -0.2 if isinstance(outcome, Failure) and steps > EFFICIENT_STEPS else 0.0


def _efficiency(steps: int, duration: timedelta | None) -> float:
    by_time = 1.0 if duration is None else _decaying(duration.total_seconds() / EFFICIENT_S)
    by_steps = _decaying(steps / EFFICIENT_STEPS) if steps else 0.5
    return min(max(0.5 * by_time + 0.5 * by_steps, 0.5), 1.5)


def _decaying(share: float) -> float:
    return 0.5 + math.exp(-share / 2) if share > 0 else 1.5


def _quality(episode: Episode, steps: Sequence[Step], outcome: Outcome) -> float:
    artifacts = outcome.artifacts if isinstance(outcome, Success) else []
    quality = 1.0
    if any("coverage" in name or "test" in name for name in artifacts):
        quality += 0.1
    if len(artifacts) >= 3:
        quality += 0.05
    coverage = episode.metadata.get("test_coverage")
    if isinstance(coverage, int | float):
        quality += 0.15 if coverage > 80 else 0.1 if coverage > 60 else 0.0
    if steps:
        errors = sum(step.success is False for step in steps) / len(steps)
        quality += -0.2 if errors > 0.3 else -0.1 if errors > 0.1 else 0.1 if errors == 0 else 0.0
    return min(max(quality, 0.5), 1.5)


def _learning(steps: Sequence[Step], duration: timedelta | None, discovered: int) -> float:
    bonus = min(0.3, 0.1 * discovered)
    if len(steps) >= 3:
        tools = len({step.tool_name for step in steps if step.tool_name})
        bonus += 0.15 if tools >= 5 else 0.1 if tools >= 3 else 0.0
    rate = success_rate(steps)
    if rate is not None and rate > 0.9 and len(steps) >= 5:
        bonus += 0.2
    elif rate == 1.0 and len(steps) >= 3:
        bonus += 0.15
    if recovered(steps):
        bonus += 0.15
    if steps and duration is not None and duration < timedelta(seconds=30) and len(steps) < 10:
        bonus += 0.1
    return min(0.5, bonus)


def success_rate(steps: Sequence[Step]) -> float | None:
    """The share of steps that succeeded among those of which it is known; ``None`` if of none."""
    known = [step.success for step in steps if step.success is not None]
    return sum(known) / len(known) if known else None


def recovered(steps: Sequence[Step]) -> bool:
    """Whether a step succeeded right after one that failed."""
    return any(a.success is False and b.success is True for a, b in itertools.pairwise(steps))
