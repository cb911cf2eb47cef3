"""Vector search: exact in small scopes, HNSW in large ones.

The exact search reads the vectors of the scope as bytes and ranks them here; the engine's own
``vector::similarity`` takes ten times as long, since it reads numbers one by one. HNSW finds first
and filters afterwards: it is asked for more until enough is left, and if that is too much the scope
is searched exactly, so that a filter never hides what exists. Either way the cosines are those of
the whole vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...embeddings.provider import Vector
from ...filters import Filter
from ...schema import Table
from .codecs import record
from .compiler import Compiled, Statement
from .names import NEAR, VECTORS, key_of_near, near_table, quoted
from .scope import Rows, Scope, owned, same, shared_with

EXACT_UP_TO = 4_000
"""Vectors in a scope."""
_MOST_KNOWN = 10_000
_MOST_CHUNKS = 2**62
_FIRST, _MORE, _MOST = 2, 4, 1_000
"""How many are asked for: times the limit, times more each time, at most."""

Hits = list[tuple[str, float]]


class VectorSearch:
    """The vectors of one database; ``rows`` runs a read."""

    def __init__(self, rows: Rows):
        self._rows = rows
        self._large: set[tuple[str, int, tuple[str, ...]]] = set()
        """Scopes that were found to be large: the next search of one begins with the index."""

    async def search(
        self,
        table: Table,
        vector: Vector,
        *,
        space: int,
        agent_ids: Sequence[str],
        limit: int,
        condition: Filter | None,
        params: dict[str, Any],
        exclude: Sequence[str],
    ) -> Hits:
        """See ``VectorStore.vector_search``."""
        assert table.text is not None
        if limit <= 0 or not agent_ids:
            return []
        shared = await shared_with(self._rows, table.text, agent_ids)
        scope = Scope(table, agent_ids=agent_ids, shared=shared, condition=condition, params=params)
        asked = (table.name, space, tuple(agent_ids))
        if asked in self._large and not shared:
            found = await self._near(scope, vector, space, limit, set(exclude))
            if len(found) >= limit:
                return found
        rows = await self._ask(_owned(scope, space))
        if len(rows) > EXACT_UP_TO and len(self._large) < _MOST_KNOWN:
            self._large.add(asked)
        return await self._exact(scope, vector, rows, space, limit, set(exclude))

    async def scores(
        self,
        table: Table,
        vector: Vector,
        *,
        space: int,
        agent_ids: Sequence[str],
        ids: Sequence[str],
    ) -> dict[str, float]:
        """See ``VectorStore.vector_scores``."""
        assert table.text is not None
        if not ids:
            return {}
        shared = await shared_with(self._rows, table.text, agent_ids)
        scope = Scope(table, agent_ids=agent_ids, shared=shared, condition=None, params={})
        rows = await self._ask(_of_items(scope, space, ids))
        may = set(shared)
        agents = set(agent_ids)
        mine = [(id, v) for id, v, agent_id in rows if agent_id in agents or id in may]
        return _best(mine, vector)

    async def _ask(self, compiled: Compiled, params: dict[str, Any] | None = None) -> Any:
        return await self._rows(compiled, params or {})

    async def _exact(
        self,
        scope: Scope,
        vector: Vector,
        rows: list[Any],
        space: int,
        limit: int,
        exclude: set[str],
    ) -> Hits:
        """The nearest items, by looking at every vector: those in ``rows``, and shared ones."""
        if scope.shared:
            others = await self._ask(_of_items(scope, space, scope.shared))
            agents = set(scope.agent_ids)
            rows += [(id, v) for id, v, agent_id in others if agent_id not in agents]
        if scope.condition is not None:
            allowed = set(await self._ask(_items(scope), scope.params))
            rows = [row for row in rows if row[0] in allowed]
        return _ranked(_best([r for r in rows if r[0] not in exclude], vector))[:limit]

    async def _near(
        self, scope: Scope, vector: Vector, space: int, limit: int, exclude: set[str]
    ) -> Hits:
        """The nearest items by way of the index; fewer than ``limit`` if it cannot tell."""
        wanted = limit * _FIRST + len(exclude)
        while wanted <= _MOST:
            ids = await self._ask(_neighbours(vector, space, wanted))
            keys = [key for id in ids if (key := key_of_near(id, space))[0] not in exclude]
            rows = await self._ask(_those(scope, keys))
            if scope.condition is not None:
                items = list({id for id, _ in rows})
                allowed = set(await self._ask(_items(scope, items), scope.params))
                rows = [row for row in rows if row[0] in allowed]
            found = _ranked(_best(rows, vector))
            if len(found) >= limit:
                return found[:limit]
            wanted *= _MORE
        return []


def _best(rows: Sequence[Sequence[Any]], vector: Vector) -> dict[str, float]:
    """The cosine of each item's nearest chunk."""
    if not rows:
        return {}
    packed = np.frombuffer(b"".join(bytes(row[1]) for row in rows), "<f4")
    cosines = packed.reshape(len(rows), -1) @ vector.astype("<f4")
    best: dict[str, float] = {}
    for (id, *_), cosine in zip(rows, cosines.tolist(), strict=True):
        if cosine > best.get(id, -2.0):
            best[id] = cosine
    return best


