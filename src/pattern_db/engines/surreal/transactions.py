"""Transactions that a task holds open, and savepoints in them.

Nothing is written until the end. What is asked for inside is tried: the engine does all that was
done so far and the new thing, answers, and undoes it. At the end the whole is done once more and
kept, if each part gives what it gave before. Only one transaction of a handle is open at once, so
that nothing changes between.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any, Protocol

from ...errors import DatabaseClosed, InvalidValue
from .compiler import MARK, Compiled
from .script import Done, Script, Write

_ENDED = "The transaction had ended; nothing was written."
ATTEMPTS = 8
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.5


class Owner(Protocol):
    """What a transaction needs of its store."""

    held: ContextVar[Held | None]
    transactions: set[Held]
    turn: asyncio.Lock

    def current(self) -> Held | None:
        """The transaction this task takes part in."""
        ...

    def check_open(self) -> None:
        """Raise ``DatabaseClosed`` if the store was closed."""
        ...

    def detached(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something to its end, whoever waits for it."""
        ...

    def script(self, *, alone: bool) -> Script:
        """An empty script."""
        ...

    async def keep(self, script: Script, result: str) -> Any:
        """Run a script and keep what it did; gives its result."""
        ...

    async def try_out(self, script: Script, result: str) -> Any:
        """Run a script and keep nothing of it; gives its result."""
        ...

    async def ask(self, compiled: Compiled, values: Sequence[Any]) -> Any:
        """What a read gives."""
        ...

    async def shut_out(self) -> None:
        """Keep other handles from writing."""
        ...

    async def let_in(self) -> None:
        """Let other handles write again."""
        ...


class Held:
    """A transaction that a task holds open."""

    def __init__(self, store: Owner, *, alone: bool):
        self._store = store
        self._alone = alone
        self._turn = asyncio.Lock()
        self._done: list[Done] = []
        self.owner = asyncio.current_task()
        self.finished = False
        self.over = asyncio.get_running_loop().create_future()

    async def write(self, writes: Sequence[Write]) -> list[Any]:
        """Do something inside, after what was asked for before; gives the raw results."""
        return await asyncio.shield(self._queue(self._write(writes)))

    async def read(self, compiled: Compiled, values: Sequence[Any]) -> Any:
        """What a read gives after what was done inside."""
        return await asyncio.shield(self._queue(self._read(compiled, values)))

    async def mark(self) -> int:
        """Where the transaction is now, for ``back_to``."""
        return await asyncio.shield(self._queue(self._length()))

    def back_to(self, mark: int) -> asyncio.Task[Any]:
        """Undo what was done since; it happens even if nobody waits."""
        return self._queue(self._cut(mark))

    def end(self, *, commit: bool) -> asyncio.Task[Any]:
        """Keep or undo everything; nothing is taken any more."""
        if self.finished:
            raise DatabaseClosed(_ENDED)
        self.finished = True
        return self._store.detached(self._end(commit=commit))

    def abandon(self) -> None:
        """Undo everything at once."""
        self.finished = True
        self._release()

    def _queue(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        if self.finished:
            work.close()
            raise DatabaseClosed(_ENDED)
        return self._store.detached(self._in_order(work))

    async def _in_order(self, work: Coroutine[Any, Any, Any]) -> Any:
        async with self._turn:
            if self.over.done():
                work.close()
                raise DatabaseClosed(_ENDED)
            return await work

    def _so_far(self) -> Script:
        script = self._store.script(alone=self._alone)
        for done in self._done:
            script.again(done)
        return script

    async def _write(self, writes: Sequence[Write]) -> list[Any]:
        script = self._so_far()
        names = [script.write(write) for write in writes]
        gave = await self._store.try_out(script, f"[{', '.join(names)}]")
        self._done += [Done(w, g) for w, g in zip(writes, gave, strict=True)]
        return gave  # type: ignore[no-any-return]

    async def _read(self, compiled: Compiled, values: Sequence[Any]) -> Any:
        if not self._done:
            return await self._store.ask(compiled, values)
        script = self._so_far()
        own = script.add([f"LET {MARK}r = {compiled.text}"], values)
        return await self._store.try_out(script, f"{own}r")

    async def _length(self) -> int:
        return len(self._done)

    async def _cut(self, mark: int) -> None:
        del self._done[mark:]

    async def _end(self, *, commit: bool) -> None:
        async with self._turn:
            if self.over.done():
                raise DatabaseClosed(_ENDED)
            try:
                if commit and self._done:
                    await self._store.keep(self._so_far(), "0")
            finally:
                try:
                    if self._alone:
                        await self._store.let_in()
                finally:
                    self._release()

    def _release(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
            self._store.transactions.discard(self)
            self._store.turn.release()


class Scope:
    """A transaction, or a savepoint of the one that is open when it is entered."""

    def __init__(self, store: Owner, *, alone: bool):
        self._store, self._alone = store, alone

    async def __aenter__(self) -> None:
        self._store.check_open()
        held = self._store.current()
        self._scope = _Outer(self._store, self._alone) if held is None else _Inner(held)
        await self._scope.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        await self._scope.__aexit__(kind, *rest)


class _Outer:
    """Takes the handle's turn for a task. Every way out begins the end without an await."""

    def __init__(self, store: Owner, alone: bool):
        self._store, self._alone = store, alone

    async def __aenter__(self) -> None:
        await self._store.turn.acquire()
        try:
            self._store.check_open()
            if self._alone:
                await self._store.shut_out()
        except BaseException:
            self._store.turn.release()
            raise
        self._held = Held(self._store, alone=self._alone)
        self._store.transactions.add(self._held)
        self._token: Token[Held | None] = self._store.held.set(self._held)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        end = _ended(self._held, commit=kind is None)
        with suppress(ValueError):  # a generator may be finalized in another context
            self._store.held.reset(self._token)
        if end is not None:
            await asyncio.shield(end)


def _ended(held: Held, *, commit: bool) -> asyncio.Task[Any] | None:
    """The end under way; ``None`` if it was undone before it could be asked to end."""
    try:
        return held.end(commit=commit)
    except DatabaseClosed:
        if commit:
            raise
        return None


class _Inner:
    """A savepoint inside a held transaction."""

    def __init__(self, held: Held):
        if asyncio.current_task() is not held.owner:
            raise InvalidValue(
                "transaction", "only the task that opened a transaction can nest another in it."
            )
        self._held = held

    async def __aenter__(self) -> None:
        self._mark = await self._held.mark()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        with suppress(DatabaseClosed):
            await asyncio.shield(self._held.back_to(self._mark))


def pause_s(attempt: int) -> float:
    """How long to wait before something is tried again: at random, and longer each time."""
    return random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt))
