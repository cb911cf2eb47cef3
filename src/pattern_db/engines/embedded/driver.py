"""What is asked of a driver for a file in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from ...errors import PatternError, QueryFailed


class Rows(Protocol):
    """What a statement gave."""

    def fetchone(self) -> Any:
        """The next row, or ``None``."""
        ...

    def fetchall(self) -> list[Any]:
        """The rows that are left."""
        ...


class Connection(Protocol):
    """A connection that one thread uses at a time. What it raises, ``Driver`` translates."""

    def execute(self, sql: str, values: Any = ..., /) -> Rows:
        """Run one statement."""
        ...

    def executemany(self, sql: str, values: Iterable[Any], /) -> object:
        """Run a statement that gives no rows once for each of these values."""
        ...

    def changes(self) -> int:
        """How many rows the last statement wrote, without those of triggers and cascades."""
        ...

    def last_insert_rowid(self) -> int:
        """The number of the row that was added last."""
        ...

    def get_autocommit(self) -> bool:
        """Whether no transaction is open."""
        ...


class Driver(NamedTuple):
    """The functions of a driver that its connections do not have."""

    translated: Callable[[BaseException], PatternError]
    """The error of ours that says what one of the driver's means."""
    errors: Callable[[], AbstractContextManager[None]]
    """Raise ours for the driver's."""
    failures: tuple[type[Exception], ...]
    """What the driver raises when a statement fails."""
    misses_reference: Callable[[BaseException], bool]
    """Whether an error says that a foreign key points nowhere."""
    disconnect: Callable[[Any], None]
    """Close a connection; never raises."""


class MissingReference(QueryFailed):
    """A foreign key points nowhere; the engine finds out which one before it tells anybody."""
