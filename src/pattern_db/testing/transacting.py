"""Transactions: what ``transaction`` promises."""

from __future__ import annotations

import asyncio

import pytest

from ..engines.base import Store
from ..errors import AlreadyExists, DatabaseClosed, InvalidValue, NotFound, PatternError
from ..models import User
from ..query import Count, select
from ..schema import columns_of, table_of
from .rows import add, agent, message, read, user
from .subject import Subject
from .ticks import cancel_at, count_ticks

pytestmark = pytest.mark.asyncio
_USERS = table_of(User)


async def _names(store: Store) -> list[str]:
    query = select(User).order_by(columns_of(User).id)
    return [row.id for row in await store.execute(query)]


async def test_a_transaction_is_kept_at_its_end(store: Store) -> None:
    async with store.transaction():
        await add(store, user("ada"))
        await add(store, agent("flux", user_id="ada"))
    assert await read(store, agent("flux")) is not None


async def test_an_error_undoes_all_of_it(store: Store) -> None:
    with pytest.raises(KeyError):
        async with store.transaction():
            await add(store, user("ada"))
            await add(store, *(user(f"u{n}") for n in range(40)))
            raise KeyError
    assert await _names(store) == []


async def test_reads_inside_see_writes_inside_and_others_do_not(store: Store) -> None:
    wrote, looked = asyncio.Event(), asyncio.Event()

    async def look() -> int:
        await wrote.wait()
        seen: int = await store.execute(Count(_USERS))
        looked.set()
        return seen

    watcher = asyncio.create_task(look())
    async with store.transaction():
        await add(store, user("ada"))
        assert await read(store, user("ada")) == user("ada")
        assert await store.execute(Count(_USERS)) == 1
        wrote.set()
        await looked.wait()
    assert await watcher == 0


async def test_inside_another_one_it_is_a_savepoint(store: Store) -> None:
    async with store.transaction():
        await add(store, user("a"))
        with pytest.raises(KeyError):
            async with store.transaction():
                await add(store, user("b"))
                async with store.transaction():
                    await add(store, user("c"))
                raise KeyError
        async with store.transaction():
            await add(store, user("d"))
    assert await _names(store) == ["a", "d"]


async def test_a_failed_write_leaves_the_rest_usable(store: Store) -> None:
    async with store.transaction():
        await add(store, user("ada"))
        with pytest.raises(AlreadyExists):
            await add(store, user("bob"), user("ada"))
        with pytest.raises(NotFound):
            await add(store, agent("flux", user_id="nobody"))
        await add(store, user("cyd"))
        assert await store.execute(Count(_USERS)) == 2
    assert await _names(store) == ["ada", "cyd"]


async def test_tasks_started_inside_take_part(store: Store) -> None:
    with pytest.raises(KeyError):
        async with store.transaction():
            await asyncio.gather(*(add(store, user(f"u{n}")) for n in range(20)))
            assert await store.execute(Count(_USERS)) == 20
            raise KeyError
    assert await _names(store) == []


async def test_only_the_task_that_opened_it_can_nest(store: Store) -> None:
    async def nest() -> None:
        async with store.transaction():
            await add(store, user("ada"))

    async with store.transaction():
        with pytest.raises(InvalidValue):
            await asyncio.create_task(nest())


async def test_a_task_that_outlives_it_writes_on_its_own(store: Store) -> None:
    over = asyncio.Event()

    async def late() -> None:
        await over.wait()
        await add(store, user("late"))

    with pytest.raises(KeyError):
        async with store.transaction():
            task = asyncio.create_task(late())
            await add(store, user("ada"))
            raise KeyError
    over.set()
    await task
    assert await _names(store) == ["late"]


async def test_transactions_at_once_do_not_mix(store: Store) -> None:
    async def work(n: int) -> None:
        async with store.transaction():
            await add(store, user(f"{n:02}a"))
            await asyncio.sleep(0)
            await add(store, user(f"{n:02}b"))
            if n % 3 == 0:
                raise KeyError

    await asyncio.gather(*(work(n) for n in range(30)), return_exceptions=True)
    kept = [f"{n:02}{half}" for n in range(30) if n % 3 for half in "ab"]
    assert await _names(store) == kept


