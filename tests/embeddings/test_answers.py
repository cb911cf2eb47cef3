from __future__ import annotations

import math

import numpy as np
import pytest

from pattern_db.embeddings.answers import as_unit_matrix
from pattern_db.errors import EmbeddingFailed


def test_rows_come_back_at_unit_length_as_float32() -> None:
    matrix = as_unit_matrix([[3, 4], [1e100, 0], [1e-30, 0]], 3, 2)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix, [[0.6, 0.8], [1, 0], [1, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    "vectors",
    [
        [],
        [[1, 2]],
        [[1, 2], [3, 4], [5, 6]],
        [[1, 2, 3], [4, 5, 6]],
        [[1, 2], [3]],
        [[1, 2], [3, math.nan]],
        [[1, 2], [math.inf, 0]],
        [[1, 2], [0, 0]],
        [[1, 2], [1e300, 0]],
        [[1, 2], [None, 1]],
        [[1, 2], "ab"],
        [["a", "b"], ["c", "d"]],
        None,
        "text",
        [1, 2],
    ],
    ids=repr,
)
def test_anything_else_is_refused(vectors) -> None:
    with pytest.raises(EmbeddingFailed, match=r"^The embedding model answered with"):
        as_unit_matrix(vectors, 2, 2)
