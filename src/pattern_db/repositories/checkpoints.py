"""Places from which an episode can be resumed, by whoever goes on with it."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from ..episodes.handoff import handoff_of
from ..errors import NotFound
from ..models import Checkpoint, Episode, Handoff, Pattern, PatternEvidence, Step
from ..query import Bound, Get, Insert, param, select
from ..schema import columns_of, table_of
from ..validation import check_text
from .completing import STEPS
from .episode_values import MAX_STEPS
from .repository import DEFAULT_LIMIT, Repository

MAX_REASON_CHARS, MAX_NOTE_CHARS = 1_000, 5_000
MOST_PATTERNS = 5
_P, _EV, _C = columns_of(Pattern), columns_of(PatternEvidence), columns_of(Checkpoint)
_EPISODE = Get(table_of(Episode))
_ADD = Insert(table_of(Checkpoint))
_BEST = (
    select(Pattern)
    .where(_P.domain == param("domain"))
    .order_by(_P.confidence, descending=True)
    .only(_P.id)
    .limit(MOST_PATTERNS)
)
_LATEST = (
    select(Checkpoint)
    .where(_C.episode_id == param("episode_id"))
    .order_by(_C.created_at, _C.id, descending=True)
    .limit(1)
)


class Checkpoints(Repository[Checkpoint]):
    """The checkpoints of episodes."""

    model = Checkpoint
    prefix = "check"

    async def create(
        self, episode_id: str, reason: str = "", *, note: str | None = None
    ) -> Checkpoint:
        """Keep where an episode stands and what whoever goes on has to know.

        Raises ``NotFound``, ``LimitExceeded``.
        """
        episode = await self._episode(episode_id)
        steps: list[Step] = await self._store.execute(STEPS, episode_id=episode_id, limit=MAX_STEPS)
        bound = await self.adding(episode, steps, reason=reason, note=note)
        return await self._store.execute(bound.query, **bound.params)  # type: ignore[no-any-return]

    async def adding(
        self,
        episode: Episode,
        steps: Sequence[Step],
        *,
        reason: str = "",
        note: str | None = None,
        is_abstention: bool = False,
    ) -> Bound:
        """The write of a checkpoint."""
        now = self._clock()
        rows = await self._store.execute(_BEST, domain=episode.domain)
        row = self._build(
            id=self._new_id(None, now),
            episode_id=episode.id,
            step_number=len(steps),
            created_at=now,
            handoff=handoff_of(episode, steps, patterns=[id for (id,) in rows]),
            reason=check_text("reason", reason, at_most=MAX_REASON_CHARS),
            note=None if note is None else check_text("note", note, at_most=MAX_NOTE_CHARS),
            is_abstention=is_abstention,
        )
        return _ADD(row=row)

    async def list(
        self, episode_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> builtins.list[Checkpoint]:
        """The checkpoints of an episode, the oldest first."""
        return await self._list(limit=limit, after=after, episode_id=episode_id)

    async def handoff(self, id: str) -> Handoff:
        """What whoever goes on with an episode has to know, given its id or a checkpoint's.

        Of a resumed episode: what was left to it, and what it did since. Raises ``NotFound``.
        """
        point = await self.get(id)
        if point is not None:
            return point.handoff
        episode = await self._episode(id)
        steps: list[Step] = await self._store.execute(STEPS, episode_id=id, limit=MAX_STEPS)
        rows = await self._store.execute(_BEST, domain=episode.domain)
        before = await self._left_to(episode)
        return handoff_of(episode, steps, patterns=[id for (id,) in rows], before=before)

    async def _left_to(self, episode: Episode) -> Handoff | None:
        if episode.resumed_from_id is None:
            return None
        points: list[Checkpoint] = await self._store.execute(
            _LATEST, episode_id=episode.resumed_from_id
        )
        return points[0].handoff if points else None

    async def _episode(self, id: str) -> Episode:
        episode: Episode | None = await self._store.execute(_EPISODE, id=id)
        if episode is None or not episode.is_active:
            raise NotFound("episode", id)
        return episode
