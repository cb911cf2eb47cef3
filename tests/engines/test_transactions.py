"""Transactions: nested, cancelled, concurrent, and shared by group commit."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest

import pattern_db
from pattern_db import (
    Agent,
    AlreadyExists,
    Conflict,
    DatabaseClosed,
    InvalidValue,
    NotFound,
    PatternDB,
    User,
)
from pattern_db.query import delete
from tests.rigs.ticks import cancel_at, count_ticks


@pytest.fixture
def path(location: str) -> str:
    return location


async def test_a_transaction_keeps_everything_at_its_end(db: PatternDB) -> None:
    async with db.transaction():
        ada = await db.users.create(name="Ada")
        await db.agents.create(name="Flux", user_id=ada.id)
    assert await db.agents.count() == 1


async def test_an_error_undoes_the_whole_transaction(db: PatternDB) -> None:
    with pytest.raises(KeyError):
        async with db.transaction():
            await db.users.create(name="Ada")
            raise KeyError
    assert await db.users.count() == 0


async def test_reads_inside_see_writes_inside_and_others_do_not(db: PatternDB) -> None:
    outside = asyncio.Event(), asyncio.Event()

    async def look() -> int:
        await outside[0].wait()
        seen = await db.users.count()
        outside[1].set()
        return seen

    watcher = asyncio.create_task(look())
    async with db.transaction():
        ada = await db.users.create(name="Ada")
        assert await db.users.get(ada.id) == ada
        assert await db.users.count() == 1
        outside[0].set()
        await outside[1].wait()
    assert await watcher == 0


async def test_a_nested_transaction_is_a_savepoint(db: PatternDB) -> None:
    async with db.transaction():
        await db.users.create(name="kept")
        with pytest.raises(KeyError):
            async with db.transaction():
                await db.users.create(name="undone")
                async with db.transaction():
                    await db.users.create(name="undone too")
                raise KeyError
        async with db.transaction():
            await db.users.create(name="kept too")
    assert [user.name for user in await db.users.list()] == ["kept", "kept too"]


async def test_a_failed_write_inside_leaves_the_transaction_usable(db: PatternDB) -> None:
    async with db.transaction():
        ada = await db.users.create(name="Ada")
        with pytest.raises(AlreadyExists):
            await db.users.create(name="Ada again", id=ada.id)
        with pytest.raises(NotFound):
            await db.agents.create(name="Flux", user_id="user_nobody")
        await db.users.create(name="Bob")
    assert await db.users.count() == 2


async def test_tasks_started_inside_take_part(db: PatternDB) -> None:
    with pytest.raises(KeyError):
        async with db.transaction():
            await asyncio.gather(*(db.users.create(name=str(n)) for n in range(20)))
            assert await db.users.count() == 20
            raise KeyError
    assert await db.users.count() == 0


async def test_transactions_of_two_databases_nest(db: PatternDB, tmp_path) -> None:
    async with pattern_db.open(str(tmp_path / "other.db"), embeddings="none") as other:
        async with db.transaction(), other.transaction():
            await db.users.create(name="here")
            await other.users.create(name="there")
            assert await db.users.count() == await other.users.count() == 1
        with pytest.raises(KeyError):
            async with db.transaction(), other.transaction():
                await db.users.create(name="here")
                await other.users.create(name="there")
                raise KeyError
        assert await db.users.count() == await other.users.count() == 1


async def test_only_the_owner_can_nest(db: PatternDB) -> None:
    async def nest() -> None:
        async with db.transaction():
            await db.users.create(name="Ada")

    async with db.transaction():
        with pytest.raises(InvalidValue, match="only the task that opened"):
            await asyncio.create_task(nest())


async def test_a_task_that_outlives_the_transaction_writes_on_its_own(db: PatternDB) -> None:
    over = asyncio.Event()

    async def later() -> None:
        await over.wait()
        await db.users.create(name="late")

    with pytest.raises(KeyError):
        async with db.transaction():
            task = asyncio.create_task(later())
            raise KeyError
    over.set()
    await task
    assert await db.users.count() == 1


async def test_every_concurrent_write_fails_alone(db: PatternDB) -> None:
    ada = await db.users.create(name="Ada")
    made = await asyncio.gather(
        *(db.users.create(name=str(n), id=ada.id if n % 3 == 0 else None) for n in range(300)),
        return_exceptions=True,
    )
    refused = [one for one in made if isinstance(one, AlreadyExists)]
    assert len(refused) == 100
    assert await db.users.count() == 201


async def test_cancelling_at_every_tick_leaves_no_transaction_open(path: str) -> None:
    async with pattern_db.open(path, embeddings="none") as db:
        kept: list[str] = []

        async def work() -> None:
            async with db.transaction():
                one = await db.users.create(name="one")
                async with db.transaction():
                    two = await db.users.create(name="two")
                await db.users.update(one.id, name="first")
            kept.extend([one.id, two.id])

        ticks = await count_ticks(work)
        assert ticks >= 5
        kept.clear()
        before = await db.users.count()
        for tick in range(ticks + 1):
            await cancel_at(work, tick)
            count = await db.users.count()
            assert (count - before) % 2 == 0, f"half a transaction after tick {tick}"
        await db.users.create(name="after")


@pytest.mark.slow
async def test_a_thousand_cancellations_at_random(db: PatternDB, flux: Agent) -> None:
    """The usual BEGIN/await/COMMIT left 596 of 2,000 cancelled tasks inside a transaction."""
    rng = random.Random(1)

    async def work(n: int) -> None:
        async with db.transaction():
            await db.messages.append(flux.id, role="user", content=f"first {n}")
            await asyncio.sleep(0)
            await db.messages.append(flux.id, role="user", content=f"second {n}")

    for round_ in range(50):
        tasks = [asyncio.create_task(work(round_ * 20 + n)) for n in range(20)]
        for task in tasks:
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    messages = await db.messages.list(flux.id, limit=100_000)
    firsts = {m.content.split()[1] for m in messages if m.content.startswith("first")}
    seconds = {m.content.split()[1] for m in messages if m.content.startswith("second")}
    assert firsts == seconds
    await db.users.create(name="still works")


async def test_closing_undoes_what_a_task_holds_open(path: str) -> None:
    db = await pattern_db.open(path, embeddings="none")
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with db.transaction():
            await db.users.create(name="Ada")
            inside.set()
            await go_on.wait()
            await db.users.create(name="Bob")

    task = asyncio.create_task(hold())
    await inside.wait()
    await db.close()
    go_on.set()
    with pytest.raises(DatabaseClosed):
        await task
    async with pattern_db.open(path, embeddings="none") as again:
        assert await again.users.count() == 0


async def test_a_closed_database_says_so(path: str) -> None:
    db = await pattern_db.open(path, embeddings="none")
    await db.close()
    await db.close()
    with pytest.raises(DatabaseClosed, match="open it again"):
        await db.users.count()
    with pytest.raises(DatabaseClosed):
        await db.users.create(name="Ada")
    with pytest.raises(DatabaseClosed):
        db.transaction()


async def test_an_abandoned_generator_does_not_keep_the_writer(db: PatternDB) -> None:
    async def rows():
        async with db.transaction():
            await db.users.create(name="Ada")
            yield 1

    abandoned = rows()
    assert await anext(abandoned) == 1
    await asyncio.create_task(abandoned.aclose())
    await db.users.create(name="Bob")
    assert [user.name for user in await db.users.list()] == ["Bob"]


async def test_a_transaction_begins_where_it_is_entered(db: PatternDB) -> None:
    made_outside = db.transaction()
    async with db.transaction():
        await db.users.create(name="outer")
        with pytest.raises(KeyError):
            async with made_outside:
                await db.users.create(name="inner")
                raise KeyError
    assert [user.name for user in await db.users.list()] == ["outer"]


async def test_a_guard_undoes_its_own_statement_inside_a_transaction(db: PatternDB) -> None:
    await db.users.create(name="Ada")
    await db.users.create(name="Bob")
    async with db.transaction():
        with pytest.raises(Conflict):
            await db.store.write([delete(User)().expect(1)])
    assert await db.users.count() == 2


async def test_cancelling_while_opening_leaves_nothing_behind(path: str) -> None:
    async def open_and_close() -> None:
        async with pattern_db.open(path, embeddings="none") as db:
            await db.users.count()

    for tick in range(await count_ticks(open_and_close) + 1):
        await cancel_at(open_and_close, tick)
    await open_and_close()
    names = ("pattern-db-writer", "pattern-db-reader")
    assert not [t for t in threading.enumerate() if t.name.startswith(names)]
