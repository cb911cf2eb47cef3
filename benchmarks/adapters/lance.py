"""LanceDB on the local file system: exact search, scalar indexes on id and agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lancedb
import pyarrow as pa
import workload
from lancedb.index import Bitmap, BTree


class Lance(workload.Peer):
    packages = ("lancedb", "pyarrow")
    durability = "NOT the same: new files are not synced before a write is acknowledged"
    notes = (
        "no vector index: its guide advises one for larger tables, exact search is its default",
        "scalar indexes on id and agent, made once the items are in",
    )

    async def open(self) -> None:
        schema = pa.schema(
            [
                ("id", pa.string()),
                ("agent", pa.string()),
                ("text", pa.string()),
                ("vector", pa.list_(pa.float32(), self.data.dimensions)),
            ]
        )
        path = str(self.folder / "lance")
        self.table: Any = lancedb.connect(path).create_table("items", schema=schema)
        self.schema = schema
        self.same: Any = await (await lancedb.connect_async(path)).open_table("items")

    def _rows(self, items: Sequence[workload.Item]) -> pa.Table:
        columns = {
            "id": [item.id for item in items],
            "agent": [item.agent for item in items],
            "text": [item.text for item in items],
            "vector": [item.vector for item in items],
        }
        return pa.table(columns, schema=self.schema)

    def bulk(self, items: Sequence[workload.Item]) -> None:
        self.table.add(self._rows(items))

    def prepare(self) -> None:
        self.table.create_index("id", config=BTree())
        self.table.create_index("agent", config=Bitmap())
        self.table.optimize()

    def add(self, item: workload.Item) -> None:
        self.bulk([item])

    async def add_async(self, item: workload.Item) -> None:
        await self.same.add(self._rows([item]))

    def get(self, id: str) -> str:
        return self.table.search().where(f"id = '{id}'").limit(1).to_list()[0]["text"]

    def search(self, query: workload.Query) -> list[str]:
        return self._ids(self._nearest(query))

    def search_in(self, query: workload.Query) -> list[str]:
        return self._ids(self._nearest(query).where(f"agent = '{query.agent}'", prefilter=True))

    def _nearest(self, query: workload.Query) -> Any:
        found = self.table.search(query.vector).distance_type("cosine")
        return found.select(["id", "text", "_distance"]).limit(workload.K)

    def _ids(self, found: Any) -> list[str]:
        return found.to_arrow()["id"].to_pylist()


if __name__ == "__main__":
    workload.run(Lance)
