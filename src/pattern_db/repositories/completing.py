"""What completing an episode writes, all at once: outcome, lessons, reward, index, retention."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from ..episodes import summary
from ..episodes.extraction import Lesson, Usual, lessons_of
from ..episodes.quality import quality_of
from ..episodes.reflection import Ended, reflect
from ..episodes.reward import reward_of, success_rate
from ..models import (
    Episode,
    EpisodeStatus,
    EpisodeSummary,
    Outcome,
    OutcomeKind,
    SpatiotemporalKey,
    Step,
)
from ..query import Bound, Insert, param, select, update
from ..schema import columns_of, table_of
from .episode_values import MAX_STEPS, kind_of_outcome
from .merging import Merged, merge
from .nearest import Nearest
from .repository import Context

log = logging.getLogger("pattern_db.episodes")

BASE_RATE_OF, USUAL_OF, USUAL_FROM = 500, 50, 5
"""The base rate is that of a domain's latest 500 episodes; what is usual, of a task's latest 50
successes, if there are 5."""
_E, _S = columns_of(Episode), columns_of(Step)
STEPS = (
    select(Step)
    .where(_S.episode_id == param("episode_id"))
    .order_by(_S.step_number)
    .limit(param("limit"))
)
_RATES = (
    select(Episode)
    .where(_E.domain == param("domain"), _E.completed_at <= param("now"))
    .order_by(_E.completed_at, descending=True)
    .only(_E.outcome_kind)
    .limit(param("limit"))
)
_USUAL = (
    select(Episode)
    .where(
        _E.task_type == param("task_type"),
        _E.domain == param("domain"),
        _E.completed_at <= param("now"),
        _E.outcome_kind == OutcomeKind.SUCCESS,
    )
    .order_by(_E.completed_at, descending=True)
    .only(_E.step_count, _E.created_at, _E.completed_at)
    .limit(param("limit"))
)
_ENDED = (
    "status",
    "outcome_kind",
    "outcome",
    "success_rate",
    "reward_score",
    "reward",
    "quality",
    "reflection",
    "tools",
    "searchable",
    "completed_at",
    "updated_at",
    "version",
)
_END = update(Episode, *_ENDED).where(
    _E.id == param("id"), _E.status == EpisodeStatus.ACTIVE, _E.version == param("seen")
)
_ADD_SUMMARY = Insert(table_of(EpisodeSummary))
_ADD_KEY = Insert(table_of(SpatiotemporalKey))
_SURE_RATES = 20


class Completed(msgspec.Struct, frozen=True):
    """An episode as it will be, and the writes that make it so; ``ending`` is its own row's."""

    episode: Episode
    ending: Bound
    writes: list[Bound]


