"""The work every peer does, and its measurement; runs in the peer's own process and environment.

An adapter subclasses ``Peer`` and defines the acts its product offers; an act it does not define is
a row left empty. Needs the standard library and numpy only: every environment has to have it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import inspect
import json
import platform
import re
import statistics
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

Thing = TypeVar("Thing")
K = 10
LAST = 50
SLICE = 1000
BUDGET_S, FEWEST = 45.0, 20
"""Single acts are repeated no longer than this, but so often at least."""
ROW_LIMIT_S, BULK_LIMIT_S = 120.0, 600.0
"""A row that takes longer is given up where it awaits, and says so."""


@dataclass(frozen=True)
class Item:
    """What is stored: an item of one agent, with its vector."""

    id: str
    agent: str
    text: str
    vector: np.ndarray


@dataclass(frozen=True)
class Query:
    """What is asked: of the whole collection, or of one agent."""

    text: str
    agent: str
    vector: np.ndarray


class Data:
    """What the driver wrote for all peers: see ``dataset.write``."""

    def __init__(self, folder: Path):
        vectors = np.load(folder / "vectors.npz")
        named = json.loads((folder / "items.json").read_text("utf-8"))
        self.stored = _items(named["stored"], vectors["stored"])
        self.later = _items(named["later"], vectors["later"])
        self.queries = [
            Query(text, agent, vector)
            for (text, agent), vector in zip(named["queries"], vectors["queries"], strict=True)
        ]
        self.agents = sorted({item.agent for item in self.stored})
        self.dimensions = int(vectors["stored"].shape[1])
        self.counts: dict[str, int] = named["counts"]

    def by_text(self) -> dict[str, np.ndarray]:
        """The vector of every text, for products that embed by themselves."""
        told = (*self.stored, *self.later, *self.queries)
        return {each.text: each.vector for each in told}


def _items(named: Sequence[Sequence[str]], vectors: np.ndarray) -> list[Item]:
    return [Item(*names, vector) for names, vector in zip(named, vectors, strict=True)]


class Peer:
    """One product. Acts are methods, plain or ``async``; see ``ACTS`` for which there are.

    ``durability`` says in words what an acknowledged write survives and how that was set.
    """

    packages: tuple[str, ...] = ()
    durability = ""
    notes: tuple[str, ...] = ()

    def __init__(self, data: Data, folder: Path):
        self.data = data
        self.folder = folder

    def open(self) -> Any:
        """Make an empty database; not timed."""

    def prepare(self) -> Any:
        """Once the items are in: what a user would do before searching; not timed."""

    def close(self) -> Any:
        """Release everything; not timed."""


class Clock:
    """Calls acts and notes the seconds each took; plain ones pay nothing for the async ones."""

    def __init__(self, act: Callable[..., Any]):
        self._act = act
        self._awaited = inspect.iscoroutinefunction(act)
        self.seconds: list[float] = []

    async def call(self, *arguments: Any) -> Any:
        start = perf_counter()
        result = self._act(*arguments)
        if self._awaited:
            result = await result
        self.seconds.append(perf_counter() - start)
        return result

    def within_budget(self, things: Sequence[Thing]) -> Iterator[Thing]:
        """The things to act on, until the budget is spent."""
        for number, thing in enumerate(things):
            if number >= FEWEST and sum(self.seconds) > BUDGET_S:
                return
            yield thing

    def per_act(self) -> dict[str, float]:
        """Milliseconds of an act, the median and the 95th percentile, and of how many."""
        ordered = sorted(self.seconds)
        return {
            "calls": len(ordered),
            "value": statistics.median(ordered) * 1e3,
            "p95": ordered[int(len(ordered) * 0.95)] * 1e3,
        }

    def per_second(self, done: int) -> dict[str, float]:
        """How many things were done a second, over all calls."""
        return {"value": done / sum(self.seconds)}


async def bulk(peer: Any, data: Data) -> dict[str, Any]:
    """All items, a slice of one agent's a call."""
    clock = Clock(peer.bulk)
    for agent in data.agents:
        own = [item for item in data.stored if item.agent == agent]
        for start in range(0, len(own), SLICE):
            await clock.call(own[start : start + SLICE])
    return clock.per_second(len(data.stored))


