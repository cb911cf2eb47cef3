"""How tools and tasks go, read off the steps that are stored: nothing is counted beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ..engines.base import Store
from ..models import Episode, OutcomeKind, Step
from ..query import param, select
from ..schema import columns_of

_S = columns_of(Step)
_PAGE = 500
_USES = (
    select(Step)
    .where(_S.episode_id.in_(param("ids")), _S.tool_name != None)  # noqa: E711
    .only(_S.tool_name, _S.success, _S.duration_ms)
)


class ToolMetrics(msgspec.Struct, frozen=True):
    """How one tool went: ``success_rate`` among the steps of which it is known, durations of those
    that were timed; ``None`` where nobody said."""

    tool: str
    uses: int
    failures: int
    success_rate: float | None
    p50_ms: float | None
    p95_ms: float | None


class EpisodeMetrics(msgspec.Struct, frozen=True):
    """How episodes went: how many of each status and outcome, and the means of those that ended.

    ``streak`` is how many of the latest ended ones succeeded one after the other.
    """

    episodes: int
    by_status: dict[str, int]
    by_outcome: dict[str, int]
    mean_reward: float | None
    mean_steps: float | None
    streak: int
    tools: list[ToolMetrics]


async def metrics_of(store: Store, episodes: Sequence[Episode]) -> EpisodeMetrics:
    """The metrics of these episodes, which come the newest first."""
    uses: dict[str, list[tuple[bool | None, float | None]]] = {}
    ids = [episode.id for episode in episodes]
    for start in range(0, len(ids), _PAGE):
        for tool, success, took in await store.execute(_USES, ids=ids[start : start + _PAGE]):
            uses.setdefault(tool, []).append((success, took))
    ended = [episode for episode in episodes if episode.outcome_kind is not None]
    tools = [_of_tool(tool, used) for tool, used in uses.items()]
    return EpisodeMetrics(
        episodes=len(episodes),
        by_status=_counts(episode.status.value for episode in episodes),
        by_outcome=_counts(e.outcome_kind.value for e in ended if e.outcome_kind is not None),
        mean_reward=_mean([e.reward_score for e in ended if e.reward_score is not None]),
        mean_steps=_mean([float(episode.step_count) for episode in ended]),
        streak=_streak(ended),
        tools=sorted(tools, key=lambda each: (-each.uses, each.tool)),
    )


def _of_tool(tool: str, used: Sequence[tuple[bool | None, float | None]]) -> ToolMetrics:
    known = [success for success, _ in used if success is not None]
    took = sorted(duration for _, duration in used if duration is not None)
    return ToolMetrics(
        tool=tool,
        uses=len(used),
        failures=known.count(False),
        success_rate=sum(known) / len(known) if known else None,
        p50_ms=_percentile(took, 0.5),
        p95_ms=_percentile(took, 0.95),
    )


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of all is no larger than."""
    if not ordered:
        return None
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _streak(newest_first: Sequence[Episode]) -> int:
    latest = sorted(newest_first, key=_end, reverse=True)
    for place, episode in enumerate(latest):
        if episode.outcome_kind is not OutcomeKind.SUCCESS:
            return place
    return len(latest)


def _end(episode: Episode) -> Any:
    return (episode.completed_at, episode.id)


def _counts(values: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts
