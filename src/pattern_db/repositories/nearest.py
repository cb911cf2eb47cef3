"""How unlike the episodes that are there an episode is."""

from __future__ import annotations

from datetime import datetime

from ..episodes.wording import words_of
from ..models import Embedding, Episode
from ..query import param, select
from ..schema import columns_of
from .repository import Context

LATEST = 50
"""How many of the episodes completed last are compared: the nearest are found among them. A search
of all of them costs ten times what else a completion does."""
_E, _V = columns_of(Episode), columns_of(Embedding)
_DONE_THERE = (
    select(Episode)
    .where(
        _E.task_type == param("task_type"),
        _E.domain == param("domain"),
        _E.completed_at <= param("now"),
    )
    .order_by(_E.completed_at, descending=True)
    .only(_E.id, _E.task)
    .limit(LATEST)
)
_VECTORS = (
    select(Embedding)
    .where(
        _V.item_id.in_(param("ids")),
        _V.kind == "episode",
        _V.space == param("space"),
        _V.chunk_index == 0,
    )
    .only(_V.item_id, _V.vector)
    .limit(LATEST + 1)
)


class Nearest:
    """The nearest episodes of the same domain and type of task, and how near they are."""

    def __init__(self, context: Context):
        self._store = context.store
        self._indexer = context.indexer

    async def diversity(self, episode: Episode, now: datetime) -> float:
        """1 minus the highest similarity to what was completed before; 1 without any.

        Similarity is the cosine of the tasks' vectors, or where one has none the share of words
        that both have (Jaccard), 0 at least.
        """
        rows = await self._store.execute(
            _DONE_THERE, task_type=episode.task_type, domain=episode.domain, now=now
        )
        tasks = {id: task for id, task in rows if id != episode.id}
        if not tasks:
            return 1.0
        cosines = await self._cosines(episode, [*tasks])
        mine = set(words_of(episode.task))
        likeness = [
            cosines[id] if id in cosines else _shared(mine, set(words_of(task)))
            for id, task in tasks.items()
        ]
        return 1.0 - min(max(likeness), 1.0)

    async def _cosines(self, episode: Episode, ids: list[str]) -> dict[str, float]:
        if self._indexer.space is None:
            return {}
        asked = {"ids": [episode.id, *ids], "space": self._indexer.space}
        vectors = dict(await self._store.execute(_VECTORS, **asked))
        own = vectors.pop(episode.id, None)
        if own is None or not vectors:
            return {}
        import numpy as np

        others = np.frombuffer(b"".join(vectors.values()), "<f4").reshape(len(vectors), -1)
        near = np.clip(others @ np.frombuffer(own, "<f4"), 0.0, 1.0)
        return dict(zip(vectors, map(float, near), strict=True))


def _shared(mine: set[str], theirs: set[str]) -> float:
    return len(mine & theirs) / max(len(mine | theirs), 1)
