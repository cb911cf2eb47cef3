"""Which stored episodes advice is drawn from: the nearest tasks and the latest of a domain.

The number that is looked at is bounded, so that advice takes as long in a large store as in a small
one: nearest by meaning, by words (of task, steps, outcome and reflection), and latest. What is
asked for at every step does without words: in a large store finding them takes longer than all the
rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ..embeddings.provider import Vector
from ..filters import Filter
from ..models import Embedding, Episode, OutcomeKind
from ..query import param, select
from ..schema import columns_of, table_of
from .experienced import experienced
from .repository import Context

if TYPE_CHECKING:
    from ..episodes.runs import Run

NEAREST, BY_WORDS, LATEST = 150, 50, 50
NEEDED = "needed_tools"
"""The key of ``metadata`` under which an episode names the tools that its task was found to need,
where somebody checked: by what was done alone, a detour looks like a need."""
MOST_AGENTS = 100
_ASKED_TERMS = 4
_EPISODES = table_of(Episode)
_E, _V = columns_of(Episode), columns_of(Embedding)
_ENDED: Filter = _E.completed_at != None  # noqa: E711
_THERE, _WENT_SO = _E.domain == param("domain"), _E.outcome_kind == param("outcome")
_READ = (_E.id, _E.agent_id, _E.task, _E.tools, _E.outcome_kind, _E.metadata)
_BY_IDS = (
    select(Episode)
    .where(_E.id.in_(param("ids")), _ENDED, _E.is_active == True)  # noqa: E712
    .only(*_READ)
    .limit(param("limit"))
)
_LATEST = (
    select(Episode)
    .where(_THERE, _ENDED)
    .order_by(_E.completed_at, descending=True)
    .only(_E.id)
    .limit(param("limit"))
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
    .limit(param("limit"))
)


class Task(msgspec.Struct, frozen=True):
    """What past runs are sought for.

    Without a ``domain`` they are sought in all of them. The nearest that went as ``outcome`` says
    are among those found, however many others are nearer; with ``alone`` only such are sought.
    ``words`` also seeks those whose task, steps, outcome or reflection hold words of the text; else
    more of the latest stand in where there is no vector.
    """

    text: str
    domain: str | None = None
    vector: Vector | None = None
    agent_id: str | None = None
    outcome: OutcomeKind | None = None
    exclude: str | None = None
    alone: bool = False
    words: bool = True


class PastRuns:
    """Finds past runs in one database."""

    def __init__(self, context: Context):
        self._store = context.store
        self._indexer = context.indexer

    async def of(self, task: Task) -> list[Run]:
        """The runs to draw on, in the order of their ids; each has ended."""
        ids = await self._ids(task)
        return await self.read(ids) if ids else []

    async def _ids(self, task: Task) -> list[str]:
        agents = await experienced(self._store, most=MOST_AGENTS, first=task.agent_id)
        if not agents:
            return []
        exclude = [] if task.exclude is None else [task.exclude]
        condition, params = _ENDED, {}
        found: list[str] = []
        if task.domain is not None:
            condition, params = condition & _THERE, {"domain": task.domain}
            near = task.words or (task.vector is not None and self._indexer.space is not None)
            latest = LATEST if near else LATEST + NEAREST
            rows = await self._store.execute(_LATEST, **params, limit=latest)
            found += [id for (id,) in rows]
        scope: dict[str, Any] = {"agent_ids": agents, "exclude": exclude}
        if task.outcome is None or not task.alone:
            found += await self._near(task, {**scope, "condition": condition, "params": params})
        if task.outcome is not None:
            condition, params = condition & _WENT_SO, {**params, "outcome": task.outcome}
            found += await self._near(task, {**scope, "condition": condition, "params": params})
        return sorted({*found} - {*exclude})

    async def _near(self, task: Task, scope: dict[str, Any]) -> list[str]:
        found = await self._by_meaning(task, scope)
        if task.words:
            found += await self._by_words(task, scope, BY_WORDS if found else NEAREST)
        return found

    async def _by_meaning(self, task: Task, scope: dict[str, Any]) -> list[str]:
        if task.vector is None or self._indexer.space is None:
            return []
        near = await self._store.vector_search(
            _EPISODES, task.vector, space=self._indexer.space, limit=NEAREST, **scope
        )
        return [id for id, _ in near]

    async def _by_words(self, task: Task, scope: dict[str, Any], most: int) -> list[str]:
        from ..search.ranking import analyze, match_terms

        terms = sorted(match_terms(analyze(task.text[:1000])), key=len, reverse=True)
        terms = terms[:_ASKED_TERMS]  # the longest are mostly the rarest
        if not terms:
            return []
        near = await self._store.text_search(_EPISODES, terms, limit=most, **scope)
        return [id for id, _ in near]

    async def read(self, ids: Sequence[str]) -> list[Run]:
        """The runs with these ids that have ended, by id."""
        from ..episodes.runs import Run

        asked = {"ids": ids, "limit": len(ids)}
        rows = await self._store.execute(_BY_IDS, **asked)
        vectors = await self.vectors(ids)
        runs = [
            Run(
                id=id,
                task=task,
                tools=tuple(tools),
                outcome=kind,
                agent_id=agent_id,
                needed=needed_of(metadata),
                vector=vectors.get(id),
            )
            for id, agent_id, task, tools, kind, metadata in rows
        ]
        return sorted(runs, key=lambda run: run.id)

    async def vectors(self, ids: Sequence[str]) -> dict[str, Vector]:
        """The vectors of the tasks of these episodes that have one."""
        if self._indexer.space is None or not ids:
            return {}
        import numpy as np

        rows = await self._store.execute(
            _VECTORS, ids=ids, space=self._indexer.space, limit=len(ids)
        )
        return {id: np.frombuffer(vector, "<f4") for id, vector in rows}


def needed_of(metadata: dict[str, Any]) -> frozenset[str] | None:
    """The tools that a task was found to need, if anybody said."""
    named = metadata.get(NEEDED)
    if not isinstance(named, list) or not all(isinstance(tool, str) for tool in named):
        return None
    return frozenset(named)
