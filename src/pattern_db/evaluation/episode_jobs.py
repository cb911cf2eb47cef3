"""The folds of an evaluation, each a job, spread over processes of their own.

A worker is ``python -m pattern_db.evaluation.episode_worker``: it reads what all jobs share and
then jobs from standard input, and writes what was asked to standard output, each as MessagePack
after its length. It ends with its input.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TypeVar

import msgspec
import numpy as np

from pattern_db.errors import PatternError

from .episode_asking import Asked, Fold, KnownVectors, Wanted, empty_database
from .episode_trials import Trial, folds

SAME_TASK = "The same task for everyone."
WORKERS = 2
T = TypeVar("T")
_LENGTH = struct.Struct(">Q")
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Small matrices: more threads only wait for each other."""


class Shared(msgspec.Struct):
    """What all jobs share: the runs, the tools that change something, and the vectors of the tasks
    as the bytes of little-endian float32s."""

    trials: list[Trial]
    changing: dict[str, frozenset[str]]
    model_id: str | None
    vectors: dict[str, bytes]
    folder: str | None = None

    @property
    def provider(self) -> KnownVectors | None:
        """The provider of the vectors, if there are any."""
        if self.model_id is None:
            return None
        known = {text: np.frombuffer(raw, "<f4") for text, raw in self.vectors.items()}
        return KnownVectors(self.model_id, known)


class Job(msgspec.Struct, frozen=True):
    """One fold. ``change`` names what is done to the runs first, if anything."""

    seed: int
    number: int
    wanted: Wanted
    change: str | None = None


async def run_jobs(
    shared: Shared, jobs: Sequence[Job], done: Callable[[], None], *, workers: int = WORKERS
) -> list[Asked]:
    """What was asked in each job, in their order. ``done`` is called after each."""
    found: list[Asked | None] = [None] * len(jobs)
    waiting = iter(range(len(jobs)))

    async def work() -> None:
        worker = await _started(shared)
        try:
            for place in waiting:
                found[place] = await _asked(worker, jobs[place])
                done()
        finally:
            await _ended(worker)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(workers, len(jobs))):
                group.create_task(work())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [asked for asked in found if asked is not None]


async def _started(shared: Shared) -> asyncio.subprocess.Process:
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"{__package__}.episode_worker"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
    )
    await _send(worker, shared)
    return worker


async def _send(worker: asyncio.subprocess.Process, value: Any) -> None:
    assert worker.stdin is not None
    data = msgspec.msgpack.encode(value)
    worker.stdin.write(_LENGTH.pack(len(data)) + data)
    await worker.stdin.drain()


async def _asked(worker: asyncio.subprocess.Process, job: Job) -> Asked:
    assert worker.stdout is not None
    await _send(worker, job)
    try:
        head = await worker.stdout.readexactly(_LENGTH.size)
        data = await worker.stdout.readexactly(*_LENGTH.unpack(head))
    except asyncio.IncompleteReadError as error:
        raise PatternError("A process of the evaluation ended early; see what it wrote.") from error
    return msgspec.msgpack.decode(data, type=Asked)


async def _ended(worker: asyncio.subprocess.Process) -> None:
    assert worker.stdin is not None
    worker.stdin.close()
    try:
        await asyncio.wait_for(worker.wait(), timeout=10)
    except TimeoutError:
        worker.kill()
        await worker.wait()


# in the worker


def serve(given: BinaryIO, answers: BinaryIO) -> None:
    """Do the jobs that come in, to the end of the input."""
    shared = _read(given, Shared)
    while shared is not None and (job := _read(given, Job)) is not None:
        data = msgspec.msgpack.encode(asyncio.run(run_job(shared, job)))
        answers.write(_LENGTH.pack(len(data)) + data)
        answers.flush()


def _read(stream: BinaryIO, kind: type[T]) -> T | None:
    head = stream.read(_LENGTH.size)
    return msgspec.msgpack.decode(stream.read(*_LENGTH.unpack(head)), type=kind) if head else None


async def run_job(shared: Shared, job: Job) -> Asked:
    """Ask one fold in a database of its own."""
    trials = _CHANGES[job.change](shared.trials, job.seed) if job.change else shared.trials
    asked = Asked.nothing()
    stored, queries = folds(trials, job.seed)[job.number]
    async with empty_database(shared.provider, shared.folder) as db:
        fold = Fold(db, trials, shared.changing, seed=job.seed, number=job.number)
        await fold.run(stored, queries, asked, job.wanted)
    return asked


def _with_task(trial: Trial, task: str) -> Trial:
    return msgspec.structs.replace(trial, task=task, fields={**trial.fields, "task": task})


def _equal_tasks(trials: Sequence[Trial], _seed: int) -> list[Trial]:
    return [_with_task(trial, SAME_TASK) for trial in trials]


def _shuffled_tasks(trials: Sequence[Trial], seed: int) -> list[Trial]:
    """The runs with the tasks of others of their domain."""
    others = _dealt([trial.domain for trial in trials], seed)
    return [_with_task(t, trials[o].task) for t, o in zip(trials, others, strict=True)]


def _permuted_outcomes(trials: Sequence[Trial], seed: int) -> list[Trial]:
    """The runs with the outcomes of others of their file."""
    others = _dealt([trial.file for trial in trials], seed)
    return [
        msgspec.structs.replace(
            trial,
            succeeded=trials[other].succeeded,
            fields={**trial.fields, "outcome": trials[other].fields["outcome"]},
        )
        for trial, other in zip(trials, others, strict=True)
    ]


def _dealt(groups: Sequence[str], seed: int) -> list[int]:
    """For each place one of the same group, each once."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        places[group].append(place)
    dealt = list(range(len(groups)))
    for own in places.values():
        others = list(own)
        random.Random(seed).shuffle(others)
        for place, other in zip(own, others, strict=True):
            dealt[place] = other
    return dealt


_CHANGES: dict[str, Callable[[Sequence[Trial], int], list[Trial]]] = {
    "equal tasks": _equal_tasks,
    "shuffled tasks": _shuffled_tasks,
    "permuted outcomes": _permuted_outcomes,
}
