from __future__ import annotations

import asyncio
import threading

import pytest

from pattern_db.embeddings.worker import Worker
from pattern_db.errors import EmbeddingFailed


def say(value):
    def job(model):
        return (model, value)
        yield

    return job


async def test_the_model_is_loaded_once_by_the_thread_that_runs_it() -> None:
    loads = []
    worker = Worker(lambda: loads.append(threading.get_ident()) or "model", failure="no")
    answers = await asyncio.gather(*(worker.run(say(number)) for number in range(20)))
    assert answers == [("model", number) for number in range(20)]
    assert len(loads) == 1
    assert loads[0] != threading.get_ident()
    await worker.close()


async def test_a_load_that_failed_is_tried_again() -> None:
    outcomes = iter([OSError("no such file"), None])

    def load():
        if error := next(outcomes):
            raise error
        return "model"

    worker = Worker(load, failure="It cannot be loaded.")
    with pytest.raises(EmbeddingFailed, match=r"^It cannot be loaded\.$") as caught:
        await worker.run(say(1))
    assert isinstance(caught.value.__cause__, OSError)
    assert await worker.run(say(2)) == ("model", 2)
    await worker.close()


async def test_jobs_take_turns() -> None:
    order = []

    def job(name):
        def turns(_):
            for _ in range(3):
                order.append(name)
                yield

        return turns

    worker = Worker(object, failure="no")
    await asyncio.gather(worker.run(job("a")), worker.run(job("b")))
    assert order == list("ababab")
    await worker.close()


async def test_a_cancelled_job_stops_at_its_next_turn() -> None:
    turns, entered, proceed = [], threading.Event(), threading.Event()

    def job(_):
        for turn in range(100):
            turns.append(turn)
            entered.set()
            proceed.wait(10)
            yield

    worker = Worker(object, failure="no")
    task = asyncio.create_task(worker.run(job))
    await asyncio.to_thread(entered.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    proceed.set()
    await worker.run(say(1))
    assert turns == [0]
    await worker.close()
