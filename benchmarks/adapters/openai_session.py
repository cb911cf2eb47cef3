"""OpenAI Agents' SQLiteSession: messages of one session."""

from __future__ import annotations

import workload
from agents import SQLiteSession


class Session(workload.Peer):
    packages = ("openai-agents",)
    durability = "WAL and SQLite's default synchronous=FULL: fsync on each commit"
    notes = ("messages only: no items, no vectors, no full text",)

    def open(self) -> None:
        self.session = SQLiteSession("talk", self.folder / "session.db")

    async def append(self, text: str) -> None:
        await self.session.add_items([{"role": "user", "content": text}])

    async def last(self, count: int) -> int:
        return len(await self.session.get_items(limit=count))

    def close(self) -> None:
        self.session.close()


if __name__ == "__main__":
    workload.run(Session)
