"""Driver errors to ours: the only place that knows both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import apsw

from ...errors import (
    AlreadyExists,
    Conflict,
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
    Unsupported,
)
from ...schema import entity_of
from ..embedded.driver import Driver, MissingReference

_UNIQUE = re.compile(r"UNIQUE constraint failed: (.*)")
_NOT_NULL = re.compile(r"NOT NULL constraint failed: \w+\.(\w+)")

_MESSAGES: list[tuple[type[BaseException], type[PatternError], str]] = [
    (
        apsw.BusyError,
        DatabaseBusy,
        "Another process held the write lock for too long; try again, or raise "
        "database.busy_timeout_s.",
    ),
    (
        apsw.LockedError,
        DatabaseBusy,
        "A statement in this process still holds the table; finish it and try again.",
    ),
    (
        apsw.FullError,
        StorageFull,
        "There is no space left where the database lives; free some and try again, nothing of "
        "this write was kept.",
    ),
    (
        apsw.CorruptError,
        DatabaseCorrupt,
        "The database file is damaged; restore it from a backup, and keep this file for study.",
    ),
    (
        apsw.NotADBError,
        DatabaseCorrupt,
        "The file is not a database, or it is encrypted with another key; check the path and "
        "database.key.",
    ),
    (
        apsw.ReadOnlyError,
        QueryFailed,
        "The database cannot be written; check the permissions of the file and its directory.",
    ),
    (
        apsw.CantOpenError,
        ConnectionFailed,
        "The database file cannot be opened; check that its directory exists and that you may "
        "write there.",
    ),
    (
        apsw.IOError,
        StorageFailed,
        "The file system failed; look at the system log, then open the database again.",
    ),
    (apsw.PermissionsError, ConnectionFailed, "You may not open the database file."),
    (
        apsw.ForkingViolationError,
        DatabaseClosed,
        "This process was forked from the one that opened the database; open it again here.",
    ),
    (apsw.ConnectionClosedError, DatabaseClosed, "The database was closed; open it again."),
    (apsw.InterruptError, QueryFailed, "The query was interrupted."),
    (
        apsw.SchemaChangeError,
        Conflict,
        "The schema was changed by another process; open the database again.",
    ),
    (apsw.NoFTS5Error, Unsupported, "This build of SQLite has no full-text search."),
]


def translated(error: BaseException) -> PatternError:
    """The error of ours that says what a driver's error means."""
    if isinstance(error, PatternError):
        return error
    if isinstance(error, apsw.ConstraintError):
        return _constraint(error)
    if isinstance(error, apsw.TooBigError):
        return LimitExceeded("value", "it is larger than the engine can store; split it.")
    for kind, ours, message in _MESSAGES:
        if isinstance(error, kind):
            return ours(message)
    if isinstance(error, UnicodeEncodeError):
        return InvalidValue("text", "it holds half a surrogate pair, which is not text.")
    if isinstance(error, OverflowError):
        return InvalidValue("number", "it does not fit into 64 bits.")
    if isinstance(error, TypeError | ValueError):
        return InvalidValue("value", "it is of a type that cannot be stored.")
    return QueryFailed(
        f"The engine refused a statement ({type(error).__name__}); please report this with the "
        "traceback."
    )


def _constraint(error: apsw.ConstraintError) -> PatternError:
    text = str(error)
    if found := _UNIQUE.search(text):
        columns = [name.split(".") for name in found[1].split(", ")]
        return AlreadyExists(entity_of(columns[0][0]), columns[-1][-1])
    if found := _NOT_NULL.search(text):
        return InvalidValue(found[1], "a value is needed.")
    if "FOREIGN KEY" in text:
        return MissingReference("A row refers to something that is not there; nothing was kept.")
    return QueryFailed("The write breaks a rule of the schema; nothing was kept.")


@contextmanager
def driver_errors() -> Iterator[None]:
    """Raise ours for the driver's."""
    try:
        yield
    except PatternError:
        raise
    except (
        apsw.Error,
        UnicodeEncodeError,
        OverflowError,
        TypeError,
        ValueError,
        OSError,
        MemoryError,
    ) as error:
        raise translated(error) from error


def _misses_reference(error: BaseException) -> bool:
    return getattr(error, "extendedresult", 0) == apsw.SQLITE_CONSTRAINT_FOREIGNKEY


def disconnect(connection: apsw.Connection) -> None:
    """Close a connection. What fails now is at most the last checkpoint: the log has it all."""
    with suppress(apsw.Error):
        connection.close()


DRIVER = Driver(translated, driver_errors, (apsw.Error,), _misses_reference, disconnect)
