"""Hits that differ from each other: maximal marginal relevance.

Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and
Producing Summaries", SIGIR 1998: the next one chosen is the one with the largest

    λ · score(i) - (1 - λ) · max over the chosen j of similarity(i, j),    λ = 1 - diversity

so that the first is always the best one. The similarity of two items is the cosine of their
vectors, 0 at least; where one of them has no vector it is the share of their words that both have
(Jaccard, without stop words).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..embeddings.provider import Vector
from ..engines.base import Store
from ..models import Embedding
from ..query import param
from ..query import select as rows_of
from ..schema import columns_of
from .ranking import Ranked
from .words import telling_words

Floats = NDArray[np.float64]
_E = columns_of(Embedding)
_VECTORS = (
    rows_of(Embedding)
    .where(_E.item_id.in_(param("ids")), _E.kind == param("kind"), _E.space == param("space"))
    .only(_E.item_id, _E.vector)
)


async def choose(
    store: Store,
    ranked: Sequence[Ranked],
    *,
    space: int | None,
    earlier: Mapping[str, Mapping[str, Sequence[Vector]]],
    diversity: float,
    limit: int,
) -> list[Ranked]:
    """The best of the ranked that differ from each other, in the order they are chosen.

    ``earlier`` has, by kind and id, the vectors of items whose stored ones are of another text.
    """
    vectors: dict[tuple[str, str], Vector] = {}
    for kind, given in earlier.items():
        wanted = [r.candidate.item_id for r in ranked if r.candidate.kind == kind]
        pieces = await _stored(store, kind, space, [id for id in wanted if id not in given])
        for id, found in {**pieces, **given}.items():
            if found:
                vectors[kind, id] = mean_vector(found)
    places = select(
        [each.score for each in ranked],
        [vectors.get((each.candidate.kind, each.candidate.item_id)) for each in ranked],
        [telling_words(each.candidate.text) for each in ranked],
        diversity=diversity,
        limit=limit,
    )
    return [ranked[place] for place in places]


async def _stored(
    store: Store, kind: str, space: int | None, ids: Sequence[str]
) -> dict[str, Sequence[Vector]]:
    """The vectors of items that the database has, one for each piece."""
    if space is None or not ids:
        return {}
    pieces: dict[str, list[Vector]] = {}
    for id, vector in await store.execute(_VECTORS, kind=kind, space=space, ids=ids):
        pieces.setdefault(id, []).append(np.frombuffer(vector, "<f4"))
    return dict(pieces)


def select(
    scores: Sequence[float],
    vectors: Sequence[Vector | None],
    words: Sequence[Collection[str]],
    *,
    diversity: float,
    limit: int,
) -> list[int]:
    """The places of at most ``limit`` items in the order they are chosen; of equals the first.

    ``scores`` are in 0…1, ``vectors`` of unit length and of one space, ``diversity`` in 0…1.
    """
    if not scores:
        return []
    likeness = _Likeness(vectors, words)
    gain = (1 - diversity) * np.array(scores, dtype=np.float64)
    nearest = np.zeros(len(scores))
    left = np.ones(len(scores), dtype=np.bool_)
    chosen = [int(np.argmax(scores))]
    while len(chosen) < min(limit, len(scores)):
        left[chosen[-1]] = False
        nearest = np.maximum(nearest, likeness.to(chosen[-1]))
        value = np.where(left, gain - diversity * nearest, -np.inf)
        chosen.append(int(np.argmax(value)))
    return chosen


def mean_vector(pieces: Sequence[Vector]) -> Vector:
    """One vector for an item of several pieces: their mean, of unit length."""
    total = np.sum(pieces, axis=0)
    unit: Vector = total / max(float(np.linalg.norm(total)), 1e-9)
    return unit


class _Likeness:
    """How alike items are, one of them against all."""

    def __init__(self, vectors: Sequence[Vector | None], words: Sequence[Collection[str]]):
        self._known = np.array([vector is not None for vector in vectors])
        given = next((vector for vector in vectors if vector is not None), np.zeros(1))
        none = np.zeros(len(given), np.float32)
        self._matrix = np.stack([none if vector is None else vector for vector in vectors])
        self._words = [frozenset(each) for each in words]
        self._sizes = np.array([len(each) for each in self._words])
        self._places: dict[str, list[int]] = defaultdict(list)
        for place, each in enumerate(self._words):
            for word in each:
                self._places[word].append(place)

    def to(self, place: int) -> Floats:
        """The likeness of every item to this one."""
        shared = self._shared_words(place)
        if not self._known[place]:
            return shared
        cosines = np.clip(self._matrix @ self._matrix[place], 0.0, 1.0)
        return np.where(self._known, cosines, shared)

    def _shared_words(self, place: int) -> Floats:
        found = [other for word in self._words[place] for other in self._places[word]]
        both = np.bincount(np.array(found, dtype=np.intp), minlength=len(self._words))
        either = self._sizes + self._sizes[place] - both
        share: Floats = both / np.maximum(either, 1)
        return share
