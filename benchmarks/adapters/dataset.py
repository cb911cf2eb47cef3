"""The data all peers get: texts of Zipf-distributed words, and vectors that lie like embeddings do.

Embeddings fill few of their dimensions and come in clusters. So vectors are drawn from a mixture of
gaussians in ``INNER`` dimensions, turned into ``DIMENSIONS`` by one random matrix, and made unit
length. Uniform random vectors would make every approximate index look bad.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

DIMENSIONS = 384
INNER = 64
CLUSTERS = 300
SPREAD = 0.7
"""How wide a cluster is, the centres being one apart in each dimension."""
WORDS = 20_000
TURN = 14
AGENTS = 10
FULL = {
    "stored": 10_000,
    "queries": 200,
    "get": 2000,
    "add": 300,
    "add_async": 1000,
    "append": 300,
    "last": 500,
}
QUICK = {
    "stored": 2000,
    "queries": 40,
    "get": 200,
    "add": 40,
    "add_async": 100,
    "append": 50,
    "last": 50,
}


def write(folder: Path, *, counts: dict[str, int], seed: int) -> Truth:
    """Put the data where ``workload.Data`` reads it, and give what is right."""
    stored, asked = counts["stored"], counts["queries"]
    later = counts["add"] + counts["add_async"]
    vectors = _vectors(np.random.default_rng(seed), stored + later + asked)
    texts = _texts(random.Random(seed), stored + later + asked)
    each = stored // AGENTS
    agents = [f"agent-{number // each}" for number in range(stored)]
    agents += [f"agent-{number % AGENTS}" for number in range(later + asked)]
    ids = [f"item-{number:06d}" for number in range(stored + later)]
    named = list(zip(ids, agents, texts, strict=False))
    parts = {
        "stored": vectors[:stored],
        "later": vectors[stored : stored + later],
        "queries": vectors[stored + later :],
    }
    np.savez(folder / "vectors.npz", **parts)
    document = {
        "stored": named[:stored],
        "later": named[stored:],
        "queries": list(zip(texts, agents, strict=True))[stored + later :],
        "counts": counts,
    }
    (folder / "items.json").write_text(json.dumps(document), "utf-8")
    return Truth(ids[:stored], agents[:stored], agents[stored + later :], parts)


def _vectors(rng: np.random.Generator, count: int) -> np.ndarray:
    centres = rng.standard_normal((CLUSTERS, INNER))
    turn = rng.standard_normal((INNER, DIMENSIONS))
    inner = centres[rng.integers(0, CLUSTERS, count)]
    outer = (inner + SPREAD * rng.standard_normal((count, INNER))) @ turn
    return (outer / np.linalg.norm(outer, axis=1, keepdims=True)).astype("<f4")


def _texts(rng: random.Random, count: int) -> list[str]:
    """Texts that differ, each with its number at the end."""
    words = [f"w{n:05d}" for n in range(WORDS)]
    weights = [1 / (n + 10) for n in range(WORDS)]
    return [" ".join([*rng.choices(words, weights, k=TURN), f"n{n}"]) for n in range(count)]


class Truth:
    """What an exact search finds."""

    def __init__(self, ids: list[str], agents: list[str], asked: list[str], parts: dict[str, Any]):
        self._ids = np.array(ids)
        cosines = parts["queries"] @ parts["stored"].T
        mine = np.array(asked)[:, None] == np.array(agents)[None, :]
        self._cosines = {"search": cosines, "search_in": np.where(mine, cosines, -np.inf)}

    def recall(self, act: str, found: list[list[str]], k: int) -> float:
        """The mean share of the exact ``k`` nearest that was found, over the queries asked."""
        best = np.argpartition(-self._cosines[act], k, axis=1)[:, :k]
        shares = [
            len(set(self._ids[row]) & set(ids[:k])) / k
            for row, ids in zip(best, found, strict=False)
        ]
        return float(np.mean(shares))
