"""The WordPiece tokenizer of the uncased BERT models, and splitting by it."""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pattern_db.embeddings.split import Ranges, Splitter, Units, by_bytes, divide, fits, well_formed

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CLS, _SEP = ("[CLS]", 101), ("[SEP]", 102)
_SPECIAL_TOKENS = 2
_slabs = by_bytes(1 << 15)
"""What is tokenized at once: it takes 700 bytes a token, 700 MB for 1 MiB of dots (measured)."""


@cache
def tokenizer() -> Tokenizer:
    """The tokenizer; ``[SEP]`` and the like in a text are read as text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = files("pattern_db.embeddings") / "data" / "bert-base-uncased-vocab.txt"
    with as_file(vocabulary) as path:
        words = models.WordPiece.from_file(str(path), unk_token="[UNK]")  # noqa: S106
    built = Tokenizer(words)
    built.normalizer = normalizers.BertNormalizer(lowercase=True)
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[_CLS, _SEP]
    )
    return built


def by_word_pieces(window: int) -> Splitter:
    """Pieces of at most ``window`` word pieces, ``[CLS]`` and ``[SEP]`` included.

    Cuts fall between words only, where WordPiece reads both sides as it read the whole.
    """
    room = window - _SPECIAL_TOKENS

    def split(text: str) -> Ranges:
        return [(0, len(text))] if fits(text, room) else divide(text, _words(text), room)

    return split


def _words(text: str) -> Units:
    slabs = [_words_of_slab(text[start:stop], start) for start, stop in _slabs(text)]
    starts, counts = (np.concatenate(parts) for parts in zip(*slabs, strict=True))
    return Units(starts.tolist(), np.cumsum(counts).tolist())


def _words_of_slab(text: str, offset: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    encoding = tokenizer().encode(well_formed(text), add_special_tokens=False)
    words = np.asarray(encoding.word_ids, dtype=np.int64)
    first = np.flatnonzero(np.diff(words, prepend=-1))
    starts = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)[first, 0]
    return offset + starts, np.diff(first, append=len(words))
