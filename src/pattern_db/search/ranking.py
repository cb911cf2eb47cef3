"""Rank candidates for a query, the same way on every engine.

The score is a weighted mean of parts in 0…1, each computed from the question and the candidates:

    cover    Σ idf(t) · max over turns k ≤ 3 away of DECAY[k] · [t occurs there]  /  Σ idf(t),
             t over the query's words; for what stands alone, outside any conversation, the mean
             of [t occurs] and of the engine's text score against the best such score
    answer   the same share, undecayed, of the turn just before, where that turn asks something
    dense    cosine, min-max over the candidates
    near     the better ``dense`` of the two turns beside it; what stands alone counts its own
    phrase   1 where two adjacent words of the query stand together
    speaker  1 where the one participant whom the query names speaks, or an unspoken text names them
    cue      1 where the query asks for a time and the text has a word of time
    date     1 where it was written from a day before to two days after a date in the query,
             ½ where it was written in that month
    length   characters / 150, 1 at most: "Thanks!" is seldom evidence; what stands alone counts 1

A part that the query gives no occasion for is left out of the mean. idf is Robertson's, taken over
the candidates: log(1 + (n - df + ½) / (df + ½)); the engine's idf over the whole table ranked no
better (LoCoMo recall@10 .797, the candidates' .798). Turns are short and the engine's own score
had nothing to add to their ``cover`` (.810 with and without), so that their order does not depend
on whose BM25 it was; over the documents of Cranfield it adds .03 nDCG@10.

The weights are a softmax regression over LoCoMo questions, rounded. Fitted on some conversations
and measured on the others recall@10 is .806, with these .810; halving ``cover`` costs .015, and
changing any other by half .005 at most.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import cached_property
from itertools import pairwise
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

Mode: TypeAlias = Literal["hybrid", "semantic", "keyword"]
Floats: TypeAlias = NDArray[np.float64]

WEIGHTS: Mapping[Mode, Mapping[str, float]] = {
    "hybrid": {
        "cover": 7.0,
        "answer": 2.5,
        "dense": 3.0,
        "near": 2.5,
        "phrase": 1.0,
        "speaker": 3.0,
        "cue": 2.5,
        "date": 6.0,
        "length": 1.0,
    },
    "semantic": {"dense": 2.5, "near": 1.25, "length": 1.0},
    "keyword": {"cover": 2.0, "text": 2.0, "answer": 1.0},
}
DECAY = (1.0, 0.8, 0.7, 0.6)
DAYS_BEFORE, DAYS_AFTER = 1, 2
RARE = 3
"""A word in fewer candidates weighs no more; one in none is often a word nobody used."""
FULL_LENGTH = 150
MAX_TERMS = 64
MAX_CHARS = 8_000
"""How much of a candidate's text is read."""

STOP_WORDS = frozenset(
    """
    a about above after again against all am an and any are aren as at be because been before being
    below between both but by can cannot could couldn did didn do does doesn doing don down during
    each few for from further had hadn has hasn have haven having he her here hers herself him
    himself his how i if in into is isn it its itself just ll me might mightn more most must mustn
    my myself no nor not now of off on once only or other our ours ourselves out over own re s same
    shall shan she should shouldn so some such t than that the their theirs them themselves then
    there these they this those through to too under until up ve very was wasn we were weren what
    when where which while who whom why will with won would wouldn you your yours yourself
    yourselves
    """.split()  # noqa: SIM905
)
SUFFIXES = tuple(
    "ations ation ingly ments ings ment ness ies ied ers ing ion ed es er ly s y e".split()  # noqa: SIM905
)
MONTHS = tuple(
    """
    january february march april may june july august september october november december
    """.split()  # noqa: SIM905
)
TIME_CUES = (
    *MONTHS,
    *"""
    yesterday today tonight tomorrow last next ago recently since week weeks weekend month months
    year years days monday tuesday wednesday thursday friday saturday sunday
    """.split(),  # noqa: SIM905
)
MONTHS_THAT_ARE_WORDS = frozenset({"march", "may"})

_MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0dff\u0e00-\u0eff\u1000-\u109f"
)
_WORD = re.compile(rf"[\w{_MARKS}]+")
_ACCENT = re.compile("[\u0300-\u036f]")
_ASKS_TIME = re.compile(
    r"\s*(?:when|how long)\b|.*\b(?:what|which) (?:year|month|date|day|time)\b", re.DOTALL
)
_ISO_DATE = re.compile(r"\b(?P<year>\d{4})-(?P<month>\d\d)(?:-(?P<day>\d\d))?\b")
_DATE = re.compile(
    r"(?:\b(?P<lead>in|of|during|on|early|late|mid|by|until|since|before|after) )?"
    r"(?:\b(?P<day>\d{1,2})(?:st|nd|rd|th)? (?:of )?)?"
    rf"\b(?P<month>{'|'.join(MONTHS)})\b"
    r"(?: (?P<day_after>\d{1,2})(?:st|nd|rd|th)?\b)?(?:,? (?P<year>\d{4})\b)?"
)


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine offers.

    ``text_score`` is the engine's own, larger is better, 0 for what its text search did not find.
    ``dense_score`` is the exact cosine, ``None`` for what has no vector. ``conversation`` is
    ``None`` for what stands alone; in one, adjacent turns have adjacent ``ordinal``s.
    """

    item_id: str
    kind: str
    text: str
    created_at: datetime
    text_score: float = 0.0
    dense_score: float | None = None
    conversation: str | None = None
    ordinal: int = 0
    speaker: str | None = None


class Ranked(msgspec.Struct, frozen=True):
    """A candidate with its score in 0…1; the parts in ``why`` add up to the score."""

    candidate: Candidate
    score: float
    why: dict[str, float]


class Moment(msgspec.Struct, frozen=True):
    """A date in a query; ``None`` where the query leaves the year or the day open."""

    month: int
    year: int | None = None
    day: int | None = None


class Question(msgspec.Struct, frozen=True):
    """What ranking knows of a query; ``about`` is the one participant whom it names."""

    terms: tuple[str, ...]
    phrases: tuple[str, ...] = ()
    about: str | None = None
    asks_time: bool = False
    moments: tuple[Moment, ...] = ()


def analyze(query: str, participants: Collection[str] = ()) -> Question:
    """Read a query; ``participants`` are the display names of those who speak in its scope."""
    text = unicodedata.normalize("NFC", query.lower())
    words = _WORD.findall(text)
    names = {name: frozenset(_name_words(name)) for name in participants}
    spoken = frozenset[str]().union(*names.values())
    named = sorted(name for name, parts in names.items() if not parts.isdisjoint(words))
    return Question(
        terms=_terms(words, spoken),
        phrases=_phrases(words, spoken),
        about=named[0] if len(named) == 1 else None,
        asks_time=_ASKS_TIME.match(text) is not None,
        moments=_moments(text, spoken),
    )


def match_terms(question: Question) -> list[str]:
    """The words for an engine's text search, which quotes them and joins them with OR.

    Empty only where the query has no word, as one of emoji: then there is nothing to match.
    """
    return list(question.terms)


def stems(text: str) -> list[str]:
    """The words of a text as they are compared here."""
    return [_stem(word) for word in _WORD.findall(_fold(text[:MAX_CHARS]))]


def rank(
    question: Question,
    candidates: Sequence[Candidate],
    *,
    mode: Mode = "hybrid",
    limit: int | None = None,
) -> list[Ranked]:
    """Order candidates best first, ties by recency and then id, whatever order they come in.

    Semantic mode leaves out those without a vector and keyword mode those the text search did not
    find; all of them serve as context for the turns beside them.
    """
    if not candidates:
        return []
    pool = sorted(candidates, key=lambda candidate: candidate.item_id)
    pool.sort(key=lambda candidate: candidate.created_at, reverse=True)
    parts = _parts(question, pool, WEIGHTS[mode])
    score = np.zeros(len(pool)) + np.round(sum(parts.values()), 9)
    order = np.argsort(-score, kind="stable").tolist()
    best = [i for i in order if _eligible(pool[i], mode)][:limit]
    return [
        Ranked(
            pool[i],
            min(float(score[i]), 1.0),
            {name: float(part[i]) for name, part in parts.items()},
        )
        for i in best
    ]


def _fold(text: str) -> str:
    """Lower case without accents, other scripts whole, as FTS5's ``remove_diacritics 2``."""
    text = text.lower()
    if text.isascii():
        return text
    bare = _ACCENT.sub("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFC", bare)


