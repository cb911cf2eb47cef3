"""Looking after a schema: its vector indexes, what the planner knows, and what there is to tell."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from ...models import Embedding, EmbeddingSpace
from ...query import select
from ...schema import all_tables, columns_of
from .ddl import Builder
from .names import Schema
from .pool import Connection
from .vectors import MOST_INDEXED_DIMENSIONS

_ANY_VECTOR = select(Embedding).only(columns_of(Embedding).item_id).limit(1)
_SPACES = select(EmbeddingSpace)
_MEMORY = "256MB"
"""For an index that is made at once: HNSW takes far longer where it does not fit."""

DESCRIBE = (
    "SELECT current_database()::text, "
    "(SELECT extversion FROM pg_extension WHERE extname = 'vector'), "
    "coalesce(sum(pg_total_relation_size(c.oid)) FILTER (WHERE c.relkind = 'r'), 0)::bigint, "
    "coalesce(sum(pg_relation_size(c.oid)) FILTER (WHERE c.relkind = 'i'), 0)::bigint, "
    "count(*) FILTER (WHERE c.relkind = 'i'), "
    "count(*) FILTER (WHERE c.relkind = 'i' AND c.relname LIKE 'embeddings_near_%') "
    "FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
    "WHERE n.nspname = $1::text"
)
"""Takes the name of the schema; gives the values of ``DESCRIBED``."""
DESCRIBED = ("database", "vector_extension", "bytes", "index_bytes", "indexes", "vector_indexes")


class VectorIndexes:
    """The indexes of a schema's vectors, one for each space.

    ``execute`` runs a query, ``run`` statements of the schema in one transaction.
    """

    def __init__(
        self,
        execute: Callable[..., Awaitable[Any]],
        run: Callable[[list[str]], Awaitable[None]],
        builder: Builder,
    ):
        self._execute, self._run, self._builder = execute, run, builder

    @asynccontextmanager
    async def put_off(self) -> AsyncIterator[None]:
        """No index inside, if there is no vector yet; all of them at the end."""
        if not await self._execute(_ANY_VECTOR):
            spaces = await self._spaces()
            await self._run([self._builder.without_vector_index(space.id) for space in spaces])
        try:
            yield
        finally:
            await self.mend()

    async def mend(self) -> None:
        """Make those that are missing."""
        for space in await self._spaces():
            index = self._builder.vector_index(space.id, space.dimensions)
            await self._run([f"SET LOCAL maintenance_work_mem = '{_MEMORY}'", index])

    async def _spaces(self) -> list[EmbeddingSpace]:
        spaces: list[EmbeddingSpace] = await self._execute(_SPACES)
        return [s for s in spaces if 1 <= s.dimensions <= MOST_INDEXED_DIMENSIONS]


async def analyze(connection: Connection, *, schema: Schema) -> None:
    """Renew what the planner knows of the tables."""
    for table in all_tables():
        await connection.execute(f"ANALYZE {schema.of(table.name)}")


async def vacuum(connection: Connection, *, schema: Schema) -> None:
    """The same, and free the space of removed rows; the connection is closed afterwards."""
    await connection.execute("SET statement_timeout = 0")
    try:
        for table in all_tables():
            await connection.execute(f"VACUUM (ANALYZE) {schema.of(table.name)}")
    finally:
        connection.pgconn.finish()  # the timeout goes with it
