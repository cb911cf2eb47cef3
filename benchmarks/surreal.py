"""What the choices of the SurrealDB engine cost and save: its own ways beside ours, in memory.

python benchmarks/surreal.py > benchmarks/results/surrealdb-DATE.json
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import cbor2
import numpy as np

from harness import Stopwatch, machine
from pattern_db.engines.surreal import SurrealStore
from pattern_db.engines.surreal.connection import Options

ROWS, DIMENSIONS, BATCH, ROUNDS = 2_000, 384, 500, 5
_TABLES = """
DEFINE ANALYZER words TOKENIZERS blank;
DEFINE TABLE plain; DEFINE TABLE indexed;
DEFINE INDEX words ON indexed FIELDS words FULLTEXT ANALYZER words BM25;
DEFINE TABLE packed; DEFINE TABLE numbers; DEFINE TABLE near;
DEFINE INDEX near ON near FIELDS vector HNSW DIMENSION 384 DIST COSINE TYPE F32 EFC 150 M 16;
"""


class Bench:
    """Statements on one database, timed."""

    def __init__(self, store: SurrealStore):
        self._store = store
        self.ms: dict[str, float] = {}

    async def run(self, text: str, **values: Any) -> Any:
        return (await self._store._run(text, values))[-1]["result"]

    async def time(self, name: str, work: Callable[[int], Awaitable[Any]]) -> Any:
        taken, result = [], None
        for turn in range(ROUNDS):
            with Stopwatch() as watch:
                result = await work(turn)
            taken.append(watch.seconds * 1000)
        self.ms[name] = round(statistics.median(taken), 3)
        return result


async def texts(bench: Bench) -> None:
    rng = random.Random(1)
    vocabulary = [f"w{n}" for n in range(3000)]

    def rows(turn: int) -> list[dict[str, Any]]:
        words = [" ".join(rng.choices(vocabulary, k=30)) for _ in range(BATCH)]
        return [{"id": f"{turn}-{n}", "words": text} for n, text in enumerate(words)]

    for table in ("plain", "indexed"):
        await bench.time(
            f"insert {BATCH} texts of 30 words, table {table}",
            lambda turn, table=table: bench.run(
                f"INSERT INTO {table} $rows RETURN NONE", rows=rows(turn)
            ),
        )


async def vectors(bench: Bench) -> None:
    made = np.random.default_rng(1).normal(size=(ROWS, DIMENSIONS)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    asked = made[7]
    for n in range(0, ROWS, BATCH):
        part = range(n, n + BATCH)
        packed = [{"id": f"v{i}", "vector": made[i].tobytes()} for i in part]
        numbers = [{"id": f"v{i}", "vector": made[i].tolist()} for i in part]
        await bench.run("INSERT INTO packed $rows RETURN NONE", rows=packed)
        for table in ("numbers", "near"):
            await bench.run(f"INSERT INTO {table} $rows RETURN NONE", rows=numbers)

    async def exact(_turn: int) -> list[str]:
        rows = await bench.run("SELECT VALUE [id, vector] FROM packed")
        cosines = np.frombuffer(b"".join(v for _, v in rows), "<f4").reshape(ROWS, -1) @ asked
        return [rows[n][0] for n in np.argsort(-cosines)[:10]]

    similarity = "vector::similarity::cosine(vector, $asked)"
    own = (
        f"SELECT VALUE id FROM (SELECT id, {similarity} AS s FROM numbers ORDER BY s DESC LIMIT 10)"
    )
    given = asked.tolist()
    first = await bench.time(f"10 nearest of {ROWS}: read packed, ranked here", exact)
    second = await bench.time(
        f"10 nearest of {ROWS}: vector::similarity", lambda _: bench.run(own, asked=given)
    )
    near = "SELECT VALUE id FROM near WHERE vector <|10,200|> $asked"
    third = await bench.time(f"10 nearest of {ROWS}: HNSW", lambda _: bench.run(near, asked=given))
    assert first == second, "both are exact"
    bench.ms["HNSW recall@10"] = len(set(first) & set(third)) / 10


async def keys(bench: Bench) -> None:
    ids = [cbor2.CBORTag(8, ["packed", f"v{n}"]) for n in range(250)]
    await bench.time(
        "250 records by id, as the source",
        lambda _: bench.run("SELECT VALUE id FROM $ids", ids=ids),
    )
    await bench.time(
        "250 records by id, WHERE id IN",
        lambda _: bench.run("SELECT VALUE id FROM packed WHERE id IN $ids", ids=ids),
    )


async def main() -> None:
    store = await SurrealStore.connect(Options(url="mem://"))
    bench = Bench(store)
    await bench.run(_TABLES)
    for part in (texts, vectors, keys):
        await part(bench)
    found = {
        **machine(),
        "surrealdb": store.capabilities.version,
        "median_ms": bench.ms,
    }
    json.dump(found, sys.stdout, indent=2)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
