"""What decides the order of a search, the same way on every engine.

The score is a weighted mean of parts in 0…1, each computed from the question and the candidates:

    cover    Σ w(t) · max over turns k ≤ 3 away of DECAY[k] · [t occurs there]  /  Σ w(t),
             t over the query's words; for what stands alone, outside any conversation, the mean
             of [t occurs] and of the engine's text score against the best such score
    answer   the same share, undecayed, of the turn just before, where that turn asks something
    dense    cosine, min-max over the candidates
    near     the mean ``dense`` of the turns at most 2 away; what stands alone counts its own
    session  the best ``dense`` of its conversation; what stands alone counts its own
    phrase   1 where two adjacent words of the query stand together
    speaker  1 where the one participant whom the query names speaks, or an unspoken text names them
    cue      1 where the query asks for a time and the text has a word of time
    date     1 where it was written from a day before to two days after a date in the query,
             ½ where it was written in that month
    tells    0 where it ends as a question
    length   characters / 150, 1 at most: "Thanks!" is seldom meant; what stands alone counts 1

A part that the query gives no occasion for is left out of the mean; a query without any word is
covered by nothing. w(t) is Robertson's idf over the candidates, log(1 + (n - df + ½) / (df + ½)),
less for a word that says how something is asked ("what kind of"). Turns are ordered without the
engine's text score, so that their order does not depend on whose BM25 it was.

How the weights were found, and what each part is worth, is in
docs/explanation/decisions/ranking.md.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from .candidate import Candidate
from .dates import MONTHS, Moment, Span, closeness
from .language import GAP, MAX_CHARS, WORD, beginnings, fold, stem
from .question import (
    ASKING_WORDS,
    Question,
    analyze,
    match_terms,
    name_words,
    without_names,
)

__all__ = [
    "WEIGHTS",
    "Candidate",
    "Mode",
    "Moment",
    "Question",
    "Ranked",
    "Span",
    "analyze",
    "match_terms",
    "rank",
    "without_names",
]

Mode: TypeAlias = Literal["hybrid", "semantic", "keyword"]
Floats: TypeAlias = NDArray[np.float64]
Accepts: TypeAlias = Callable[[str], bool]

WEIGHTS: Mapping[Mode, Mapping[str, float]] = {
    "hybrid": {
        "cover": 6.0,
        "answer": 2.0,
        "dense": 3.0,
        "near": 3.0,
        "session": 2.5,
        "phrase": 0.75,
        "speaker": 3.0,
        "cue": 2.5,
        "date": 6.0,
        "tells": 0.75,
        "length": 0.25,
    },
    "semantic": {"dense": 2.5, "near": 1.5, "session": 1.5, "speaker": 1.0, "length": 1.0},
    "keyword": {"cover": 2.0, "text": 2.0, "answer": 1.0},
}
_SPACED = bytes(n if n >= 0x80 or WORD.match(chr(n)) else ord(" ") for n in range(256))
_BETWEEN = b"  "
"""Between two texts; words of a phrase have one space between them, so that none runs across."""
DECAY = (1.0, 0.8, 0.7, 0.6)
NEAR = 2
REACH = len(DECAY) - 1
_DECAYED = np.array([*DECAY[:0:-1], *DECAY])
RARE = 3
"""A word in fewer candidates weighs no more; one in none is often a word nobody used."""
ASKING = 0.3
"""What a word that says how something is asked weighs, against one that says what."""
FULL_LENGTH = 150
TIME_CUES = (
    *MONTHS,
    *"""
    yesterday today tonight tomorrow last next ago recently since week weeks weekend month months
    year years days monday tuesday wednesday thursday friday saturday sunday
    """.split(),  # noqa: SIM905
)


class Ranked(msgspec.Struct, frozen=True):
    """A candidate with its score in 0…1; the parts in ``why`` add up to the score."""

    candidate: Candidate
    score: float
    why: dict[str, float]


def rank(
    question: Question,
    candidates: Sequence[Candidate],
    *,
    mode: Mode = "hybrid",
    limit: int | None = None,
    weights: Mapping[str, float] | None = None,
) -> list[Ranked]:
    """Order candidates best first, ties by recency and then id, whatever order they come in.

    Semantic mode leaves out those without a vector and keyword mode those the text search did not
    find; all of them serve as context for the turns beside them. ``weights`` stand in for those of
    the mode, to measure what a part is worth.
    """
    if not candidates:
        return []
    parts = _parts(question, candidates, WEIGHTS[mode] if weights is None else weights)
    table = np.array(list(parts.values())).reshape(len(parts), len(candidates))
    scores = np.round(table.sum(axis=0), 9)
    best = _best(candidates, scores, _eligible(candidates, mode), limit)
    values = table[:, best].T.tolist()
    return [
        Ranked(candidates[i], min(float(scores[i]), 1.0), dict(zip(parts, why, strict=True)))
        for i, why in zip(best, values, strict=True)
    ]


def _best(
    pool: Sequence[Candidate], scores: Floats, places: NDArray[np.intp], limit: int | None
) -> list[int]:
    """The best of these places, in order."""
    if limit is not None and limit < len(places):
        last = np.partition(scores[places], -limit)[-limit] if limit else np.inf
        places = places[scores[places] >= last]
    best: list[int] = places.tolist()
    best.sort(key=lambda i: pool[i].item_id)
    best.sort(key=lambda i: (scores[i], pool[i].created_at), reverse=True)
    return best[:limit]


def _eligible(pool: Sequence[Candidate], mode: Mode) -> NDArray[np.intp]:
    """The places of what may be found."""
    if mode == "hybrid":
        return np.arange(len(pool))
    if mode == "semantic":
        return np.flatnonzero([each.dense_score is not None for each in pool])
    return np.flatnonzero([each.text_score > 0 for each in pool])


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
    def talks(self) -> NDArray[np.int64]:
        """The number of each candidate's conversation, counted from 0."""
        numbers: dict[Hashable, int] = {}
        listed = [numbers.setdefault(each.conversation, len(numbers)) for each in self.pool]
        return np.array(listed, dtype=np.int64)

    @cached_property
    def _beside(self) -> NDArray[np.intp]:
        """Where the turns from ``REACH`` before to ``REACH`` after each are among the candidates.

        A row for each distance; the number of candidates where there is no such turn.
        """
        ordinals = np.array([candidate.ordinal for candidate in self.pool], dtype=np.int64)
        places = self.talks * 2**40 + ordinals
        order = np.argsort(places, kind="stable")
        ordered = places[order]
        wanted = ordered + np.arange(-REACH, REACH + 1)[:, None]
        at = np.minimum(np.searchsorted(ordered, wanted), len(order) - 1)
        beside = np.empty_like(at)
        beside[:, order] = np.where(ordered[at] == wanted, order[at], len(order))
        beside[:, self.alone] = len(order)
        return beside

    def around(self, values: Floats) -> Floats:
        """The values of the turns from ``REACH`` before to ``REACH`` after each, 0 where there is
        none: the last axis but one is the distance."""
        nothing = np.zeros((*values.shape[:-1], 1))
        return np.concatenate([values, nothing], axis=-1).take(self._beside, axis=-1)

    def mean_around(self, values: Floats, reach: int) -> Floats:
        """The mean of the values of the turns at most ``reach`` away, those that are there."""
        places = self._beside[REACH - reach : REACH + reach + 1]
        known = places < len(self.pool)
        around = np.append(values, 0.0)[places].sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return np.where(self.alone, values, around)

    @cached_property
    def texts(self) -> list[str]:
        lower = [candidate.text[:MAX_CHARS].lower() for candidate in self.pool]
        return [text if text.isascii() else fold(text) for text in lower]

    @cached_property
    def _joined(self) -> tuple[bytes, NDArray[np.int64]]:
        """The words of all texts with a space before and after each, and where the texts end.

        One piece, which ``bytes.find`` reads faster than any loop.
        """
        words = [text if text.isascii() else GAP.sub(" ", text) for text in self.texts]
        encoded = [text.encode("utf-8", "replace") for text in words]
        joined = _BETWEEN.join([b"", *encoded, b""]).translate(_SPACED)
        return joined, np.cumsum([len(text) + len(_BETWEEN) for text in encoded])

    def having(self, needles: Iterable[str], accept: Accepts | None = None) -> Floats:
        """A row a needle: 1 where a text has it, in a word that is one to accept if that is asked.

        A space in a needle is where a word begins or ends.
        """
        joined, ends = self._joined
        found = [_places(needle.encode("utf-8", "replace"), joined, accept) for needle in needles]
        rows = np.zeros((len(found), len(self.pool)))
        for row, places in zip(rows, found, strict=True):
            if places:
                row[np.searchsorted(ends, places, side="right")] = 1.0
        return rows

    @cached_property
    def occurs(self) -> Floats:
        """Which words of the query each text has, weighted to add up to 1."""
        roots: dict[str, float] = {}
        for term in self.question.terms:
            roots.setdefault(stem(fold(term)), ASKING if term in ASKING_WORDS else 1.0)
        begin = {root: [f" {start}" for start in beginnings(root)] for root in roots}
        rows = np.array([_any(self.having(begin[root], _has_stem(root))) for root in roots])
        n, df = len(self.pool), np.maximum(rows.sum(axis=1), RARE)
        weights = np.log1p(np.maximum(n - df + 0.5, 0.5) / (df + 0.5)) * [*roots.values()]
        weighted: Floats = rows * (weights / weights.sum())[:, None]
        return weighted

    @cached_property
    def dense(self) -> Floats | None:
        given = [candidate.dense_score for candidate in self.pool]
        known = np.array([score for score in given if score is not None])
        if not len(known):
            return None
        scores: Floats = np.array(given, dtype=np.float64)
        low, high = known.min(), known.max()
        spread = (scores - low) / (high - low) if high > low else scores - low + 1.0
        filled: Floats = np.nan_to_num(spread)
        return filled


