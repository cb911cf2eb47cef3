"""How widely a graph has to be searched, and how coarse its scores are, measured on its vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..embeddings.provider import Matrix
from .segment import quantized

Numbers = NDArray[np.uint64]
Floats = NDArray[np.float32]
Places = NDArray[np.intp]
_Matched = tuple[Floats, Floats, Places, Places]
"""Scores of the true nearest, distances of those found, and where in these the same rows are."""

EXPANSIONS = (64, 96, 128, 192, 256, 512, 1024, 2048)
GOOD_RECALL = 0.995
SAMPLES = 256
_NEAREST = 10
SLACK = 32
"""How many more rows than asked for are taken from the graph, since its scores are coarse."""
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

    def error(self, index: Any) -> float:
        """By how much the graph's scores of the true nearest differ from the exact ones (RMS)."""
        differences = [
            1 - distances[theirs] - scores[ours]
            for scores, distances, ours, theirs in self._matched(index, exact=False)
        ]
        together = np.concatenate(differences)
        return float(np.sqrt(np.mean(together**2))) if len(together) else 2.0

    def _found(self, index: Any, *, exact: bool) -> int:
        """How many of the true nearest are found."""
        return sum(len(ours) for _, _, ours, _ in self._matched(index, exact=exact))

    def _matched(self, index: Any, *, exact: bool) -> Iterator[_Matched]:
        for question, numbers, scores in zip(
            self._questions, self._numbers, self._scores, strict=True
        ):
            wanted = min(_NEAREST + SLACK, len(index))
            matches = index.search(quantized(question), wanted, exact=exact, threads=1)
            _, ours, theirs = np.intersect1d(numbers, matches.keys, return_indices=True)
            yield scores, matches.distances, ours, theirs
