"""What episodes are to each other."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any, Literal

from ..errors import InvalidValue, NotFound
from ..models import Episode, EpisodeRelationship, Json, RelationshipType
from ..query import Get, param, select
from ..schema import columns_of, table_of
from ..validation import check_enum, check_id, check_text
from .episode_values import at_least
from .repository import DEFAULT_LIMIT, Repository

Direction = Literal["outgoing", "incoming", "both"]
ACYCLIC = (
    RelationshipType.DEPENDS_ON,
    RelationshipType.PARENT_CHILD,
    RelationshipType.BLOCKS,
)
"""What must not lead back to where it began."""
_MAX_REASON_CHARS = 1_000
_PAGE = 100_000
_R = columns_of(EpisodeRelationship)
_EPISODE = Get(table_of(Episode))
_FROM = (
    select(EpisodeRelationship)
    .where(
        _R.from_episode_id.in_(param("ids")),
        _R.relationship_type == param("relationship_type"),
    )
    .only(_R.to_episode_id)
    .limit(_PAGE)
)
_ENDS = {"outgoing": "from_episode_id", "incoming": "to_episode_id"}


class Relationships(Repository[EpisodeRelationship]):
    """Typed relationships between episodes."""

    model = EpisodeRelationship
    prefix = "rel"

    async def create(
        self,
        from_episode_id: str,
        to_episode_id: str,
        relationship_type: RelationshipType | str,
        *,
        reason: str | None = None,
        created_by: str | None = None,
        priority: int | None = None,
        weight: float | None = None,
        metadata: Json | None = None,
    ) -> EpisodeRelationship:
        """Say what an episode is to another one.

        Raises ``InvalidValue`` for an episode and itself, or a circle of what depends, blocks or
        is a parent; ``AlreadyExists`` if it was said before; ``NotFound``.
        """
        now = self._clock()
        kind = check_enum("relationship_type", RelationshipType, relationship_type)
        if from_episode_id == to_episode_id:
            raise InvalidValue("to_episode_id", "an episode has no relationship with itself.")
        if reason is not None:
            check_text("reason", reason, at_most=_MAX_REASON_CHARS)
        row = self._build(
            id=self._new_id(None, now),
            from_episode_id=check_id("from_episode_id", from_episode_id),
            to_episode_id=check_id("to_episode_id", to_episode_id),
            relationship_type=kind,
            created_at=now,
            reason=reason,
            created_by=created_by,
            priority=_between("priority", priority, 1, 10),
            weight=_between("weight", weight, 0, 1),
            metadata=metadata or {},
        )
        async with self._store.transaction(alone=True):
            for id in (from_episode_id, to_episode_id):
                await self._require_episode(id)
            if kind in ACYCLIC and await self._leads(to_episode_id, from_episode_id, kind):
                raise InvalidValue(
                    "to_episode_id", f"it leads back to this episode by {kind.value}."
                )
            return await self._insert(row)  # type: ignore[no-any-return]

    async def list(
        self,
        episode_id: str,
        *,
        direction: Direction = "both",
        relationship_type: RelationshipType | str | None = None,
        limit: int = DEFAULT_LIMIT,
    ) -> builtins.list[EpisodeRelationship]:
        """The relationships of an episode, the oldest first."""
        if direction not in (*_ENDS, "both"):
            raise InvalidValue("direction", "it must be outgoing, incoming or both.")
        kind = relationship_type and check_enum(
            "relationship_type", RelationshipType, relationship_type
        )
        found: builtins.list[EpisodeRelationship] = []
        for name, column in _ENDS.items():
            if direction in (name, "both"):
                fields: dict[str, Any] = {column: episode_id, "relationship_type": kind}
                found += await self._list(limit=limit, **fields)
        return sorted(found, key=lambda each: (each.created_at, each.id))[:limit]

    async def delete(self, id: str) -> None:
        """Take a relationship back, for good. Raises ``NotFound``."""
        await self.require(id)
        await self._store.execute(self.queries.purge, id=id)

    async def _leads(self, start: str, goal: str, kind: RelationshipType) -> bool:
        """Whether relationships of one type lead from an episode to another."""
        seen: set[str] = set()
        edge: Sequence[str] = [start]
        while edge:
            if goal in edge:
                return True
            seen.update(edge)
            rows = await self._store.execute(_FROM, ids=list(edge), relationship_type=kind)
            edge = sorted({to for (to,) in rows} - seen)
        return False

    async def _require_episode(self, id: str) -> None:
        episode: Episode | None = await self._store.execute(_EPISODE, id=id)
        if episode is None or not episode.is_active:
            raise NotFound("episode", id)


def _between(field: str, value: Any, least: float, most: float) -> Any:
    if value is not None and at_least(field, value, least) > most:
        raise InvalidValue(field, f"it must be at most {most}.")
    return value
