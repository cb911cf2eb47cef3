"""Exact nearest neighbours over the vectors of one scope, kept in memory.

The database is the truth: an index is filled from rows in their order and forgets what the log of
removals names, so that a search sees every commit before it, of any process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..embeddings.provider import Matrix, Vector

_SMALLEST = 64
_DEAD_SHARE = 0.25

Row = tuple[int, str, bytes]
"""(row number, item id, float32 vector)."""


class ExactIndex:
    """Vectors of unit length with the items they belong to. Safe to use from several threads."""

    def __init__(self, dimensions: int):
        self.lock = threading.Lock()
        self.last_row = 0
        self.last_removal: int | None = None
        self._dimensions = dimensions
        self._count = 0
        self._dead = 0
        self._vectors: Matrix = np.zeros((_SMALLEST, dimensions), np.float32)
        self._rows: NDArray[np.int64] = np.zeros(_SMALLEST, np.int64)
        self._alive: NDArray[np.bool_] = np.zeros(_SMALLEST, np.bool_)
        self._items: list[str] = []
        self._places: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return self._count - self._dead

    def add(self, rows: Sequence[Row]) -> None:
        """Append rows, whose numbers ascend."""
        if not rows:
            return
        start, end = self._count, self._count + len(rows)
        self._reserve(end)
        flat = np.frombuffer(b"".join(row[2] for row in rows), "<f4")
        self._vectors[start:end] = flat.reshape(len(rows), self._dimensions)
        self._rows[start:end] = [row[0] for row in rows]
        self._alive[start:end] = True
        for place, (_, item, _) in enumerate(rows, start):
            self._items.append(item)
            self._places.setdefault(item, []).append(place)
        self._count, self.last_row = end, rows[-1][0]

    def remove(self, row_numbers: Iterable[int]) -> None:
        """Forget rows; numbers that are not here are ignored."""
        for number in row_numbers:
            place = int(np.searchsorted(self._rows[: self._count], number))
            if place < self._count and self._rows[place] == number and self._alive[place]:
                self._alive[place] = False
                self._dead += 1
                item = self._items[place]
                self._places[item].remove(place)
                if not self._places[item]:
                    del self._places[item]
        if self._dead > _SMALLEST and self._dead > self._count * _DEAD_SHARE:
            self._compact()

    def search(
        self,
        vector: Vector,
        limit: int,
        *,
        allowed: set[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> list[tuple[str, float]]:
        """The nearest items with their cosine, best first, an item once with its best row."""
        if limit <= 0 or self._count == 0:
            return []
        scores = self._vectors[: self._count] @ vector
        for place in self._hidden(allowed, exclude):
            scores[place] = -np.inf
        if self._dead:
            scores[~self._alive[: self._count]] = -np.inf
        return self._best(scores, limit)

    def scores(self, vector: Vector, ids: Sequence[str]) -> dict[str, float]:
        """The cosine of the best row of each of these items that is here."""
        found = [(item, places) for item in ids if (places := self._places.get(item))]
        flat = [place for _, places in found for place in places]
        cosines = iter((self._vectors[flat] @ vector).tolist()) if flat else iter(())
        return {item: max(next(cosines) for _ in places) for item, places in found}

    def _hidden(self, allowed: set[str] | None, exclude: Sequence[str]) -> list[int]:
        hidden = [place for item in exclude for place in self._places.get(item, ())]
        if allowed is not None:
            hidden += [p for item, ps in self._places.items() if item not in allowed for p in ps]
        return hidden

    def _best(self, scores: NDArray[np.float32], limit: int) -> list[tuple[str, float]]:
        wanted = limit
        while True:
            places = _largest(scores, wanted)
            best: dict[str, float] = {}
            for place in places:
                best.setdefault(self._items[place], float(scores[place]))
            if len(best) >= limit or wanted >= len(scores):
                return list(best.items())[:limit]
            wanted *= 2

    def _reserve(self, size: int) -> None:
        if size <= len(self._rows):
            return
        capacity = max(size, len(self._rows) * 2)
        self._vectors = _grown(self._vectors, capacity)
        self._rows = _grown(self._rows, capacity)
        self._alive = _grown(self._alive, capacity)

    def _compact(self) -> None:
        kept = np.flatnonzero(self._alive[: self._count])
        self._vectors = self._vectors[kept]
        self._rows = self._rows[kept]
        self._alive = self._alive[kept]
        self._items = [self._items[place] for place in kept]
        self._count, self._dead = len(kept), 0
        self._places = {}
        for place, item in enumerate(self._items):
            self._places.setdefault(item, []).append(place)


def _largest(scores: NDArray[np.float32], wanted: int) -> list[int]:
    """Places of the largest finite scores, best first; of equal ones the newest first."""
    if wanted < len(scores):
        candidates = np.argpartition(scores, len(scores) - wanted)[-wanted:]
    else:
        candidates = np.arange(len(scores))
    ordered = candidates[np.lexsort((-candidates, -scores[candidates]))]
    return [int(place) for place in ordered if scores[place] != -np.inf]


def _grown(array: NDArray[Any], capacity: int) -> NDArray[Any]:
    larger = np.zeros((capacity, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
