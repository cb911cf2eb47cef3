"""Random lives of large scopes against a model that compares everything."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import pattern_db
from pattern_db import PatternDB
from pattern_db.filters import Comparison
from pattern_db.vectors import scope

from .segments import Hits, Spread, best, built, make_small, nearest, same, vector_of

ROLES = ("user", "system")
AGENTS = ("agent-one", "agent-two")
Said = dict[str, tuple[str, str, str]]
"""(agent, text, role) by message id."""

agents = st.sampled_from(AGENTS)
counts = st.integers(1, 12)
places = st.integers(0, 1000)


class Undo(Exception):
    """Raised inside a transaction so that it is undone."""


class SegmentMachine(RuleBasedStateMachine):
    """Two handles on one file, of scopes that become large with a dozen messages."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        make_small(self.patch.setattr)
        for name, value in (("EXACT_ROWS", 12), ("MOST_COMPARED", 40), ("HELD_BYTES", 4096)):
            self.patch.setattr(scope, name, value)
        self.folder = tempfile.TemporaryDirectory()
        self.path = str(Path(self.folder.name) / "mind.db")
        self.loop = asyncio.Runner()
        self.said: Said = {}
        self.spoken = self.asked = 0

    def run(self, doing: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(doing)

    @initialize()
    def begin(self) -> None:
        self.handles = [self._open(), self._open()]
        for name in AGENTS:
            self.run(self.handles[0].agents.create(name=name, id=name))

    def _open(self) -> PatternDB:
        async def opening() -> PatternDB:
            return await pattern_db.open(self.path, embeddings=Spread())

        db: PatternDB = self.run(opening())
        return db

    def teardown(self) -> None:
        for handle in getattr(self, "handles", []):
            self.run(handle.close())
        self.loop.close()
        self.folder.cleanup()
        self.patch.undo()

    async def _say(self, db: PatternDB, agent: str, count: int, said: Said) -> None:
        turns = [
            {"role": ROLES[n % 7 == 0], "content": f"text {n}"}
            for n in range(self.spoken, self.spoken + count)
        ]
        self.spoken += count
        for message in await db.messages.append_many(agent, turns):
            said[message.id] = (agent, message.content, message.role)

    async def _forget(self, db: PatternDB, place: int, count: int, said: Said) -> None:
        for id in sorted(said)[place % max(1, len(said)) :][:count]:
            await (db.messages.delete if place % 2 else db.messages.purge)(id)
            del said[id]

    async def _wrong(self, db: PatternDB, said: Said) -> list[object]:
        """Searches of a new question that answer other than the model does."""
        self.asked += 1
        question = f"question {self.asked}"
        ways: list[tuple[tuple[str, ...], dict[str, Any], str | None]] = [
            *(((agent,), {}, None) for agent in AGENTS),
            (AGENTS, {}, None),
            (AGENTS, {"condition": Comparison("role", "=", "system")}, "system"),
        ]
        found = []
        for listed, more, role in ways:
            rows = self._rows(said, listed, role)
            expected = best(rows, question, 8)
            hidden = [item for item, _ in expected[:3]]
            for exclude, right in (([], expected[:5]), (hidden, expected[3:8])):
                hits: Hits = await nearest(db, listed, question, 5, exclude=exclude, **more)
                if not same(hits, right):
                    found.append((listed, more, exclude, hits, right))
        return found

    def _rows(
        self, said: Said, listed: tuple[str, ...], role: str | None
    ) -> list[tuple[str, bytes]]:
        return [
            (id, vector_of(text).tobytes())
            for id, (agent, text, mine) in said.items()
            if agent in listed and role in (None, mine)
        ]

    @rule(handle=st.integers(0, 1), agent=agents, count=counts)
    def say(self, handle: int, agent: str, count: int) -> None:
        self.run(self._say(self.handles[handle], agent, count, self.said))

    @rule(handle=st.integers(0, 1), place=places, count=counts)
    def forget(self, handle: int, place: int, count: int) -> None:
        self.run(self._forget(self.handles[handle], place, count, self.said))

    @rule(agent=agents, count=counts, place=places, undo=st.booleans())
    def transaction(self, agent: str, count: int, place: int, undo: bool) -> None:
        async def transact(db: PatternDB) -> None:
            inside = dict(self.said)
            try:
                async with db.transaction():
                    await self._say(db, agent, count, inside)
                    assert await self._wrong(db, inside) == []
                    await self._forget(db, place, count, inside)
                    assert await self._wrong(db, inside) == []
                    assert await self._wrong(self.handles[1], self.said) == []
                    if undo:
                        raise Undo
            except Undo:
                return
            self.said = inside

        self.run(transact(self.handles[0]))

    @rule(handle=st.integers(0, 1))
    def wait(self, handle: int) -> None:
        self.run(built(self.handles[handle]))

    @rule(handle=st.integers(0, 1))
    def optimize(self, handle: int) -> None:
        self.run(self.handles[handle].optimize())

    @rule(handle=st.integers(0, 1))
    def vacuum(self, handle: int) -> None:
        self.run(self.handles[handle].vacuum())

    @rule(handle=st.integers(0, 1))
    def reopen(self, handle: int) -> None:
        self.run(self.handles[handle].close())
        self.handles[handle] = self._open()

    @invariant()
    def searches_are_right(self) -> None:
        for handle in getattr(self, "handles", []):
            assert self.run(self._wrong(handle, self.said)) == []
