"""The primary is killed under load and its standby promoted: no acknowledged write is lost."""

from __future__ import annotations

import asyncio

import pytest

import pattern_db
from pattern_db import ConnectionFailed, PatternDB, PatternError, QueryFailed
from tests.reliability.tiny import TinyEmbeddings
from tests.rigs.standby import Pair

pytestmark = pytest.mark.slow

WRITERS = 8
BEFORE, AFTER = 150, 60


@pytest.mark.slow
async def test_a_client_goes_on_with_the_promoted_standby_and_nothing_is_lost() -> None:
    with Pair() as pair:
        async with pattern_db.open(pair.url, embeddings=TinyEmbeddings()) as db:
            assert db.store.capabilities.durable
            load = Load(db)
            await load.begin()
            async with asyncio.timeout(120):
                await load.until(BEFORE)
                assert pair.standbys() == [("sync",)]
                pair.kill_primary()
                killed_at = len(load.acknowledged)
                await asyncio.to_thread(pair.promote)
                await load.until(killed_at + AFTER)
                await load.end()
            found = {message.id: message for message in await db.messages.list("flux", limit=5000)}
            assert load.acknowledged.keys() <= found.keys()
            assert all(found[id].content == text for id, text in load.acknowledged.items())
            assert all(isinstance(error, ConnectionFailed | QueryFailed) for error in load.errors)
            ordinals = sorted(message.ordinal for message in found.values())
            assert ordinals == list(range(len(ordinals)))
            newest = list(load.acknowledged)[-1]
            hits = await db.search("flux", load.acknowledged[newest], limit=3)
            assert newest in {hit.item.id for hit in hits}


class Load:
    """Writers that append to one conversation until they are told to stop."""

    def __init__(self, db: PatternDB) -> None:
        self._db = db
        self._stopping = False
        self._more = asyncio.Condition()
        self.acknowledged: dict[str, str] = {}
        self.errors: list[PatternError] = []

    async def begin(self) -> None:
        """Start the writers."""
        await self._db.agents.create(name="Flux", id="flux")
        self._tasks = [asyncio.create_task(self._write(n)) for n in range(WRITERS)]

    async def until(self, count: int) -> None:
        """Wait until that many writes were acknowledged."""
        async with self._more:
            await self._more.wait_for(lambda: len(self.acknowledged) >= count)

    async def end(self) -> None:
        """Stop the writers."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _write(self, writer: int) -> None:
        number = 0
        while not self._stopping:
            number += 1
            text = f"writer {writer} said number{writer}x{number}"
            try:
                message = await self._db.messages.append("flux", role="user", content=text)
            except PatternError as error:
                self.errors.append(error)
                continue
            async with self._more:
                self.acknowledged[message.id] = text
                self._more.notify_all()
