"""Whether a run that is finished probably succeeded, by the runs that are stored.

Kernel ridge regression of success (1 or 0) around the mean of the stored runs, λ = 3, with

    k(a, b) = cos(calls(a), calls(b)) + likeness(task a, task b) · cos(path(a), path(b))

where ``calls`` is log(1 + number of calls) by tool: how much of what was done, and ``path`` holds
the tools, pairs and triples in order, begin and end included, weighted by idf: the same task done
the same way. Squared loss makes the estimate a probability (Saunders, Gammerman and Vovk, "Ridge
Regression Learning Algorithm in Dual Variables", ICML 1998; centred as in Schölkopf et al. 1998).

A run that goes on is not judged: what it has done so far predicts nothing
(docs/explanation/learning.md).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from .runs import Floats, Likeness, Run, path_of

RIDGE = 3.0
LONGEST = 3
CALLS = 60
"""How many calls of a run are read."""
SUREST = 0.98
"""No estimate is surer than this."""


class Estimate(msgspec.Struct, frozen=True):
    """A probability of success, and the places of the runs that say most for and against it."""

    probability: float
    base_rate: float
    in_favour: list[int]
    against: list[int]


def estimate(now: Run, runs: Sequence[Run], *, evidence: int = 5) -> Estimate:
    """The probability that this run succeeded; ``runs`` are some, known how they went."""
    everyone = [now, *runs]
    kernel = _kernel(everyone)
    succeeded = np.array([float(run.succeeded is True) for run in runs])
    base = float(succeeded.mean())
    stored, asked = kernel[1:, 1:], kernel[0, 1:]
    column = stored.mean(axis=0)
    whole = column.mean()
    centred = stored - column - column[:, None] + whole
    weights = np.linalg.solve(centred + RIDGE * np.eye(len(runs)), succeeded - base)
    says = (asked - asked.mean() - column + whole) * weights
    probability = float(np.clip(base + says.sum(), 1 - SUREST, SUREST))
    order = sorted(range(len(runs)), key=lambda i: (-abs(round(float(says[i]), 12)), runs[i].id))
    return Estimate(
        probability,
        base,
        [i for i in order if says[i] > 0 and runs[i].succeeded][:evidence],
        [i for i in order if says[i] < 0 and not runs[i].succeeded][:evidence],
    )


def _kernel(runs: Sequence[Run]) -> Floats:
    tools = [run.tools[:CALLS] for run in runs]
    calls = _rows([{t: math.log1p(n) for t, n in Counter(each).items()} for each in tools])
    paths = [_pieces(path_of(each)) for each in tools]
    spread = Counter(piece for pieces in paths for piece in pieces)
    rare = {piece: math.log((len(runs) + 1) / (n + 0.5)) for piece, n in spread.items()}
    done = _rows([{piece: rare[piece] for piece in pieces} for pieces in paths])
    kernel: Floats = calls @ calls.T + Likeness(runs).all() * (done @ done.T)
    return kernel


def _pieces(path: Sequence[str]) -> list[tuple[str | None, ...]]:
    """The tools in order, up to three at a time; ``None`` is where a run begins and ends."""
    marked = (None, *path, None)
    pieces = (
        marked[start : start + length]
        for length in range(1, LONGEST + 1)
        for start in range(len(marked) - length + 1)
    )
    return list(dict.fromkeys(pieces))


def _rows(bags: Sequence[Mapping[object, float]]) -> Floats:
    """A row of unit length (or of zeros) a bag, a column a feature."""
    column = {
        feature: number for number, feature in enumerate(dict.fromkeys(f for b in bags for f in b))
    }
    rows = np.zeros((len(bags), max(len(column), 1)))
    for number, bag in enumerate(bags):
        for feature, value in bag.items():
            rows[number, column[feature]] = value
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Floats = rows / np.where(length > 0, length, 1.0)
    return scaled
