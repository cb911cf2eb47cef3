"""SurrealDB in the process, on a surrealkv file, with an HNSW index."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

os.environ["SURREAL_SYNC_DATA"] = "true"

import workload
from surrealdb import AsyncSurreal, SurrealError  # it reads the variable above

_NEAREST = (
    "SELECT id, text, vector::distance::knn() AS distance FROM item WHERE {} ORDER BY distance"
)


class Surreal(workload.Peer):
    packages = ("surrealdb",)
    durability = "SURREAL_SYNC_DATA=true: fsync on each commit"
    notes = (
        "HNSW with its defaults, candidates (ef) 100",
        "concurrent adds conflict in its vector index and are retried until they succeed",
    )

    async def open(self) -> None:
        self.db: Any = AsyncSurreal(f"surrealkv://{self.folder / 'surreal'}")
        await self.db.connect()
        await self.db.use("mind", "mind")
        await self.db.query("DEFINE TABLE item; DEFINE INDEX agents ON item FIELDS agent;")
        await self.db.query(
            "DEFINE INDEX vectors ON item FIELDS vector "
            f"HNSW DIMENSION {self.data.dimensions} DIST COSINE TYPE F32"
        )

    def _row(self, item: workload.Item) -> dict[str, Any]:
        return {
            "id": item.id,
            "agent": item.agent,
            "text": item.text,
            "vector": item.vector.tolist(),
        }

    async def bulk(self, items: Sequence[workload.Item]) -> None:
        await self.db.insert("item", [self._row(item) for item in items])

    async def add(self, item: workload.Item) -> None:
        await self.bulk([item])

    async def add_async(self, item: workload.Item) -> None:
        """Transactions that meet at the vector index fail, and say that they can be retried."""
        while True:
            try:
                return await self.add(item)
            except SurrealError as error:
                if "can be retried" not in str(error):
                    raise

    async def get(self, id: str) -> str:
        found = await self.db.query("SELECT text FROM type::thing('item', $id)", {"id": id})
        return found[0]["text"]

    async def search(self, query: workload.Query) -> list[str]:
        return await self._search("vector <|10,100|> $vector", query)

    async def search_in(self, query: workload.Query) -> list[str]:
        return await self._search("agent = $agent AND vector <|10,100|> $vector", query)

    async def _search(self, condition: str, query: workload.Query) -> list[str]:
        values = {"vector": query.vector.tolist(), "agent": query.agent}
        found = await self.db.query(_NEAREST.format(condition), values)
        return [row["id"].id for row in found]

    async def close(self) -> None:
        await self.db.close()


if __name__ == "__main__":
    workload.run(Surreal)
