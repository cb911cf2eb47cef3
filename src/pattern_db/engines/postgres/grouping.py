"""Writes that wait at the same time share a transaction.

A write holds its locks until its commit is on the disk, so writes that need the same lock, such as
the one for the next number of a conversation, follow each other a commit at a time: 190 a second on
a disk that takes 5 ms. Therefore few are under way at once, and those that come meanwhile wait
together and commit together. If anything in their transaction fails it is undone, and each of them
runs by itself: every caller hears what would have happened to it alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec

from ...errors import PatternError
from ...query import Bound, Insert
from .failures import OutcomeUnknown

_MOST_JOBS = 128
_MOST_STATEMENTS = 1000

Write = Callable[[Sequence[Bound]], Awaitable[list[Any]]]
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[Any]]


class _Job(msgspec.Struct, frozen=True):
    statements: Sequence[Bound]
    future: asyncio.Future[list[Any]]


class Groups:
    """At most ``size`` writes or groups of writes are under way.

    ``alone`` runs one write and tries again what was surely not kept; ``together`` runs several as
    one, once. ``spawn`` runs something to its end, whoever waits for it.
    """

    def __init__(self, *, alone: Write, together: Write, spawn: Spawn, size: int):
        self._alone, self._together, self._spawn = alone, together, spawn
        self._size = size
        self._busy = 0
        self._waiting: deque[_Job] = deque()

    async def submit(self, statements: Sequence[Bound]) -> list[Any]:
        """Run a write; a caller that is cancelled while it waits takes it back."""
        if self._busy < self._size and not self._waiting:
            self._busy += 1
            try:
                return await self._alone(statements)
            finally:
                self._free()
        job = _Job(statements, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        return await job.future

    def _free(self) -> None:
        self._busy -= 1
        while self._busy < self._size and (jobs := self._next()):
            self._busy += 1
            self._spawn(self._run(jobs))

    def _next(self) -> list[_Job]:
        """Those that wait, as many as go together, in an order of locks that all share."""
        jobs: list[_Job] = []
        statements = 0
        while self._waiting and len(jobs) < _MOST_JOBS and statements < _MOST_STATEMENTS:
            job = self._waiting.popleft()
            if not job.future.done():
                jobs.append(job)
                statements += len(job.statements)
        return sorted(jobs, key=_numbered_within)

    async def _run(self, jobs: list[_Job]) -> None:
        try:
            if len(jobs) == 1 or not await self._ran_together(jobs):
                for job in jobs:
                    await self._run_alone(job)
        finally:
            for job in jobs:
                job.future.cancel()
            self._free()

    async def _ran_together(self, jobs: list[_Job]) -> bool:
        """Whether all of them are settled."""
        try:
            results = await self._together([bound for job in jobs for bound in job.statements])
        except OutcomeUnknown as error:
            for job in jobs:
                _fail(job, error)
            return True
        except PatternError:
            return False
        for job in jobs:
            _settle(job, results[: len(job.statements)])
            results = results[len(job.statements) :]
        return True

    async def _run_alone(self, job: _Job) -> None:
        if job.future.done():
            return
        try:
            _settle(job, await self._alone(job.statements))
        except Exception as error:
            _fail(job, error)


def _settle(job: _Job, results: list[Any]) -> None:
    if not job.future.done():
        job.future.set_result(results)


def _fail(job: _Job, error: Exception) -> None:
    if not job.future.done():
        job.future.set_exception(error)


def _numbered_within(job: _Job) -> tuple[str, ...]:
    """In which group its first row gets a number, if it does."""
    for bound in job.statements:
        query = bound.query
        counted = next((c.counted for c in query.table.columns if c.counted), None)
        if counted is not None and isinstance(query, Insert):
            return tuple(str(getattr(bound.params["row"], name)) for name in counted.within)
    return ()
