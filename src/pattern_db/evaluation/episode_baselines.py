"""What advice has to be better than: simple answers from the same stored runs.

The definitions D2–D7 are those of docs/explanation/learning.md.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from pattern_db.episodes.planning import f1
from pattern_db.episodes.runs import Floats, overlap

from .episode_trials import Trial

ORDER, KAPPA = 2, 2.0
COMMONEST, MOST_TYPICAL = 12, 120
_START = "<s>"
_WORD = re.compile(r"(?u)\b\w\w+\b")


class Markov:
    """The next tool by the last two: P_k = (c + 2 P_{k-1}) / (C + 2), P_{-1} uniform (D2)."""

    def __init__(self, paths: Sequence[Sequence[str]]):
        self._counts: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for path in paths:
            padded = [_START] * ORDER + [*path]
            for place in range(ORDER, len(padded)):
                for k in range(ORDER + 1):
                    self._counts[tuple(padded[place - k : place])][padded[place]] += 1

    def ranked(self, before: Sequence[str]) -> list[str]:
        """The tools that may follow, without the last one."""
        padded = [_START] * ORDER + [*before]
        chance = dict.fromkeys(self._counts[()], 1 / max(len(self._counts[()]), 1))
        for k in range(ORDER + 1):
            counts = self._counts.get(tuple(padded[len(padded) - k :]), Counter[str]())
            of = counts.total() + KAPPA
            chance = {tool: (counts[tool] + KAPPA * p) / of for tool, p in chance.items()}
        chance.pop(padded[-1], None)
        return sorted(chance, key=lambda tool: (-chance[tool], tool))


def constant_plan(sets: Sequence[frozenset[str]]) -> frozenset[str]:
    """The one of the commonest sets, or none, that agrees best with all of them (D4)."""
    candidates = [*(found for found, _ in Counter(sets).most_common(COMMONEST)), frozenset[str]()]
    return max(candidates, key=lambda tools: (sum(f1(tools, s) for s in sets), sorted(tools)))


class WordRetrieval:
    """The runs whose tasks have the most words in common: TF-IDF, log((1 + n) / (1 + df)) + 1."""

    def __init__(self, tasks: Sequence[str]):
        bags = [_bag(task) for task in tasks]
        spread = Counter(word for bag in bags for word in bag)
        self._idf = {w: math.log((1 + len(bags)) / (1 + n)) + 1 for w, n in spread.items()}
        self._rows = [self._weighted(bag) for bag in bags]

    def nearest(self, task: str, limit: int) -> list[int]:
        """The places of the nearest tasks."""
        asked = self._weighted(_bag(task))
        scores = [
            sum(weight * row.get(word, 0.0) for word, weight in asked.items()) for row in self._rows
        ]
        return sorted(range(len(scores)), key=lambda i: (-round(scores[i], 12), i))[:limit]

    def _weighted(self, bag: Mapping[str, int]) -> dict[str, float]:
        weights = {word: n * self._idf[word] for word, n in bag.items() if word in self._idf}
        length = math.sqrt(sum(w * w for w in weights.values())) or 1.0
        return {word: weight / length for word, weight in weights.items()}


def _bag(task: str) -> Counter[str]:
    return Counter(_WORD.findall(task.lower()))


def typical(paths: Sequence[Sequence[str]], limit: int) -> list[int]:
    """The places of the paths that cover all best, whatever is asked (D5)."""
    places = [*range(len(paths))]
    random.Random(0).shuffle(places)
    places = sorted(places[:MOST_TYPICAL])
    overlaps = np.array([[overlap(paths[a], paths[b]) for b in places] for a in places])
    covered, chosen = np.zeros(len(places)), list[int]()
    for _ in range(min(limit, len(places))):
        gains = np.maximum(overlaps, covered).mean(axis=1)
        gains[chosen] = -1
        chosen.append(int(np.argmax(gains)))
        covered = np.maximum(covered, overlaps[chosen[-1]])
    return [places[place] for place in chosen]


def success_by_length(lengths: Sequence[int], succeeded: Sequence[bool]) -> _Logistic:
    """The probability of success by the number of calls n: logistic in log(1 + n) and its square
    (D6)."""
    return _Logistic(np.log1p(np.array(lengths, float)), np.array(succeeded, float))


class _Logistic:
    def __init__(self, x: Floats, y: Floats):
        self._mean, self._spread = float(x.mean()), float(x.std()) or 1.0
        features, ridge = self._features(x), np.diag([1e-6, 1.0, 1.0])
        self._weights = np.zeros(3)
        for _ in range(30):
            p = _squashed(features @ self._weights)
            slope = features.T @ (p - y) + ridge @ self._weights
            bend = (features * (p * (1 - p))[:, None]).T @ features + ridge
            self._weights -= np.linalg.solve(bend, slope)

    def probability(self, length: int) -> float:
        """That of a run with so many calls."""
        x = np.log1p(np.array([length], float))
        return float(_squashed(self._features(x) @ self._weights)[0])

    def _features(self, x: Floats) -> Floats:
        scaled = (x - self._mean) / self._spread
        return np.stack([np.ones_like(scaled), scaled, scaled**2], axis=1)


def _squashed(x: Floats) -> Floats:
    squashed: Floats = 1 / (1 + np.exp(-np.clip(x, -30, 30)))
    return squashed


def usual_remedies(trials: Sequence[Trial]) -> list[str | None]:
    """What followed errors, the commonest first; the tool that failed is not among it (D7)."""
    after = Counter(
        following for trial in trials for tool, _, following in trial.incidents if following != tool
    )
    return sorted(after, key=lambda tool: (-after[tool], tool or ""))
