"""A thousand tenants on one PostgreSQL server: what the next one costs, and what it is to work in.

python benchmarks/tenants.py              # 1,000 tenants; result into benchmarks/results/
python benchmarks/tenants.py --count 50   # fewer, prints only

Each tenant gets an agent, a memory block and twenty messages with vectors. For every tenth part it
is told what making, filling, opening and asking took (medians) and how large the database has
become; flat rows mean that a tenant costs the same whoever was there before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

import pattern_db
from harness import SEED, Stopwatch, machine
from pattern_db import PatternDB
from pattern_db.embeddings import EmbeddingProvider
from rigs import Server, TinyEmbeddings

RESULTS = Path(__file__).parent / "results"
PARTS = 10
MESSAGES = 20
WORDS = ("oslo", "rain", "garden", "paint", "climb", "river", "letter", "tuesday", "engine")


async def fill(db: PatternDB, rng: random.Random) -> str:
    agent = await db.agents.create(name="Flux")
    await db.memory.create(agent.id, label="human", content="Ada climbs and paints.")
    texts = [" ".join(rng.choices(WORDS, k=12)) for _ in range(MESSAGES)]
    await db.messages.append_many(agent.id, [{"role": "user", "content": text} for text in texts])
    return agent.id


async def one(base: PatternDB, url: str, name: str, rng: random.Random) -> dict[str, float]:
    """Make a tenant and work in it; seconds."""
    provider: EmbeddingProvider = TinyEmbeddings()
    with Stopwatch() as making:
        await base.tenants.create(name)
    async with pattern_db.open(url, tenant=name, embeddings=provider, connections=2) as db:
        with Stopwatch() as filling:
            agent_id = await fill(db, rng)
    with Stopwatch() as opening:
        db = await pattern_db.open(url, tenant=name, embeddings=provider, connections=2)
    with Stopwatch() as asking:
        assert await db.search(agent_id, "rain in the garden")
    await db.close()
    return {
        "create_ms": making.seconds * 1e3,
        "fill_ms": filling.seconds * 1e3,
        "open_ms": opening.seconds * 1e3,
        "first_search_ms": asking.seconds * 1e3,
    }


def size(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0])


async def measure(url: str, count: int) -> list[dict[str, Any]]:
    rng, parts = random.Random(SEED), []
    async with pattern_db.open(url, embeddings="none") as base:
        before = size(url)
        for part in range(PARTS):
            numbers = range(part * count // PARTS, (part + 1) * count // PARTS)
            taken = [await one(base, url, f"tenant-{number:05}", rng) for number in numbers]
            after = size(url)
            medians = {
                name: round(statistics.median(each[name] for each in taken), 2) for name in taken[0]
            }
            found = {
                "tenants": numbers.stop,
                **medians,
                "kib_a_tenant": round((after - before) / len(numbers) / 1024),
            }
            before = after
            print(found, flush=True)
            parts.append(found)
        with Stopwatch() as watch:
            done = [each async for each in base.tenants.migrate()]
        assert len(done) == count
        assert not any(each.error or each.steps for each in done)
        print(f"looking after the schema of all: {watch.seconds / count * 1e3:.1f} ms a tenant")
        parts.append({"migrate_nothing_to_do_ms": round(watch.seconds / count * 1e3, 2)})
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    arguments = parser.parse_args()
    server = Server()
    try:
        parts = asyncio.run(measure(server.database(), arguments.count))
    finally:
        server.stop()
    if arguments.count >= 1000:
        name = f"tenants-{datetime.now(UTC):%Y-%m-%d}.json"
        text = json.dumps({**machine(), "parts": parts}, indent=1, ensure_ascii=False)
        (RESULTS / name).write_text(text + "\n", "utf-8")
        print(f"written to benchmarks/results/{name}")


if __name__ == "__main__":
    main()
