"""pattern-db: archival entries of ten agents, one agent with everything, messages of one agent."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import workload

import pattern_db


class Given:
    """A provider of the vectors the data names: what is measured is not a model."""

    model_id = "given"
    max_batch = 10_000

    def __init__(self, vectors: dict[str, np.ndarray]):
        self._vectors = vectors
        self.dimensions = len(next(iter(vectors.values())))

    async def embed(self, text: str):
        return self._vectors[text]

    async def embed_batch(self, texts: Sequence[str]):
        return np.stack([self._vectors[text] for text in texts])

    async def embed_query(self, text: str):
        return self._vectors[text]

    def split(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]

    async def close(self) -> None:
        pass


class Ours(workload.Peer):
    packages = ("pattern-db", "apsw-sqlite3mc", "numpy")
    durability = 'fsync on each commit (the default, durability="full")'
    notes = (
        "the whole collection is one agent in a database of its own",
        "items also go into a full-text index, in the same transaction",
        "bulk: archival.create_many",
        "messages: a database without embeddings, as SQLiteSession has none",
    )

    async def open(self) -> None:
        vectors = self.data.by_text()
        self.db = await self._open("agents.db", Given(vectors))
        self.one = await self._open("one.db", Given(vectors))
        self.talk = await self._open("talk.db", "none")
        for agent in self.data.agents:
            await self.db.agents.create(name=agent, id=agent)
        for db in (self.one, self.talk):
            await db.agents.create(name="Flux", id="flux")

    async def _open(self, name: str, embeddings: Any) -> pattern_db.PatternDB:
        return await pattern_db.open(self.folder / name, embeddings=embeddings)

    async def bulk(self, items: Sequence[workload.Item]) -> None:
        for agent, given in groupby(items, key=lambda item: item.agent):
            entries = [{"id": item.id, "content": item.text} for item in given]
            await self.db.archival.create_many(agent, entries)

    async def prepare(self) -> None:
        for start in range(0, len(self.data.stored), workload.SLICE):
            items = self.data.stored[start : start + workload.SLICE]
            entries = [{"id": item.id, "content": item.text} for item in items]
            await self.one.archival.create_many("flux", entries)

    async def add(self, item: workload.Item) -> None:
        await self.db.archival.create(item.agent, item.text, id=item.id)

    add_async = add

    async def get(self, id: str) -> str:
        return (await self.db.archival.get(id)).content

    async def search(self, query: workload.Query) -> list[str]:
        return await self._search(self.one, "flux", query)

    async def search_in(self, query: workload.Query) -> list[str]:
        return await self._search(self.db, query.agent, query)

    async def _search(self, db: Any, agent: str, query: workload.Query) -> list[str]:
        hits = await db.search(
            agent, query.text, kinds=["archival"], mode="semantic", limit=workload.K
        )
        return [hit.item.id for hit in hits]

    async def append(self, text: str) -> None:
        await self.talk.messages.append("flux", role="user", content=text)

    async def last(self, count: int) -> int:
        return len(await self.talk.messages.list("flux", limit=count))

    async def close(self) -> None:
        for db in (self.db, self.one, self.talk):
            await db.close()


if __name__ == "__main__":
    workload.run(Ours)
