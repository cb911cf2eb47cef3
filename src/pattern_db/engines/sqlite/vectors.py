"""Vector search: one in-memory index for each scope, kept in step with the database."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import apsw

from ...embeddings.provider import Vector
from ...filters import Filter, In, Param
from ...models import Embedding
from ...schema import Table, table_of
from ...vectors import ExactIndex
from ..sql import Statement, encode_json, quoted
from .ddl import removals_table
from .writer import Run

_EMBEDDINGS = table_of(Embedding)
_ROWS = (
    "SELECT pk, item_id, vector FROM embeddings "
    "WHERE space = ? AND agent_id = ? AND kind = ? AND pk > ? ORDER BY pk"
)
_REMOVED = f"SELECT pk, removed FROM {quoted(removals_table(_EMBEDDINGS))} WHERE pk > ? ORDER BY pk"
_LAST_REMOVED = f"SELECT coalesce(max(pk), 0) FROM {quoted(removals_table(_EMBEDDINGS))}"
_MOST_SCOPES = 256
_CHUNK_ROWS = 4096

Scope = tuple[int, str, str]
Read = Callable[[Run], Awaitable[Any]]


class VectorSearch:
    """The indexes of one database; ``read`` runs a function on a reading connection."""

    def __init__(self, read: Read):
        self._read = read
        self._indexes: OrderedDict[Scope, ExactIndex] = OrderedDict()
        self._lock = threading.Lock()

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
    ) -> list[tuple[str, float]]:
        """See ``VectorStore.vector_search``."""
        assert table.text is not None
        kind = table.text.kind
        allowed_ids = _allowed_ids(table, agent_ids, condition, params)

        def run(connection: apsw.Connection) -> list[tuple[str, float]]:
            allowed = allowed_ids(connection)
            found: dict[str, float] = {}
            for agent_id in agent_ids:
                with self._caught_up(connection, (space, agent_id, kind), len(vector)) as index:
                    found |= index.search(vector, limit, allowed=allowed, exclude=exclude)
            shared = _shared(connection, table, agent_ids, space, len(vector))
            if shared is not None:
                found |= shared.search(vector, limit, allowed=allowed, exclude=exclude)
            return sorted(found.items(), key=lambda hit: -hit[1])[:limit]

        return await self._read(run)  # type: ignore[no-any-return]

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
        kind = table.text.kind

        def run(connection: apsw.Connection) -> dict[str, float]:
            found: dict[str, float] = {}
            for agent_id in agent_ids:
                with self._caught_up(connection, (space, agent_id, kind), len(vector)) as index:
                    found |= index.scores(vector, ids)
            shared = _shared(connection, table, agent_ids, space, len(vector))
            return found if shared is None else {**found, **shared.scores(vector, ids)}

        return await self._read(run)  # type: ignore[no-any-return]

    @contextmanager
    def _caught_up(
        self, connection: apsw.Connection, scope: Scope, dimensions: int
    ) -> Iterator[ExactIndex]:
        """The index of a scope at the state this connection sees.

        Inside a transaction that state may never be committed, so the index is not kept.
        """
        uncommitted = connection.in_transaction
        index = ExactIndex(dimensions) if uncommitted else self._index(scope, dimensions)
        with index.lock:
            connection.execute("SAVEPOINT snapshot")
            try:
                _catch_up(connection, index, scope)
                yield index
            finally:
                connection.execute("RELEASE snapshot")

    def _index(self, scope: Scope, dimensions: int) -> ExactIndex:
        with self._lock:
            index = self._indexes.pop(scope, None)
            if index is None:
                index = ExactIndex(dimensions)
            self._indexes[scope] = index
            if len(self._indexes) > _MOST_SCOPES:
                self._indexes.popitem(last=False)
            return index


def _catch_up(connection: apsw.Connection, index: ExactIndex, scope: Scope) -> None:
    """Bring an index to the state of one snapshot of the database."""
    read: Callable[..., Any] = connection.execute
    if index.last_removal is None:
        index.last_removal = int(read(_LAST_REMOVED).fetchone()[0])
    removed = read(_REMOVED, (index.last_removal,)).fetchall()
    rows = read(_ROWS, (*scope, index.last_row))
    while chunk := list(islice(rows, _CHUNK_ROWS)):
        index.add(chunk)
    if removed:
        index.remove(number for _, number in removed)
        index.last_removal = removed[-1][0]


def _allowed_ids(
    table: Table, agent_ids: Sequence[str], condition: Filter | None, params: dict[str, Any]
) -> Callable[[apsw.Connection], set[str] | None]:
    """The ids a condition leaves, when there is one."""
    if condition is None:
        return lambda _connection: None
    assert table.text is not None
    statement = Statement(table)
    owner = In(table.text.owner, Param("_agents"))
    shared = _shared_ids(table)
    where = f"({statement.condition(owner)}{shared}) AND {statement.condition(condition)}"
    compiled = statement.finish(
        f"SELECT id FROM {quoted(table.name)} WHERE {where}", None, writes=False, bounded=False
    )
    values = compiled.bind({**params, "_agents": agent_ids})
    if shared:
        values = (values[0], *values)
    return lambda connection: {row[0] for row in connection.execute(compiled.sql, values)}


def _shared_ids(table: Table) -> str:
    assert table.text is not None
    if table.text.shared_through is None:
        return ""
    return (
        f" OR id IN (SELECT block_id FROM {quoted(table.text.shared_through)} "
        "WHERE agent_id IN (SELECT value FROM json_each(?)))"
    )


def _shared(
    connection: apsw.Connection,
    table: Table,
    agent_ids: Sequence[str],
    space: int,
    dimensions: int,
) -> ExactIndex | None:
    """The vectors of what others share with these agents: few, so read anew for each search."""
    assert table.text is not None
    if table.text.shared_through is None:
        return None
    rows: Any = connection.execute(
        "SELECT pk, item_id, vector FROM embeddings WHERE item_id IN "
        f"(SELECT block_id FROM {quoted(table.text.shared_through)} "
        "WHERE agent_id IN (SELECT value FROM json_each(?))) "
        "AND kind = ? AND space = ? ORDER BY pk",
        (encode_json(list(agent_ids)), table.text.kind, space),
    ).fetchall()
    if not rows:
        return None
    index = ExactIndex(dimensions)
    index.add(rows)
    return index
