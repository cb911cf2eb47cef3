"""Writes that wait at the same time commit together, and each fails or is taken back alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from pattern_db import AlreadyExists, Conflict, NotFound, User
from pattern_db.engines.postgres import PostgresStore
from pattern_db.models import Message
from pattern_db.query import Count, Insert, delete, param, select, update
from pattern_db.schema import columns_of, table_of
from pattern_db.testing.rows import add, agent, message, user

from .test_postgres import store_on

pytestmark = pytest.mark.slow

_ADD = Insert(table_of(Message))
_USER = Insert(table_of(User))


@pytest.fixture
async def store(postgres: str) -> AsyncIterator[PostgresStore]:
    opened = await store_on(postgres)
    await add(opened, agent("flux"), agent("sol"))
    yield opened
    assert opened.pool.in_use == 0
    await opened.close()


def commits(url: str, table: str) -> int:
    """How many transactions wrote the rows of a table."""
    with psycopg.connect(url) as connection:
        cursor = connection.execute(f"SELECT count(DISTINCT xmin::text) FROM {table}")  # type: ignore[call-overload]
        return int(cursor.fetchone()[0])


async def test_tasks_that_append_to_one_conversation_share_commits(
    store: PostgresStore, postgres: str
) -> None:
    rows = [message(f"m{n:04}", "flux" if n % 2 else "sol") for n in range(400)]
    written = await asyncio.gather(*(store.execute(_ADD, row=row) for row in rows))
    assert [row.id for row in written] == [row.id for row in rows]
    for owner in ("flux", "sol"):
        own = [row.ordinal for row in written if row.agent_id == owner]
        assert sorted(own) == list(range(200))
    stored = {row.id: row for row in await store.execute(select(Message))}
    assert all(stored[row.id] == row for row in written)
    assert commits(postgres, "messages") < 40


async def test_one_that_fails_among_many_fails_alone(store: PostgresStore) -> None:
    rows = [message(f"m{n:04}", "nobody" if n == 90 else "flux") for n in range(120)]
    rows[50] = message("m0049", position=7)
    writes = [store.execute(_ADD, row=row) for row in rows]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(results[50], AlreadyExists)
    assert isinstance(results[90], NotFound)
    assert [n for n, r in enumerate(results) if isinstance(r, BaseException)] == [50, 90]
    assert await store.execute(Count(table_of(Message))) == 118


async def test_of_guarded_writes_that_wait_together_one_wins(store: PostgresStore) -> None:
    u = columns_of(User)
    rename = update(User, "name").where(u.id == param("id"), u.name == "")
    await add(store, user("ada"))
    writes = [store.write([rename(id="ada", name=str(n)).expect(1)]) for n in range(30)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert len([r for r in results if r == [1]]) == 1
    assert len([r for r in results if isinstance(r, Conflict)]) == 29


async def test_a_write_that_is_taken_back_while_it_waits_is_not_done(store: PostgresStore) -> None:
    tasks = [asyncio.create_task(store.execute(_USER, row=user(f"u{n:03}"))) for n in range(100)]
    await asyncio.sleep(0)
    for task in tasks[50:]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, User) for result in results[:50])
    ids = {row.id for row in await store.execute(select(User))}
    assert ids == {f"u{n:03}" for n in range(50)}


async def test_writes_of_many_parts_are_whole_when_they_go_together(store: PostgresStore) -> None:
    def whole(n: int):
        return [_USER(row=user(f"{n}-a")), _USER(row=user(f"{n}-b" if n != 7 else "0-a"))]

    results = await asyncio.gather(
        *(store.write(whole(n)) for n in range(40)), return_exceptions=True
    )
    assert [n for n, r in enumerate(results) if isinstance(r, BaseException)] == [7]
    ids = {row.id for row in await store.execute(select(User))}
    assert ids == {f"{n}-{part}" for n in range(40) if n != 7 for part in "ab"}


async def test_closing_ends_every_write_that_waits(postgres: str) -> None:
    store = await store_on(postgres)
    tasks = [asyncio.create_task(store.execute(_USER, row=user(f"u{n:03}"))) for n in range(60)]
    await asyncio.sleep(0)
    await store.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    kept = {r.id for r in results if isinstance(r, User)}
    again = await store_on(postgres)
    assert kept <= {row.id for row in await again.execute(select(User))}
    assert await again.execute(delete(User)) >= len(kept)
    await again.close()