async def test_nobody_else_writes_while_one_is_alone(store: Store, subject: Subject) -> None:
    other = await subject.open() if store.capabilities.several_processes else store
    inside, steps = asyncio.Event(), []

    async def write() -> None:
        await inside.wait()
        await add(other, user("outside"))
        steps.append("outside")

    writer = asyncio.create_task(write())
    async with store.transaction(alone=True):
        inside.set()
        for n in range(20):
            await add(store, user(f"u{n:02}"))
        assert "outside" not in await _names(store)
        steps.append("inside")
    await writer
    if other is not store:
        await other.close()
    assert steps == ["inside", "outside"]


async def test_an_empty_write_waits_for_what_is_open(store: Store) -> None:
    inside, steps = asyncio.Event(), []

    async def wait() -> None:
        await inside.wait()
        await store.write([])
        steps.append(await _names(store))

    waiter = asyncio.create_task(wait())
    async with store.transaction():
        await add(store, user("ada"))
        inside.set()
        for _ in range(20):
            await asyncio.sleep(0)
    await waiter
    assert steps == [["ada"]]


async def test_closing_undoes_what_is_open(store: Store, subject: Subject) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with store.transaction():
            await add(store, user("ada"))
            inside.set()
            await go_on.wait()
            await add(store, user("bob"))

    task = asyncio.create_task(hold())
    await inside.wait()
    await store.close()
    go_on.set()
    with pytest.raises(DatabaseClosed):
        await task
    if store.capabilities.several_processes:
        again = await subject.open()
        assert await _names(again) == []
        await again.close()


@pytest.mark.parametrize("when", ["waiting", "resuming"])
async def test_a_cancelled_transaction_is_whole_or_nothing(store: Store, when: str) -> None:
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        name = f"{rounds:03}"
        async with store.transaction():
            await add(store, user(name + "a"))
            async with store.transaction():
                await add(store, user(name + "b"))
            await store.execute(Count(_USERS))

    for tick in range(await count_ticks(work) + 1):
        await cancel_at(work, tick, when=when)  # type: ignore[arg-type]
        await store.write([])
        names = await _names(store)
        assert {n[:3] for n in names if n.endswith("a")} == {
            n[:3] for n in names if n.endswith("b")
        }
    await add(store, user("after"))


@pytest.mark.parametrize("when", ["waiting", "resuming"])
async def test_a_cancelled_write_is_whole_or_nothing(store: Store, when: str) -> None:
    await add(store, agent("flux"))
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        await add(store, user(f"{rounds:03}a"), message(f"m{rounds}"), user(f"{rounds:03}b"))
        await add(store, *(user(f"{rounds:03}x{n:02}") for n in range(20)))
        await store.execute(Count(_USERS))

    for tick in range(await count_ticks(work) + 1):
        await cancel_at(work, tick, when=when)  # type: ignore[arg-type]
        names = await _names(store)
        for n in {name[:3] for name in names}:
            assert len([name for name in names if name.startswith(n)]) in (2, 22)
    await add(store, user("after"))


async def test_many_cancelled_tasks_leave_nothing_open(store: Store) -> None:
    async def work(n: int) -> None:
        async with store.transaction():
            await add(store, user(f"{n:03}a"))
            await asyncio.sleep(0)
            await add(store, user(f"{n:03}b"))

    for turn in range(6):
        tasks = [asyncio.create_task(work(turn * 20 + n)) for n in range(20)]
        for n, task in enumerate(tasks):
            for _ in range(n % 4):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await store.write([])
    names = await _names(store)
    assert {n[:3] for n in names if n.endswith("a")} == {n[:3] for n in names if n.endswith("b")}
    await add(store, user("after"))


async def test_errors_are_ours_with_the_drivers_as_cause(store: Store) -> None:
    await add(store, user("ada"))
    with pytest.raises(PatternError) as raised:
        await add(store, user("ada", name="secret-in-a-value"))
    assert raised.value.__cause__ is not None
    assert "secret-in-a-value" not in str(raised.value)
