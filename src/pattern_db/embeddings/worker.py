"""One thread that owns a model: it loads the model on first use and alone runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

from pattern_db.errors import EmbeddingFailed, PatternError

M = TypeVar("M")
R = TypeVar("R")

Job = Callable[[M], Generator[None, None, R]]
"""Work with a model, in turns: at every ``yield`` another job may have the thread."""


class _Done(NamedTuple, Generic[R]):
    result: R


class Worker(Generic[M]):
    """Runs jobs off the event loop, a turn of each after the other.

    A cancelled waiter stops its job after the turn it is in. A load that failed is tried again by
    the next job.
    """

    def __init__(self, load: Callable[[], M], *, failure: str) -> None:
        self._load = load
        self._failure = failure
        self._model: M | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pattern-db-embeddings")

    async def run(self, job: Job[M, R]) -> R:
        """What the job returns; every error that is not ours becomes ``EmbeddingFailed``."""
        turns = self._turns(job)
        try:
            while (done := await self._in_thread(turns)) is None:
                pass
        except PatternError:
            raise
        except Exception as error:
            raise EmbeddingFailed(self._failure) from error
        return done.result

    async def close(self) -> None:
        """Let the running turn finish, then forget the model."""
        await asyncio.to_thread(self._thread.shutdown)
        self._model = None

    def _turns(self, job: Job[M, R]) -> Generator[None, None, R]:
        if self._model is None:
            self._model = self._load()
        return (yield from job(self._model))

    async def _in_thread(self, turns: Generator[None, None, R]) -> _Done[R] | None:
        return await asyncio.get_running_loop().run_in_executor(self._thread, _advance, turns)


def _advance(turns: Generator[None, None, R]) -> _Done[R] | None:
    try:
        next(turns)
    except StopIteration as stop:
        return _Done(stop.value)
    return None
