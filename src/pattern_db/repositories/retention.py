"""Which finished episodes are let go, and the journal of it.

Of what ended, was never referred to and is not archived, the least relevant goes first:

    relevance = 0.7 · quality + 0.3 · 0.5^(age / 30 days)

What was learned from an episode stays (its patterns and their evidence); its steps, vectors and
index rows go with it. Reference/episodic-memory.md §2.10, with a half-life that is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from ..episodes.statistics import recency
from ..errors import Conflict
from ..filters import And, NotInQuery
from ..models import Episode, EpisodeRelationship, EpisodeStatus
from ..query import Bound, Count, delete, param, select
from ..schema import columns_of, table_of
from ..validation import check_limit
from .episode_values import at_least
from .repository import Context, Policy, Repository

AT_ONCE = 100
"""How many go with one completion at most, and at a time."""
LOOKED_AT = 1_000
"""How many of the oldest are compared."""
_E, _R = columns_of(Episode), columns_of(EpisodeRelationship)
_ENDED = _E.status.in_((EpisodeStatus.COMPLETED, EpisodeStatus.FAILED))
_FREE = And(
    (
        _ENDED,
        NotInQuery("id", select(EpisodeRelationship), "from_episode_id"),
        NotInQuery("id", select(EpisodeRelationship), "to_episode_id"),
        NotInQuery("id", select(Episode).where(_E.parent_id != None), "parent_id"),  # noqa: E711
        NotInQuery(
            "id",
            select(Episode).where(_E.resumed_from_id != None),  # noqa: E711
            "resumed_from_id",
        ),
    )
)
_OLDEST = (
    select(Episode)
    .where(_FREE, _E.id != param("keep"))
    .order_by(_E.created_at, _E.id)
    .only(_E.id, _E.version, _E.quality, _E.completed_at, _E.agent_id)
    .limit(param("limit"))
)
_HOW_MANY = Count(table_of(Episode), (_ENDED,))
_REMOVE = delete(Episode).where(_E.id == param("id"), _E.version == param("version"), _FREE)


class Eviction(msgspec.Struct, frozen=True):
    """An episode that goes, why, and how relevant it was."""

    episode_id: str
    agent_id: str
    reason: str
    relevance: float
    version: int


class Retention(Repository[Episode]):
    """Lets episodes go by a policy."""

    model = Episode
    prefix = "ep"

    def __init__(self, context: Context):
        super().__init__(context)
        self.policy: Policy = context.policy

    async def evictions(self, *, keep: str, more: int = 0) -> list[Bound]:
        """The writes that bring the database within its policy when so many more have ended."""
        if self.policy == Policy():
            return []
        return self._writes(await self.plan(keep=keep, more=more))

    async def plan(
        self, policy: Policy | None = None, *, keep: str = "", more: int = 0
    ) -> list[Eviction]:
        """What would go now by a policy (that of the database), 100 at most."""
        rules = self.policy if policy is None else _checked(policy)
        if rules == Policy():
            return []
        now = self._clock()
        found = await self._store.execute(_OLDEST, keep=keep, limit=LOOKED_AT)
        rows = [
            (0.7 * (quality or 0.0) + 0.3 * recency(completed, now), id, agent, version, completed)
            for id, version, quality, completed, agent in found
        ]
        gone: dict[str, Eviction] = {}
        if rules.max_age_days is not None:
            oldest = now - timedelta(days=rules.max_age_days)
            for relevance, id, agent, version, completed in rows:
                if completed < oldest:
                    gone[id] = Eviction(id, agent, "age", relevance, version)
        if rules.max_episodes is not None:
            ended = await self._store.execute(_HOW_MANY) + more
            for relevance, id, agent, version, _ in sorted(rows):
                if ended - len(gone) <= rules.max_episodes:
                    break
                gone.setdefault(id, Eviction(id, agent, "capacity", relevance, version))
        return list(gone.values())[:AT_ONCE]

    async def apply(self, policy: Policy | None = None) -> list[Eviction]:
        """Let go what a policy (that of the database) says, whole or not at all a hundred at a
        time; gives what went. The journal is the audit log."""
        gone: list[Eviction] = []
        while planned := await self.plan(policy):
            try:
                await self._store.write(self._writes(planned))
            except Conflict:  # one of them changed or was referred to just now
                continue
            gone += planned
        return gone

    def _writes(self, evictions: Sequence[Eviction]) -> list[Bound]:
        removed = [
            _REMOVE(id=eviction.episode_id, version=eviction.version).expect(1)
            for eviction in evictions
        ]
        return removed + [self._journal(eviction) for eviction in evictions]

    def _journal(self, eviction: Eviction) -> Bound:
        details: dict[str, Any] = {"reason": eviction.reason, "relevance": eviction.relevance}
        return self._audit(
            "evict_episode",
            agent_id=eviction.agent_id,
            subject_id=eviction.episode_id,
            details=details,
        )


def _checked(policy: Policy) -> Policy:
    if policy.max_episodes is not None:
        check_limit(policy.max_episodes, field="max_episodes")
    if policy.max_age_days is not None:
        at_least("max_age_days", policy.max_age_days, 0)
    return policy
