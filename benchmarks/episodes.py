"""Episodes from a thousand to a hundred thousand, ten steps each: what each act costs as they grow.

    .venv/bin/python benchmarks/episodes.py             # most of it filling; results are written
    .venv/bin/python benchmarks/episodes.py --quick     # a thousand and two thousand, prints only

The first thousands are recorded one by one and learned from; beyond ``RECORDED`` they are copied
with other ids and times by SQL, since what is measured depends on how many there are. Times are of
the clock, and (mean) of the processor, which a busy machine blurs less.

Without embeddings, at durability "full". A step is measured against the driver running the same two
statements by hand, in one transaction, on the same file; rounds alternate. The others are measured
by themselves: the outcome of an episode of ten steps, recall of a task, the next tools of an
episode that goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import apsw
import numpy as np

import pattern_db
from harness import SEED, machine
from pattern_db import PatternDB
from pattern_db.engines.sql import compile_query
from pattern_db.ids import new_id
from pattern_db.models import Episode, EpisodeSummary, PatternEvidence, SpatiotemporalKey, Step
from pattern_db.query import Insert
from pattern_db.repositories.episodes import _APPEND
from pattern_db.schema import table_of

SIZES = (1_000, 10_000, 100_000)
STEPS, DOMAINS, AGENTS = 10, 20, 10
RECORDED = 3_000
BATCH = 1_000
ROUNDS = 100
COPIED = {
    Episode: "id",
    Step: "episode_id",
    EpisodeSummary: "episode_id",
    SpatiotemporalKey: "episode_id",
    PatternEvidence: "episode_id",
}
RESULTS = Path(__file__).parent / "results"
VERBS = [
    "fix",
    "write",
    "test",
    "move",
    "explain",
    "measure",
    "review",
    "deploy",
    "rename",
    "migrate",
]
THINGS = [
    "login",
    "invoice",
    "search",
    "upload",
    "cache",
    "parser",
    "report",
    "index",
    "session",
    "worker",
]
PLACES = [
    "web",
    "mobile",
    "billing",
    "archive",
    "gateway",
    "scheduler",
    "console",
    "mailer",
    "ledger",
    "store",
]
TOOLS = [f"{verb}_{thing}" for verb in VERBS[:6] for thing in THINGS[:6]]


def trajectory(number: int) -> dict[str, Any]:
    """A run that mostly follows the habits of its domain; one in four fails."""
    chance = random.Random(f"{SEED}/{number}")
    domain = number % DOMAINS
    habits = random.Random(f"{SEED}/domain/{domain}").sample(TOOLS, STEPS)
    words = [chance.choice(each) for each in (VERBS, THINGS, PLACES)]
    tools = [tool if chance.random() < 0.7 else chance.choice(TOOLS) for tool in habits]
    began = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    return {
        "key": str(number),
        "task": f"{words[0]} the {words[1]} of the {words[2]}, ticket {number}",
        "domain": f"domain-{domain}",
        "task_type": ("debugging", "testing", "refactoring")[number % 3],
        "created_at": began,
        "completed_at": began + timedelta(seconds=chance.randint(5, 300)),
        "outcome": "success" if chance.random() < 0.75 else "failure",
        "steps": [step(tool, chance) for tool in tools],
    }


def step(tool: str, chance: random.Random) -> dict[str, Any]:
    failed = chance.random() < 0.1
    return {
        "action": f"{tool.replace('_', ' the ')} of ticket {chance.randint(1, 999)}",
        "tool": tool,
        "parameters": {"id": chance.randint(1, 9999), "force": False},
        "result": "timeout while connecting" if failed else "done, 3 rows changed",
        "success": not failed,
        "duration_ms": float(chance.randint(5, 2000)),
    }


async def fill(path: str, size: int) -> None:
    async with pattern_db.open(path, embeddings="none", durability="relaxed") as db:
        agents = [f"agent-{n}" for n in range(AGENTS)]
        for agent in agents:
            if await db.agents.get(agent) is None:
                await db.agents.create(name=agent, id=agent)
        there = await db.episodes.count()
        for start in range(there, min(size, RECORDED), BATCH):
            batch = [trajectory(n) for n in range(start, min(start + BATCH, size))]
            await db.episodes.import_many(agents[start // BATCH % AGENTS], batch)
    copy(path, size)


def copy(path: str, size: int) -> None:
    """As many more of the recorded episodes as are missing, with all that belongs to them."""
    connection = apsw.Connection(path)
    connection.execute(
        "PRAGMA synchronous = off; PRAGMA foreign_keys = on; PRAGMA cache_size = -200000"
    )
    connection.createscalarfunction("fold_case", str.casefold)
    recorded = "SELECT count(*) FROM episodes WHERE id NOT LIKE '%~%'"
    originals = connection.execute(recorded).fetchall()[0][0]
    while (
        missing := size - connection.execute("SELECT count(*) FROM episodes").fetchall()[0][0]
    ) > 0:
        some = min(missing, originals)
        suffix = f"~{missing}"
        chosen = f"SELECT id FROM episodes WHERE id NOT LIKE '%~%' ORDER BY pk LIMIT {some}"
        connection.execute("BEGIN IMMEDIATE")
        for model, named in COPIED.items():
            columns = [column.name for column in table_of(model).columns]
            values = [f"{c} || '{suffix}'" if c in ("id", "episode_id") else c for c in columns]
            values = [f"{v} + {missing} * 60000000" if v.endswith("_at") else v for v in values]
            connection.execute(
                f"INSERT INTO {table_of(model).name} ({', '.join(columns)}) SELECT "
                f"{', '.join(values)} FROM {table_of(model).name} WHERE {named} IN ({chosen})"
            )
        connection.execute("COMMIT")
    connection.close()


async def measure(path: str, size: int, rounds: int) -> dict[str, Any]:
    async with pattern_db.open(path, embeddings="none") as db:
        chance = random.Random(SEED + size)
        acts = {"step": await steps(db, path, rounds), "complete": await completions(db, rounds)}
        tasks = [trajectory(chance.randrange(10**6, 10**7)) for _ in range(rounds)]
        recall = getattr(db.episodes, "recall", None) or db.episodes.search
        acts["recall"] = await times(
            recall(task["task"], domain=task["domain"], limit=5) for task in tasks
        )
        if hasattr(db.episodes, "next_step"):
            acts["next_step"] = await advised(db, tasks)
        return {"episodes": size, "steps": size * STEPS, **acts}


async def advised(db: PatternDB, tasks: list[dict[str, Any]]) -> dict[str, float]:
    begun = []
    for task in tasks:
        given = {name: task[name] for name in ("task", "domain", "task_type")}
        episode = await db.episodes.start("agent-0", **given)
        for done in task["steps"][:4]:
            await db.episodes.step(episode.id, **done)
        begun.append(episode.id)
    found = await times(db.episodes.next_step(id) for id in begun)
    for id in begun:
        await db.episodes.purge(id)
    return found


async def times(acts: Any) -> dict[str, float]:
    taken, begun = [], process_time()
    for act in acts:
        began = perf_counter()
        await act
        taken.append(perf_counter() - began)
    processor_ms = (process_time() - begun) * 1000 / len(taken)
    return {**summed(taken), "processor_ms": round(processor_ms, 3)}


def summed(taken: list[float]) -> dict[str, float]:
    p50, p95 = np.percentile(taken, [50, 95]) * 1000
    return {"p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3)}


async def completions(db: PatternDB, rounds: int) -> dict[str, float]:
    begun = []
    for n in range(rounds):
        told = trajectory(10**8 + n)
        given = {name: told[name] for name in ("task", "domain", "task_type")}
        episode = await db.episodes.start("agent-0", **given)
        for done in told["steps"]:
            await db.episodes.step(episode.id, **done)
        begun.append((episode.id, told["outcome"]))
    found = await times(db.episodes.complete(id, outcome) for id, outcome in begun)
    for id, _ in begun:
        await db.episodes.purge(id)
    return found


async def steps(db: PatternDB, path: str, rounds: int) -> dict[str, float]:
    """A durable step, and the same two statements by hand."""
    connection = apsw.Connection(path, statementcachesize=256)
    for pragma in ("synchronous = full", "foreign_keys = on"):
        connection.execute(f"PRAGMA {pragma}")
    connection.set_busy_timeout(5000)
    counting, adding = compile_query(_APPEND), compile_query(Insert(table_of(Step)))
    chance, ours, floor = random.Random(SEED), [], []
    mine = await db.episodes.start("agent-0", task="by pattern-db")
    hand = await db.episodes.start("agent-0", task="by hand")
    for _ in range(rounds):
        told = step(chance.choice(TOOLS), chance)
        began = perf_counter()
        made = await db.episodes.step(mine.id, **told)
        ours.append(perf_counter() - began)
        now = datetime.now(UTC)
        row = pattern_db.Step(
            **{
                **{name: getattr(made, name) for name in made.__struct_fields__},
                "id": new_id("step", now),
                "episode_id": hand.id,
                "step_number": None,
            }
        )
        values = adding.bind({"row": row})
        room = {"id": hand.id, "updated_at": now, "size": 100, "room": 10**7}
        bound = counting.bind(room)
        began = perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(counting.sql, bound)
        connection.execute(adding.sql, values)
        connection.execute("COMMIT")
        floor.append(perf_counter() - began)
    connection.close()
    for episode in (mine, hand):
        await db.episodes.purge(episode.id)
    ratio = float(np.median(ours) / np.median(floor))
    return {**summed(ours), "floor_p50_ms": summed(floor)["p50_ms"], "ratio": round(ratio, 3)}


def render(rows: list[dict[str, Any]]) -> str:
    names = [name for name in rows[0] if isinstance(rows[0][name], dict)]
    lines = ["episodes   " + "".join(f"{name + ' p50':>16}" for name in names) + "   step ratio"]
    for row in rows:
        cells = "".join(f"{row[name]['p50_ms']:>13.2f} ms" for name in names)
        lines.append(f"{row['episodes']:>8,}   {cells}   {row['step']['ratio']:>7.2f} ×")
    return "\n".join(lines)


async def run(sizes: tuple[int, ...], rounds: int, folder: str) -> list[dict[str, Any]]:
    path, rows = str(Path(folder) / "episodes.db"), []
    for size in sizes:
        began = perf_counter()
        await fill(path, size)
        filled = perf_counter() - began
        rows.append({**await measure(path, size, rounds), "fill_s": round(filled, 1)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, no file")
    parser.add_argument("--folder", type=Path, help="where to keep the database")
    parser.add_argument("--sizes", help="such as 1000,10000")
    arguments = parser.parse_args()
    sizes = (1_000, 2_000) if arguments.quick else SIZES
    if arguments.sizes:
        sizes = tuple(int(size) for size in arguments.sizes.split(","))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        rows = asyncio.run(run(sizes, 50 if arguments.quick else ROUNDS, str(folder)))
    print(render(rows))
    if not arguments.quick:
        name = f"episodes-{datetime.now(UTC):%Y-%m-%d}.json"
        told = {**machine(), "load_average": os.getloadavg(), "results": rows}
        text = json.dumps(told, indent=1, ensure_ascii=False)
        (RESULTS / name).write_text(text + "\n", "utf-8")
        print(f"\nwritten to benchmarks/results/{name}")


if __name__ == "__main__":
    main()
