"""Writing and reading rows: the driver's work by hand, and ours."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import apsw

import pattern_db
from harness import Result, Stopwatch, compare
from pattern_db import Agent, PatternDB
from pattern_db.clock import to_micros
from pattern_db.engines.sql import compile_query
from pattern_db.ids import Positions, new_id
from pattern_db.models import MemoryBlock, Message
from pattern_db.query import Get, Insert
from pattern_db.schema import table_of

INSERT = compile_query(Insert(table_of(Message))).sql.split(" RETURNING")[0]
GET = compile_query(Get(table_of(MemoryBlock))).sql
NEWEST = (
    "SELECT * FROM messages WHERE agent_id = ? AND is_deleted = 0 AND is_archived = 0 "
    "AND (batch_id IS NULL OR batch_id NOT IN "
    "(SELECT id FROM message_batches WHERE agent_id = ?1 AND status = 'open')) "
    "ORDER BY position LIMIT ?"
)
COLUMNS = [column.name for column in table_of(Message).columns]
TEXT = "I moved to Oslo in May, the flat is on the third floor and number {} on the list."


@asynccontextmanager
async def databases() -> AsyncIterator[tuple[PatternDB, Agent, apsw.Connection]]:
    """Our database, and a second file of the same schema for the driver alone."""
    with tempfile.TemporaryDirectory() as folder:
        floor_path = os.path.join(folder, "floor.db")
        async with pattern_db.open(floor_path, embeddings="none") as made:
            await made.agents.create(name="Flux", id="agent")
        connection = apsw.Connection(floor_path, statementcachesize=256)
        for pragma in ("journal_mode = wal", "synchronous = full", "foreign_keys = on"):
            connection.execute(f"PRAGMA {pragma}")
        connection.pragma("cache_size", -65_536)
        async with pattern_db.open(os.path.join(folder, "ours.db"), embeddings="none") as db:
            yield db, await db.agents.create(name="Flux", id="agent"), connection
        connection.close()


def rows(count: int, positions: Positions) -> list[tuple[object, ...]]:
    """Rows of messages as the driver takes them: every value ready."""
    now = datetime.now(UTC)
    fixed = {
        "agent_id": "agent",
        "role": "user",
        "created_at": to_micros(now),
        "updated_at": to_micros(now),
        "tool_calls": "[]",
        "tool_responses": "[]",
        "metadata": "{}",
        "is_archived": 0,
        "is_deleted": 0,
    }
    made = []
    for n in range(count):
        row = {
            **fixed,
            "id": new_id("msg", now),
            "position": positions.at(now),
            "content": TEXT.format(n),
        }
        values = [row.get(name) for name in COLUMNS]
        made.append((*values, "agent", None))
    return made


def append_by_hand(connection: apsw.Connection, values: tuple[object, ...]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(INSERT, values)
    connection.execute("COMMIT")


async def read_rows(rounds: int, count: int) -> list[Result]:
    """Point reads and short lists, through the async interface."""
    async with databases() as (db, agent, connection):
        block = await db.memory.create(agent.id, label="human", content="Ada climbs." * 20)
        await db.messages.append_many(
            agent.id, [{"role": "user", "content": TEXT.format(n)} for n in range(5000)]
        )
        path = db.config.database.location
        floor = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY, statementcachesize=256)

        async def get_floor() -> float:
            with Stopwatch() as watch:
                for _ in range(count):
                    floor.execute(GET, (block.id,)).fetchone()
            return watch.seconds / count

        async def get_ours() -> float:
            with Stopwatch() as watch:
                for _ in range(count):
                    await db.memory.get(block.id)
            return watch.seconds / count

        async def list_floor() -> float:
            with Stopwatch() as watch:
                for _ in range(count // 10):
                    floor.execute(NEWEST, (agent.id, 50)).fetchall()
            return watch.seconds / (count // 10)

        async def list_ours() -> float:
            with Stopwatch() as watch:
                for _ in range(count // 10):
                    await db.messages.list(agent.id, limit=50)
            return watch.seconds / (count // 10)

        results = [
            await compare(
                "memory.get(id)",
                unit="a get",
                floor=get_floor,
                ours=get_ours,
                at_most=4,
                rounds=rounds,
            ),
            await compare(
                "messages.list(limit=50)",
                unit="a list",
                floor=list_floor,
                ours=list_ours,
                at_most=5,
                rounds=rounds,
            ),
        ]
        floor.close()
        return results


async def write_rows(rounds: int, count: int) -> list[Result]:
    """Durable appends: one by one, a thousand tasks at once, and in bulk."""
    positions = Positions()
    async with databases() as (db, agent, connection):

        async def one_floor() -> float:
            prepared = rows(count, positions)
            with Stopwatch() as watch:
                for values in prepared:
                    append_by_hand(connection, values)
            return watch.seconds / count

        async def one_ours() -> float:
            with Stopwatch() as watch:
                for n in range(count):
                    await db.messages.append(agent.id, role="user", content=TEXT.format(n))
            return watch.seconds / count

        async def bulk_floor() -> float:
            prepared = rows(10_000, positions)
            with Stopwatch() as watch:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(INSERT, prepared)
                connection.execute("COMMIT")
            return watch.seconds / 10_000

        async def concurrent_ours() -> float:
            with Stopwatch() as watch:
                await asyncio.gather(
                    *(
                        db.messages.append(agent.id, role="user", content=TEXT.format(n))
                        for n in range(1000)
                    )
                )
            return watch.seconds / 1000

        async def concurrent_floor() -> float:
            prepared = rows(1000, positions)
            with Stopwatch() as watch:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(INSERT, prepared)
                connection.execute("COMMIT")
            return watch.seconds / 1000

        async def bulk_ours() -> float:
            many = [{"role": "user", "content": TEXT.format(n)} for n in range(10_000)]
            with Stopwatch() as watch:
                await db.messages.append_many(agent.id, many)
            return watch.seconds / 10_000

        return [
            await compare(
                "one durable messages.append",
                unit="a message",
                floor=one_floor,
                ours=one_ours,
                at_most=2.2,
                rounds=rounds,
            ),
            await compare(
                "1,000 tasks appending, each acknowledged durable",
                unit="a message",
                floor=concurrent_floor,
                ours=concurrent_ours,
                at_most=1 / 0.4,
                rounds=rounds,
                note="floor: executemany of the same rows in one transaction",
            ),
            await compare(
                "append_many of 10,000, no embeddings",
                unit="a message",
                floor=bulk_floor,
                ours=bulk_ours,
                at_most=1 / 0.7,
                rounds=rounds,
            ),
        ]
