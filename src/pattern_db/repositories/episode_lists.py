"""Episodes by what they are: lists, counts, and the spatiotemporal index."""

from __future__ import annotations

import builtins
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from ..errors import InvalidValue
from ..filters import After, JsonContains
from ..models import Episode, EpisodeStatus, OutcomeKind, SpatiotemporalKey, Step, TaskType
from ..query import Select, param, select
from ..schema import columns_of
from ..validation import check_enum, check_id, check_limit, check_text, check_time
from .completing import temporal_key
from .episode_values import MAX_STEPS, tags_of
from .metrics import EpisodeMetrics, metrics_of
from .repository import DEFAULT_LIMIT, Repository

_E, _K, _S = columns_of(Episode), columns_of(SpatiotemporalKey), columns_of(Step)
_STEPS_AFTER = (
    select(Step)
    .where(_S.episode_id == param("episode_id"), _S.step_number > param("after"))
    .order_by(_S.step_number)
    .limit(param("limit"))
)
_OF_SPACE = (
    select(SpatiotemporalKey)
    .where(_K.spatial_key == param("spatial_key"))
    .order_by(_K.temporal_key, _K.diversity_score, descending=True)
    .limit(param("limit"))
)
OF_WEEK = (
    select(SpatiotemporalKey)
    .where(_K.spatial_key == param("spatial_key"), _K.temporal_key == param("temporal_key"))
    .order_by(_K.diversity_score, descending=True)
    .limit(param("limit"))
)
_BY_IDS = (
    select(Episode)
    .where(_E.id.in_(param("ids")), _E.is_active == True)  # noqa: E712
    .limit(param("limit"))
)
_EQUAL = ("agent_id", "domain", "task_type", "status", "outcome_kind", "parent_id")


class Placed(msgspec.Struct, frozen=True):
    """An episode, its ISO week, and how unlike the earlier ones of its domain and type it is."""

    episode: Episode
    temporal_key: str
    diversity_score: float


class EpisodeLists(Repository[Episode]):
    """Reading many episodes."""

    model = Episode
    prefix = "ep"

    async def list(
        self,
        agent_id: str | None = None,
        *,
        domain: str | None = None,
        task_type: TaskType | str | None = None,
        status: EpisodeStatus | str | None = None,
        outcome: OutcomeKind | str | None = None,
        parent_id: str | None = None,
        tags: Any = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
        newest_first: bool = False,
        include_deleted: bool = False,
    ) -> builtins.list[Episode]:
        """Episodes in the order of their start, after the one with the id ``after``.

        They have all the ``tags``, and began at ``since`` or later and before ``until``.
        """
        asked = _asked(agent_id, domain, task_type, status, outcome, parent_id, tags, since, until)
        asked["limit"] = check_limit(limit)
        keyset = {} if after is None else await self._keyset(after)
        query = _page(
            frozenset(asked), after=bool(keyset), newest=newest_first, all_=include_deleted
        )
        return await self._store.execute(query, **asked, **keyset)  # type: ignore[no-any-return]

    async def count(
        self,
        agent_id: str | None = None,
        *,
        domain: str | None = None,
        status: EpisodeStatus | str | None = None,
        include_deleted: bool = False,
    ) -> int:
        """How many episodes there are."""
        return await self._count(
            agent_id=agent_id,
            domain=domain,
            status=None if status is None else check_enum("status", EpisodeStatus, status),
            include_deleted=include_deleted,
        )

    async def diverse(
        self,
        domain: str,
        *,
        task_type: TaskType | str = TaskType.OTHER,
        week: str | datetime | None = None,
        limit: int = 10,
    ) -> builtins.list[Placed]:
        """Completed episodes of a domain and type that are least like the others.

        Of one ISO week (``"2026-W34"`` or a time in it) the most diverse first; without a week the
        newest week first. Reads nothing but the spatiotemporal index and the episodes it gives.
        """
        kind = check_enum("task_type", TaskType, task_type)
        asked: dict[str, Any] = {
            "spatial_key": f"{check_text('domain', domain)}|{kind.value}",
            "limit": check_limit(limit),
        }
        if week is not None:
            asked["temporal_key"] = _week_of(week)
        keys = await self._store.execute(_OF_SPACE if week is None else OF_WEEK, **asked)
        ids = [key.episode_id for key in keys]
        rows = await self._store.execute(_BY_IDS, ids=ids, limit=len(ids)) if ids else []
        found = {row.id: row for row in rows}
        return [
            Placed(found[key.episode_id], key.temporal_key, key.diversity_score)
            for key in keys
            if key.episode_id in found
        ]

    async def metrics(
        self,
        agent_id: str | None = None,
        *,
        domain: str | None = None,
        task_type: TaskType | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 1000,
    ) -> EpisodeMetrics:
        """How the latest of these episodes and their tools went."""
        latest = await self.list(
            agent_id,
            domain=domain,
            task_type=task_type,
            since=since,
            until=until,
            limit=limit,
            newest_first=True,
        )
        return await metrics_of(self._store, latest)

    async def many(self, ids: builtins.list[str]) -> dict[str, Episode]:
        """The episodes of these ids that are there, by id."""
        if not ids:
            return {}
        rows = await self._store.execute(_BY_IDS, ids=ids, limit=len(ids))
        return {row.id: row for row in rows}

    async def _steps(
        self, episode_id: str, *, limit: int = MAX_STEPS, after: int = 0
    ) -> builtins.list[Step]:
        steps: builtins.list[Step] = await self._store.execute(
            _STEPS_AFTER,
            episode_id=episode_id,
            limit=check_limit(limit),
            after=_number("after", after),
        )
        return steps


def _asked(
    agent_id: str | None,
    domain: str | None,
    task_type: Any,
    status: Any,
    outcome: Any,
    parent_id: str | None,
    tags: Any,
    since: Any,
    until: Any,
) -> dict[str, Any]:
    """What was given, checked, by the name of its parameter."""
    checked = {
        "agent_id": agent_id and check_id("agent_id", agent_id),
        "domain": domain and check_text("domain", domain),
        "task_type": task_type and check_enum("task_type", TaskType, task_type),
        "status": status and check_enum("status", EpisodeStatus, status),
        "outcome_kind": outcome and check_enum("outcome", OutcomeKind, outcome),
        "parent_id": parent_id and check_id("parent_id", parent_id),
        "tags": tags_of(tags) or None,
        "since": since and check_time("since", since),
        "until": until and check_time("until", until),
    }
    return {name: value for name, value in checked.items() if value is not None}


@lru_cache(maxsize=512)
def _page(asked: frozenset[str], *, after: bool, newest: bool, all_: bool) -> Select:
    query = select(Episode)
    for name in _EQUAL:
        if name in asked:
            query = query.where(getattr(_E, name) == param(name))
    if "tags" in asked:
        query = query.where(JsonContains("tags", None, param("tags")))
    if "since" in asked:
        query = query.where(_E.created_at >= param("since"))
    if "until" in asked:
        query = query.where(_E.created_at < param("until"))
    if not all_:
        query = query.where(_E.is_active == True)  # noqa: E712
    if after:
        values = (param("after_created_at"), param("after_id"))
        query = query.where(After(("created_at", "id"), values, newest))
    return query.order_by(_E.created_at, _E.id, descending=newest).limit(param("limit"))


def _week_of(value: str | datetime) -> str:
    if isinstance(value, datetime):
        return temporal_key(check_time("week", value))
    return check_text("week", value)


def _number(field: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidValue(field, "it must be a whole number from 0.")
    return value
