"""LangGraph's SqliteStore and AsyncSqliteStore, vectors by sqlite-vec inside it.

Both need a SQLite that loads extensions, which many builds of Python lack: pysqlite3 brings one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aiosqlite
import workload
from langgraph.store.base import PutOp
from langgraph.store.sqlite import SqliteStore
from langgraph.store.sqlite.aio import AsyncSqliteStore
from pysqlite3 import dbapi2 as sqlite

PACKAGES = ("langgraph-checkpoint-sqlite", "sqlite-vec", "pysqlite3-binary", "aiosqlite")
DURABILITY = "WAL and synchronous=FULL set on its connection: fsync on each commit"
NOTES = (
    "connection by pysqlite3: with a Python whose sqlite3 lacks enable_load_extension the store "
    "refuses to keep vectors",
    "no index for vectors: an exact scan in SQL",
)


class _Store(workload.Peer):
    packages = PACKAGES
    durability = DURABILITY
    notes = NOTES
    store: Any

    def connect(self) -> Any:
        connection = sqlite.connect(
            str(self.folder / "store.db"), check_same_thread=False, isolation_level=None
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def index(self) -> Any:
        vectors = {text: vector.tolist() for text, vector in self.data.by_text().items()}
        return {
            "dims": self.data.dimensions,
            "embed": lambda texts: [vectors[text] for text in texts],
            "text_fields": ["text"],
        }

    def puts(self, items: Sequence[workload.Item]) -> list[PutOp]:
        return [PutOp(("mind", item.agent), item.id, {"text": item.text}) for item in items]

    def agent_of(self, id: str) -> str:
        """A key is looked up in its namespace, so a user has to know that too."""
        return self.data.stored[int(id.removeprefix("item-"))].agent


class Sync(_Store):
    def open(self) -> None:
        self.store = SqliteStore(self.connect(), index=self.index())
        self.store.setup()

    def bulk(self, items: Sequence[workload.Item]) -> None:
        self.store.batch(self.puts(items))

    def add(self, item: workload.Item) -> None:
        self.store.put(("mind", item.agent), item.id, {"text": item.text})

    def get(self, id: str) -> str:
        return self.store.get(("mind", self.agent_of(id)), id).value["text"]

    def search(self, query: workload.Query) -> list[str]:
        found = self.store.search(("mind",), query=query.text, limit=workload.K)
        return [item.key for item in found]

    def search_in(self, query: workload.Query) -> list[str]:
        found = self.store.search(("mind", query.agent), query=query.text, limit=workload.K)
        return [item.key for item in found]

    def close(self) -> None:
        self.store.conn.close()


class Async(_Store):
    async def open(self) -> None:
        self.connection = await aiosqlite.Connection(self.connect, iter_chunk_size=64)
        self.store = AsyncSqliteStore(self.connection, index=self.index())
        await self.store.setup()

    async def bulk(self, items: Sequence[workload.Item]) -> None:
        await self.store.abatch(self.puts(items))

    async def add(self, item: workload.Item) -> None:
        await self.store.aput(("mind", item.agent), item.id, {"text": item.text})

    add_async = add

    async def get(self, id: str) -> str:
        return (await self.store.aget(("mind", self.agent_of(id)), id)).value["text"]

    async def search(self, query: workload.Query) -> list[str]:
        found = await self.store.asearch(("mind",), query=query.text, limit=workload.K)
        return [item.key for item in found]

    async def search_in(self, query: workload.Query) -> list[str]:
        scope = ("mind", query.agent)
        found = await self.store.asearch(scope, query=query.text, limit=workload.K)
        return [item.key for item in found]

    async def close(self) -> None:
        await self.store.stop_ttl_sweeper()
        await self.connection.close()