def _stem(word: str) -> str:
    """A prefix of the word that its inflections share, cruder than Porter's and as good here."""
    if len(word) <= 3 or not word.isascii():
        return word
    stem = word
    if word.endswith(SUFFIXES):
        cut = (suffix for suffix in SUFFIXES if word.endswith(suffix))
        stem = next((word.removesuffix(s) for s in cut if len(word) - len(s) >= 3), word)
    if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "ls":
        return stem[:-1]
    return stem[:-1] if len(stem) > 3 and stem[-1] in "ei" else stem


def _name_words(name: str) -> list[str]:
    text = unicodedata.normalize("NFC", name.lower())
    return [word for word in _WORD.findall(text) if word not in STOP_WORDS]


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


def _moments(text: str, spoken: Collection[str]) -> tuple[Moment, ...]:
    found = [
        _moment(int(m["month"]), m["year"], m["day"])
        for m in _ISO_DATE.finditer(text)
        if 1 <= int(m["month"]) <= 12
    ]
    for m in _DATE.finditer(text):
        day = m["day"] or m["day_after"]
        sure = m["month"] not in MONTHS_THAT_ARE_WORDS or m["lead"] or day or m["year"]
        if sure and m["month"] not in spoken:
            found.append(_moment(MONTHS.index(m["month"]) + 1, m["year"], day))
    return tuple(found[:MAX_TERMS])


def _moment(month: int, year: str | None, day: str | None) -> Moment:
    in_year = int(year) if year and int(year) else None
    on_day = int(day) if day and _date(in_year or 2000, month, int(day)) else None
    return Moment(month, in_year, on_day)


def _date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _eligible(candidate: Candidate, mode: Mode) -> bool:
    if mode == "semantic":
        return candidate.dense_score is not None
    return mode == "hybrid" or candidate.text_score > 0


def _parts(
    question: Question, pool: Sequence[Candidate], weights: Mapping[str, float]
) -> dict[str, Floats]:
    """The parts with an occasion, weighted so that they add up to 1 at most."""
    scene = _Scene(question, pool)
    found = {name: _PARTS[name](scene) for name in weights}
    parts = {name: part for name, part in found.items() if part is not None}
    total = sum(weights[name] for name in parts)
    return {name: part * (weights[name] / total) for name, part in parts.items()}


class _Scene:
    """A question and its candidates as arrays, one column a candidate, computed when asked for."""

    def __init__(self, question: Question, pool: Sequence[Candidate]) -> None:
        self.question = question
        self.pool = pool

    @cached_property
    def alone(self) -> NDArray[np.bool_]:
        """Which candidates stand outside any conversation."""
        return np.array([candidate.conversation is None for candidate in self.pool])

    @cached_property
    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        """Each candidate's place, conversation and ordinal in one number, and their order."""
        numbers: dict[str | None, int] = {}
        places = np.array(
            [
                numbers.setdefault(candidate.conversation, len(numbers)) * 2**40 + candidate.ordinal
                for candidate in self.pool
            ]
        )
        return places, np.argsort(places, kind="stable")

    def beside(self, values: Floats, offset: int) -> Floats:
        """The values of the turns ``offset`` later; 0 where there is none among the candidates."""
        places, order = self._places
        wanted = places + offset
        at = order[np.searchsorted(places, wanted, sorter=order) % len(order)]
        known = (places[at] == wanted) & ~self.alone
        return np.where(known, values[..., at], 0.0)

    @cached_property
    def texts(self) -> list[str]:
        return [_fold(candidate.text[:MAX_CHARS]) for candidate in self.pool]

    @cached_property
    def _joined(self) -> tuple[str, NDArray[np.int64]]:
        """All texts in one, which ``str.find`` reads faster than any loop, and their ends."""
        return "\n".join(self.texts), np.cumsum([len(text) + 1 for text in self.texts])

    def having(self, needles: Iterable[str], accept: Callable[[str, str], bool]) -> Floats:
        """A row a needle: 1 where it begins a word, and that word is one to accept for it."""
        joined, ends = self._joined
        found = [list(_occurrences(needle, joined, accept)) for needle in needles]
        rows = np.zeros((len(found), len(self.pool)))
        for row, positions in zip(rows, found, strict=True):
            row[np.searchsorted(ends, positions, side="right")] = 1.0
        return rows

    @cached_property
    def occurs(self) -> Floats:
        """Which words of the query each text has, weighted by idf to add up to 1."""
        stems = dict.fromkeys(_stem(_fold(term)) for term in self.question.terms)
        rows = self.having(stems, lambda stem, word: stem in (word, _stem(word)))
        n, df = len(self.pool), np.maximum(rows.sum(axis=1), RARE)
        idf = np.log1p(np.maximum(n - df + 0.5, 0.5) / (df + 0.5))
        weighted: Floats = rows * (idf / idf.sum())[:, None]
        return weighted

    @cached_property
    def dense(self) -> Floats | None:
        given = [candidate.dense_score for candidate in self.pool]
        if all(score is None for score in given):
            return None
        scores = np.array(given, dtype=np.float64)
        low, high = np.nanmin(scores), np.nanmax(scores)
        spread = (scores - low) / (high - low) if high > low else scores - low + 1.0
        return np.nan_to_num(spread)


