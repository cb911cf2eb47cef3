"""What tests of vector segments share: small thresholds, vectors without ties, and the truth."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pattern_db import PatternDB
from pattern_db.embeddings import Matrix, Vector
from pattern_db.engines.sqlite.vectors import segments_folder
from pattern_db.models import Message
from pattern_db.schema import table_of
from pattern_db.vectors import VectorIndex, building, calibration, index, scope

from .soundness import read

DIMENSIONS = 8
WINDOW_CHARS = 120
LARGE = 64
"""A scope of so many rows is large, once thresholds are small."""
MESSAGES = table_of(Message)

Hits = list[tuple[str, float]]


def make_small(change: Callable[[Any, str, Any], None] = setattr) -> None:
    """Make scopes of a few rows large. Their segments are searched whole: a graph of so few
    dimensions does not reach every row, which is not a loss."""
    change(scope, "EXACT_ROWS", LARGE)
    change(index, "_PAUSE_S", 0.0)
    change(index, "_PAUSE_AFTER_FAILURE_S", 0.0)
    change(building, "_ADD_ROWS", 16)
    change(calibration, "EXPANSIONS", ())


class Spread:
    """An embedding provider without a model: every text has a vector of its own, in all processes."""

    dimensions = DIMENSIONS
    max_batch = 1000

    def __init__(self, model_id: str = "spread-8"):
        self.model_id = model_id

    async def embed(self, text: str) -> Vector:
        """The vector of a document."""
        return vector_of(text)

    async def embed_batch(self, texts: Sequence[str]) -> Matrix:
        """Their vectors."""
        return np.array([vector_of(text) for text in texts], np.float32).reshape(-1, DIMENSIONS)

    async def embed_query(self, text: str) -> Vector:
        """The vector of a question."""
        return vector_of(text)

    def split(self, text: str) -> list[tuple[int, int]]:
        """Pieces of the window's size."""
        starts = range(0, max(1, len(text)), WINDOW_CHARS)
        return [(start, min(start + WINDOW_CHARS, len(text))) for start in starts]

    async def close(self) -> None:
        """Nothing is held."""


@lru_cache(maxsize=100_000)
def vector_of(text: str) -> Vector:
    """A unit vector that only this text has."""
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    vector = np.random.default_rng(seed).standard_normal(DIMENSIONS, dtype=np.float32)
    unit: Vector = vector / np.linalg.norm(vector)
    return unit


async def say(db: PatternDB, agent: str, texts: Iterable[str]) -> list[str]:
    """Append messages; gives their ids."""
    turns = [{"role": "user", "content": text} for text in texts]
    return [message.id for message in await db.messages.append_many(agent, turns)]


def texts(count: int, name: str = "text") -> list[str]:
    """So many different texts."""
    return [f"{name} {n}" for n in range(count)]


def files(path: str | Path) -> list[Path]:
    """The segment files of a database."""
    return sorted(segments_folder(str(path)).glob("*.segment"))


def index_of(db: PatternDB) -> VectorIndex:
    """The vectors of a database in this process."""
    return db.store._vectors._index  # type: ignore[attr-defined, no-any-return]


async def built(db: PatternDB) -> None:
    """Wait for what is built in the background."""
    await asyncio.to_thread(index_of(db).wait)


async def nearest(
    db: PatternDB, agents: str | Sequence[str], question: str, limit: int = 10, **more: Any
) -> Hits:
    """What a search by meaning finds among the messages of agents."""
    listed = [agents] if isinstance(agents, str) else agents
    found: Hits = await db.store.vector_search(
        MESSAGES,
        vector_of(question),
        space=db.embeddings.space or 1,
        agent_ids=listed,
        limit=limit,
        **more,
    )
    return found


def truth(
    path: str | Path,
    agents: str | Sequence[str],
    question: str,
    limit: int = 10,
    accept: Callable[[str], bool] = lambda _item: True,
) -> Hits:
    """What a search has to find: every committed vector is compared."""
    listed = [agents] if isinstance(agents, str) else agents
    with closing(read(path)) as connection:
        rows = connection.execute(
            "SELECT item_id, agent_id, vector FROM embeddings WHERE kind = 'message'"
        ).fetchall()
    return best(((i, v) for i, a, v in rows if a in listed and accept(i)), question, limit)


def best(rows: Iterable[tuple[str, bytes]], question: str, limit: int) -> Hits:
    """The best items of rows of (item, vector)."""
    scores: dict[str, float] = {}
    for item, vector in rows:
        score = float(np.frombuffer(vector, "<f4") @ vector_of(question))
        scores[item] = max(score, scores.get(item, -2.0))
    return sorted(scores.items(), key=lambda pair: -pair[1])[:limit]


def same(found: Hits, expected: Hits) -> bool:
    """Whether two answers agree, but for the last digits of floating point."""
    if [item for item, _ in found] != [item for item, _ in expected]:
        return False
    return np.allclose([s for _, s in found], [s for _, s in expected], atol=1e-5)


_questions = itertools.count()


async def wrong(db: PatternDB, path: str | Path, agents: str | Sequence[str]) -> list[str]:
    """The questions, of a few new ones, that searches answer wrongly."""
    asked = [f"question {next(_questions)}" for _ in range(5)]
    return [q for q in asked if not same(await nearest(db, agents, q), truth(path, agents, q))]


async def missing(db: PatternDB, agent: str, said: Collection[str]) -> list[str]:
    """The texts that a search with their own words does not find first."""
    lost = []
    for text in said:
        found = await nearest(db, agent, text, 1)
        if not found or (await db.messages.require(found[0][0])).content != text:
            lost.append(text)
    return lost