class Completion:
    """Works out what a completion writes; it writes nothing itself."""

    def __init__(self, context: Context):
        self._store = context.store
        self._nearest = Nearest(context)

    async def steps_of(self, episode_id: str) -> list[Step]:
        """The steps of an episode, in order."""
        steps: list[Step] = await self._store.execute(STEPS, episode_id=episode_id, limit=MAX_STEPS)
        return steps

    async def of(
        self, episode: Episode, steps: Sequence[Step], outcome: Outcome, now: datetime
    ) -> Completed:
        """An active episode that ends so.

        Patterns come before the reward that counts them; what cannot be learned is left out.
        """
        ended = _ended(episode, steps, outcome, now)
        merged = await self._learned(ended, steps, outcome, now)
        duration = max(now - episode.created_at, timedelta(0))
        reward = reward_of(ended, steps, outcome, duration=duration, discovered=len(merged.new))
        findings = reflect(Ended(ended, steps, outcome, duration))
        quality = quality_of(
            steps, findings=len(findings), patterns=len(merged.new) + len(merged.known)
        )
        ended = msgspec.structs.replace(
            ended, reward=reward, reward_score=reward.total, reflection=findings, quality=quality
        )
        ended = msgspec.structs.replace(ended, searchable=summary.searchable_text(ended, steps))
        values: dict[str, Any] = {name: getattr(ended, name) for name in _ENDED}
        ending = _END(id=ended.id, seen=episode.version, **values).expect(1)
        summed = _ADD_SUMMARY(row=_summary(ended, steps, outcome, now))
        placed = _ADD_KEY(row=await self._placed(ended, now))
        return Completed(ended, ending, [summed, placed, *merged.writes])

    async def _learned(
        self, episode: Episode, steps: Sequence[Step], outcome: Outcome, now: datetime
    ) -> Merged:
        lessons = await self._lessons(episode, steps, outcome, now)
        return await merge(
            self._store,
            lessons,
            episode,
            outcome=kind_of_outcome(outcome),
            base_rate=await self._base_rate(episode.domain, now),
            now=now,
        )

    async def _lessons(
        self, episode: Episode, steps: Sequence[Step], outcome: Outcome, now: datetime
    ) -> list[Lesson]:
        usual = await self._usual(episode, now)
        try:
            return lessons_of(episode, steps, outcome, usual)
        except Exception:  # an episode is stored, whatever a rule makes of it
            log.exception("nothing was learned from episode %s", episode.id)
            return []

    async def _base_rate(self, domain: str, now: datetime) -> float:
        """The share of successes among a domain's latest episodes; a half counts for twenty."""
        rows = await self._store.execute(_RATES, domain=domain, now=now, limit=BASE_RATE_OF)
        kinds = [kind for (kind,) in rows]
        well = sum(kind in (OutcomeKind.SUCCESS, OutcomeKind.PARTIAL) for kind in kinds)
        known = well + sum(kind is OutcomeKind.FAILURE for kind in kinds)
        return (well + _SURE_RATES / 2) / (known + _SURE_RATES)

    async def _usual(self, episode: Episode, now: datetime) -> Usual:
        rows = await self._store.execute(
            _USUAL,
            task_type=episode.task_type,
            domain=episode.domain,
            now=now,
            limit=USUAL_OF,
        )
        if len(rows) < USUAL_FROM:
            return Usual()
        took = [(end - begin) / timedelta(milliseconds=1) for _, begin, end in rows]
        from statistics import median  # it takes longer to import than to use

        return Usual(steps=median(steps for steps, _, _ in rows), duration_ms=median(took))

    async def _placed(self, episode: Episode, now: datetime) -> SpatiotemporalKey:
        return SpatiotemporalKey(
            episode_id=episode.id,
            spatial_key=spatial_key(episode),
            temporal_key=temporal_key(episode.created_at),
            diversity_score=await self._nearest.diversity(episode, now),
        )


def spatial_key(episode: Episode) -> str:
    """``domain|task_type``."""
    return f"{episode.domain}|{episode.task_type.value}"


def temporal_key(moment: datetime) -> str:
    """The ISO week, such as ``2026-W34``."""
    year, week, _ = moment.isocalendar()
    return f"{year:04d}-W{week:02d}"


def _ended(episode: Episode, steps: Sequence[Step], outcome: Outcome, now: datetime) -> Episode:
    kind = kind_of_outcome(outcome)
    failed = kind is OutcomeKind.FAILURE
    return msgspec.structs.replace(
        episode,
        status=EpisodeStatus.FAILED if failed else EpisodeStatus.COMPLETED,
        outcome_kind=kind,
        outcome=outcome,
        success_rate=success_rate(steps),
        tools=[step.tool_name for step in steps if step.tool_name],
        completed_at=now,
        updated_at=now,
        version=episode.version + 1,
    )


def _summary(
    episode: Episode, steps: Sequence[Step], outcome: Outcome, now: datetime
) -> EpisodeSummary:
    return EpisodeSummary(
        episode_id=episode.id,
        summary_text=summary.summary_of(episode, steps, outcome),
        created_at=now,
        key_concepts=summary.key_concepts(episode, steps),
        key_steps=summary.key_steps(steps),
    )
