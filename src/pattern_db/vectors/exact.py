"""Exact nearest neighbours over the vectors of one scope, kept in memory.

The database is the truth: an index is filled from rows in their order and forgets what the log of
removals names, so that a search sees every commit before it, of any process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..embeddings.provider import Matrix, Vector
from .source import Row

_SMALLEST = 64
_GROWTH = 1.25
_DEAD_SHARE = 0.25


class ExactIndex:
    """Vectors of unit length, of rows after a number, with the items they belong to.

    Not for two threads at once. Products are made by ``vecdot``, on one thread: those of a matrix
    product wait for each other where the processors are busy, many times as long as it takes.
    """

    def __init__(self, dimensions: int, *, after: int = 0):
        self.last_row = after
        self.seen: tuple[int, int] | None = None
        """What was newest in the database when this was last brought up to it."""
        self._dimensions = dimensions
        self._count = 0
        self._dead = 0
        self._vectors: Matrix = np.zeros((0, dimensions), np.float32)
        self._rows: NDArray[np.int64] = np.zeros(0, np.int64)
        self._alive: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._items: list[str] = []
        self._places: dict[str, list[int]] = {}
        self._asked: tuple[Vector | None, NDArray[np.float32]] = (None, np.zeros(0, np.float32))

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

    @property
    def held_rows(self) -> int:
        """The rows that take memory, with those forgotten a moment ago."""
        return self._count

    @property
    def held_bytes(self) -> int:
        """What the vectors take in memory."""
        return self._vectors.nbytes

    def nearest(self, vector: Vector, wanted: int) -> tuple[list[tuple[str, float]], bool]:
        """The items of the nearest rows with their cosine, best first, newer ones first if equal.

        An item comes once, with its best row; so there may be fewer than wanted. Also gives
        whether that is all there is.
        """
        if self._count == 0:
            return [], True
        scores = np.vecdot(self._vectors[: self._count], vector)
        self._asked = (vector.copy(), scores)
        if self._dead:
            scores[~self._alive[: self._count]] = -np.inf
        best: dict[str, float] = {}
        for place in _largest(scores, wanted):
            best.setdefault(self._items[place], float(scores[place]))
        return list(best.items()), wanted >= self._count

    def scores(self, vector: Vector, ids: Sequence[str]) -> dict[str, float]:
        """The cosine of the best row of each of these items that is here."""
        found = [(item, places) for item in ids if (places := self._places.get(item))]
        cosines = iter(self._cosines(vector, [place for _, places in found for place in places]))
        return {
            item: next(cosines) if len(places) == 1 else max(next(cosines) for _ in places)
            for item, places in found
        }

    def _cosines(self, vector: Vector, places: list[int]) -> list[float]:
        """The cosine of these rows, which the search of a moment ago may have made."""
        if not places:
            return []
        asked, known = self._asked
        if len(known) == self._count and asked is not None and np.array_equal(asked, vector):
            cosines = known[places]
        else:
            cosines = np.vecdot(self._vectors[places], vector)
        return list(cosines.tolist())

    def _reserve(self, size: int) -> None:
        if size <= len(self._rows):
            return
        capacity = max(size, int(len(self._rows) * _GROWTH), _SMALLEST)
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
        self._asked = (None, np.zeros(0, np.float32))


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
