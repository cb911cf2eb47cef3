"""Driver errors to ours: the only place that knows both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from turso import _turso as driver

from ...errors import (
    AlreadyExists,
    ConnectionFailed,
    DatabaseBusy,
    DatabaseClosed,
    DatabaseCorrupt,
    InvalidValue,
    LimitExceeded,
    PatternError,
    QueryFailed,
    StorageFailed,
    StorageFull,
)
from ...schema import entity_of
from ..embedded.driver import Driver, MissingReference

HELD_ELSEWHERE = (
    "Turso lets one process at a time have a database file (and one handle, if it follows a "
    "server), and another one has this; close it there, or copy the data to an engine that shares "
    "(`pattern db copy`)."
)
_UNIQUE = re.compile(r"UNIQUE constraint failed: (\w+)\.\(?(\w+(?:, \w+)*)")
_NOT_NULL = re.compile(r"NOT NULL constraint failed: \w+\.(\w+)")
_FULL = re.compile(r"StorageFull|QuotaExceeded|FileTooLarge|No space left")

_OF_VALUES = (UnicodeEncodeError, OverflowError, TypeError, ValueError, OSError, MemoryError)
_KINDS: list[tuple[type[BaseException], type[PatternError], str]] = [
    (
        driver.Busy,
        DatabaseBusy,
        "Another handle held the write lock for too long; try again, or raise "
        "database.busy_timeout_s.",
    ),
    (
        driver.DatabaseFull,
        StorageFull,
        "There is no space left where the database lives; free some and try again, nothing of "
        "this write was kept.",
    ),
    (
        driver.Corrupt,
        DatabaseCorrupt,
        "The database file is damaged; restore it from a backup, and keep this file for study.",
    ),
    (driver.NotAdb, DatabaseCorrupt, "The file is not a database; check the path."),
    (
        driver.Readonly,
        QueryFailed,
        "The database cannot be written; check the permissions of the file and its directory.",
    ),
    (driver.Interrupt, QueryFailed, "The query was interrupted."),
]
_WORDS: list[tuple[str, type[PatternError], str]] = [
    ("Locking error", ConnectionFailed, HELD_ELSEWHERE),
    ("Connection closed", DatabaseClosed, "The database was closed; open it again."),
    (
        "PermissionDenied",
        ConnectionFailed,
        "The database file cannot be opened; check that you may write it and its directory.",
    ),
]


def translated(error: BaseException) -> PatternError:
    """The error of ours that says what a driver's error means."""
    if isinstance(error, PatternError):
        return error
    if isinstance(error, driver.Constraint):
        return _constraint(str(error))
    for kind, ours, message in _KINDS:
        if isinstance(error, kind):
            return ours(message)
    for words, ours, message in _WORDS:
        if words in str(error):
            return ours(message)
    if type(error).__name__ == "IoError":  # the driver does not export it
        return _storage(str(error))
    return _value(error) or QueryFailed(
        f"The engine refused a statement ({type(error).__name__}); please report this with the "
        "traceback."
    )


def _value(error: BaseException) -> PatternError | None:
    """What is wrong with a value, if one is."""
    if isinstance(error, UnicodeEncodeError):
        return InvalidValue("text", "it holds half a surrogate pair, which is not text.")
    if isinstance(error, OverflowError):
        return InvalidValue("number", "it does not fit into 64 bits.")
    if "too big" in str(error):
        return LimitExceeded("value", "it is larger than the engine can store; split it.")
    if isinstance(error, TypeError | ValueError) or "unexpected parameter value" in str(error):
        return InvalidValue("value", "it is of a type that cannot be stored.")
    return None


def _storage(text: str) -> PatternError:
    if _FULL.search(text):
        return StorageFull(
            "There is no space left where the database lives; free some and try again, nothing "
            "of this write was kept."
        )
    return StorageFailed(
        "The file system failed; look at the system log, then open the database again."
    )


def _constraint(text: str) -> PatternError:
    if found := _UNIQUE.search(text):
        return AlreadyExists(entity_of(found[1]), found[2].split(", ")[-1])
    if found := _NOT_NULL.search(text):
        return InvalidValue(found[1], "a value is needed.")
    if "FOREIGN KEY" in text:
        return MissingReference("A row refers to something that is not there; nothing was kept.")
    if "cannot store" in text:
        return InvalidValue("value", "it is of a type that cannot be stored.")
    return QueryFailed("The write breaks a rule of the schema; nothing was kept.")


@contextmanager
def driver_errors() -> Iterator[None]:
    """Raise ours for the driver's."""
    try:
        yield
    except PatternError:
        raise
    except Exception as error:
        if (
            not isinstance(error, _OF_VALUES)
            and type(error).__module__.partition(".")[0] != "turso"
        ):
            raise
        raise translated(error) from error


def _misses_reference(error: BaseException) -> bool:
    return isinstance(error, driver.Constraint) and "FOREIGN KEY" in str(error)


def disconnect(connection: Any) -> None:
    """Close a connection; what was committed is in the log, whatever fails now."""
    with suppress(Exception):
        connection.close()


DRIVER = Driver(translated, driver_errors, (Exception,), _misses_reference, disconnect)
