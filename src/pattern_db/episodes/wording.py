"""Texts of steps, brought into the form in which equal ones are equal."""

from __future__ import annotations

import re
from collections.abc import Collection

SIGNATURE_WORDS = 7
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_NAMED = re.compile(r"#?\b[\w./-]*\d[\w./-]*")
_WORD = re.compile(r"[^\W_]+")


def generalized(text: str) -> str:
    """Lower case, with ``_`` for whatever is quoted or holds a digit: ids, numbers, paths."""
    return " ".join(_NAMED.sub("_", _QUOTED.sub("_", text.lower())).split())


def error_signature(message: str) -> str:
    """What equal errors have in common: the first seven words of the message, generalized.

    Learning study, D7. Empty for a message without any word.
    """
    return " ".join(generalized(message[:2000]).split()[:SIGNATURE_WORDS])


def words_of(text: str) -> list[str]:
    """The words of a text or of a name such as ``run_tests``, in lower case."""
    return _WORD.findall(text.lower())


def says(text: str, words: Collection[str]) -> bool:
    """Whether one of these words is a whole word of the text; ``is`` is no word of ``this``."""
    return not set(words).isdisjoint(words_of(text))
