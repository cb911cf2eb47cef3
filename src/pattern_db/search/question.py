"""What a question asks: its telling words, whom it names, and when."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import pairwise

import msgspec

from .dates import Dates, dates_in
from .language import STOP_WORDS, WORD

MAX_TERMS = 64
ASKING_WORDS = frozenset(
    """
    according describe described happen happened kind kinds likely many mention mentioned might
    much name names potentially regarding sort thing things type types
    """.split()  # noqa: SIM905
)
"""Words that say how something is asked rather than what."""

_ASKS_TIME = re.compile(
    r"\s*(?:when|how long)\b|.*\b(?:what|which) (?:year|month|date|day|time)\b", re.DOTALL
)
_POSSESSIVE = re.compile(r"['’]s\b", re.IGNORECASE)


class Question(msgspec.Struct, frozen=True):
    """What ranking knows of a query; ``about`` is the one participant whom it names."""

    terms: tuple[str, ...]
    phrases: tuple[str, ...] = ()
    about: str | None = None
    asks_time: bool = False
    moments: Dates = ()


def analyze(
    query: str, participants: Collection[str] = (), *, now: datetime | None = None
) -> Question:
    """Read a query; ``participants`` are the display names of those who speak in its scope.

    "yesterday", "last May" and the like are dates only where ``now`` says when it is asked.
    """
    text = unicodedata.normalize("NFC", query.lower())
    words = WORD.findall(text)
    names = {name: frozenset(name_words(name)) for name in participants}
    spoken = frozenset[str]().union(*names.values())
    named = sorted(name for name, parts in names.items() if not parts.isdisjoint(words))
    return Question(
        terms=_terms(words, spoken),
        phrases=_phrases(words, spoken),
        about=named[0] if len(named) == 1 else None,
        asks_time=_ASKS_TIME.match(text) is not None,
        moments=dates_in(text, spoken, now)[:MAX_TERMS],
    )


def match_terms(question: Question) -> list[str]:
    """The words for an engine's text search, which quotes them and joins them with OR.

    Empty only where the query has no word, as one of emoji: then there is nothing to match.
    """
    return list(question.terms)


def without_names(query: str, participants: Collection[str]) -> str:
    """The query without the names of those who speak, to be compared with what they said.

    Every turn is embedded with its speaker's name, so that a name in the query is near to all of
    their turns alike. A query that says nothing else stays as it is.
    """
    spoken = {word for name in participants for word in name_words(name)}
    kept, start = [], 0
    for word in WORD.finditer(query):
        if unicodedata.normalize("NFC", word.group().lower()) in spoken:
            kept.append(query[start : word.start()])
            possessive = _POSSESSIVE.match(query, word.end())
            start = possessive.end() if possessive else word.end()
    if not kept:
        return query
    rest = " ".join("".join([*kept, query[start:]]).split())
    return rest if any(word.lower() not in STOP_WORDS for word in WORD.findall(rest)) else query


def name_words(name: str) -> list[str]:
    """The words that name somebody."""
    text = unicodedata.normalize("NFC", name.lower())
    return [word for word in WORD.findall(text) if word not in STOP_WORDS]


def _terms(words: Sequence[str], spoken: Collection[str]) -> tuple[str, ...]:
    """Words to match: between two people a name is in every other turn, so it goes first."""
    telling = [word for word in words if word not in STOP_WORDS]
    unnamed = [word for word in telling if word not in spoken]
    return tuple(dict.fromkeys(unnamed or telling or words))[:MAX_TERMS]


def _phrases(words: Sequence[str], spoken: Collection[str]) -> tuple[str, ...]:
    pairs = dict.fromkeys(
        f"{first} {second}"
        for first, second in pairwise(words)
        if not (first in STOP_WORDS and second in STOP_WORDS)
        and first not in spoken
        and second not in spoken
    )
    return tuple(pairs)[:MAX_TERMS]
