"""What tests of large scopes share: a database of small thresholds, and builders that can be stopped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import pattern_db
from pattern_db import Agent, PatternDB
from pattern_db.vectors.building import Builder
from pattern_db.vectors.segment import Segment
from tests.reliability.segments import (
    LARGE,
    Spread,
    index_of,
    make_small,
    say,
    texts,
)

MANY = 3 * LARGE


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch.setattr)


@asynccontextmanager
async def opened(path: str, **more: Any) -> AsyncIterator[PatternDB]:
    async with pattern_db.open(path, **{"embeddings": Spread(), **more}) as db:
        yield db


@pytest.fixture
async def db(path: str) -> AsyncIterator[PatternDB]:
    """A database that leaves no thread behind when it is closed."""
    before = set(threading.enumerate())
    async with opened(path) as database:
        yield database
    started = set(threading.enumerate()) - before
    assert not [thread.name for thread in started if thread.name.startswith("pattern-db")]


@pytest.fixture
async def large(db: PatternDB, flux: Agent) -> Agent:
    """An agent with a segment."""
    await say(db, flux.id, texts(MANY))
    await db.optimize()
    return flux


class Gate:
    """Stops builders at a step until told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: str):
        self.reached, self.open = threading.Event(), threading.Event()
        owner = Segment if step == "save" else Builder
        before = getattr(owner, step)

        def wait(*args: Any, **more: Any) -> Any:
            self.reached.set()
            assert self.open.wait(60)
            return before(*args, **more)

        monkeypatch.setattr(owner, step, wait)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Gate]]:
    made: list[Gate] = []

    def make(step: str) -> Gate:
        made.append(Gate(monkeypatch, step))
        return made[-1]

    yield make
    for each in made:
        each.open.set()


async def reached(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.reached.wait, 60)


def segment_of(db: PatternDB) -> Any:
    """The segment of the only scope that was searched."""
    (found,) = index_of(db)._scopes.values()
    return found.segment
