"""Cancellation at each point where a coroutine waits.

A coroutine runs in steps between the points where it suspends; suspension k is its tick k. A task
can be cancelled in two ways at a tick, and both lose data in code that is wrong:

- ``"waiting"``: while the future it waits for is pending; the future is cancelled too;
- ``"resuming"``: after that future has its result, before the coroutine has seen it. Whatever was
  done on its behalf (a commit, a connection taken from a pool) has happened.

    async for k, finished in each_tick(lambda: store.put(key)):
        ...  # not in a transaction, nothing queued, all or nothing; finished implies stored

It is deterministic as far as the coroutine is: the cancellation comes from inside the task's own
step or from the future's own callback, never from a timer, so futures that other threads complete
(a writer thread) are fine. The coroutine runs as a real task: ``asyncio.timeout``, task groups and
``current_task`` work in it, and its ticks are those of that task, not of its children.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, Literal

Make = Callable[[], Coroutine[Any, Any, Any]]
When = Literal["waiting", "resuming"]


class _Ticking:
    """An awaitable that runs a coroutine and cancels the task it runs in at tick ``k``."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], k: int | None, when: When) -> None:
        self.coroutine = coroutine
        self.ticks = 0
        self._k = k
        self._when = when

    def __await__(self) -> Generator[Any, Any, Any]:
        error: BaseException | None = None
        while True:
            try:
                waits_for = self.coroutine.throw(error) if error else self.coroutine.send(None)
            except StopIteration as stop:
                return stop.value
            self.ticks += 1
            if self.ticks == self._k:
                self._cancel(waits_for)
            try:
                error = yield waits_for
            except BaseException as thrown:
                error = thrown

    def _cancel(self, waits_for: Any) -> None:
        """``cancel`` inside a step takes effect when the step ends: on what the task waits for.

        A callback that is added here runs before the one that the task is about to add: the future
        is done by then, and the task has not seen it.
        """
        task = asyncio.current_task()
        assert task is not None
        if self._when == "resuming" and asyncio.isfuture(waits_for):
            waits_for.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()


async def _run(make_coro: Make, k: int | None, when: When, timeout_s: float) -> tuple[bool, int]:
    """Whether the coroutine finished, and how many ticks it had until it ended."""
    ticking = _Ticking(make_coro(), k, when)

    async def drive() -> None:
        await ticking

    task = asyncio.create_task(drive())
    if k == 0:
        task.cancel()
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    finally:
        if not task.done():
            task.cancel()
        elif k == 0:
            ticking.coroutine.close()
    if not task.done():
        raise TimeoutError(f"The coroutine did not end within {timeout_s} s (cancelled at {k}).")
    if task.cancelled():
        return False, ticking.ticks
    task.result()
    return True, ticking.ticks


async def count_ticks(make_coro: Make, *, timeout_s: float = 30.0) -> int:
    """How often the coroutine suspends when nobody cancels it."""
    _, ticks = await _run(make_coro, None, "waiting", timeout_s)
    return ticks


async def cancel_at(
    make_coro: Make, k: int, *, when: When = "waiting", timeout_s: float = 30.0
) -> bool:
    """Run a fresh coroutine, cancel it at tick ``k``, and return whether it finished all the same.

    Tick 0 is before its first step. It finishes if it has fewer ticks or absorbs the cancellation.
    What it raises other than ``CancelledError`` is raised here. ``TimeoutError`` if it hangs.
    """
    finished, _ = await _run(make_coro, k, when, timeout_s)
    return finished


async def each_tick(
    make_coro: Make, *, when: When = "waiting", timeout_s: float = 30.0
) -> AsyncIterator[tuple[int, bool]]:
    """``(k, finished)`` for a fresh coroutine cancelled at tick 0, 1, 2, ... in turn.

    Ends after the first that had fewer than ``k`` ticks: it ran untouched, so it finished. The
    number of ticks may differ from run to run.
    """
    for k in itertools.count():
        finished, ticks = await _run(make_coro, k, when, timeout_s)
        yield k, finished
        if finished and ticks < k:
            return
