"""Chroma, persistent, in the process: its HNSW index with default settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import chromadb
import workload
from chromadb.config import Settings


class Chroma(workload.Peer):
    packages = ("chromadb",)
    durability = "its log is a SQLite file, synced on each commit; nothing to set"
    notes = ("no asynchronous interface in the process",)

    def open(self) -> None:
        settings = Settings(anonymized_telemetry=False)
        self.client = chromadb.PersistentClient(str(self.folder / "chroma"), settings=settings)
        self.items: Any = self.client.create_collection(
            "items", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )

    def bulk(self, items: Sequence[workload.Item]) -> None:
        self.items.add(
            ids=[item.id for item in items],
            embeddings=[item.vector for item in items],
            documents=[item.text for item in items],
            metadatas=[{"agent": item.agent} for item in items],
        )

    def add(self, item: workload.Item) -> None:
        self.bulk([item])

    def get(self, id: str) -> str:
        return self.items.get(ids=[id])["documents"][0]

    def search(self, query: workload.Query) -> list[str]:
        found = self.items.query(query_embeddings=[query.vector], n_results=workload.K)
        return found["ids"][0]

    def search_in(self, query: workload.Query) -> list[str]:
        found = self.items.query(
            query_embeddings=[query.vector], n_results=workload.K, where={"agent": query.agent}
        )
        return found["ids"][0]


if __name__ == "__main__":
    workload.run(Chroma)
