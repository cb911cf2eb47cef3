"""An embedding provider without a model: words hashed into 16 numbers, the same in every process."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from pattern_db.embeddings import Matrix, Vector

DIMENSIONS = 16
WINDOW_CHARS = 120


class TinyEmbeddings:
    """Texts that share words are near each other; a text longer than the window has several pieces."""

    model_id = "tiny-16"
    dimensions = DIMENSIONS
    max_batch = 64

    async def embed(self, text: str) -> Vector:
        """The vector of a document."""
        return vector_of(text)

    async def embed_batch(self, texts: Sequence[str]) -> Matrix:
        """Their vectors, after giving others a turn as a real provider does."""
        await asyncio.sleep(0)
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
    """A unit vector: each word moves one of the numbers up or down."""
    vector = np.zeros(DIMENSIONS, np.float32)
    for word in text.lower().split():
        place, up = hashlib.blake2b(word.encode(), digest_size=2).digest()
        vector[place % DIMENSIONS] += 1 if up % 2 else -1
    if not vector.any():
        vector[0] = 1
    unit: Vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit
