"""Cancelled at every point where it waits, an operation happened or did not, and nothing stays open.

Both ways of cancelling are tried: while the result is awaited, and when it is there already.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest

import pattern_db
from pattern_db import PatternDB
from pattern_db.engines.sqlite.connection import Options
from pattern_db.engines.sqlite.engine import SqliteStore
from pattern_db.schema import ColumnType, all_tables
from tests.rigs.ticks import When, each_tick

from .load import TALKER, Load
from .soundness import flaws, read
from .tiny import TinyEmbeddings

pytestmark = pytest.mark.slow

WAYS: tuple[When, ...] = ("waiting", "resuming")
CALL = {"call_id": "call", "name": "look", "arguments": {}}
ANSWER = {"call_id": "call", "content": "seen"}

Prepare = Callable[[PatternDB, str], Awaitable[Any]]
Act = Callable[[PatternDB, str], Awaitable[Any]]
CASES: dict[str, tuple[Prepare, Act]] = {}
"""What must be there before, and the operation; both are given a name of their own each time."""


def case(prepare: Prepare) -> Callable[[Act], Act]:
    def keep(act: Act) -> Act:
        CASES[act.__name__] = (prepare, act)
        return act

    return keep


async def nothing(db: PatternDB, name: str) -> None:
    """Nothing is needed."""


async def a_message(db: PatternDB, name: str) -> None:
    await db.messages.append(TALKER, role="user", content=f"draft {name}", id=name)


async def a_deleted_message(db: PatternDB, name: str) -> None:
    await a_message(db, name)
    await db.messages.delete(name)


async def three_messages(db: PatternDB, name: str) -> None:
    rows = [{"role": "user", "content": name, "id": f"{name}-{n}"} for n in range(3)]
    await db.messages.append_many(TALKER, rows)


async def an_agent_with_messages(db: PatternDB, name: str) -> None:
    await db.agents.create(name=name, id=name)
    rows = [{"role": "user", "content": name, "id": f"{name}-{n}"} for n in range(3)]
    await db.messages.append_many(name, rows)


async def a_conversation(db: PatternDB, name: str) -> None:
    await db.conversations.create(TALKER, id=name)
    for n in range(2):
        await db.messages.append(TALKER, role="user", content=f"{n}", conversation_id=name)


async def an_open_batch(db: PatternDB, name: str) -> None:
    await db.messages.append(TALKER, role="assistant", tool_calls=[CALL], batch_id=name)


async def a_batch_in_the_making(db: PatternDB, name: str) -> None:
    await db.messages.open_batch(TALKER, id=name)


async def a_block(db: PatternDB, name: str) -> None:
    await db.memory.create(TALKER, label=name, content="first", id=name)


async def a_changed_block(db: PatternDB, name: str) -> None:
    await a_block(db, name)
    await db.memory.update(name, content="second")


async def an_entry(db: PatternDB, name: str) -> None:
    await db.archival.create(TALKER, "word " * 50, chunk_chars=60, id=name)


@case(nothing)
async def create_an_agent(db: PatternDB, name: str) -> None:
    await db.agents.create(name=name, id=name)


@case(nothing)
async def create_a_block(db: PatternDB, name: str) -> None:
    await a_block(db, name)


@case(nothing)
async def append_a_message(db: PatternDB, name: str) -> None:
    await a_message(db, name)


@case(nothing)
async def append_many_messages(db: PatternDB, name: str) -> None:
    await three_messages(db, name)


@case(nothing)
async def create_many_entries(db: PatternDB, name: str) -> None:
    notes = [{"content": f"note {n}", "id": f"{name}-{n}"} for n in range(3)]
    await db.archival.create_many(TALKER, notes, skip_existing=True)


@case(an_open_batch)
async def answer_a_call(db: PatternDB, name: str) -> None:
    await db.messages.append(TALKER, role="tool", tool_responses=[ANSWER], batch_id=name)


@case(a_batch_in_the_making)
async def complete_a_batch(db: PatternDB, name: str) -> None:
    await db.messages.complete_batch(name)


@case(an_open_batch)
async def repair(db: PatternDB, name: str) -> None:
    await db.messages.repair()


@case(a_message)
async def rewrite_a_message(db: PatternDB, name: str) -> None:
    await db.messages.update(name, content=f"another text for {name}")


@case(a_message)
async def delete_a_message(db: PatternDB, name: str) -> None:
    await db.messages.delete(name)


@case(a_deleted_message)
async def restore_a_message(db: PatternDB, name: str) -> None:
    await db.messages.restore(name)


@case(a_message)
async def purge_a_message(db: PatternDB, name: str) -> None:
    await db.messages.purge(name)


@case(a_conversation)
async def purge_a_conversation(db: PatternDB, name: str) -> None:
    await db.conversations.purge(name)


@case(an_agent_with_messages)
async def purge_an_agent(db: PatternDB, name: str) -> None:
    await db.agents.purge(name)


@case(an_agent_with_messages)
async def archive(db: PatternDB, name: str) -> None:
    await db.messages.archive_before(name, f"{name}-2")


@case(a_block)
async def append_to_a_block(db: PatternDB, name: str) -> None:
    await db.memory.append(name, "more")


@case(a_changed_block)
async def undo_a_change(db: PatternDB, name: str) -> None:
    await db.memory.undo(name)


@case(a_block)
async def share_a_block(db: PatternDB, name: str) -> None:
    await db.memory.share(name, "agent-reader")


@case(a_block)
async def delete_a_block(db: PatternDB, name: str) -> None:
    await db.memory.delete(name)


@case(nothing)
async def keep_a_note(db: PatternDB, name: str) -> None:
    await an_entry(db, name)


@case(an_entry)
async def delete_a_note(db: PatternDB, name: str) -> None:
    await db.archival.delete(name)


@case(nothing)
async def write_in_a_transaction(db: PatternDB, name: str) -> None:
    async with db.transaction():
        await a_message(db, f"{name}-0")
        async with db.transaction():
            await a_message(db, f"{name}-1")
        await db.memory.create(TALKER, label=name)


@case(a_message)
async def search(db: PatternDB, name: str) -> None:
    await db.search(TALKER, name)


@case(nothing)
async def list_messages(db: PatternDB, name: str) -> None:
    await db.messages.list(TALKER)


@case(nothing)
async def status(db: PatternDB, name: str) -> None:
    await db.status()


@case(a_message)
async def reembed(db: PatternDB, name: str) -> None:
    await db.reembed(everything=True)


@case(nothing)
async def vacuum(db: PatternDB, name: str) -> None:
    await db.vacuum()


READING = {"search", "list_messages", "status", "reembed", "vacuum"}
"""What leaves everything as it was, even if it writes."""

MEASURES = {
    ColumnType.BOOLEAN: "{}",
    ColumnType.TEXT: "length({})",
    ColumnType.JSON: "length({})",
    ColumnType.ENUM: "length({})",
    ColumnType.BYTES: "length({})",
}
COUNTERS = {"version", "last_version", "revision", "message_count", "sequence_in_batch"}


def measured(path: str) -> Counter[str]:
    """How much there is of everything but users: names are equally long, so that each act adds the
    same."""
    found: Counter[str] = Counter()
    with closing(read(path)) as connection:
        for table in all_tables():
            if table.name == "users":
                continue
            sums = {"rows": "count(*)"}
            for column in table.columns:
                if column.type in MEASURES or column.name in COUNTERS:
                    measure = MEASURES.get(column.type, "{}").format(f'"{column.name}"')
                    sums[column.name] = f"coalesce(sum({measure}), 0)"
            row: Any = connection.execute(f"SELECT {', '.join(sums.values())} FROM {table.name}")
            for name, value in zip(sums, row.fetchone(), strict=True):
                found[f"{table.name}.{name}"] = value
    return found


def difference(after: Counter[str], before: Counter[str]) -> dict[str, int]:
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


@pytest.fixture
async def busy(path: str) -> AsyncIterator[PatternDB]:
    """A database in use."""
    async with pattern_db.open(path, embeddings=TinyEmbeddings()) as db:
        load = Load(db, lambda _: None, "before")
        await load.prepare()
        await load.say("before")
        yield db


async def settle(db: PatternDB) -> None:
    """A write goes through; when it has, the writer is done with what was queued before it."""
    await db.users.create(name="after")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
async def test_what_is_cancelled_happened_or_did_not(
    busy: PatternDB, path: str, name: str, way: When
) -> None:
    prepare, act = CASES[name]
    await prepare(busy, "name-00")
    before = measured(path)
    await act(busy, "name-00")
    whole = difference(measured(path), before)
    assert bool(whole) == (name not in READING)

    key = "name-01"
    await prepare(busy, key)
    before = measured(path)
    async for tick, finished in each_tick(lambda: act(busy, key), when=way):
        await settle(busy)
        change = difference(measured(path), before)
        assert change in ([whole] if finished else [whole, {}]), f"cancelled at {tick}"
        if change != whole:
            await act(busy, key)
            assert difference(measured(path), before) == whole, f"again after {tick}"
        key = f"name-{tick + 2:02}"
        await prepare(busy, key)
        before = measured(path)
    assert flaws(path) == []


def ended(threads: set[threading.Thread]) -> bool:
    """Whether no thread of ours is left but these, once those that are ending have ended."""
    ours = {t for t in threading.enumerate() if t.name.startswith("pattern-db")} - threads
    for thread in ours:
        thread.join(10)
    return not any(thread.is_alive() for thread in ours)


@pytest.mark.parametrize("way", WAYS)
async def test_cancelled_while_it_opens_no_thread_is_left(path: str, way: When) -> None:
    before = set(threading.enumerate())
    opened: list[PatternDB] = []

    async def open_it() -> None:
        opened.append(await pattern_db.open(path, embeddings=TinyEmbeddings()))

    async for tick, finished in each_tick(open_it, when=way):
        assert finished == bool(opened)
        while opened:
            await opened.pop().close()
        assert ended(before), f"cancelled at {tick}"
    assert flaws(path) == []


async def test_cancelled_twice_while_it_opens_no_thread_is_left(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(threading.enumerate())
    begun, gate = threading.Event(), threading.Event()
    made: list[SqliteStore] = []
    real = SqliteStore.__init__

    def late(store: SqliteStore, options: Options) -> None:
        begun.set()
        assert gate.wait(60)
        real(store, options)
        made.append(store)

    monkeypatch.setattr(SqliteStore, "__init__", late)
    opening = asyncio.ensure_future(SqliteStore.connect(Options(path)))
    assert await asyncio.to_thread(begun.wait, 60)
    for _ in range(2):
        opening.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await opening
    gate.set()
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
    assert made
    assert ended(before)


@pytest.mark.parametrize("way", WAYS)
async def test_cancelled_while_it_closes_it_can_be_closed_again(path: str, way: When) -> None:
    before = set(threading.enumerate())
    db = await pattern_db.open(path, embeddings=TinyEmbeddings())
    async for tick, _ in each_tick(lambda: db.close(), when=way):
        await db.close()
        assert ended(before), f"cancelled at {tick}"
        db = await pattern_db.open(path, embeddings=TinyEmbeddings())
        await db.users.create(name="Ada")
    await db.close()
    assert flaws(path) == []


async def test_a_cancelled_transaction_lets_the_next_one_in(busy: PatternDB) -> None:
    """Others wait for the writer while one is cancelled inside its transaction."""
    inside = asyncio.Event()

    async def stay() -> None:
        async with busy.transaction():
            await a_message(busy, "undone")
            inside.set()
            await asyncio.Event().wait()

    staying = asyncio.create_task(stay())
    await inside.wait()
    waiting = [asyncio.create_task(a_message(busy, f"kept-{n}")) for n in range(5)]
    waiting[0].cancel()
    staying.cancel()
    results = await asyncio.gather(staying, *waiting, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert await busy.messages.get("undone") is None
    assert await busy.messages.get("kept-4") is not None
