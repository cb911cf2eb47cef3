"""Lessons of an episode, merged into the patterns that are stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from ..engines.base import Store
from ..episodes.extraction import Lesson, content_key
from ..episodes.statistics import shrunk_rate, wilson_lower
from ..filters import NotInQuery
from ..ids import new_id
from ..models import Episode, OutcomeKind, Pattern, PatternEvidence, PatternKind
from ..query import Bound, Insert, delete, param, select, update
from ..schema import columns_of, table_of
from ..validation import build

_P = columns_of(Pattern)
_KNOWN = select(Pattern).where(_P.content_key.in_(param("keys"))).limit(param("limit"))
_ADD, _ADD_EVIDENCE = Insert(table_of(Pattern)), Insert(table_of(PatternEvidence))
_COUNTS = (
    "occurrences",
    "successes",
    "failures",
    "success_rate",
    "confidence",
    "mean_latency_ms",
    "updated_at",
    "version",
)
_COUNT = update(Pattern, *_COUNTS).where(_P.id == param("id"), _P.version == param("seen"))
UNFOUNDED = delete(Pattern).where(NotInQuery("id", select(PatternEvidence), "pattern_id"))
"""Patterns that no evidence is left of: they hold the words of what was purged, and go with it."""
_WELL = (OutcomeKind.SUCCESS, OutcomeKind.PARTIAL)


class Merged(msgspec.Struct, frozen=True):
    """The patterns of one episode as they will be: those it is the first to show, those that were
    known, and the guarded writes that make it so."""

    new: list[Pattern]
    known: list[Pattern]
    writes: list[Bound]


async def merge(
    store: Store,
    lessons: Sequence[Lesson],
    episode: Episode,
    *,
    outcome: OutcomeKind,
    base_rate: float,
    now: datetime,
) -> Merged:
    """One more piece of evidence for each pattern that is known, or that the episode founds."""
    by_key = {content_key(lesson.data, episode.domain): lesson for lesson in lessons}
    rows: list[Pattern] = await store.execute(_KNOWN, keys=list(by_key), limit=len(by_key) or 1)
    known = {row.content_key: row for row in rows}
    new, counted, writes, evidence = [], [], [], []
    for key, lesson in sorted(by_key.items()):
        if (before := known.get(key)) is not None:
            after = _counted(before, lesson, outcome, base_rate, now)
            counted.append(after)
            writes.append(_counting(after))
        elif lesson.founds:
            after = _counted(_founded(key, lesson, episode, now), lesson, outcome, base_rate, now)
            after = msgspec.structs.replace(after, version=1)
            new.append(after)
        else:
            continue
        evidence.append(
            PatternEvidence(after.id, episode.id, episode.agent_id, outcome, now, lesson.latency_ms)
        )
    added = [_ADD(row=row) for row in new]
    return Merged(new, counted, [*added, *writes, *(_ADD_EVIDENCE(row=row) for row in evidence)])


def _founded(key: str, lesson: Lesson, episode: Episode, now: datetime) -> Pattern:
    values = {
        "id": new_id("pat", now),
        "pattern_type": PatternKind(key.partition(":")[0]),
        "content_key": key,
        "pattern_data": lesson.data,
        "domain": episode.domain,
        "created_at": now,
        "updated_at": now,
    }
    return build(Pattern, values)


def _counted(
    before: Pattern, lesson: Lesson, outcome: OutcomeKind, base_rate: float, now: datetime
) -> Pattern:
    """The pattern after it was seen once more; stopping on purpose says neither good nor bad."""
    successes = before.successes + (outcome in _WELL)
    failures = before.failures + (outcome is OutcomeKind.FAILURE)
    return msgspec.structs.replace(
        before,
        occurrences=before.occurrences + 1,
        successes=successes,
        failures=failures,
        success_rate=shrunk_rate(successes, successes + failures, base_rate),
        confidence=wilson_lower(successes, successes + failures),
        mean_latency_ms=_mean(before, lesson.latency_ms),
        updated_at=max(now, before.updated_at),
        version=before.version + 1,
    )


def _mean(before: Pattern, latency_ms: float | None) -> float | None:
    if latency_ms is None or before.mean_latency_ms is None:
        return before.mean_latency_ms if latency_ms is None else latency_ms
    seen = before.occurrences
    return (before.mean_latency_ms * seen + latency_ms) / (seen + 1)


def _counting(after: Pattern) -> Bound:
    values: dict[str, Any] = {name: getattr(after, name) for name in _COUNTS}
    return _COUNT(id=after.id, seen=after.version - 1, **values).expect(1)
