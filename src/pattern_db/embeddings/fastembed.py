"""FastEmbed: many models on ONNX Runtime, downloaded on first use."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pattern_db.embeddings.answers import as_unit_matrix
from pattern_db.embeddings.known import SEARCH_PREFIX, KnownModel, chosen
from pattern_db.embeddings.pieces import PiecewiseEmbeddings, Purpose
from pattern_db.embeddings.provider import Matrix
from pattern_db.embeddings.wordpiece import by_word_pieces
from pattern_db.embeddings.worker import Worker
from pattern_db.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from fastembed import TextEmbedding

_BGE = KnownModel(dimensions=384, window=512, tokens=by_word_pieces, query_prefix=SEARCH_PREFIX)
MODELS = {
    "BAAI/bge-small-en-v1.5": _BGE,
    "BAAI/bge-base-en-v1.5": replace(_BGE, dimensions=768),
    "BAAI/bge-large-en-v1.5": replace(_BGE, dimensions=1024),
}

_WINDOW = 512


class FastEmbedEmbeddings(PiecewiseEmbeddings):
    """A model of ``fastembed``; ``cache_dir`` is where it is kept, by default fastembed's own."""

    def __init__(
        self,
        *,
        model: str = "BAAI/bge-small-en-v1.5",
        dimensions: int | None = None,
        cache_dir: str | None = None,
    ) -> None:
        try:
            from fastembed import TextEmbedding
        except ImportError as error:
            raise MissingExtra("fastembed", "The fastembed embedding provider") from error
        known = chosen("fastembed", {model: _described(TextEmbedding, model)}, model, dimensions)
        super().__init__(
            model_id=model,
            dimensions=known.dimensions,
            max_batch=256,
            splitter=known.splitter,
            prefixes=known.prefixes,
        )
        self._worker: Worker[TextEmbedding] = Worker(
            partial(TextEmbedding, model, cache_dir=cache_dir),
            failure="The fastembed model cannot be loaded or run; check that the network is up for "
            "its first download, and embeddings.cache_dir.",
        )

    async def _embed(self, texts: Sequence[str], purpose: Purpose) -> Matrix:
        return await self._worker.run(partial(self._job, texts, purpose))

    def _job(
        self, texts: Sequence[str], purpose: Purpose, model: TextEmbedding
    ) -> Generator[None, None, Matrix]:
        """One text a run: in a batch, a quantized model's vectors depend on their neighbours."""
        pieces = self._pieces(texts, purpose)
        embed = model.query_embed if purpose == "query" else model.passage_embed
        vectors = []
        for vector in embed(pieces.texts, batch_size=1):
            vectors.append(vector)
            if len(vectors) < len(pieces.texts):
                yield
        return pieces.joined(as_unit_matrix(vectors, len(pieces.texts), self.dimensions))

    async def _release(self) -> None:
        await self._worker.close()


def _described(library: type[TextEmbedding], model: str) -> KnownModel:
    try:
        dimensions = library.get_embedding_size(model)
    except ValueError as error:
        raise ConfigError(
            f"fastembed has no model {model!r}; correct embeddings.model "
            "(`fastembed.TextEmbedding.list_supported_models()` lists them)."
        ) from error
    return MODELS.get(model) or KnownModel(dimensions=dimensions, window=_WINDOW)
