"""Errors: every one of the driver's becomes one of ours, each a sentence that holds no value."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import apsw
import pytest

import pattern_db
from pattern_db import (
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
    errors,
)
from pattern_db.engines.sqlite.failures import driver_errors, translated

pytestmark = pytest.mark.slow

NEEDLE = "needle7c1f"
SENTENCE = re.compile(r"[A-Z][^\n]*[.]")


def classes(root: type[BaseException]) -> Iterator[type[BaseException]]:
    for sub in root.__subclasses__():
        yield sub
        yield from classes(sub)


DRIVER_ERRORS = sorted({apsw.Error, *classes(apsw.Error)}, key=lambda kind: kind.__name__)
OTHERS: list[BaseException] = [
    UnicodeEncodeError("utf-8", NEEDLE, 0, 1, NEEDLE),
    OverflowError(NEEDLE),
    TypeError(NEEDLE),
    ValueError(NEEDLE),
    OSError(5, NEEDLE, NEEDLE),
    MemoryError(NEEDLE),
]

MEANINGS: dict[type[BaseException], type[PatternError]] = {
    apsw.BusyError: DatabaseBusy,
    apsw.CantOpenError: ConnectionFailed,
    apsw.ConnectionClosedError: DatabaseClosed,
    apsw.CorruptError: DatabaseCorrupt,
    apsw.ForkingViolationError: DatabaseClosed,
    apsw.FullError: StorageFull,
    apsw.IOError: StorageFailed,
    apsw.LockedError: DatabaseBusy,
    apsw.NotADBError: DatabaseCorrupt,
    apsw.SchemaChangeError: Conflict,
    apsw.TooBigError: LimitExceeded,
    apsw.NoFTS5Error: Unsupported,
}


def assert_a_sentence_without_values(error: PatternError) -> None:
    message = str(error)
    assert SENTENCE.fullmatch(message), message
    assert ". " not in message, f"more than one sentence: {message}"
    assert NEEDLE not in message
    assert NEEDLE not in repr(vars(error))


def test_the_driver_has_the_errors_this_table_was_made_for() -> None:
    in_module = {
        kind
        for _, kind in inspect.getmembers(apsw, inspect.isclass)
        if issubclass(kind, apsw.Error)
    }
    assert in_module == set(DRIVER_ERRORS)
    assert len(DRIVER_ERRORS) > 35


@pytest.mark.parametrize("kind", DRIVER_ERRORS, ids=lambda kind: kind.__name__)
def test_every_driver_error_becomes_one_of_ours(kind: type[BaseException]) -> None:
    error = kind(f"{NEEDLE}: database 'x' at /home/{NEEDLE}")
    assert_a_sentence_without_values(translated(error))
    with pytest.raises(PatternError) as raised, driver_errors():
        raise error
    assert type(raised.value) is MEANINGS.get(kind, type(raised.value))
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: type(error).__name__)
def test_every_python_error_of_the_driver_becomes_one_of_ours(error: BaseException) -> None:
    assert_a_sentence_without_values(translated(error))
    with pytest.raises(PatternError), driver_errors():
        raise error


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (code, kind)
        for kind, codes in {
            StorageFailed: [
                name for name in apsw.mapping_extended_result_codes
                if isinstance(name, str) and name.startswith("SQLITE_IOERR")
            ],
            DatabaseBusy: ["SQLITE_BUSY_RECOVERY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_BUSY_TIMEOUT"],
            DatabaseCorrupt: ["SQLITE_CORRUPT_INDEX", "SQLITE_CORRUPT_VTAB"],
            ConnectionFailed: ["SQLITE_CANTOPEN_ISDIR", "SQLITE_CANTOPEN_FULLPATH"],
            QueryFailed: ["SQLITE_READONLY_DIRECTORY", "SQLITE_READONLY_DBMOVED"],
        }.items()
        for code in codes
    ],
)  # fmt: skip
def test_extended_codes_mean_the_same(code: str, expected: type[PatternError]) -> None:
    number = apsw.mapping_extended_result_codes[code]
    assert isinstance(translated(apsw.exception_for(number)), expected)


@pytest.mark.parametrize(
    ("message", "expected", "words"),
    [
        ("UNIQUE constraint failed: users.id", AlreadyExists, "live user with this id"),
        (
            "UNIQUE constraint failed: memory_blocks.agent_id, memory_blocks.label",
            AlreadyExists,
            "memory block with this label",
        ),
        ("NOT NULL constraint failed: agents.name", InvalidValue, "'name'"),
        ("FOREIGN KEY constraint failed", QueryFailed, "refers to something"),
        (f"CHECK constraint failed: {NEEDLE}", QueryFailed, "rule of the schema"),
    ],
)
def test_constraints_name_what_they_guard(
    message: str, expected: type[PatternError], words: str
) -> None:
    error = translated(apsw.ConstraintError(message))
    assert isinstance(error, expected)
    assert words in str(error)
    assert_a_sentence_without_values(error)


def test_our_own_errors_pass_through() -> None:
    ours = InvalidValue("name", "it is too long.")
    assert translated(ours) is ours
    with pytest.raises(InvalidValue) as raised, driver_errors():
        raise ours
    assert raised.value is ours


# the tree

TREE = dict[str, str]


def drawn_tree() -> TREE:
    """The parent of each error in the drawing of the module's docstring."""
    parents: TREE = {}
    path: list[str] = ["PatternError"]
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"((?:│   |    )*)[├└]── (\w+)", line):
            depth = len(found[1]) // 4 + 1
            path[depth:] = [found[2]]
            parents[found[2]] = path[depth - 1]
    return parents


DECLARED = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, PatternError)
]


def test_the_drawing_is_the_tree() -> None:
    parents = {kind.__name__: kind.__mro__[1].__name__ for kind in DECLARED}
    assert parents.pop("PatternError") == "Exception"
    assert drawn_tree() == parents


@pytest.mark.parametrize("kind", DECLARED, ids=lambda kind: kind.__name__)
def test_every_error_is_exported_and_explained(kind: type[PatternError]) -> None:
    assert getattr(pattern_db, kind.__name__) is kind
    assert kind.__name__ in pattern_db.__all__
    assert kind.__doc__
    assert kind.__doc__.strip().endswith(".")


def test_no_error_class_is_hidden_elsewhere() -> None:
    """What the engine adds is below an exported class, so that ``except`` finds it."""
    hidden = set(classes(PatternError)) - set(DECLARED)
    ours = {kind for kind in hidden if kind.__module__.startswith("pattern_db")}
    assert all(kind.__mro__[1] in DECLARED for kind in ours)


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFound("agent", "agent_1"),
        errors.AlreadyExists("user", "id"),
        errors.InvalidValue("name", "it must be text."),
        errors.LimitExceeded("content", "it is too long."),
        errors.MissingExtra("openai", "The OpenAI provider"),
        errors.EmbeddingModelMismatch("a", "b", db_dimensions=3, config_dimensions=4),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_that_build_their_message_build_a_sentence(error: PatternError) -> None:
    assert_a_sentence_without_values(error)
