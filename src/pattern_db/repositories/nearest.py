"""How unlike the episodes that are there an episode is."""

from __future__ import annotations

from collections.abc import Sequence

from ..models import Embedding, Episode
from ..query import param, select
from ..schema import columns_of, table_of
from .experienced import experienced
from .repository import Context

NEAREST, MOST_AGENTS = 5, 100
_ASKED_TERMS = 8
_EPISODES = table_of(Episode)
_E, _V = columns_of(Episode), columns_of(Embedding)
_DONE_THERE = (
    (_E.domain == param("domain"))
    & (_E.task_type == param("task_type"))
    & (_E.completed_at != None)  # noqa: E711
)
_TASKS = select(Episode).where(_E.id.in_(param("ids"))).only(_E.id, _E.task).limit(param("limit"))
_VECTORS = (
    select(Embedding)
    .where(
        _V.item_id.in_(param("ids")),
        _V.kind == "episode",
        _V.space == param("space"),
        _V.chunk_index == 0,
    )
    .only(_V.item_id, _V.vector)
    .limit(param("limit"))
)


class Nearest:
    """The nearest episodes of the same domain and type of task, and how near they are."""

    def __init__(self, context: Context):
        self._store = context.store
        self._indexer = context.indexer

    async def diversity(self, episode: Episode) -> float:
        """1 minus the highest similarity to the five nearest that are completed; 1 without any.

        Similarity is the cosine of the tasks' vectors, or where one has none the share of words
        that both have.
        """
        ids = await self._nearest(episode)
        if not ids:
            return 1.0
        asked = {"ids": [episode.id, *ids], "limit": len(ids) + 1}
        tasks = dict(await self._store.execute(_TASKS, **asked))
        rows = []
        if self._indexer.space is not None:
            rows = await self._store.execute(_VECTORS, space=self._indexer.space, **asked)
        likeness = _likeness(episode, [(id, tasks[id]) for id in ids if id in tasks], dict(rows))
        return 1.0 - max(likeness, default=0.0)

    async def _nearest(self, episode: Episode) -> list[str]:
        from ..search.ranking import analyze, match_terms

        terms = match_terms(analyze(episode.task[:1000]))[:_ASKED_TERMS]
        found = await self._store.text_search(
            _EPISODES,
            terms,
            agent_ids=await experienced(self._store, most=MOST_AGENTS, first=episode.agent_id),
            limit=NEAREST,
            condition=_DONE_THERE,
            params={"domain": episode.domain, "task_type": episode.task_type},
            exclude=[episode.id],
        )
        return [id for id, _ in found]


def _likeness(
    episode: Episode, others: Sequence[tuple[str, str]], vectors: dict[str, bytes]
) -> list[float]:
    import numpy as np

    from ..search.words import telling_words

    own, mine = vectors.get(episode.id), telling_words(episode.task)
    likeness = []
    for id, task in others:
        other = vectors.get(id)
        if own is not None and other is not None:
            near = float(np.frombuffer(own, "<f4") @ np.frombuffer(other, "<f4"))
        else:
            theirs = telling_words(task)
            near = len(mine & theirs) / max(len(mine | theirs), 1)
        likeness.append(min(max(near, 0.0), 1.0))
    return likeness
