"""What a row costs SurrealDB on a disk, as the database and as what is written at once grow.

python benchmarks/surreal_writes.py > benchmarks/results/surrealdb-writes-DATE.json
python benchmarks/surreal_writes.py --sizes 1000 5000    # fewer rows
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

import pattern_db
from harness import SEED, Stopwatch, machine
from pattern_db.models import Embedding, EmbeddingSpace, Message, Role
from pattern_db.query import Insert
from pattern_db.schema import table_of

SIZES, AT_ONCE, BATCH, DIMENSIONS, AGENTS = (1_000, 5_000, 20_000), (100, 250, 1_000), 500, 384, 10
NOW = datetime(2025, 1, 1, tzinfo=UTC)
VOCABULARY = [f"w{n}" for n in range(3000)]
_ADD = {model: Insert(table_of(model)) for model in (Message, Embedding, EmbeddingSpace)}


class Writer:
    """Messages of 30 words, numbered by the database, and vectors of them."""

    def __init__(self, db: pattern_db.PatternDB, agents: Sequence[str]):
        self._db, self._agents = db, agents
        self._words, self._numbers = random.Random(SEED), np.random.default_rng(SEED)
        self.count = 0

    async def write(self, rows: int, *, vectors: bool) -> float:
        """Write so many messages at once; gives the milliseconds."""
        messages = [self._message(self.count + n) for n in range(rows)]
        self.count += rows
        bounds = [_ADD[Message](row=message) for message in messages]
        if vectors:
            bounds += [_ADD[Embedding](row=self._vector(message)) for message in messages]
        with Stopwatch() as watch:
            await self._db.store.write(bounds)
        return watch.seconds * 1000

    def _message(self, n: int) -> Message:
        return Message(
            id=f"msg_{n:07}",
            agent_id=self._agents[n % AGENTS],
            position=n,
            role=Role.USER,
            created_at=NOW,
            updated_at=NOW,
            content=" ".join(self._words.choices(VOCABULARY, k=30)),
        )

    def _vector(self, message: Message) -> Embedding:
        made = self._numbers.normal(size=DIMENSIONS).astype("<f4")
        return Embedding(
            item_id=message.id,
            kind="message",
            space=1,
            chunk_index=0,
            agent_id=message.agent_id,
            start_char=0,
            end_char=len(message.content),
            content_hash=message.id.encode(),
            vector=(made / np.linalg.norm(made)).tobytes(),
        )


async def opened(db: pattern_db.PatternDB) -> Writer:
    agents = [(await db.agents.create(name=f"agent {n}")).id for n in range(AGENTS)]
    space = EmbeddingSpace(id=1, model="random", dimensions=DIMENSIONS, created_at=NOW)
    await db.store.execute(_ADD[EmbeddingSpace], row=space)
    return Writer(db, agents)


async def measured(sizes: Sequence[int], *, vectors: bool) -> dict[str, Any]:
    """Milliseconds a message: between one size and the next, then by how many are written at once
    in a database that was new."""
    by_size: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as home:
        async with pattern_db.open(f"surrealkv://{home}/one", embeddings="none") as db:
            writer = await opened(db)
            for size in sizes:
                before = writer.count
                took = [
                    await writer.write(BATCH, vectors=vectors) for _ in range(before, size, BATCH)
                ]
                by_size[f"up to {size} messages"] = round(sum(took) / (size - before), 3)
                print(f"{vectors=}", by_size, file=sys.stderr)
        by_batch = {}
        for rows in AT_ONCE:
            async with pattern_db.open(f"surrealkv://{home}/n{rows}", embeddings="none") as db:
                writer = await opened(db)
                took = [await writer.write(rows, vectors=vectors) for _ in range(1_000 // rows)]
                by_batch[f"{rows} at once"] = round(sum(took) / 1_000, 3)
    return {**by_size, **by_batch}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    sizes = parser.parse_args().sizes
    found = {
        **machine(),
        "ms_per_message": {
            "messages": await measured(sizes, vectors=False),
            "messages with a vector each": await measured(sizes, vectors=True),
        },
    }
    json.dump(found, sys.stdout, indent=2)


if __name__ == "__main__":
    asyncio.run(main())