def _places(needle: bytes, joined: bytes, accept: Accepts | None) -> list[int]:
    """Where the needle is, in words that begin with the space it begins with."""
    places, known = [], dict[bytes, bool]()
    at = joined.find(needle)
    while at >= 0:
        if accept is None:
            places.append(at)
        else:
            word = joined[at + 1 : joined.find(b" ", at + 1)]
            if word not in known:
                known[word] = accept(word.decode("utf-8", "replace"))
            if known[word]:
                places.append(at)
        at = joined.find(needle, at + len(needle) - 1)
    return places


def _has_stem(root: str) -> Accepts:
    return lambda word: root in (word, stem(word))


def _any(rows: Floats) -> Floats:
    found: Floats = rows.max(axis=0)
    return found


def _cover(scene: _Scene) -> Floats:
    if not scene.question.terms:
        return np.zeros(len(scene.pool))
    decayed = scene.around(scene.occurs) * _DECAYED[:, None]
    cover: Floats = np.maximum(scene.occurs, decayed.max(axis=1)).sum(axis=0)
    return np.where(scene.alone, (cover + _text(scene)) / 2, cover)


def _answer(scene: _Scene) -> Floats | None:
    if not scene.question.terms:
        return None
    asks = np.array(["?" in text for text in scene.texts])
    before: Floats = scene.around(scene.occurs.sum(axis=0) * asks)[REACH - 1]
    return before


