"""What a provider must answer: as many vectors as texts, of the right length, finite, not zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pattern_db.embeddings.provider import Matrix
from pattern_db.errors import EmbeddingFailed


def as_unit_matrix(vectors: ArrayLike, count: int, dimensions: int) -> Matrix:
    """The vectors as ``(count, dimensions)`` float32 of unit length, or ``EmbeddingFailed``."""
    matrix = _as_floats(vectors)
    if matrix.shape != (count, dimensions):
        raise EmbeddingFailed(_wrong_shape(matrix.shape, count, dimensions))
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths) & (lengths > 0)):
        raise EmbeddingFailed(
            "The embedding model answered with a vector of zeros, or of numbers that are none; "
            "check that it is an embedding model."
        )
    unit: Matrix = (matrix / lengths).astype(np.float32)
    return unit


def _as_floats(vectors: ArrayLike) -> NDArray[np.floating]:
    try:
        array = np.asarray(vectors)
        return array if array.dtype == np.float32 else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise EmbeddingFailed(
            "The embedding model answered with something that is not a list of vectors of equal "
            "length; check that it is an embedding model."
        ) from error


def _wrong_shape(shape: tuple[int, ...], count: int, dimensions: int) -> str:
    found = f"{shape[0]} vectors of {shape[1]} dimensions" if len(shape) == 2 else "no matrix"
    return (
        f"The embedding model answered with {found} where {count} of {dimensions} were expected; "
        "check embeddings.model and embeddings.dimensions."
    )
