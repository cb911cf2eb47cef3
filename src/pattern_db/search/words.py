"""Texts that no index holds, compared by their words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from . import language

K1, B = 1.2, 0.75


def word_scores(terms: Sequence[str], texts: Mapping[str, str]) -> dict[str, float]:
    """BM25 (Robertson and Zaragoza 2009; k1 1.2, b 0.75) of those texts that hold a term."""
    wanted = {stem for term in terms for stem in language.stems(term)}
    words = {id: language.stems(text) for id, text in texts.items()}
    held = {id: Counter(w for w in found if w in wanted) for id, found in words.items()}
    average = sum(map(len, words.values())) / max(len(words), 1) or 1.0
    spread = Counter(term for counts in held.values() for term in counts)
    idf = {t: math.log1p((len(words) - n + 0.5) / (n + 0.5)) for t, n in spread.items()}
    scores = {}
    for id, counts in held.items():
        weight = K1 * (1 - B + B * len(words[id]) / average)
        scores[id] = sum(idf[t] * n * (K1 + 1) / (n + weight) for t, n in counts.items())
    return {id: score for id, score in scores.items() if score > 0}


def telling_words(text: str) -> frozenset[str]:
    """The words of a text that say what it is about, each once."""
    return frozenset(language.stems(text)) - language.STOP_WORDS