def _near(scene: _Scene) -> Floats | None:
    return None if scene.dense is None else scene.mean_around(scene.dense, NEAR)


def _session(scene: _Scene) -> Floats | None:
    if scene.dense is None:
        return None
    best = np.zeros(int(scene.talks.max()) + 1)
    np.maximum.at(best, scene.talks, scene.dense)
    return np.where(scene.alone, scene.dense, best[scene.talks])


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
    return _any(scene.having(f" {fold(phrase)}" for phrase in scene.question.phrases))


def _speaker(scene: _Scene) -> Floats | None:
    about = scene.question.about
    if about is None:
        return None
    speakers = [candidate.speaker for candidate in scene.pool]
    spoken = np.array([speaker is not None for speaker in speakers])
    theirs = np.array([speaker == about for speaker in speakers], dtype=np.float64)
    if spoken.all():
        return theirs
    named = _any(scene.having(f" {fold(word)} " for word in name_words(about)))
    return np.where(spoken, theirs, named)


def _cue(scene: _Scene) -> Floats | None:
    if not scene.question.asks_time:
        return None
    return _any(scene.having(f" {cue} " for cue in TIME_CUES))


def _when(scene: _Scene) -> Floats | None:
    told = scene.question.moments
    if not told:
        return None
    days = [candidate.created_at.date() for candidate in scene.pool]
    near = {day: max(closeness(each, day) for each in told) for day in set(days)}
    return np.array([near[day] for day in days])


def _tells(scene: _Scene) -> Floats:
    return np.array([not text.rstrip().endswith("?") for text in scene.texts], dtype=np.float64)


def _length(scene: _Scene) -> Floats:
    lengths = np.array([len(text) for text in scene.texts])
    return np.where(scene.alone, 1.0, np.minimum(lengths / FULL_LENGTH, 1.0))


_PARTS: Mapping[str, Callable[[_Scene], Floats | None]] = {
    "cover": _cover,
    "answer": _answer,
    "dense": lambda scene: scene.dense,
    "near": _near,
    "session": _session,
    "text": _text,
    "phrase": _phrase,
    "speaker": _speaker,
    "cue": _cue,
    "date": _when,
    "tells": _tells,
    "length": _length,
}
