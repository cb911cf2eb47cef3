"""An engine in this process."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from ...errors import ConfigError, MissingExtra
from .codecs import decode
from .failures import driver_errors
from .links import request, result

_SETTLE_S = 0.02


class _Engine:
    """An engine in this process, with all the handles that share it: a directory can be opened only
    once, and holds a database for each tenant."""

    def __init__(self) -> None:
        self.opening = asyncio.Lock()
        self.driver: Any = None
        self.handles: Counter[tuple[str, str]] = Counter()
        self.turns: dict[tuple[str, str], asyncio.Lock] = {}


_engines: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Engine]] = WeakKeyDictionary()


class Embedded:
    """One database of an engine in this process. Each request says which: all share a session."""

    def __init__(self, engine: _Engine, place: tuple[str, str]):
        self._engine, self._place = engine, place
        self._use = "USE NS `{}` DB `{}`; ".format(*place)
        self._numbers = itertools.count()
        self.turn = engine.turns.setdefault(place, asyncio.Lock())

    @classmethod
    async def open(cls, url: str, place: tuple[str, str], *, durable: bool) -> Embedded:
        """Open ``mem://`` or ``surrealkv://…``; who is cancelled meanwhile leaves nothing open.

        SurrealDB 3.2 syncs each commit to the disk if the URL says so; builds before it looked,
        when they were loaded, for a variable of the environment. Both are told.
        """
        if durable:
            os.environ["SURREAL_SYNC_DATA"] = "true"
        url = _with_sync(url, durable=durable)
        opening = asyncio.get_running_loop().create_task(cls._open(url, place))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_let_go)
            raise

    @classmethod
    async def _open(cls, url: str, place: tuple[str, str]) -> Embedded:
        engine = _engine_of(url)
        async with engine.opening:
            if engine.driver is None:
                engine.driver = await _opened(url)
            engine.handles[place] += 1
        return cls(engine, place)

    @property
    def others(self) -> int:
        """How many other handles of this process have the database open."""
        return self._engine.handles[self._place] - 1

    async def call(self, method: str, params: list[Any]) -> Any:
        """See ``Link.call``."""
        if method != "query":
            return await self._ask(method, params)
        text, values = params
        return (await self._ask(method, [self._use + text, values]))[1:]

    async def _ask(self, method: str, params: list[Any]) -> Any:
        asked = request(next(self._numbers), method, params)
        return result(decode(await self._engine.driver.execute(asked)))

    async def close(self) -> None:
        """See ``Link.close``. The engine's threads let go of Python a moment later; ending the
        process before that prints a panic."""
        async with self._engine.opening:
            self._engine.handles[self._place] -= 1
            if not self._engine.handles.total():
                driver, self._engine.driver = self._engine.driver, None
                with suppress(RuntimeError):
                    await driver.close()
                await asyncio.sleep(_SETTLE_S)


_leaving: set[asyncio.Task[None]] = set()


def _let_go(opening: asyncio.Task[Embedded]) -> None:
    """Close what nobody waits for any more."""
    if opening.cancelled() or opening.exception() is not None:
        return
    leaving = asyncio.get_running_loop().create_task(opening.result().close())
    _leaving.add(leaving)
    leaving.add_done_callback(_leaving.discard)


def _engine_of(url: str) -> _Engine:
    """The engine of a directory in this event loop; one in memory belongs to its handle alone."""
    if url.startswith("mem://"):
        return _Engine()
    engines = _engines.setdefault(asyncio.get_running_loop(), {})
    return engines.setdefault(
        os.path.realpath(url.partition("://")[2].partition("?")[0]), _Engine()
    )


async def _opened(url: str) -> Any:
    try:
        from surrealdb_embedded import AsyncEmbeddedDB
    except ModuleNotFoundError as error:
        raise MissingExtra("surreal", "A SurrealDB database in this process") from error

    with driver_errors():
        driver = await asyncio.to_thread(AsyncEmbeddedDB, url)
        await driver.connect()
    return driver


def _with_sync(url: str, *, durable: bool) -> str:
    """The URL with what is synced when. Relaxed writes are synced each second."""
    place, _, asked = url.partition("?")
    if not place.startswith("surrealkv://"):
        return url
    if "sync=" in asked:
        raise ConfigError(
            "database.url says when to sync; write database.durability = full or relaxed instead."
        )
    return f"{place}?{asked}{'&' if asked else ''}sync={'every' if durable else '1s'}"
