"""The words of a text as SQLite's ``porter unicode61 remove_diacritics`` has them.

SQLite's own tokenizer makes them, so that every text is found by the same words as there.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import apsw

_MOST_CHARS = 200
"""Of a stem: a longer one is cut, since keys of an index are limited."""


@cache
def _tokenizer() -> tuple[apsw.Connection, Any]:
    connection = apsw.Connection(":memory:")
    return connection, connection.fts5_tokenizer("porter", ["unicode61", "remove_diacritics", "2"])


def stems(text: str) -> list[str]:
    """The stems in the order of the text."""
    _, tokenizer = _tokenizer()
    found = tokenizer(
        text.encode(), apsw.FTS5_TOKENIZE_DOCUMENT, None,
        include_offsets=False, include_colocated=False,
    )  # fmt: skip
    return [stem[:_MOST_CHARS] for stem in found]


def stemmed(text: str) -> str:
    """The same as one text with blanks between."""
    return " ".join(stems(text))
