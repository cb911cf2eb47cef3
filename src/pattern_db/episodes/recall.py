"""Which past runs to show: among those with the nearest tasks, the ones most agree with.

The nearest task alone is a poor guide (docs/explanation/learning.md): three fixed typical runs beat
it. So the nearest ``REFERENCES`` runs say, each with the weight of its likeness, what a run for
such a task looks like, and the runs chosen one after the other are those that cover this best,

    argmax over c of  Σ w(r) · max over the chosen and c of overlap(path(r), path(c)),

which also keeps them different from each other. A run that failed speaks with ``OF_FAILED`` of its
weight; ``TYPICAL`` of all weight is spread evenly over the runs that succeeded, near or not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .runs import Floats, Run, nearness, overlaps, path_of

REFERENCES = 60
CANDIDATES = 30
OF_FAILED = 0.3
TYPICAL = 0.1


def consensus(
    runs: Sequence[Run], likeness: Floats, eligible: Sequence[bool], *, limit: int
) -> list[tuple[int, float]]:
    """At most ``limit`` of the runs that are eligible, in the order they are chosen.

    With each comes how much the references agree with it: their weighted overlap, in 0…1.
    Only the nearest ``CANDIDATES`` eligible runs are chosen from, or as many as are asked for.
    """
    order = sorted(range(len(runs)), key=lambda i: (-round(float(likeness[i]), 12), runs[i].id))
    candidates = [i for i in order if eligible[i]][: max(CANDIDATES, limit)]
    if not candidates:
        return []
    weights = _weights(runs, likeness, order[:REFERENCES])
    references = np.flatnonzero(weights)
    paths = [path_of(run.tools) for run in runs]
    shared = overlaps([paths[c] for c in candidates], [paths[r] for r in references])
    agreement = shared @ weights[references]
    chosen = _cover(shared, weights[references], limit)
    return [(candidates[place], float(agreement[place])) for place in chosen]


def _weights(runs: Sequence[Run], likeness: Floats, nearest: Sequence[int]) -> Floats:
    """How much each run has to say, adding up to 1."""
    near = np.zeros(len(runs))
    near[nearest] = nearness(likeness[nearest])
    near *= [OF_FAILED if run.succeeded is False else 1.0 for run in runs]
    typical = np.array([float(run.succeeded is True) for run in runs])
    if not typical.any():
        return near / float(near.sum())
    weights: Floats = (1 - TYPICAL) * near / near.sum() + TYPICAL * typical / typical.sum()
    return weights


def _cover(overlaps: Floats, weights: Floats, limit: int) -> list[int]:
    """Rows chosen greedily so that their maximum, weighted, is largest; of equals the first."""
    reached = np.zeros(overlaps.shape[1])
    left = np.ones(len(overlaps), dtype=np.bool_)
    chosen = []
    for _ in range(min(limit, len(overlaps))):
        gains = np.round(np.maximum(overlaps, reached) @ weights, 12)
        best = int(np.argmax(np.where(left, gains, -1.0)))
        left[best] = False
        reached = np.maximum(reached, overlaps[best])
        chosen.append(best)
    return chosen
