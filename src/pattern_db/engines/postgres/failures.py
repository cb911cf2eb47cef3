"""Driver errors to ours: the only place that knows both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg

from ...errors import (
    AlreadyExists,
    Conflict,
    ConnectionFailed,
    DatabaseBusy,
    DatabaseCorrupt,
    InvalidValue,
    LimitExceeded,
    NotFound,
    PatternError,
    QueryFailed,
    StorageFailed,
    StorageFull,
    Unsupported,
)
from ...schema import entity_of
from .names import column_of_constraint


class ConnectionLost(ConnectionFailed):
    """The server went away in the middle of something."""


class OutcomeUnknown(ConnectionFailed):
    """The connection was lost while something was being kept."""


class Unreachable(ConnectionFailed):
    """No connection could be made, so nothing was asked of the server."""


class RolledBack(Conflict):
    """The server undid a transaction because of others; done again it may well succeed."""


class ReadOnlyServer(QueryFailed):
    """The server only reads: it is a standby, or was made one."""


_LOST = "The connection to the server was lost; it is made anew when it is needed, so try again."
_LACKS_DATABASE = (
    ConnectionFailed,
    "The server has no database of this name; create it with `createdb`, or name another one.",
)
_TOO_MANY = (
    ConnectionFailed,
    "The server has too many connections; lower database.connections, or raise the server's.",
)
_MESSAGES: list[tuple[type[BaseException], type[PatternError], str]] = [
    (
        pg.SerializationFailure,
        RolledBack,
        "Another transaction changed the same rows first; nothing of this one was kept, retry it.",
    ),
    (
        pg.DeadlockDetected,
        RolledBack,
        "Two transactions waited for each other; nothing of this one was kept, retry it.",
    ),
    (
        pg.LockNotAvailable,
        DatabaseBusy,
        "Another transaction held a lock for too long; try again, or raise "
        "database.busy_timeout_s.",
    ),
    (
        pg.QueryCanceled,
        QueryFailed,
        "The statement took too long and was stopped; narrow it, or raise "
        "database.statement_timeout_s.",
    ),
    (
        pg.ReadOnlySqlTransaction,
        ReadOnlyServer,
        "The server only reads, as a standby does; name the primary, or every host, in the URL.",
    ),
    (
        pg.DiskFull,
        StorageFull,
        "The server has no space left; free some and try again, nothing of this write was kept.",
    ),
    (pg.TooManyConnections, *_TOO_MANY),
    (
        pg.InsufficientPrivilege,
        QueryFailed,
        "The user of the database may not do this; grant it the rights, or use another one.",
    ),
    (pg.InvalidCatalogName, *_LACKS_DATABASE),
    (
        pg.DependentObjectsStillExist,
        Unsupported,
        "The schema holds something that this program did not make; move or drop that first.",
    ),
    (
        pg.ProgramLimitExceeded,
        LimitExceeded,
        "it is larger than PostgreSQL can store or index.",
    ),
    (
        pg.UndefinedTable,
        QueryFailed,
        "A table is missing in the schema; run `pattern db migrate`.",
    ),
    (pg.OutOfMemory, QueryFailed, "The server has no memory left for this; try again later."),
    (pg.InsufficientResources, QueryFailed, "The server lacks resources; try again later."),
    (pg.IoError, StorageFailed, "The server's disk failed; look at its log."),
    (pg.DataCorrupted, DatabaseCorrupt, "The server found damaged data; restore it."),
    (pg.IndexCorrupted, DatabaseCorrupt, "The server found a damaged index; run REINDEX."),
    (pg.IdleInTransactionSessionTimeout, ConnectionLost, _LOST),
    (pg.AdminShutdown, ConnectionLost, _LOST),
    (pg.CrashShutdown, ConnectionLost, _LOST),
    (
        pg.CannotConnectNow,
        Unreachable,
        "The server is starting or stopping; try again in a moment.",
    ),
    (pg.FeatureNotSupported, Unsupported, "The server cannot do this; look at the cause."),
]

_CLASSES = {
    "08": (ConnectionLost, _LOST),
    "28": (ConnectionFailed, "The server refused the login; check the user and the password."),
    "40": (RolledBack, "The transaction was rolled back by the server; try it again."),
}
"""By the first two characters of the SQLSTATE."""


def translated(error: BaseException) -> PatternError:
    """The error of ours that says what a driver's error means."""
    if isinstance(error, PatternError):
        return error
    if isinstance(error, pg.IntegrityError):
        return _constraint(error)
    for kind, ours, message in _MESSAGES:
        if isinstance(error, kind):
            return ours("value", message) if ours is LimitExceeded else ours(message)
    if isinstance(error, psycopg.Error):
        return _by_state(error)
    if isinstance(error, UnicodeEncodeError):
        return InvalidValue("text", "it holds half a surrogate pair, which is not text.")
    if isinstance(error, OverflowError):
        return InvalidValue("number", "it does not fit into 64 bits.")
    if isinstance(error, OSError):
        return ConnectionLost(_LOST)
    return InvalidValue("value", "it is of a type that cannot be stored.")


def _by_state(error: psycopg.Error) -> PatternError:
    state = error.sqlstate
    if state is not None and state[:2] in _CLASSES:
        ours, message = _CLASSES[state[:2]]
        return ours(message)
    if isinstance(error, psycopg.DataError):
        return InvalidValue("value", "PostgreSQL cannot store it.")
    if state is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return ConnectionLost(_LOST)
    if isinstance(error, psycopg.ProgrammingError) and state is None:
        return InvalidValue("value", "it is of a type that cannot be stored.")
    return QueryFailed(
        f"The server refused a statement ({state or type(error).__name__}); please report this "
        "with the traceback."
    )


def _constraint(error: pg.IntegrityError) -> PatternError:
    about = error.diag
    table, name = about.table_name or "", about.constraint_name or ""
    column = column_of_constraint(table, name)
    if isinstance(error, pg.UniqueViolation):
        return AlreadyExists(entity_of(table), column.name if column else "key")
    if isinstance(error, pg.NotNullViolation):
        return InvalidValue(about.column_name or "value", "a value is needed.")
    if isinstance(error, pg.ForeignKeyViolation) and column and column.references:
        return NotFound(entity_of(column.references.table), _missing_key(about.message_detail))
    return QueryFailed("The write breaks a rule of the schema; nothing was kept.")


def _missing_key(detail: str | None) -> str:
    """The value in ``Key (column)=(value) is not present…``, in whatever language the rest is."""
    _, _, after = (detail or "").partition(")=(")
    return after.rpartition(")")[0] or "?"


@contextmanager
def driver_errors() -> Iterator[None]:
    """Raise ours for the driver's."""
    try:
        yield
    except PatternError:
        raise
    except (
        psycopg.Error,
        UnicodeEncodeError,
        OverflowError,
        TypeError,
        ValueError,
        OSError,
    ) as error:
        raise translated(error) from error


_REFUSALS = (
    (r"password|authentication|role .* does not exist|no pg_hba", _CLASSES["28"]),
    (r"database .* does not exist", _LACKS_DATABASE),
    (r"too many (clients|connections)|connection slots", _TOO_MANY),
)
"""What libpq says in words only, for servers that speak English."""


def refused_connection(error: psycopg.Error | OSError) -> PatternError:
    """Why a connection could not be made."""
    ours = translated(error)
    if not isinstance(ours, ConnectionLost):
        return ours
    for words, (kind, message) in _REFUSALS:
        if re.search(words, str(error)):
            return kind(message)
    return Unreachable(
        "The database server cannot be reached; check database.url, and that the server runs "
        "and accepts this user."
    )
