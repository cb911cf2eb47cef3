"""nDCG: how near the order of what was found is to the best one.

DCG@k = Σ over the first k of grade / log2(rank + 1), as trec_eval's ``ndcg_cut`` has it (linear
gain; Järvelin and Kekäläinen 2002); nDCG@k is its share of the DCG@k of the best order there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log2


def ndcg_at(ks: Iterable[int], grades: Mapping[str, int], found: Sequence[str]) -> dict[int, float]:
    """For each k, the nDCG of what was found, each once and best first.

    ``grades`` are of what was judged, found or not; a grade of 0 or less is irrelevant, as is what
    was not judged. At least one is relevant.
    """
    best = sorted(grades.values(), reverse=True)
    gains = [grades.get(id, 0) for id in found]
    return {k: _dcg(gains[:k]) / _dcg(best[:k]) for k in ks}


def _dcg(gains: Iterable[int]) -> float:
    return sum(max(gain, 0) / log2(rank + 1) for rank, gain in enumerate(gains, 1))
