"""How much there is to learn from an episode, in 0…1.

    0.25 · complexity + 0.20 · diversity + 0.20 · errors + 0.20 · reflection + 0.15 · novelty

Formula and bins: reference/episodic-memory.md §2.9. It is computed last, when reflection and
patterns are known, and only advises: eviction prefers to keep what has more of it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from ..models import Step

_BINS = (0.1, 0.25, 0.35, 0.45, 0.5)
_ERRORS = ((0.2, 1.0), (0.4, 0.6), (0.6, 0.4))


def quality_of(steps: Sequence[Step], *, findings: int, patterns: int) -> float:
    """The quality of an episode with so many findings of reflection, and patterns seen in it."""
    return (
        0.25 * _complexity(steps)
        + 0.20 * _diversity(steps)
        + 0.20 * _errors(steps)
        + 0.20 * (0.0, 0.3, 0.6, 0.8, 1.0)[bisect_left((0, 2, 5, 10), findings)]
        + 0.15 * (0.2, 0.5, 0.75, 1.0)[bisect_left((0, 2, 5), patterns)]
    )


def _complexity(steps: Sequence[Step]) -> float:
    tools = len({step.tool_name for step in steps if step.tool_name})
    return _BINS[bisect_left((2, 5, 10, 20), len(steps))] + _BINS[bisect_left((1, 3, 6, 10), tools)]


def _diversity(steps: Sequence[Step]) -> float:
    if not steps:
        return 0.0
    actions = len({step.action for step in steps}) / len(steps)
    results = {step.success for step in steps} - {None}
    return 0.6 * actions + 0.4 * (0.0, 0.3, 0.5)[len(results)]


def _errors(steps: Sequence[Step]) -> float:
    if not steps:
        return 0.5
    failed = sum(step.success is False for step in steps)
    succeeded = sum(step.success is True for step in steps)
    if not failed:
        return 0.9
    share = failed / len(steps)
    for below, score in _ERRORS:
        if share < below and succeeded:
            return score
    return 0.2
