"""What SurrealDB says to what we say: the only place that knows both."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cbor2
import msgspec

from ...errors import (
    AlreadyExists,
    Conflict,
    ConnectionFailed,
    DatabaseBusy,
    DatabaseCorrupt,
    InvalidValue,
    NotFound,
    PatternError,
    QueryFailed,
    StorageFailed,
    StorageFull,
    Unsupported,
)
from ...schema import all_tables, entity_of
from .names import column_of_index

THROWN = "An error occurred: "
MISSING, DIFFERS, HELD, RESULT = (
    f"pattern:{what}:" for what in ("missing", "differs", "held", "is")
)
"""How our own scripts begin what they throw."""
_BUSY = "Another process writes to the database alone; try again, or raise database.busy_timeout_s."


class SurrealError(Exception):
    """An error that the engine answered with."""

    def __init__(self, answer: dict[str, Any]):
        super().__init__(str(answer.get("result") or answer.get("message") or answer))
        self.kind = str(answer.get("kind") or "")
        details = answer.get("details")
        self.details: dict[str, Any] = details if isinstance(details, dict) else {}

    @property
    def thrown(self) -> str:
        """What a ``THROW`` said."""
        return str(self).removeprefix(THROWN)


class ConnectionLost(ConnectionFailed):
    """The server went away in the middle of something."""


class Unreachable(ConnectionFailed):
    """No connection could be made, so nothing was asked of the server."""


class RolledBack(Conflict):
    """The engine undid a write because of others; done again it may well succeed."""


LOST = "The connection to the server was lost; it is made anew when it is needed, so try again."
_INDEX = re.compile(r"Database index `(\w+)` already contains .*, with record `(\w+):", re.DOTALL)
_FIELD = re.compile(r"for field `_?(\w+)` of")
_TAKEN = re.compile(r"`?(\w+)`?:")
_SENTENCES: list[tuple[str, type[PatternError], str]] = [
    ("can be retried", RolledBack, "Another write came first; nothing of this one was kept."),
    ("conflict", RolledBack, "Another write came first; nothing of this one was kept."),
    ("No space left", StorageFull, "There is no space left; nothing of this write was kept."),
    ("already locked", DatabaseBusy, "Another process has the database open; close it there."),
    ("Input/output error", StorageFailed, "The disk failed; nothing of this write was kept."),
    ("orrupt", DatabaseCorrupt, "The database is damaged; restore it from a backup."),
    ("checksum", DatabaseCorrupt, "The database is damaged; restore it from a backup."),
    (
        "ON DELETE REJECT",
        QueryFailed,
        "The write breaks a rule of the schema; nothing was kept.",
    ),
    (
        "timeout",
        QueryFailed,
        "The statement took too long and was stopped; narrow it, or raise the server's timeout.",
    ),
]
_LOGIN = "The server refused the login; check database.username, password, auth and namespace."


def first_error(results: Sequence[dict[str, Any]]) -> SurrealError | None:
    """Why a script failed: the first statement that did, not those that were skipped for it."""
    failed = [each for each in results if each.get("status") != "OK"]
    own = [each for each in failed if (each.get("details") or {}).get("kind") != "NotExecuted"]
    return SurrealError((own or failed)[0]) if failed else None


def translated(error: BaseException) -> PatternError:
    """The error of ours that says what the engine's means."""
    if isinstance(error, PatternError):
        return error
    if isinstance(error, SurrealError):
        return _answered(error)
    if isinstance(error, UnicodeEncodeError) or isinstance(error.__cause__, UnicodeEncodeError):
        return InvalidValue("text", "it holds half a surrogate pair, which is not text.")
    if isinstance(error, OverflowError):
        return InvalidValue("number", "it does not fit into 64 bits.")
    if isinstance(error, OSError):
        return ConnectionLost(LOST)
    if isinstance(error, RuntimeError):  # what the extension raises
        return _by_words(str(error))
    return InvalidValue("value", "it is of a type that cannot be stored.")


def _answered(error: SurrealError) -> PatternError:
    if error.kind == "Thrown" or error.thrown.startswith("pattern:"):
        return _ours(error.thrown)
    if error.kind == "AlreadyExists" and error.details.get("kind") == "Record":
        taken = _TAKEN.match(str((error.details.get("details") or {}).get("id") or ""))
        return _taken(taken[1] if taken else "")
    if (index := _INDEX.match(str(error))) is not None:
        column = column_of_index(index[2], index[1])
        return AlreadyExists(entity_of(index[2]), column.name if column else "key")
    if error.kind == "NotAllowed":
        return _not_allowed(error)
    if "Couldn't coerce value" in str(error) or error.kind == "Serialization":
        field = _FIELD.search(str(error))
        return InvalidValue(field[1] if field else "value", "it is of a type that it cannot hold.")
    if error.kind == "NotFound" and error.details.get("kind") == "Table":
        return QueryFailed("A table is missing in the database; run `pattern db migrate`.")
    return _by_words(str(error), error.kind)


def _ours(thrown: str) -> PatternError:
    if thrown.startswith(MISSING):
        table, key = msgspec.json.decode(thrown.removeprefix(MISSING))
        return NotFound(entity_of(table), key if isinstance(key, str) else str(key))
    if thrown.startswith(HELD):
        return DatabaseBusy(_BUSY)
    return Conflict("Somebody else changed this in the meantime; read it again and retry.")


def _taken(name: str) -> PatternError:
    key = next((table.key[-1] for table in all_tables() if table.name == name), "key")
    return AlreadyExists(entity_of(name), key)


def _not_allowed(error: SurrealError) -> PatternError:
    if error.details.get("kind") == "Auth":
        return ConnectionFailed(_LOGIN)
    return QueryFailed("The user of the database may not do this; grant it the rights.")


def _by_words(words: str, kind: str = "") -> PatternError:
    for known, ours, sentence in _SENTENCES:
        if known in words:
            return ours(sentence)
    if "uthenticat" in words:
        return ConnectionFailed(_LOGIN)
    if "onnection is closed" in words:
        return ConnectionLost(LOST)
    if kind == "NotSupported":
        return Unsupported("The engine cannot do this; look at the cause.")
    return QueryFailed(
        f"The engine refused a statement ({kind or 'no kind'}); please report this with the "
        "traceback."
    )


@contextmanager
def driver_errors() -> Iterator[None]:
    """Raise ours for the engine's."""
    try:
        yield
    except PatternError:
        raise
    except (
        SurrealError,
        UnicodeEncodeError,
        OverflowError,
        TypeError,
        ValueError,
        OSError,
        cbor2.CBORError,
    ) as error:
        raise translated(error) from error
    except RuntimeError as error:
        raise translated(error) from error
