"""PostgreSQL: our get, append and bulk load beside bare psycopg with the same statements.

python benchmarks/postgres.py            # result into benchmarks/results/
python benchmarks/postgres.py --quick    # a few seconds, prints only

Both sides use one server, the same tables with the same triggers and indexes (a schema each), and
the same settings of the connection. Rounds alternate; minimums and medians are kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pattern_db
from harness import Result, Stopwatch, compare, document, render
from pattern_db import Agent, PatternDB
from pattern_db.engines.postgres.compiler import compile_query, type_of
from pattern_db.engines.postgres.connection import Options, first_connection
from pattern_db.engines.postgres.names import Schema
from pattern_db.engines.postgres.pool import Connection
from pattern_db.engines.sql import quoted
from pattern_db.ids import Positions, new_id
from pattern_db.models import MemoryBlock, Message, Role
from pattern_db.query import Get, Insert
from pattern_db.schema import table_of
from rigs import Server

RESULTS = Path(__file__).parent / "results"
TEXT = "I moved to Oslo in May, the flat is on the third floor and number {} on the list."
FLOOR = Schema("floor")
GET = compile_query(Get(table_of(MemoryBlock)), FLOOR).compiled
INSERT = compile_query(Insert(table_of(Message)), FLOOR).compiled
COLUMNS = table_of(Message).columns


class Sides(NamedTuple):
    """Our database, and a connection of psycopg to a schema of the same tables."""

    db: PatternDB
    agent: Agent
    block: MemoryBlock
    bare: Connection
    positions: Positions


@asynccontextmanager
async def sides(url: str) -> AsyncIterator[Sides]:
    """Both, with an agent and a block in each."""
    async with (
        pattern_db.open(url, namespace="floor", embeddings="none") as floor,
        pattern_db.open(url, namespace="ours", embeddings="none") as db,
    ):
        for each in (floor, db):
            agent = await each.agents.create(name="Flux", id="agent")
            block = await each.memory.create(agent.id, label="human", content="Ada " * 50, id="b")
        _, bare = await first_connection(Options(url=url, schema="floor"))
        try:
            yield Sides(db, agent, block, bare, Positions())
        finally:
            await bare.close()


def made(count: int, positions: Positions) -> list[Message]:
    """Messages that can be written."""
    now = datetime.now(UTC)
    return [
        Message(
            id=new_id("msg", now),
            agent_id="agent",
            position=positions.at(now),
            role=Role.USER,
            created_at=now,
            updated_at=now,
            content=TEXT.format(n),
        )
        for n in range(count)
    ]


def rows(count: int, positions: Positions) -> list[Any]:
    """Rows of messages as psycopg takes them: every value ready."""
    return [INSERT.bind({"row": message}) for message in made(count, positions)]


async def bare_get(side: Sides, count: int) -> float:
    values = GET.bind({"id": side.block.id})
    with Stopwatch() as watch:
        for _ in range(count):
            cursor = side.bare.cursor(binary=True)
            await cursor.execute(GET.sql, values, prepare=True)
            await cursor.fetchone()
    return watch.seconds / count


async def our_get(side: Sides, count: int) -> float:
    with Stopwatch() as watch:
        for _ in range(count):
            await side.db.memory.get(side.block.id)
    return watch.seconds / count


async def bare_append(side: Sides, count: int) -> float:
    prepared = rows(count, side.positions)
    with Stopwatch() as watch:
        for values in prepared:
            cursor = side.bare.cursor(binary=True)
            await cursor.execute(INSERT.sql, values, prepare=True)
            await cursor.fetchone()
    return watch.seconds / count


async def our_insert(side: Sides, count: int) -> float:
    insert, messages = Insert(table_of(Message)), made(count, side.positions)
    with Stopwatch() as watch:
        for message in messages:
            await side.db.store.execute(insert, row=message)
    return watch.seconds / count


async def our_append(side: Sides, count: int) -> float:
    with Stopwatch() as watch:
        for n in range(count):
            await side.db.messages.append(side.agent.id, role="user", content=TEXT.format(n))
    return watch.seconds / count


async def our_tasks(side: Sides, count: int) -> float:
    """Tasks that all append to one conversation at once."""
    append = side.db.messages.append
    with Stopwatch() as watch:
        await asyncio.gather(
            *(append(side.agent.id, role="user", content=TEXT.format(n)) for n in range(count))
        )
    return watch.seconds / count


async def bare_copy(side: Sides, count: int) -> float:
    prepared = rows(count, side.positions)
    listed = ", ".join(quoted(column.name) for column in COLUMNS)
    types = [side.bare.adapters.types[type_of(table_of(Message), c)].oid for c in COLUMNS]
    sql = f"COPY {FLOOR.of('messages')} ({listed}) FROM STDIN (FORMAT BINARY)"
    with Stopwatch() as watch:
        async with side.bare.cursor().copy(sql) as copy:
            copy.set_types(types)
            for values in prepared:
                await copy.write_row(values)
    return watch.seconds / count


async def our_bulk(side: Sides, count: int) -> float:
    many = [{"role": "user", "content": TEXT.format(n)} for n in range(count)]
    with Stopwatch() as watch:
        await side.db.messages.append_many(side.agent.id, many)
    return watch.seconds / count


async def measure(url: str, *, quick: bool) -> list[Result]:
    rounds, gets, appends, bulk = (3, 200, 100, 2000) if quick else (9, 1000, 300, 10_000)
    async with sides(url) as side:
        for warm in (bare_get, our_get, bare_append, our_insert, our_append):
            await warm(side, 20)
        plan = [
            ("memory.get(id)", "a get", bare_get, our_get, gets, 1.5, ""),
            ("store.execute(Insert)", "a message", bare_append, our_insert, appends, 1.5, ""),
            (
                "messages.append",
                "a message",
                bare_append,
                our_append,
                appends,
                3.0,
                "without a provider it asks first whether the database has a model",
            ),
            (
                "tasks appending to one conversation at once",
                "a message",
                bare_append,
                our_tasks,
                appends,
                1.5,
                "by hand: one after the other",
            ),
            ("append_many", "a message", bare_copy, our_bulk, bulk, 1 / 0.6, "by hand: COPY"),
        ]
        return [
            await compare(
                name,
                unit=unit,
                floor=lambda floor=floor, n=n: floor(side, n),
                ours=lambda ours=ours, n=n: ours(side, n),
                at_most=most,
                rounds=rounds,
                note=note,
            )
            for name, unit, floor, ours, n, most, note in plan
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller data, no file")
    parser.add_argument("--url", help="an empty database of a server; else one is started")
    arguments = parser.parse_args()
    server = Server()
    try:
        url = arguments.url or server.database()
        results = asyncio.run(measure(url, quick=arguments.quick))
    finally:
        server.stop()
    print(render(results))
    if not arguments.quick:
        name = f"postgres-{datetime.now(UTC):%Y-%m-%d}.json"
        text = json.dumps(document(results, quick=False), indent=1, ensure_ascii=False)
        (RESULTS / name).write_text(text + "\n", "utf-8")
        print(f"\nwritten to benchmarks/results/{name}")


if __name__ == "__main__":
    main()
