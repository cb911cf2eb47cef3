"""What an embedding provider is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector: TypeAlias = NDArray[np.float32]
    """One embedding: shape ``(dimensions,)``, float32, unit length."""

    Matrix: TypeAlias = NDArray[np.float32]
    """Several embeddings: shape ``(texts, dimensions)``, float32, rows of unit length."""
else:  # importing this package must not import numpy
    Vector = Matrix = Any


@runtime_checkable
class EmbeddingProvider(Protocol):
    """Turns text into vectors.

    Documents go through ``embed`` and ``embed_batch``, questions through ``embed_query``, because
    some models prefix them differently. Vectors are float32 of unit length. Embedding the same text
    in any batch gives the same vector within 1e-3 cosine. Failures are ``EmbeddingFailed``; text is
    never cut silently: ``split`` says how a text is divided so that each piece fits the model.
    """

    @property
    def model_id(self) -> str:
        """The name stored beside every vector; equal ids mean comparable vectors."""
        ...

    @property
    def dimensions(self) -> int:
        """The length of every vector."""
        ...

    @property
    def max_batch(self) -> int:
        """The most texts ``embed_batch`` takes in one request; longer lists are split."""
        ...

    async def embed(self, text: str) -> Vector:
        """The vector of one document."""
        ...

    async def embed_batch(self, texts: Sequence[str]) -> Matrix:
        """The vectors of many documents, in their order; of none, shape (0, dimensions)."""
        ...

    async def embed_query(self, text: str) -> Vector:
        """The vector of a question."""
        ...

    def split(self, text: str) -> list[tuple[int, int]]:
        """Character ranges of ``text``, each within the model's window, that cover all of it.

        A text that fits is one range; blank text is one range too.
        """
        ...

    async def close(self) -> None:
        """Release what the provider holds; idempotent."""
        ...
