"""Patterns: what was learned, recommended, and what came of it."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from ..episodes.statistics import boost, effectiveness
from ..errors import InvalidValue, NotFound
from ..ids import new_id
from ..models import (
    OutcomeKind,
    Pattern,
    PatternApplication,
    PatternEvidence,
    PatternKind,
    RecommendationFeedback,
    RecommendationSession,
)
from ..query import Added, Bound, Get, Insert, Select, delete, param, select, update
from ..schema import columns_of, table_of
from ..search import SearchOptions
from ..validation import build, check_enum, check_id, check_limit, check_text
from .episode_values import at_least, kind_of_outcome, outcome_of, task_of
from .experienced import experienced
from .repository import DEFAULT_LIMIT, Repository, retried

_P, _EV, _A = columns_of(Pattern), columns_of(PatternEvidence), columns_of(PatternApplication)
_EVIDENCE = (
    select(PatternEvidence)
    .where(_EV.pattern_id == param("pattern_id"))
    .order_by(_EV.created_at, _EV.episode_id, descending=True)
    .limit(param("limit"))
)
_SEEN_IN = (
    select(PatternEvidence)
    .where(_EV.episode_id.in_(param("ids")))
    .only(_EV.pattern_id, _EV.episode_id)
    .limit(param("limit"))
)
_BY_IDS = select(Pattern).where(_P.id.in_(param("ids"))).limit(param("limit"))
_APPLIED = (
    select(PatternApplication)
    .where(_A.pattern_id.in_(param("ids")))
    .only(_A.pattern_id, _A.helped)
    .limit(param("limit"))
)
_OF_SESSION = select(PatternApplication).where(_A.session_id == param("session_id"))
_CLEAR = delete(PatternApplication).where(_A.session_id == param("session_id"))
_ADD_APPLIED = Insert(table_of(PatternApplication))
_ADD_SESSION = Insert(table_of(RecommendationSession))
_SESSION = Get(table_of(RecommendationSession))
_FEEDBACK = Get(table_of(RecommendationFeedback))
_ADD_FEEDBACK = Insert(table_of(RecommendationFeedback), on_conflict="replace")
_RETRIEVED = update(Pattern, retrieved=Added(1)).where(_P.id.in_(param("ids")))
_USED = update(
    Pattern,
    "last_used",
    usage_count=Added(param("applied")),
    helped=Added(param("helped")),
).where(_P.id == param("id"))
_UNUSED = update(Pattern, usage_count=Added(param("applied")), helped=Added(param("helped"))).where(
    _P.id == param("id")
)
_LIKE = 30
"""How many of the most similar episodes recommend."""
_MOST_ROWS = 100_000
_SIMILAR, _CONTEXT, _SURE = 0.5, 0.2, 0.3
_WELL = (OutcomeKind.SUCCESS, OutcomeKind.PARTIAL)


class Recommendation(msgspec.Struct, frozen=True):
    """A pattern that may help, why, and the similar episodes that it was seen in.

    ``score`` is the sum of ``why``: what similar episodes say, the domain, Wilson's lower bound,
    and the boost by feedback.
    """

    pattern: Pattern
    score: float
    why: dict[str, float]
    evidence: list[str]


class Recommendations(msgspec.Struct, frozen=True):
    """What is recommended for a task, best first.

    ``session_id`` is what feedback is given to; ``None`` if there is nothing to recommend, and
    then ``reason`` says why.
    """

    session_id: str | None
    items: list[Recommendation]
    reason: str | None = None

    def __iter__(self) -> Iterator[Recommendation]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> Recommendation:
        return self.items[place]


class Patterns(Repository[Pattern]):
    """The patterns of a database."""

    model = Pattern
    prefix = "pat"

    async def list(
        self,
        *,
        pattern_type: PatternKind | str | None = None,
        domain: str | None = None,
        min_success_rate: float | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> builtins.list[Pattern]:
        """Patterns in the order of their founding, after the one with the id ``after``.

        With ``min_success_rate`` they come by success rate, the best first, and a page has no next.
        """
        kind = pattern_type and check_enum("pattern_type", PatternKind, pattern_type)
        if min_success_rate is None:
            return await self._list(limit=limit, after=after, pattern_type=kind, domain=domain)
        if after is not None:
            raise InvalidValue("after", "a list by success rate has one page.")
        asked = {"pattern_type": kind, "domain": domain}
        given = {name: value for name, value in asked.items() if value is not None}
        rate = at_least("min_success_rate", min_success_rate, 0.0)
        query = _by_rate(tuple(given))
        return await self._store.execute(query, **given, rate=rate, limit=check_limit(limit))  # type: ignore[no-any-return]

    async def count(
        self, *, pattern_type: PatternKind | str | None = None, domain: str | None = None
    ) -> int:
        """How many patterns there are."""
        kind = pattern_type and check_enum("pattern_type", PatternKind, pattern_type)
        return await self._count(pattern_type=kind, domain=domain)

    async def evidence(
        self, pattern_id: str, *, limit: int = DEFAULT_LIMIT
    ) -> builtins.list[PatternEvidence]:
        """The episodes that a pattern was seen in, the newest first. Raises ``NotFound``."""
        await self.require(pattern_id)
        found: builtins.list[PatternEvidence] = await self._store.execute(
            _EVIDENCE, pattern_id=pattern_id, limit=check_limit(limit)
        )
        return found

    def effectiveness(self, pattern: Pattern) -> float:
        """How well a pattern serves now, in 0…1; see ``episodes.statistics.effectiveness``."""
        return effectiveness(pattern, self._clock())

    async def decay(self, *, below: float = 0.3, dry_run: bool = False) -> builtins.list[str]:
        """Erase the patterns whose effectiveness sank below a bound; gives their ids."""
        at_least("below", below, 0.0)
        gone = []
        after: str | None = None
        while page := await self.list(limit=1000, after=after):
            after = page[-1].id
            gone += [pattern.id for pattern in page if self.effectiveness(pattern) < below]
        if gone and not dry_run:
            audit = self._audit("decay_patterns", details={"patterns": gone, "below": below})
            await self._store.write([*(self.queries.purge(id=id) for id in gone), audit])
        return gone

    # recommending

    async def recommend(
        self,
        task: str,
        *,
        domain: str | None = None,
        agent_id: str | None = None,
        episode_id: str | None = None,
        limit: int = 5,
    ) -> Recommendations:
        """The patterns that similar episodes speak for, and a session to give feedback to.

        ``agent_id`` and ``episode_id`` say who asks, and while doing what. Nothing is invented:
        without similar episodes, or patterns in them, the answer is empty and has the reason.
        """
        wanted = check_limit(limit)
        hits = await self._similar(task_of(task), domain)
        if not hits:
            return Recommendations(None, [], "No similar episode is stored.")
        best = await self._ranked(hits, domain)
        if not best:
            return Recommendations(None, [], "Similar episodes showed no pattern.")
        items = best[:wanted]
        now = self._clock()
        ids = [item.pattern.id for item in items]
        session = build(
            RecommendationSession,
            {
                "id": new_id("rec", now),
                "task": task,
                "created_at": now,
                "domain": domain,
                "agent_id": agent_id,
                "episode_id": episode_id,
                "pattern_ids": ids,
            },
        )
        await self._store.write([_ADD_SESSION(row=session), _RETRIEVED(ids=ids)])
        return Recommendations(session.id, items)

    async def _similar(self, task: str, domain: str | None) -> dict[str, float]:
        """The most similar episodes that have ended, with their scores."""
        given: dict[str, Any] = {"limit": _LIKE}
        if domain is not None:
            given["domain"] = domain
        options = SearchOptions.of(given, kind="episode")
        agents = await experienced(self._store)
        hits = await self._context.searcher.among(agents, task, options)
        return {hit.item.id: hit.score for hit in hits if hit.item.completed_at is not None}

    async def _ranked(
        self, similar: dict[str, float], domain: str | None
    ) -> builtins.list[Recommendation]:
        rows = await self._store.execute(_SEEN_IN, ids=[*similar], limit=_MOST_ROWS)
        seen: dict[str, builtins.list[str]] = {}
        for pattern_id, episode_id in rows:
            seen.setdefault(pattern_id, []).append(episode_id)
        if not seen:
            return []
        patterns = await self._store.execute(_BY_IDS, ids=[*seen], limit=len(seen))
        boosts = await self._boosts([*seen])
        total = sum(similar.values()) or 1.0
        found = []
        for pattern in patterns:
            evidence = sorted(seen[pattern.id], key=lambda each: (-similar[each], each))
            why = {
                "similar": _SIMILAR * sum(similar[id] for id in evidence) / total,
                "domain": _CONTEXT * (domain is not None and pattern.domain == domain),
                "confidence": _SURE * pattern.confidence,
                "feedback": boosts.get(pattern.id, 0.0),
            }
            found.append(Recommendation(pattern, sum(why.values()), why, evidence))
        return sorted(found, key=lambda each: (-each.score, each.pattern.content_key))

    async def _boosts(self, ids: builtins.list[str]) -> dict[str, float]:
        """By how much feedback moves patterns: of each session its latest word."""
        rows = await self._store.execute(_APPLIED, ids=ids, limit=_MOST_ROWS)
        counts: dict[str, tuple[int, int]] = {}
        for pattern_id, helped in rows:
            times, well = counts.get(pattern_id, (0, 0))
            counts[pattern_id] = (times + 1, well + helped)
        return {id: boost(well, times) for id, (times, well) in counts.items()}

    async def session(self, id: str) -> RecommendationSession | None:
        """What was recommended; ``None`` if there is no such session."""
        found: RecommendationSession | None = await self._store.execute(
            _SESSION, id=check_id("session_id", id)
        )
        return found

    async def feedback(
        self,
        session: str | Recommendations | RecommendationSession,
        *,
        outcome: Any,
        applied: Sequence[str] = (),
        rating: float | None = None,
        note: str | None = None,
    ) -> RecommendationFeedback:
        """Say what came of a recommendation; a second word replaces the first.

        ``applied`` are the ids of those patterns that were used: only they gain or lose by it.
        Raises ``NotFound``, or ``InvalidValue`` for a pattern that was not recommended.
        """
        return await retried(
            lambda: self._feedback(_id_of(session), outcome, list(applied), rating, note),
            "recommendation",
        )

    async def _feedback(
        self,
        session_id: str,
        outcome: Any,
        applied: builtins.list[str],
        rating: float | None,
        note: str | None,
    ) -> RecommendationFeedback:
        given = await self.session(session_id)
        if given is None:
            raise NotFound("recommendation", session_id)
        if unknown := [id for id in applied if id not in given.pattern_ids]:
            raise InvalidValue("applied", f"{len(unknown)} of them were not recommended.")
        now = self._clock()
        kind = kind_of_outcome(outcome_of(outcome))
        row = build(
            RecommendationFeedback,
            {
                "session_id": session_id,
                "outcome_kind": kind,
                "created_at": now,
                "updated_at": now,
                "applied": list(dict.fromkeys(applied)),
                "rating": _rating(rating),
                "note": None if note is None else check_text("note", note, at_most=5_000),
            },
        )
        helped = kind in _WELL
        before = {
            row.pattern_id: row.helped
            for row in await self._store.execute(_OF_SESSION, session_id=session_id)
        }
        after = dict.fromkeys(row.applied, helped)
        await self._store.write(
            [
                _CLEAR(session_id=session_id).expect(len(before)),
                *(
                    _ADD_APPLIED(row=PatternApplication(session_id, id, well))
                    for id, well in after.items()
                ),
                *_recounted(before, after, now),
                _ADD_FEEDBACK(row=row),
            ]
        )
        return row


def _recounted(before: dict[str, bool], after: dict[str, bool], now: datetime) -> Iterator[Bound]:
    """The changes of the patterns' own counts."""
    for id in sorted({**before, **after}):
        change = {
            "applied": (id in after) - (id in before),
            "helped": after.get(id, False) - before.get(id, False),
        }
        if id in after:
            yield _USED(id=id, last_used=now, **change)
        else:
            yield _UNUSED(id=id, **change)


def _id_of(session: str | Recommendations | RecommendationSession) -> str:
    if isinstance(session, RecommendationSession):
        return session.id
    id = session.session_id if isinstance(session, Recommendations) else session
    if id is None:
        raise InvalidValue("session", "nothing was recommended; there is no session.")
    return check_id("session", id)


def _rating(value: float | None) -> float | None:
    if value is not None and at_least("rating", value, 0.0) > 1:
        raise InvalidValue("rating", "it must be at most 1.")
    return value


_RATES: dict[tuple[str, ...], Select] = {}


def _by_rate(fields: tuple[str, ...]) -> Select:
    if fields not in _RATES:
        query = select(Pattern).where(_P.success_rate >= param("rate"))
        for name in fields:
            query = query.where(getattr(_P, name) == param(name))
        _RATES[fields] = query.order_by(_P.success_rate, descending=True).limit(param("limit"))
    return _RATES[fields]
