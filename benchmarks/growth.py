"""One agent's vectors from a thousand to a million: what a search costs, finds and takes.

    .venv/bin/python benchmarks/growth.py                        # an hour, most of it filling
    .venv/bin/python benchmarks/growth.py --sizes 1000,10000     # a minute
    .venv/bin/python benchmarks/growth.py --folder DIR           # keep the database, use it again

Each size is one agent of the same database. What is measured is measured in a fresh process: how
long opening and the first search take, 500 searches, the share of the ten nearest that is found
(the truth is a product over all vectors), and the resident memory after them. The floor is usearch
on the same segment, below it a product with numpy.

The vectors are drawn from 1,000 clusters in 64 dimensions, projected to 384, with noise: nearest
neighbours of independent random vectors in 384 dimensions are no nearer than all the others, which
texts are not like.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

import pattern_db
from harness import SEED, Stopwatch, machine
from pattern_db.engines.sqlite.vectors import segments_folder
from pattern_db.models import Message
from pattern_db.schema import table_of

DIMENSIONS, LATENT, CLUSTERS = 384, 64, 1000
BATCH = 5000
QUESTIONS, ROUNDS = 100, 5
RESULTS = Path(__file__).parent / "results"


class Texts:
    """A provider of vectors that lie as those of texts do."""

    model_id = "clustered"
    dimensions = DIMENSIONS
    max_batch = 10_000

    def __init__(self, seed: int = SEED) -> None:
        shape = np.random.default_rng(SEED)
        self._centres = shape.standard_normal((CLUSTERS, LATENT), dtype=np.float32)
        self._out = shape.standard_normal((LATENT, DIMENSIONS), dtype=np.float32) / LATENT**0.5
        self._rng = np.random.default_rng(seed)

    def some(self, count: int):
        latent = self._rng.standard_normal((count, LATENT), dtype=np.float32)
        latent = self._centres[self._rng.integers(0, CLUSTERS, count)] + 0.7 * latent
        noise = self._rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
        vectors = latent @ self._out + 0.15 * noise
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    async def embed(self, text: str):
        return self.some(1)[0]

    async def embed_batch(self, texts: Sequence[str]):
        return self.some(len(texts))

    async def embed_query(self, text: str):
        return self.some(1)[0]

    def split(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]

    async def close(self) -> None:
        pass


async def fill(path: Path, sizes: list[int]) -> dict[str, float]:
    """Make the agents that are not there yet, and their segments; gives seconds."""
    async with pattern_db.open(str(path), embeddings=Texts()) as db:
        there = {agent.name for agent in await db.agents.list(limit=100)}
        with Stopwatch() as filling:
            for size in sizes:
                if str(size) in there:
                    continue
                agent = await db.agents.create(name=str(size))
                for start in range(0, size, BATCH):
                    texts = range(start, min(start + BATCH, size))
                    turns = [{"role": "user", "content": f"turn {n}"} for n in texts]
                    await db.messages.append_many(agent.id, turns)
                print(f"filled {size:,}", flush=True)
        with Stopwatch() as building:
            await db.optimize()
        return {"fill_s": filling.seconds, "build_s": building.seconds}


async def measure(path: Path, size: int) -> dict[str, float]:
    """One size, in this process."""
    questions = Texts(SEED + 1).some(QUESTIONS)
    with Stopwatch() as opening:
        db = await pattern_db.open(str(path), embeddings=Texts())
        agent = next(a for a in await db.agents.list(limit=100) if a.name == str(size))
        scope = {"space": db.embeddings.space, "agent_ids": [agent.id], "limit": 10}
        table = table_of(Message)
        await db.store.vector_search(table, questions[0], **scope)
    times = []
    for question in np.tile(questions, (ROUNDS, 1)):
        with Stopwatch() as watch:
            found = await db.store.vector_search(table, question, **scope)
        times.append(watch.seconds)
    memory = resident_mb()
    found = [await db.store.vector_search(table, question, **scope) for question in questions]
    await db.close()
    p50, p95 = np.percentile(times, [50, 95]) * 1000
    return {
        "open_and_first_ms": opening.seconds * 1000,
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "resident_mb": memory,
        "recall_at_10": recall_at_10(path, agent.id, questions, found),
        **floor(path, agent.id, questions),
    }


def pages(path: Path | str, agent: str):
    """The agent's vectors, many at a time."""
    import apsw

    rows = apsw.Connection(str(path)).execute(
        "SELECT vector FROM embeddings WHERE agent_id = ?", (agent,)
    )
    while page := [np.frombuffer(row[0], "<f4") for row in islice(rows, 50_000)]:
        yield np.stack(page)


def recall_at_10(path: Path | str, agent: str, questions, found) -> float:
    """Which share of the ten nearest of all vectors was found; ties count."""
    best = np.full((len(questions), 10), -1, np.float32)
    for page in pages(path, agent):
        both = np.concatenate([best, questions @ page.T], axis=1)
        best = -np.sort(-both, axis=1)[:, :10]
    scores = [[score for _, score in hits] for hits in found]
    right = [
        np.sum(np.array(ours) >= theirs[-1] - 1e-6)
        for ours, theirs in zip(scores, best, strict=True)
    ]
    return float(np.sum(right) / best.size)


def floor(path: Path, agent: str, questions) -> dict[str, float]:
    """The same searches by usearch on the segment, or by numpy where there is none."""
    once, name = searching_alone(path, agent)
    times = []
    for question in np.tile(questions, (ROUNDS, 1)):
        with Stopwatch() as watch:
            once(question)
        times.append(watch.seconds)
    return {"floor": name, "floor_p50_ms": float(np.median(times) * 1000)}


def searching_alone(path: Path | str, agent: str):
    """The search for the ten nearest without a database, and what it is."""
    from pattern_db.vectors.segment import header_of, new_index

    for segment in segments_folder(str(path)).glob("*.segment"):
        header = header_of(segment)
        if header is not None and header.scope.agent_id == agent:
            index = new_index(DIMENSIONS)
            index.view(str(segment))
            index.expansion_search = header.expansion
            return partial(_ask, index), f"usearch, expansion {header.expansion}"
    return partial(_compare, np.concatenate(list(pages(path, agent)))), "numpy"


def _ask(index, question) -> None:
    from pattern_db.vectors.segment import quantized

    index.search(quantized(question), 10, threads=1)


def _compare(held, question) -> None:
    cosines = held @ question
    nearest = np.argpartition(cosines, -10)[-10:]
    nearest[np.argsort(-cosines[nearest])].tolist()


def resident_mb() -> float:
    """Resident memory of this process, mapped files included, in 10^6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1000,10000,100000,1000000")
    parser.add_argument("--folder", type=Path, help="where to keep the database")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        path = folder / "growth.db"
        if arguments.measure:
            print(json.dumps(asyncio.run(measure(path, arguments.measure))))
        else:
            run(path, [int(size) for size in arguments.sizes.split(",")])


def run(path: Path, sizes: list[int]) -> None:
    """Fill, measure each size in a process of its own, and write what came out."""
    spent = asyncio.run(fill(path, sizes))
    results = []
    for size in sizes:
        command = [sys.executable, __file__, "--folder", str(path.parent), "--measure", str(size)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        results.append({"vectors": size, **row})
        print(json.dumps(results[-1]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    name = f"growth-{datetime.now(UTC):%Y-%m-%d}.json"
    report = {**machine(), "database_bytes": path.stat().st_size, **spent, "results": results}
    (RESULTS / name).write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(f"written to benchmarks/results/{name}")


if __name__ == "__main__":
    main()
