"""Vector search on pgvector: exact in small scopes, HNSW in large ones.

HNSW finds first and filters afterwards. The iterative scan (a setting of every connection) goes on
until enough is found or it has seen ``hnsw.max_scan_tuples``; what comes short is searched exactly,
so that a filter never hides what exists. Either way the cosines are those of the whole vectors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ...embeddings.provider import Vector
from ...filters import Filter
from ...schema import Table
from ..sql import Compiled, quoted
from .codecs import PackedVector
from .compiler import PostgresStatement
from .names import Schema
from .text import conditions, live_and_mine, mine

EXACT_UP_TO = 10_000
"""Vectors in a scope."""
MOST_INDEXED_DIMENSIONS = 4000
_SPARE = 2

Rows = Callable[[Compiled, dict[str, Any]], Awaitable[list[Any]]]


class VectorSearch:
    """The vectors of one database; ``rows`` runs a statement and gives its rows."""

    def __init__(self, schema: Schema, rows: Rows):
        self._schema = schema
        self._rows = rows

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
        scope = _Scope(self._schema, table, vector, space, agent_ids, condition, params, exclude)
        if limit <= 0:
            return []
        if await self._is_large(scope, limit):
            found = await self._rows(scope.near(limit), params)
            if len(found) == limit:
                return found
        return await self._rows(scope.exact(limit), params)

    async def _is_large(self, scope: _Scope, limit: int) -> bool:
        if not scope.is_indexed or limit * _SPARE > EXACT_UP_TO:
            return False
        ((size,),) = await self._rows(scope.size(EXACT_UP_TO + 1), {})
        return bool(size > EXACT_UP_TO)

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
        scope = _Scope(self._schema, table, vector, space, agent_ids, None, {}, ())
        return dict(await self._rows(scope.of(ids), {}))


class _Scope:
    """What one search may find, as statements."""

    def __init__(
        self,
        schema: Schema,
        table: Table,
        vector: Vector,
        space: int,
        agent_ids: Sequence[str],
        condition: Filter | None,
        params: dict[str, Any],
        exclude: Sequence[str],
    ):
        assert table.text is not None
        self._schema, self._table, self._text = schema, table, table.text
        self._vector = PackedVector(vector.astype("<f4").tobytes())
        self._dimensions, self._space = len(vector), int(space)
        self._agent_ids, self._condition, self._exclude = agent_ids, condition, exclude
        self._absent = frozenset(name for name, value in params.items() if value is None)

    @property
    def is_indexed(self) -> bool:
        """Whether the index can serve it. What is shared is few, and has another owner."""
        shared = self._text.shared_through is not None
        return not shared and self._dimensions <= MOST_INDEXED_DIMENSIONS

    def size(self, at_most: int) -> Compiled:
        """How many vectors there are, counted no further than needed."""
        statement = self._statement()
        where = self._where(statement)
        sql = f"SELECT count(*) FROM (SELECT 1 {where} LIMIT {at_most}) AS counted"
        return statement.finish(sql, None, writes=False, bounded=False)

    def exact(self, limit: int) -> Compiled:
        """The nearest items, by looking at every vector."""
        statement = self._statement()
        distance = f"(e.vector <#> {self._asked(statement)})"
        where = self._where(statement) + self._narrowed(statement)
        sql = (
            f"SELECT e.item_id, -min({distance}) AS score {where} GROUP BY e.item_id "
            f"ORDER BY score DESC, e.item_id DESC LIMIT {statement.value(limit, None, 'bigint')}"
        )
        return statement.finish(sql, None, writes=False, bounded=False)

    def near(self, limit: int) -> Compiled:
        """The nearest items by way of the index. Some may have several chunks near."""
        statement = self._statement()
        asked, half = self._asked(statement), f"halfvec({self._dimensions})"
        where = self._where(statement) + self._narrowed(statement)
        sql = (
            f"WITH near AS MATERIALIZED (SELECT e.item_id, e.vector <#> {asked} AS distance "
            f"{where} ORDER BY e.vector::{half} <#> {asked}::{half} "
            f"LIMIT {statement.value(limit * _SPARE, None, 'bigint')}) "
            "SELECT item_id, -min(distance) AS score FROM near "
            "GROUP BY item_id ORDER BY score DESC, item_id DESC "
            f"LIMIT {statement.value(limit, None, 'bigint')}"
        )
        return statement.finish(sql, None, writes=False, bounded=False)

    def of(self, ids: Sequence[str]) -> Compiled:
        """The cosines of these items."""
        statement = self._statement()
        distance = f"(e.vector <#> {self._asked(statement)})"
        where = f"{self._where(statement)} AND e.item_id = ANY({statement.listed(ids)})"
        sql = f"SELECT e.item_id, -min({distance}) {where} GROUP BY e.item_id"
        return statement.finish(sql, None, writes=False, bounded=False)

    def _statement(self) -> PostgresStatement:
        return PostgresStatement(self._table, self._schema, self._absent)

    def _asked(self, statement: PostgresStatement) -> str:
        return statement.value(self._vector, None, f"vector({self._dimensions})")

    def _where(self, statement: PostgresStatement) -> str:
        """The space is written out: an index of one space serves no parameter."""
        kind = statement.value(self._text.kind)
        owned = mine(statement, self._text, self._agent_ids, "e.agent_id", "e.item_id")
        return (
            f"FROM {self._schema.of('embeddings')} AS e "
            f"WHERE e.space = {self._space} AND e.kind = {kind} AND {owned}"
        )

    def _narrowed(self, statement: PostgresStatement) -> str:
        """What the condition and the exclusions leave."""
        sql = ""
        if self._exclude:
            sql = f" AND e.item_id <> ALL({statement.listed(self._exclude)})"
        if self._condition is None:
            return sql
        live = live_and_mine(statement, self._text, self._agent_ids)
        rest = conditions(statement, self._condition, ())
        source, id = statement.source(), f"{quoted(self._table.name)}.id"
        return f"{sql} AND e.item_id IN (SELECT {id} FROM {source} WHERE {live}{rest})"