def _ranked(best: dict[str, float]) -> Hits:
    return sorted(best.items(), key=lambda pair: (pair[1], pair[0]), reverse=True)


def _owned(scope: Scope, space: int) -> Compiled:
    """The vectors of the agents."""
    statement = Statement(scope.table)
    text = (
        f"(SELECT VALUE [item_id, vector] FROM {VECTORS} "
        f"WHERE space = {statement.value(record('embedding_spaces', space))} "
        f"AND {owned(statement, 'agent_id', scope.agent_ids)} "
        f"AND kind = {statement.value(scope.text.kind)})"
    )
    return statement.finish(text, same)


def _of_items(scope: Scope, space: int, ids: Sequence[str]) -> Compiled:
    """The vectors of these items, whoever owns them: ranges of the key."""
    statement = Statement(scope.table)
    items = statement.value(list(dict.fromkeys(ids)))
    rest = f"{statement.value(scope.text.kind)}, {statement.value(space)}"
    keys = f"[$item, {rest}]..=[$item, {rest}, {_MOST_CHUNKS}]"
    found = f"(SELECT VALUE [item_id, vector, agent_id] FROM {VECTORS}:{keys})"
    return statement.finish(f"array::flatten({items}.map(|$item| {found}))", same)


def _items(scope: Scope, ids: Sequence[str] | None = None) -> Compiled:
    """The items within the condition, among these if there are any named."""
    statement = Statement(scope.table)
    name = scope.table.name
    source = quoted(name)
    if ids is not None:
        source = statement.value([record(name, id) for id in ids])
    text = (
        f"(SELECT VALUE id FROM {source} WHERE {scope.mine(statement)} AND {scope.live(statement)})"
    )
    return statement.finish(text, same)


def _neighbours(vector: Vector, space: int, wanted: int) -> Compiled:
    """Ids of the nearest vectors of all agents, in the table of the space."""
    asked = vector.astype("<f4").tolist()
    text = (
        f"(SELECT VALUE id FROM {quoted(near_table(space))} "
        f"WHERE {NEAR} <|{int(wanted)},{max(200, int(wanted))}|> $_0_)"
    )
    return Compiled(text, (lambda _p: asked,), same, False)


def _those(scope: Scope, keys: Sequence[Any]) -> Compiled:
    """The vectors with these keys that the agents may find."""
    statement = Statement(scope.table)
    source = statement.value([record(VECTORS, list(key)) for key in keys])
    text = (
        f"(SELECT VALUE [item_id, vector] FROM {source} "
        f"WHERE {owned(statement, 'agent_id', scope.agent_ids)} "
        f"AND kind = {statement.value(scope.text.kind)})"
    )
    return statement.finish(text, same)
