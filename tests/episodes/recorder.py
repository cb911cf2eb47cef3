"""A program that records episodes until it is killed, and says what was acknowledged.

``python -m tests.episodes.recorder PATH``; see ``tests.rigs.ackpipe``. A line is ``begin ID``,
``step ID NUMBER`` or ``end ID``.
"""

from __future__ import annotations

import asyncio
import os
import sys

import pattern_db
from pattern_db import Abstained, Failure, PatternDB, Success
from pattern_db.models import Outcome
from tests.reliability.tiny import TinyEmbeddings

from .working import FIX

AT_ONCE = 4
OUTCOMES: tuple[Outcome, ...] = (Success("done"), Failure("no"), Abstained("cannot"))


async def record(db: PatternDB, agent_id: str, name: str) -> None:
    """One episode after the other, all showing the same patterns."""
    for n in range(10_000):
        episode = await db.episodes.start(
            agent_id, task=f"fix the test {n}", id=f"{name}-{n}", domain="web", tags=["night"]
        )
        print(f"begin {episode.id}", flush=True)
        for step in FIX:
            made = await db.episodes.step(episode.id, **step)
            print(f"step {episode.id} {made.step_number}", flush=True)
        await db.episodes.complete(episode.id, OUTCOMES[n % 3])
        print(f"end {episode.id}", flush=True)


async def main(path: str) -> None:
    prefix = f"{os.environ['ACKPIPE_CYCLE']}-{os.environ['ACKPIPE_CHILD']}"
    async with pattern_db.open(path, embeddings=TinyEmbeddings()) as db:
        agents = [
            await db.agents.create(name=f"{prefix}-{n}", id=f"agent-{prefix}-{n}")
            for n in range(AT_ONCE)
        ]
        print("begun", flush=True)
        await asyncio.gather(*(record(db, agent.id, agent.name) for agent in agents))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
