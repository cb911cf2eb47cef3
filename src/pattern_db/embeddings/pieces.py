"""Texts cut into pieces that fit the model's window, and the vectors of the pieces joined again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pattern_db.embeddings.answers import as_unit_matrix
from pattern_db.embeddings.provider import Matrix, Vector
from pattern_db.embeddings.split import Ranges, Splitter, well_formed
from pattern_db.errors import EmbeddingFailed

Purpose = Literal["document", "query"]


@dataclass(frozen=True, slots=True)
class Pieces:
    """The pieces of several texts, in their order; every text has at least one."""

    texts: list[str]
    owners: NDArray[np.intp]
    """The index of the text that each piece is from."""

    def joined(self, vectors: Matrix) -> Matrix:
        """One vector a text: its only piece's, or the mean of its pieces' weighted by length."""
        count = int(self.owners[-1]) + 1
        if len(vectors) == count:
            return vectors
        weights = np.array([[max(1, len(piece))] for piece in self.texts], np.float32)
        sums = np.zeros((count, vectors.shape[1]), np.float32)
        np.add.at(sums, self.owners, vectors * weights)
        return as_unit_matrix(sums, count, vectors.shape[1])


class PiecewiseEmbeddings(ABC):
    """An ``EmbeddingProvider`` over a model with a window.

    A text longer than the window is embedded whole: its vector is the mean of those of its pieces.
    """

    def __init__(
        self,
        *,
        model_id: str,
        dimensions: int,
        max_batch: int,
        splitter: Splitter,
        prefixes: dict[Purpose, str] | None = None,
    ) -> None:
        self._model_id = model_id
        self._dimensions = dimensions
        self._max_batch = max_batch
        self._splitter = splitter
        self._prefixes = prefixes or {}
        self._closed = False

    @property
    def model_id(self) -> str:
        return self._model_id

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def max_batch(self) -> int:
        return self._max_batch

    async def embed(self, text: str) -> Vector:
        vector: Vector = (await self._checked([text], "document"))[0]
        return vector

    async def embed_batch(self, texts: Sequence[str]) -> Matrix:
        return await self._checked(texts, "document")

    async def embed_query(self, text: str) -> Vector:
        vector: Vector = (await self._checked([text], "query"))[0]
        return vector

    def split(self, text: str) -> Ranges:
        return self._splitter(text)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._release()

    async def _checked(self, texts: Sequence[str], purpose: Purpose) -> Matrix:
        if self._closed:
            raise EmbeddingFailed("The embedding provider is closed; create it anew.")
        if not len(texts):
            return np.empty((0, self._dimensions), np.float32)
        return await self._embed(texts, purpose)

    def _pieces(self, texts: Sequence[str], purpose: Purpose) -> Pieces:
        prefix = self._prefixes.get(purpose, "")
        owned = [
            (owner, prefix + text[begin:end])
            for owner, text in enumerate(map(well_formed, texts))
            for begin, end in self._splitter(text)
        ]
        owners = np.array([owner for owner, _ in owned], np.intp)
        return Pieces([piece for _, piece in owned], owners)

    @abstractmethod
    async def _embed(self, texts: Sequence[str], purpose: Purpose) -> Matrix:
        """The vectors of at least one text, in order, or ``EmbeddingFailed``."""

    @abstractmethod
    async def _release(self) -> None:
        """Give back threads and connections; called once."""
