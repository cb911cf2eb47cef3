"""Copy a constellation of 100,000 rows around all engines: time a row, equal hashes, kills.

python benchmarks/copying.py                             # sqlite and postgres
python benchmarks/copying.py turso='turso:///tmp/t{n}'   # further engines: empty databases
python benchmarks/copying.py --rows 10000                # fewer rows
python benchmarks/copying.py --ring                      # not every pair, only the ring
python benchmarks/copying.py --quick                     # 2,000 rows, prints only

Every ordered pair of engines is timed once, each copy a process of its own; then one copy goes
around the ring of all engines while it is killed (``kill -9``) twenty times, and must arrive equal.
What a hop of the ring took has its kills and starts in it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

import pattern_db
from harness import SEED, machine
from pattern_db.embeddings.texts import EMBEDDED_TEXT, content_hash
from pattern_db.ids import Positions
from pattern_db.models import (
    ArchivalEntry,
    Embedding,
    EmbeddingSpace,
    MemoryBlock,
    Message,
    Role,
    SystemMetadata,
)
from pattern_db.query import Insert, update
from pattern_db.schema import columns_of, table_of
from pattern_db.transfer import compare_databases, copy_database
from rigs import Server, kills

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DIMENSIONS, AGENTS, KILLS = 384, 10, 20
WORDS = (
    "oslo",
    "rain",
    "garden",
    "paint",
    "climb",
    "river",
    "letter",
    "tuesday",
    "engine",
    "north",
)


async def fill(path: str, rows: int) -> None:
    """Half of the rows are texts, half their vectors."""
    rng, vectors = random.Random(SEED), np.random.default_rng(SEED)
    positions, begin = Positions(), datetime(2025, 1, 1, tzinfo=UTC)
    async with pattern_db.open(path, embeddings="none") as db:
        agents = [await db.agents.create(name=f"agent {n}") for n in range(AGENTS)]
        await db.store.execute(
            Insert(table_of(EmbeddingSpace)),
            row=EmbeddingSpace(1, "random", DIMENSIONS, begin),
        )
        named = update(SystemMetadata, "embedding_model", "embedding_dimensions").where(
            columns_of(SystemMetadata).id == "system"
        )
        await db.store.execute(named, embedding_model="random", embedding_dimensions=DIMENSIONS)
        for start in range(0, rows // 2, 1000):
            items = [
                _item(rng, positions, agents[n % AGENTS].id, n, begin + timedelta(seconds=n))
                for n in range(start, min(start + 1000, rows // 2))
            ]
            made = vectors.normal(size=(len(items), DIMENSIONS)).astype("<f4")
            made /= np.linalg.norm(made, axis=1, keepdims=True)
            await db.store.write([_ADD[type(item)](row=item) for item in items])
            await db.store.write(
                [_ADD[Embedding](row=_vector(i, v)) for i, v in zip(items, made, strict=True)]
            )


_ADD = {m: Insert(table_of(m)) for m in (Message, ArchivalEntry, MemoryBlock, Embedding)}


def _item(rng, positions, agent_id, n, now):
    text = " ".join(rng.choices(WORDS, k=rng.randrange(5, 40)))
    common = {"agent_id": agent_id, "created_at": now, "updated_at": now, "content": text}
    if n % 10 == 8:
        return ArchivalEntry(id=f"arch_{n:07}", **common)
    if n % 10 == 9:
        return MemoryBlock(id=f"block_{n:07}", label=f"block {n}", **common)
    return Message(id=f"msg_{n:07}", position=positions.at(now), role=Role.USER, **common)


def _vector(item, vector) -> Embedding:
    text = EMBEDDED_TEXT[type(item)](item)
    return Embedding(
        item_id=item.id,
        kind=table_of(type(item)).text.kind,
        space=1,
        chunk_index=0,
        agent_id=item.agent_id,
        start_char=0,
        end_char=len(text),
        content_hash=content_hash(text),
        vector=vector.tobytes(),
    )


async def copy(source: str, destination: str) -> None:
    """What a child process does."""
    async with (
        pattern_db.open(source, embeddings="none") as left,
        pattern_db.open(destination, embeddings="none") as right,
    ):
        started = time.perf_counter()
        report = await copy_database(left, right, progress=lambda done, _: print(done, flush=True))
        seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "written": report.written}), flush=True)


def command(source: str, destination: str) -> list[str]:
    return [sys.executable, "-u", __file__, "--child", source, destination]


def timed(source: str, destination: str) -> dict[str, float]:
    ran = subprocess.run(
        command(source, destination), capture_output=True, text=True, check=True, cwd=ROOT
    )
    return json.loads(ran.stdout.splitlines()[-1])


async def compared(source: str, destination: str) -> dict[str, object]:
    async with (
        pattern_db.open(source, embeddings="none") as left,
        pattern_db.open(destination, embeddings="none") as right,
    ):
        found = await compare_databases(left, right)
    return {
        "equal": found.equal and not any(table.extra for table in found.tables),
        "seconds": found.seconds,
        "rows": sum(table.source_rows for table in found.tables),
        "hashes": {t.table: t.destination_hash for t in found.tables if t.source_rows},
    }


class Places:
    """Empty databases: files, databases of a server, or what was named on the command line."""

    def __init__(self, folder: Path, given: dict[str, str]):
        self._folder, self._given, self._numbers = folder, given, itertools.count()
        self._server = Server()
        self.engines = ["sqlite", "postgres", *given]

    def empty(self, engine: str) -> str:
        number = next(self._numbers)
        if engine == "sqlite":
            return str(self._folder / f"{number}.db")
        if engine == "postgres":
            return self._server.database()
        return self._given[engine].replace("{n}", str(number))

    def stop(self) -> None:
        self._server.stop()


def pairs(places: Places, first: str, rows: int) -> list[dict[str, object]]:
    """Each ordered pair once, begun from databases that the pairs before filled."""
    filled, results = {"sqlite": first}, []
    for source, destination in _order(places.engines):
        place = places.empty(destination)
        took = timed(filled[source], place)
        check = asyncio.run(compared(first, place))
        filled.setdefault(destination, place)
        results.append(
            {
                "pair": f"{source} → {destination}",
                "us_a_row": round(took["seconds"] / took["written"] * 1e6, 1),
                "seconds": round(took["seconds"], 2),
                "rows": took["written"],
                "equal": check["equal"],
                "us_a_row_compared": round(check["seconds"] / check["rows"] * 1e6, 1),
            }
        )
        print(results[-1], flush=True)
    return results


def _order(engines: list[str]) -> list[tuple[str, str]]:
    """First those from sqlite, which fill the others."""
    every = list(itertools.product(engines, engines))
    return sorted(every, key=lambda pair: (pair[0] != "sqlite", engines.index(pair[0])))


def ring(places: Places, first: str) -> dict[str, object]:
    """Around all engines back to the first, killed on the way."""
    at, killed, hops, took = first, 0, [*places.engines[1:], "sqlite"], {}
    for number, (left, engine) in enumerate(itertools.pairwise(["sqlite", *hops])):
        place, wanted = places.empty(engine), -(-KILLS // len(hops))
        started = time.perf_counter()
        for cycle in kills(command(at, place), wanted, SEED + number, 2.0, cwd=ROOT):
            killed += cycle.returncode == -9
        timed(at, place)
        took[f"{left} → {engine}"] = round(time.perf_counter() - started, 1)
        print(took, flush=True)
        at = place
    check = asyncio.run(compared(first, at))
    path = " → ".join(["sqlite", *hops])
    return {"ring": path, "kills": killed, "seconds_of_hops": took, **check}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", nargs="*", help="NAME=URL; {n} in it becomes a number")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--ring", action="store_true", help="only the ring")
    parser.add_argument("--quick", action="store_true", help="2,000 rows, no file")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        asyncio.run(copy(*arguments.child))
        return
    rows = 2_000 if arguments.quick else arguments.rows
    with tempfile.TemporaryDirectory() as folder:
        given = dict(each.split("=", 1) for each in arguments.engine)
        places = Places(Path(folder), given)
        try:
            first = places.empty("sqlite")
            asyncio.run(fill(first, rows))
            timings = [] if arguments.ring else pairs(places, first, rows)
            found = {"rows": rows, "pairs": timings, "ring": ring(places, first)}
        finally:
            places.stop()
    print(json.dumps(found["ring"], indent=1, ensure_ascii=False))
    if not arguments.quick:
        kind = "ring" if arguments.ring else "copying"
        name = f"{kind}-{rows}-{datetime.now(UTC):%Y-%m-%d}.json"
        text = json.dumps({**machine(), **found}, indent=1, ensure_ascii=False)
        (RESULTS / name).write_text(text + "\n", "utf-8")
        print(f"written to benchmarks/results/{name}")


if __name__ == "__main__":
    main()