def _occurrences(needle: str, joined: str, accept: Callable[[str, str], bool]) -> Iterator[int]:
    at = joined.find(needle)
    while at >= 0:
        if at == 0 or not _WORD.match(joined, at - 1, at):
            word = _WORD.match(joined, at)
            if word is not None and accept(needle, word.group()):
                yield at
        at = joined.find(needle, at + len(needle))


def _any(rows: Floats) -> Floats:
    found: Floats = rows.max(axis=0)
    return found


def _cover(scene: _Scene) -> Floats | None:
    if not scene.question.terms:
        return None
    best = scene.occurs
    for distance, decay in enumerate(DECAY[1:], start=1):
        for offset in (-distance, distance):
            best = np.maximum(best, decay * scene.beside(scene.occurs, offset))
    cover: Floats = best.sum(axis=0)
    return np.where(scene.alone, (cover + _text(scene)) / 2, cover)


def _answer(scene: _Scene) -> Floats | None:
    if not scene.question.terms:
        return None
    asks = np.array(["?" in text for text in scene.texts])
    return scene.beside(scene.occurs.sum(axis=0) * asks, -1)


def _near(scene: _Scene) -> Floats | None:
    if scene.dense is None:
        return None
    best = np.maximum(scene.beside(scene.dense, -1), scene.beside(scene.dense, 1))
    return np.where(scene.alone, scene.dense, best)


def _text(scene: _Scene) -> Floats:
    """The engine's own score against the best of its sort, turns and what stands alone apart."""
    scores = np.array([max(candidate.text_score, 0.0) for candidate in scene.pool])
    best = np.where(
        scene.alone,
        scores.max(where=scene.alone, initial=0.0),
        scores.max(where=~scene.alone, initial=0.0),
    )
    share: Floats = scores / np.where(best > 0, best, 1.0)
    return share


def _phrase(scene: _Scene) -> Floats | None:
    if not scene.question.phrases:
        return None
    phrases = [_fold(phrase) for phrase in scene.question.phrases]
    return _any(scene.having(phrases, lambda _phrase, _word: True))


def _speaker(scene: _Scene) -> Floats | None:
    about = scene.question.about
    if about is None:
        return None
    named = _any(scene.having([_fold(word) for word in _name_words(about)], str.__eq__))
    speakers = [candidate.speaker for candidate in scene.pool]
    spoken = np.array([speaker is not None for speaker in speakers])
    return np.where(spoken, [speaker == about for speaker in speakers], named)


def _cue(scene: _Scene) -> Floats | None:
    if not scene.question.asks_time:
        return None
    return _any(scene.having(TIME_CUES, str.__eq__))


def _when(scene: _Scene) -> Floats | None:
    moments = scene.question.moments
    if not moments:
        return None
    days = [candidate.created_at.date() for candidate in scene.pool]
    return np.array([max(_closeness(moment, day) for moment in moments) for day in days])


def _closeness(moment: Moment, written: date) -> float:
    year = moment.year or written.year
    told = _date(year, moment.month, moment.day) if moment.day else None
    if told is not None and -DAYS_BEFORE <= (written - told).days <= DAYS_AFTER:
        return 1.0
    return 0.5 if (written.year, written.month) == (year, moment.month) else 0.0


def _length(scene: _Scene) -> Floats:
    lengths = np.array([len(text) for text in scene.texts])
    return np.where(scene.alone, 1.0, np.minimum(lengths / FULL_LENGTH, 1.0))


_PARTS: Mapping[str, Callable[[_Scene], Floats | None]] = {
    "cover": _cover,
    "answer": _answer,
    "dense": lambda scene: scene.dense,
    "near": _near,
    "text": _text,
    "phrase": _phrase,
    "speaker": _speaker,
    "cue": _cue,
    "date": _when,
    "length": _length,
}