async def get(peer: Any, data: Data) -> dict[str, Any]:
    clock = Clock(peer.get)
    step = max(1, len(data.stored) // data.counts["get"])
    for item in clock.within_budget(data.stored[::step]):
        text = await clock.call(item.id)
        if text != item.text:
            raise AssertionError(f"asked for {item.id}, got {text!r}")
    return clock.per_act()


async def search(peer: Any, data: Data) -> dict[str, Any]:
    """The nearest of the whole collection; the ids found are judged by the driver."""
    return await _searches(peer.search, data.queries)


async def search_in(peer: Any, data: Data) -> dict[str, Any]:
    """The nearest among one agent's items."""
    return await _searches(peer.search_in, data.queries)


async def _searches(act: Callable[..., Any], queries: list[Query]) -> dict[str, Any]:
    warming, clock = Clock(act), Clock(act)
    for query in warming.within_budget(queries[:10]):
        await warming.call(query)
    found = [list(await clock.call(query)) for query in clock.within_budget(queries)]
    return {**clock.per_act(), "first": warming.seconds[0] * 1e3, "found": found}


async def add(peer: Any, data: Data) -> dict[str, Any]:
    clock = Clock(peer.add)
    for item in clock.within_budget(data.later[: data.counts["add"]]):
        await clock.call(item)
    return clock.per_act()


async def add_many(peer: Any, data: Data) -> dict[str, Any]:
    """Tasks that add one item each, all at once; each is acknowledged durable."""
    items = data.later[data.counts["add"] :]

    async def all_at_once() -> None:
        await asyncio.gather(*(peer.add_async(item) for item in items))

    clock = Clock(all_at_once)
    await clock.call()
    return clock.per_second(len(items))


async def append(peer: Any, data: Data) -> dict[str, Any]:
    """A message behind a thousand others."""
    for number in range(1000):
        await _done(peer.append(f"earlier {number}: I moved to Oslo in May."))
    clock = Clock(peer.append)
    for number in clock.within_budget(range(data.counts["append"])):
        await clock.call(f"message {number}: I moved to Oslo in May.")
    return clock.per_act()


async def last(peer: Any, data: Data) -> dict[str, Any]:
    clock = Clock(peer.last)
    for _ in clock.within_budget(range(data.counts["last"])):
        if (found := await clock.call(LAST)) != LAST:
            raise AssertionError(f"asked for {LAST} messages, got {found}")
    return clock.per_act()


ACTS: dict[str, Callable[[Any, Data], Any]] = {
    "bulk": bulk,
    "get": get,
    "search": search,
    "search_in": search_in,
    "add": add,
    "add_async": add_many,
    "append": append,
    "last": last,
}
"""The method an adapter defines, and how it is measured; in this order, searches on the whole
collection before anything is added to it."""
ABOUT_ITEMS = frozenset(ACTS) - {"bulk", "append", "last"}


async def _done(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def measure(peer: Peer, data: Data) -> dict[str, Any]:
    """Every act the peer offers; one that fails is a reason, and the others go on.

    But if not all items went in, nothing about items can be compared, and only messages go on.
    """
    rows: dict[str, Any] = {}
    await _done(peer.open())
    try:
        for name, work in ACTS.items():
            if not hasattr(peer, name) or (name in ABOUT_ITEMS and "error" in rows.get("bulk", {})):
                continue
            gc.collect()
            rows[name] = await _row(work, peer, data, BULK_LIMIT_S if work is bulk else ROW_LIMIT_S)
            if name == "bulk":
                await _done(peer.prepare())
    finally:
        await _done(peer.close())
    return rows


async def _row(
    work: Callable[[Any, Data], Any], peer: Peer, data: Data, limit_s: float
) -> dict[str, Any]:
    try:
        async with asyncio.timeout(limit_s):
            return await work(peer, data)
    except TimeoutError:
        return {"error": f"given up after {limit_s:.0f} s"}
    except Exception as error:
        traceback.print_exc()
        return {"error": reason(error)}


def reason(error: BaseException) -> str:
    """An error in one line, without the paths in it."""
    text = re.sub(r"(/[\w.+-]+){2,}(:\d+)*", "…", " ".join(str(error).split()))[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def run(adapter: type[Peer]) -> None:
    """What an adapter's file ends with: measures once and writes a JSON document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    data = Data(arguments.data)
    peer = adapter(data, arguments.folder)
    rows = asyncio.run(measure(peer, data))
    document = {
        "packages": {name: version(name) for name in adapter.packages},
        "python": platform.python_version(),
        "durability": peer.durability,
        "notes": list(peer.notes),
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(document), "utf-8")
