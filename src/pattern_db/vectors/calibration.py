"""How widely a graph has to be searched, measured on the vectors it holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..embeddings.provider import Matrix
from .segment import quantized

Numbers = NDArray[np.uint64]

EXPANSIONS = (64, 128, 256, 512, 1024, 2048)
GOOD_RECALL = 0.99
SAMPLES = 64
_NEAREST = 10
SLACK = 32
"""How many more rows than asked for are compared exactly, since the graph's scores are coarse."""
_NOISE = 0.7


class Calibration:
    """Finds how widely a graph has to be searched, by questions whose answers are known.

    The questions are vectors of the scope moved by noise of length 0.7: as far from what is there
    as questions are from texts.
    """

    def __init__(self, samples: Matrix):
        rng = np.random.default_rng(0)
        noise = rng.standard_normal(samples.shape, dtype=np.float32)
        noise *= _NOISE / np.linalg.norm(noise, axis=1, keepdims=True)
        moved = samples + noise
        self._questions: Matrix = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        self._scores = np.full((len(samples), _NEAREST), -np.inf, np.float32)
        self._numbers = np.zeros((len(samples), _NEAREST), np.uint64)

    def see(self, numbers: Numbers, vectors: Matrix) -> None:
        """Take some of the vectors into account: every one has to be seen once."""
        scores = np.concatenate([self._scores, self._questions @ vectors.T], axis=1)
        both = np.broadcast_to(numbers, (len(scores), len(numbers)))
        numbered = np.concatenate([self._numbers, both], axis=1)
        best = np.argpartition(-scores, _NEAREST - 1, axis=1)[:, :_NEAREST]
        self._scores = np.take_along_axis(scores, best, axis=1)
        self._numbers = np.take_along_axis(numbered, best, axis=1)

    def expansion(self, index: Any) -> int:
        """The least expansion that finds enough; 0 if none does.

        Where the integers themselves do not tell enough, it is measured against all of them.
        """
        found = {}
        for expansion in EXPANSIONS:
            index.expansion_search = expansion
            found[expansion] = self._found(index, exact=False)
            if found[expansion] >= GOOD_RECALL * self._numbers.size:
                return expansion
        enough = GOOD_RECALL * self._found(index, exact=True)
        return next((e for e in EXPANSIONS if found[e] >= enough), 0)

    def _found(self, index: Any, *, exact: bool) -> int:
        """How many of the true nearest are found."""
        found = 0
        for question, truth in zip(self._questions, self._numbers, strict=True):
            wanted = min(_NEAREST + SLACK, len(index))
            keys = index.search(quantized(question), wanted, exact=exact, threads=1).keys
            found += len(np.intersect1d(keys, truth))
        return found
