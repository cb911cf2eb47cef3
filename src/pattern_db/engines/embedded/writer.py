"""The one thread that writes.

Writes travel to it as jobs. Jobs that wait at the same time share a transaction (group commit):
each is acknowledged after the commit that holds it, and fails alone. A transaction that a task
holds open gets the thread to itself; its end is put into the queue without an await, so that no
cancellation can leave it open.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from ...errors import DatabaseClosed, StorageFailed
from .driver import Connection, Driver

_LARGEST_GROUP = 512

Run = Callable[[Any], Any]
Together = Callable[[Any, list[Any]], list[Any]]


class Job:
    """A piece of work for the writer, and the future of whoever waits for it.

    ``part`` says that it may be done together with others of an equal kind: a kind, what to do it
    with, and the function that does several at once.
    """

    __slots__ = ("error", "future", "loop", "part", "result", "run", "savepoint")

    def __init__(self, run: Run, *, savepoint: bool, part: tuple[Any, Any, Together] | None = None):
        self.run = run
        self.savepoint = savepoint
        self.part = part
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None


class Alone(Job):
    """Work that cannot run inside a transaction."""


class End(Job):
    """The end of a held transaction."""

    __slots__ = ("commit",)

    def __init__(self, *, commit: bool):
        super().__init__(lambda _connection: None, savepoint=False)
        self.commit = commit


class Held(Job):
    """A transaction that a task holds open; its future is done once it has begun."""

    __slots__ = ("_lock", "channel", "depth", "erases_vectors", "finished", "owner")

    def __init__(self) -> None:
        super().__init__(lambda _connection: None, savepoint=False)
        self.channel: SimpleQueue[Job] = SimpleQueue()
        self.finished = False
        self.depth = 0
        self.erases_vectors = False
        self.owner = asyncio.current_task()
        self._lock = threading.Lock()

    def send(self, job: Job) -> None:
        """Queue a job for the inside of the transaction; never blocks, never awaits."""
        with self._lock:
            if self.finished:
                raise DatabaseClosed("The transaction had ended; nothing was written.")
            self.channel.put(job)

    def finish(self) -> list[Job]:
        """From now on nothing is taken; gives what nobody will run any more."""
        with self._lock:
            self.finished = True
            late = []
            while not self.channel.empty():
                late.append(self.channel.get())
            return late


class _Stop:
    pass


class Writer:
    """Owns the writing connection and its thread."""

    def __init__(self, connection: Connection, driver: Driver, *, name: str):
        self._connection = connection
        self._driver = driver
        self._queue: SimpleQueue[Job | _Stop] = SimpleQueue()
        self._held: Held | None = None
        self._broken: StorageFailed | None = None
        self._stopped = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> asyncio.Future[Any]:
        """Queue a job; its future is done after the commit that holds it."""
        with self._lock:
            if self._stopped:
                raise DatabaseClosed("The database was closed; open it again.")
            self._queue.put(job)
        return job.future

    def stop(self) -> None:
        """Finish what is queued, undo what is held open, close the connection. Blocks."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._queue.put(_Stop())
        if (held := self._held) is not None:
            held.channel.put(_Detached())
        self._thread.join()

    def _work(self) -> None:
        waiting: Job | _Stop | None = None
        while True:
            first = waiting if waiting is not None else self._queue.get()
            waiting = None
            if isinstance(first, _Stop):
                break
            if isinstance(first, Held):
                self._serve(first)
                continue
            if isinstance(first, Alone):
                self._run_alone(first)
                continue
            group, waiting = self._gather(first)
            self._commit(group)
            self._deliver(group)
        self._driver.disconnect(self._connection)

    def _gather(self, first: Job) -> tuple[list[Job], Job | _Stop | None]:
        """The jobs that wait right now, up to one that must be alone."""
        group = [first]
        while len(group) < _LARGEST_GROUP and not self._queue.empty():
            job = self._queue.get()
            if isinstance(job, _Stop | Held | Alone):
                return group, job
            group.append(job)
        return group, None

    def _commit(self, group: list[Job]) -> None:
        """Run jobs in one transaction; one after another if the engine gave the whole of it up."""
        jobs = [job for job in group if not job.future.cancelled()]
        try:
            self._begin()
            alone = len(jobs) == 1
            survived = all([self._attempt_run(run, alone=alone) for run in _runs(jobs)])
            if survived:
                self._connection.execute("ROLLBACK" if alone and jobs[0].error else "COMMIT")
        except BaseException as error:
            self._fail(jobs, error)
            return
        if not survived and len(jobs) > 1:
            for job in jobs:
                self._commit([job])

    def _run_alone(self, job: Alone) -> None:
        try:
            job.result = job.run(self._connection)
        except BaseException as error:
            self._fail([job], error)
        self._deliver([job])

    def _begin(self) -> None:
        if self._broken is not None:
            raise self._broken
        self._connection.execute("BEGIN IMMEDIATE")

    def _attempt_run(self, jobs: list[Job], *, alone: bool) -> bool:
        """Run jobs of one kind at once, one by one if that fails; whether the transaction lives."""
        if len(jobs) > 1 and self._succeed_together(jobs):
            return True
        return all([self._attempt(job, alone=alone) for job in jobs])

    def _succeed_together(self, jobs: list[Job]) -> bool:
        together = jobs[0].part
        assert together is not None
        parts = [job.part[1] for job in jobs if job.part is not None]
        try:
            results = self._undoably(lambda connection: together[2](connection, parts))
        except BaseException:
            return False
        for job, result in zip(jobs, results, strict=True):
            job.result, job.error = result, None
        return True

    def _attempt(self, job: Job, *, alone: bool = False) -> bool:
        """Run one job; whether the transaction around it is still alive."""
        job.error = None
        if self._connection.get_autocommit():
            return False
        try:
            job.result = job.run(self._connection) if alone else self._run(job)
        except BaseException as error:
            job.error = error
        return not self._connection.get_autocommit()

    def _run(self, job: Job) -> Any:
        """A single statement undoes itself when it fails; several need a savepoint."""
        return self._undoably(job.run) if job.savepoint else job.run(self._connection)

    def _undoably(self, run: Run) -> Any:
        self._connection.execute("SAVEPOINT job")
        try:
            result = run(self._connection)
        except BaseException:
            if not self._connection.get_autocommit():
                self._connection.execute("ROLLBACK TO job")
                self._connection.execute("RELEASE job")
            raise
        self._connection.execute("RELEASE job")
        return result

    def _fail(self, jobs: list[Job], error: BaseException) -> None:
        """The transaction could not begin or commit: nothing of it was kept."""
        self._roll_back()
        if isinstance(ours := self._driver.translated(error), StorageFailed):
            self._broken = ours
        for job in jobs:
            job.error = error

    def _roll_back(self) -> None:
        if not self._connection.get_autocommit():
            try:
                self._connection.execute("ROLLBACK")
            except self._driver.failures as error:
                self._broken = StorageFailed(
                    "A write could not be undone; open the database again."
                )
                self._broken.__cause__ = error

    def _serve(self, held: Held) -> None:
        """Run what a task sends until it ends its transaction."""
        self._held = held
        with self._lock:
            if self._stopped:
                held.channel.put(_Detached())
        try:
            self._begin()
        except BaseException as error:
            self._held, held.error = None, error
            self._deliver([held])
            self._refuse(held.finish())
            return
        self._deliver([held])
        while True:
            job = held.channel.get()
            if isinstance(job, End):
                break
            if not self._attempt(job) and job.error is None:
                job.error = _lost()
            self._deliver([job])
        self._end(held, job)
        self._held = None

    def _end(self, held: Held, end: End) -> None:
        late = held.finish()
        alive = not self._connection.get_autocommit()
        try:
            if alive:
                self._connection.execute("COMMIT" if end.commit else "ROLLBACK")
        except BaseException as error:
            self._fail([end], error)
        if end.commit and not alive:
            end.error = _lost()
        self._deliver([end])
        self._refuse(late)

    def _refuse(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.error = DatabaseClosed("The transaction had ended; nothing was written.")
        self._deliver(jobs)

    def _deliver(self, jobs: list[Job]) -> None:
        """Tell the waiting tasks, with one wake-up for each event loop."""
        loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        for job in jobs:
            if isinstance(job, _Detached):
                continue
            if job.error is not None:
                job.error = self._ours(job.error)
            loops.setdefault(job.loop, []).append(job)
        for loop, done in loops.items():
            try:
                loop.call_soon_threadsafe(_settle, done)
            except RuntimeError:
                continue  # the loop was closed: whoever waited is gone, what was committed stays

    def _ours(self, error: BaseException) -> BaseException:
        ours = self._driver.translated(error)
        if ours is not error:
            ours.__cause__ = error
        return ours


class _Detached(End):
    """A roll-back that nobody waits for."""

    def __init__(self) -> None:
        self.commit = False
        self.error = None
        self.result = None


def _runs(jobs: list[Job]) -> list[list[Job]]:
    """Neighbouring jobs that may be done together, and each other one alone."""
    runs: list[list[Job]] = []
    for job in jobs:
        before = runs[-1][-1].part if runs else None
        if job.part is not None and before is not None and before[0] is job.part[0]:
            runs[-1].append(job)
        else:
            runs.append([job])
    return runs


def _lost() -> BaseException:
    return StorageFailed("The engine gave the transaction up; nothing of it was kept, try again.")


def _settle(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)
            job.future.exception()  # asyncio need not report it if nobody waits any more
