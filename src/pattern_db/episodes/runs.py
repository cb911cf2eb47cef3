"""Runs: what advice reads of the episodes that are stored, and how alike they are.

A run is compared by its task (meaning and words) and by its path: the tools it used, repetitions of
one tool in a row counted once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, groupby
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..models import OutcomeKind
from ..search.words import telling_words

if TYPE_CHECKING:
    from ..embeddings.provider import Vector

Floats: TypeAlias = NDArray[np.float64]

SHARPNESS = 8.0
"""How much more a nearer task counts: one that is less alike by x weighs exp(-8 x) as much."""

MOST_BITS = 62
"""How long paths may be for all pairs to be compared at once."""
_SUCCEEDED: dict[OutcomeKind | None, bool] = {OutcomeKind.SUCCESS: True, OutcomeKind.FAILURE: False}


class Run(msgspec.Struct, frozen=True, gc=False):
    """One episode as advice reads it.

    ``tools`` has the tool of every step that used one, in order. ``needed`` are the tools that its
    task was found to need, ``None`` where nobody said. ``vector`` is that of the task, of unit
    length, if it has one.
    """

    id: str
    task: str
    tools: tuple[str, ...] = ()
    outcome: OutcomeKind | None = None
    agent_id: str | None = None
    needed: frozenset[str] | None = None
    vector: Vector | None = None

    @property
    def succeeded(self) -> bool | None:
        """``None`` for one that goes on, was given up, or did some of its task."""
        return _SUCCEEDED.get(self.outcome)


@lru_cache(maxsize=16_384)
def path_of(tools: tuple[str, ...]) -> tuple[str, ...]:
    """The tools in order, repetitions in a row once."""
    return tuple(tool for tool, _ in groupby(tools))


class Likeness:
    """How alike the tasks of some runs are, in 0…1.

    The mean of the cosine of their vectors (0 at least) and the cosine of their words, weighted by
    log((n + 1) / (df + ½)) over these runs; where one of two has no vector the latter alone. Sums
    do not depend on the order of words, which differs from process to process.
    """

    def __init__(self, runs: Sequence[Run]):
        self._words = [_words(run.task) for run in runs]
        spread = Counter(chain.from_iterable(self._words))
        of = len(runs) + 1
        self._weight = {word: math.log(of / (n + 0.5)) ** 2 for word, n in spread.items()}
        self._length = np.sqrt([self._sum(words) for words in self._words])
        self._known = np.array([run.vector is not None for run in runs], dtype=np.bool_)
        given = next((run.vector for run in runs if run.vector is not None), np.zeros(1))
        none = np.zeros(len(given), np.float32)
        self._vectors = np.array([none if run.vector is None else run.vector for run in runs])

    def _sum(self, words: frozenset[str]) -> float:
        return math.fsum(map(self._weight.__getitem__, words))

    def to(self, place: int) -> Floats:
        """The likeness of every run to this one."""
        own = self._words[place]
        shared = np.array([self._sum(own & words) for words in self._words])
        lengths = self._length * self._length[place]
        cosine: Floats = shared / np.where(lengths > 0, lengths, 1.0)
        if not self._known[place]:
            return cosine
        near = np.clip(self._vectors @ self._vectors[place], 0.0, 1.0)
        return np.where(self._known, (near + cosine) / 2, cosine)

    def all(self) -> Floats:
        """The likeness of every run to every other."""
        column = {word: number for number, word in enumerate(sorted(self._weight))}
        rows = np.zeros((len(self._words), max(len(column), 1)))
        for row, words in zip(rows, self._words, strict=True):
            row[[column[word] for word in words]] = [self._weight[word] for word in words]
        shared = np.sqrt(rows) @ np.sqrt(rows).T
        lengths = self._length * self._length[:, None]
        cosine: Floats = shared / np.where(lengths > 0, lengths, 1.0)
        near = np.clip(self._vectors @ self._vectors.T, 0.0, 1.0)
        both = self._known & self._known[:, None]
        return np.where(both, (near + cosine) / 2, cosine)


@lru_cache(maxsize=16_384)
def _words(task: str) -> frozenset[str]:
    return telling_words(task)


def nearness(likeness: Floats) -> Floats:
    """Weights of runs by the likeness of their tasks, adding up to 1."""
    weights = np.exp(SHARPNESS * (likeness - likeness.max(initial=0.0)))
    shares: Floats = weights / weights.sum() if len(weights) else weights
    return shares


def overlap(a: Sequence[str], b: Sequence[str]) -> float:
    """How much of two paths is in both in the same order: 2·LCS / (|a| + |b|), 1 of two empty ones.

    The longest common subsequence by bits: Hyyrö, "Bit-parallel LCS-length computation revisited",
    AWOCA 2004.
    """
    if not a and not b:
        return 1.0
    at: dict[str, int] = {}
    for place, tool in enumerate(a):
        at[tool] = at.get(tool, 0) | 1 << place
    all_bits = (1 << len(a)) - 1
    rows = all_bits
    for tool in b:
        matched = rows & at.get(tool, 0)
        rows = ((rows + matched) | (rows - matched)) & all_bits
    return 2 * (len(a) - rows.bit_count()) / (len(a) + len(b))


def overlaps(of: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> Floats:
    """``overlap`` of each path (a row) with each of the others (a column), all pairs at once."""
    if max(map(len, (*of, *others)), default=0) > MOST_BITS:
        return np.array([[overlap(a, b) for b in others] for a in of])
    names = dict.fromkeys(chain.from_iterable(of))
    numbers = {name: number for number, name in enumerate(names)}
    at = np.zeros((len(of), len(names) + 1), np.uint64)
    for row, path in zip(at, of, strict=True):
        for place, name in enumerate(path):
            row[numbers[name]] |= np.uint64(1 << place)
    long = max(map(len, others), default=0)
    asked = np.full((long, len(others)), len(names))
    for column, path in enumerate(others):
        asked[: len(path), column] = [numbers.get(name, len(names)) for name in path]
    every = np.array([[(1 << len(path)) - 1] for path in of], np.uint64)
    rows = np.repeat(every, len(others), axis=1)
    for step in asked:
        matched = rows & at[:, step]
        rows = ((rows + matched) | (rows - matched)) & every
    common = np.array([[len(path)] for path in of]) - _ones(rows)
    lengths = np.add.outer([len(path) for path in of], [len(path) for path in others])
    shares: Floats = np.where(lengths > 0, 2 * common / np.maximum(lengths, 1), 1.0)
    return shares


def _ones(rows: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many bits of each number are set."""
    bits = np.unpackbits(rows[..., None].view(np.uint8), axis=-1)
    counted: NDArray[np.int64] = bits.sum(axis=-1, dtype=np.int64)
    return counted
