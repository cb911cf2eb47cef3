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

from ..search.words import telling_words

if TYPE_CHECKING:
    from ..embeddings.provider import Vector

Floats: TypeAlias = NDArray[np.float64]

SHARPNESS = 8.0
"""How much more a nearer task counts: one that is less alike by x weighs exp(-8 x) as much."""


class Run(msgspec.Struct, frozen=True, gc=False):
    """One episode as advice reads it.

    ``tools`` has the tool of every step that used one, in order. ``succeeded`` is ``None`` while it
    goes on. ``needed`` are the tools that its task was found to need, ``None`` where nobody said.
    ``vector`` is that of the task, of unit length, if it has one.
    """

    id: str
    task: str
    tools: tuple[str, ...] = ()
    succeeded: bool | None = None
    agent_id: str | None = None
    needed: frozenset[str] | None = None
    vector: Vector | None = None


def path_of(tools: Sequence[str]) -> tuple[str, ...]:
    """The tools in order, repetitions in a row once."""
    return tuple(tool for tool, _ in groupby(tools))


class Likeness:
    """How alike the tasks of some runs are, in 0…1.

    The mean of the cosine of their vectors (0 at least) and the cosine of their words, weighted by
    log((n + 1) / (df + ½)) over these runs; without vectors the latter alone.
    """

    def __init__(self, runs: Sequence[Run]):
        self._words = [_words(run.task) for run in runs]
        spread = Counter(chain.from_iterable(self._words))
        of = len(runs) + 1
        self._weight = {word: math.log(of / (n + 0.5)) ** 2 for word, n in spread.items()}
        self._length = np.sqrt([self._sum(words) for words in self._words])
        given = [run.vector for run in runs]
        whole = bool(given) and all(vector is not None for vector in given)
        self._vectors = np.array(given) if whole else None

    def _sum(self, words: frozenset[str]) -> float:
        return sum(map(self._weight.__getitem__, words))

    def to(self, place: int) -> Floats:
        """The likeness of every run to this one."""
        own = self._words[place]
        shared = np.array([self._sum(own & words) for words in self._words])
        lengths = self._length * self._length[place]
        cosine: Floats = shared / np.where(lengths > 0, lengths, 1.0)
        if self._vectors is None:
            return cosine
        near = np.clip(self._vectors @ self._vectors[place], 0.0, 1.0)
        alike: Floats = (near + cosine) / 2
        return alike

    def all(self) -> Floats:
        """The likeness of every run to every other."""
        return np.array([self.to(place) for place in range(len(self._words))])


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
