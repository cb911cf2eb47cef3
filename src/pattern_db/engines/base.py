"""The seam between what is asked of a store and how an engine does it.

The docstrings are the specification: every engine keeps every sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from ..embeddings.provider import Vector
from ..filters import Filter
from ..query import Bound, Query
from ..schema import Table

Progress = Callable[[int, int], None]
Prefer = Literal["ours", "theirs"]


class Capabilities(msgspec.Struct, frozen=True):
    """What an engine can do, so that nobody has to ask for its name."""

    engine: str
    version: str
    durable: bool
    interactive_transactions: bool = True
    several_processes: bool = True
    encrypted: bool = False
    vacuums: bool = True
    """Without it ``vacuum`` raises ``Unsupported``."""
    experimental: tuple[str, ...] = ()
    """What is in use of the engine that its makers do not call stable."""
    follows_server: bool = False
    """The store is a ``SyncedStore``."""


class DatabaseBackend(Protocol):
    """A connected database.

    Values are bound, never spliced into a statement. Every coroutine may be cancelled at any await:
    a write is then kept whole or not at all, and no transaction stays open. Driver errors never
    escape; they become ``PatternError`` with the driver's error as cause.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        ...

    async def close(self) -> None:
        """Finish acknowledged work and release everything; idempotent. Later calls raise
        ``DatabaseClosed``."""
        ...

    async def execute(self, query: Query, /, **params: Any) -> Any:
        """Run one query.

        ``Get`` gives a model or ``None``; ``Select`` a list in the asked order; ``Count`` a number;
        ``Insert`` the stored row (``None`` if it was ignored); ``Update`` and ``Delete`` the number
        of rows. A write is durable when this returns, unless a transaction is open or durability
        was relaxed. A key that is taken raises ``AlreadyExists``, a reference to nothing
        ``NotFound``.
        """
        ...

    async def write(self, statements: Sequence[Bound], /) -> list[Any]:
        """Run several writes as one: all are kept or none.

        Gives what ``execute`` would give for each. A statement whose ``expected`` count differs
        raises ``Conflict`` and undoes all of them. Durable when it returns, as ``execute``. Without
        statements it waits until the transactions that are open in this handle have ended.
        """
        ...

    def transaction(self, *, alone: bool = False) -> AbstractAsyncContextManager[None]:
        """What this task does inside is kept at the end, or undone on an error or cancellation.

        Reads inside see the writes inside. Inside another one it is a savepoint. Tasks started
        inside take part in it and must end before it does. A write that fails inside is undone, and
        the rest goes on. What others commit meanwhile may show; with ``alone`` nobody else writes
        while it is open.
        """
        ...

    async def create(self, tables: Sequence[Table], /) -> None:
        """Create tables with their indexes and text indexes; part of a migration."""
        ...

    async def drop(self, tables: Sequence[Table], /) -> None:
        """Drop tables and all that belongs to them; part of a migration's way down."""
        ...

    async def vacuum(self) -> None:
        """Give the space of removed rows back, where the engine keeps files."""
        ...

    async def optimize(self, *, progress: Progress | None = None) -> None:
        """Bring up to date now what searches derive from the data in the background: they are
        right without it, if slower. ``progress`` gets (rows done, rows in all)."""
        ...

    async def erase(self) -> None:
        """Remove the database itself, with all that this program made in it, and close.

        Opening it again makes an empty one. Nothing is removed, and ``DatabaseBusy`` raised, while
        somebody else has it open and the engine can tell; ``Unsupported`` if there is something in
        it that is not ours.
        """
        ...

    async def describe(self) -> dict[str, Any]:
        """Where the data lies and how large it is, for people to read; never a secret."""
        ...

    async def has_table(self, name: str, /) -> bool:
        """Whether a table of this name exists."""
        ...


@runtime_checkable
class BulkLoads(Protocol):
    """An engine whose vector indexes are cheaper to make at once than row by row."""

    def loading(self) -> AbstractAsyncContextManager[None]:
        """Many vectors are written inside: their indexes may be put off until the end.

        Searches are right meanwhile, if slower, and after a crash until ``optimize``.
        """
        ...


class TextStore(Protocol):
    """Search by words."""

    async def text_search(
        self,
        table: Table,
        terms: Sequence[str],
        *,
        agent_ids: Sequence[str],
        limit: int,
        condition: Filter | None = None,
        params: dict[str, Any] | None = None,
        exclude: Sequence[str] = (),
    ) -> list[tuple[str, float]]:
        """Ids of the rows that one of the agents may find and that hold at least one of the terms.

        Each term is text, not syntax; a term of several words must occur as that phrase. Scores are
        BM25, larger is better, best first. Hidden rows, rows outside the condition and excluded ids
        are left out before ranking.
        """
        ...


class VectorStore(Protocol):
    """Search by vectors."""

    async def vector_search(
        self,
        table: Table,
        vector: Vector,
        *,
        space: int,
        agent_ids: Sequence[str],
        limit: int,
        condition: Filter | None = None,
        params: dict[str, Any] | None = None,
        exclude: Sequence[str] = (),
    ) -> list[tuple[str, float]]:
        """Ids of the nearest items one of the agents may find, with their cosine, best first.

        An item counts once, with its best chunk. Hidden rows, rows outside the condition and
        excluded ids are left out before ranking, so that what exists is found.
        """
        ...

    async def vector_scores(
        self,
        table: Table,
        vector: Vector,
        *,
        space: int,
        agent_ids: Sequence[str],
        ids: Sequence[str],
    ) -> dict[str, float]:
        """The cosine of each of these items, which the agents may find, that has a vector."""
        ...


class Store(DatabaseBackend, TextStore, VectorStore, Protocol):
    """All that the rest of the package asks of an engine."""


class SyncReport(msgspec.Struct, frozen=True):
    """What a sync did: how many changes the server got, whether it gave some, and how many rows
    that were changed on both sides were made what they are there."""

    pushed: int
    pulled: bool
    resolved: int = 0


class SyncedStore(Store, Protocol):
    """A store that works without its server, and is brought together with it now and then."""

    async def sync(self, *, prefer: Prefer | None = None) -> SyncReport:
        """Push what was written here, then pull what others wrote.

        Rows that were changed on both sides to different values raise ``SyncConflict``, and
        nothing is pushed or pulled; with ``prefer`` those columns get the values of here or of
        there. What cannot be pushed stays here and waits. Raises ``ConnectionFailed`` if the
        server cannot be reached or refuses. Nothing acknowledged is lost, whatever is raised.
        """
        ...
