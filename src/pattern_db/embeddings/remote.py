"""What the providers that ask a server have in common: requests, time limits, errors."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np

from pattern_db.embeddings.answers import as_unit_matrix
from pattern_db.embeddings.failures import Service
from pattern_db.embeddings.known import KnownModel
from pattern_db.embeddings.pieces import PiecewiseEmbeddings, Purpose
from pattern_db.embeddings.provider import Matrix

MAX_RETRIES = 2
TIMEOUT_S = 60.0

_REQUEST_BYTES = 300_000
"""OpenAI takes 300,000 tokens a request; none is shorter than a byte."""

_BLANK = "."
"""Stands for a blank text, which the services refuse."""

Vectors = Sequence[Sequence[float]]


class RemoteEmbeddings(PiecewiseEmbeddings):
    """An ``EmbeddingProvider`` over an official client.

    ``timeout_s`` bounds one request, its retries included.
    """

    def __init__(
        self,
        *,
        service: Service,
        model: str,
        known: KnownModel,
        max_batch: int,
        timeout_s: float,
    ) -> None:
        super().__init__(
            model_id=model if known.shortened_to is None else f"{model}@{known.shortened_to}",
            dimensions=known.dimensions,
            max_batch=max_batch,
            splitter=known.splitter,
            prefixes=known.prefixes,
        )
        self._service = service
        self._model = model
        self._timeout_s = timeout_s

    async def _embed(self, texts: Sequence[str], purpose: Purpose) -> Matrix:
        pieces = await asyncio.to_thread(self._pieces, texts, purpose)
        said = [piece if piece.strip() else _BLANK for piece in pieces.texts]
        answers = [await self._answer(request, purpose) for request in self._requests(said)]
        return pieces.joined(np.concatenate(answers))

    def _requests(self, texts: list[str]) -> Iterator[list[str]]:
        request: list[str] = []
        size = 0
        for text in texts:
            size += len(text.encode())
            if request and (size > _REQUEST_BYTES or len(request) == self.max_batch):
                yield request
                request, size = [], len(text.encode())
            request.append(text)
        yield request

    async def _answer(self, texts: list[str], purpose: Purpose) -> Matrix:
        try:
            async with asyncio.timeout(self._timeout_s):
                vectors = await self._ask(texts, purpose)
        except Exception as error:
            raise self._service.failure(error, self._timeout_s) from error
        return as_unit_matrix(vectors, len(texts), self.dimensions)

    @abstractmethod
    async def _ask(self, texts: list[str], purpose: Purpose) -> Vectors:
        """The client's answer to one request, as it is; its errors may leave as they are."""
