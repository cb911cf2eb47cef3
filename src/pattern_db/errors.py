"""Every error that leaves this package.

PatternError
├── ConnectionFailed          the database cannot be opened or was lost
│   └── DatabaseClosed        the handle was closed, or a forked child uses its parent's
├── QueryFailed               the engine refused or failed a statement
│   ├── DatabaseBusy          another process held the write lock longer than the timeout
│   ├── StorageFull           no space left where the database lives
│   ├── StorageFailed         the disk or file system failed; the engine stops writing
│   ├── DatabaseCorrupt       the file is damaged or is not a database
│   └── Conflict              somebody else changed the row first
│       └── SyncConflict      rows were changed here and on the server
├── SchemaVersionMismatch     the database is newer than this program, or not migrated
│   └── MigrationFailed       a migration stopped; the database is as it was before it
├── EmbeddingModelMismatch    the database was embedded with another model
├── EmbeddingFailed           the embedding provider failed
├── ConfigError               a setting is unknown, missing or impossible
│   └── MissingExtra          an optional package is not installed
├── NotFound                  no such entity
├── AlreadyExists             an entity with this key is there
├── InvalidValue              an argument cannot be stored or understood
│   └── LimitExceeded         longer or more than a stated limit
├── PermissionDenied          the block or attachment does not allow this
├── BatchIncomplete           a batch has unanswered tool calls
├── Unsupported               this engine cannot do that
├── ImportFailed              a file to import cannot be read as what it should be
└── CopyFailed                two databases hold different things where a copy must not choose

Each message is one sentence that says what happened, to what, and what to do next. It never holds a
stored value, a connection string or a key. The driver's own error is kept as ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Sequence


class PatternError(Exception):
    """The root of every error this package raises on purpose."""


class ConnectionFailed(PatternError):
    """The database cannot be opened, or the connection to it was lost."""


class DatabaseClosed(ConnectionFailed):
    """The handle was closed, or belongs to the parent of this forked process."""


class QueryFailed(PatternError):
    """The engine refused or failed a statement; nothing of the write was kept."""


class DatabaseBusy(QueryFailed):
    """Another process held the write lock for longer than the busy timeout."""


class StorageFull(QueryFailed):
    """There is no space left; the write was rolled back."""


class StorageFailed(QueryFailed):
    """The disk or file system failed; what was acknowledged before is not affected."""


class DatabaseCorrupt(QueryFailed):
    """The file is damaged, encrypted with another key, or not a database."""


class Conflict(QueryFailed):
    """The row was changed by somebody else between reading and writing it."""


class SyncConflict(Conflict):
    """Rows were changed here and on the server and cannot be both; nothing was pushed or pulled.

    ``rows`` are (entity, key, columns) of each. ``taken``: another row of the server's has what
    must be unique, so that neither side can be preferred.
    """

    def __init__(self, rows: Sequence[tuple[str, str, Sequence[str]]], *, taken: bool = False):
        shown = ", ".join(f"{entity} {key} ({', '.join(names)})" for entity, key, names in rows[:3])
        more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
        super().__init__(
            f"Another row of the server has what must be unique of {shown}{more}; change it here, "
            "then sync again."
            if taken
            else f"Changed here and on the server: {shown}{more}; sync again and say whose changes "
            'stay, with prefer="ours" or prefer="theirs".'
        )
        self.rows = list(rows)
        self.taken = taken


class SchemaVersionMismatch(PatternError):
    """The schema of the database is not the one this program works with."""

    def __init__(self, message: str, *, found: int | None = None, expected: int | None = None):
        super().__init__(message)
        self.found = found
        self.expected = expected


class MigrationFailed(SchemaVersionMismatch):
    """A migration stopped; the database is as it was before it."""


class EmbeddingModelMismatch(PatternError):
    """The vectors in the database were made by another model than the configured one."""

    def __init__(
        self,
        db_model: str,
        config_model: str,
        *,
        db_dimensions: int | None = None,
        config_dimensions: int | None = None,
    ):
        def named(model: str, dimensions: int | None) -> str:
            return f"{model!r} ({dimensions} dimensions)" if dimensions else repr(model)

        super().__init__(
            f"The database was embedded with {named(db_model, db_dimensions)} but the "
            f"configuration asks for {named(config_model, config_dimensions)}; run "
            "`pattern db reembed` to embed it anew, or configure the first model again."
        )
        self.db_model = db_model
        self.config_model = config_model
        self.db_dimensions = db_dimensions
        self.config_dimensions = config_dimensions


class EmbeddingFailed(PatternError):
    """The embedding provider failed or answered with something that is not a vector."""


class ConfigError(PatternError):
    """A setting is unknown, missing, or impossible together with another one."""


class MissingExtra(ConfigError):
    """An optional package is not installed; the message holds the pip command."""

    def __init__(self, extra: str, needed_for: str):
        super().__init__(
            f"{needed_for} needs an optional package: run `pip install 'pattern-db[{extra}]'`."
        )
        self.extra = extra


class NotFound(PatternError):
    """There is no such entity (or it was deleted)."""

    def __init__(self, entity: str, key: str):
        super().__init__(f"There is no {entity} {key!r}; check the id, or list what is there.")
        self.entity = entity
        self.key = key


class AlreadyExists(PatternError):
    """An entity with this key is already there."""

    def __init__(self, entity: str, field: str):
        super().__init__(
            f"A live {entity} with this {field} is already there; update it, or choose another one."
        )
        self.entity = entity
        self.field = field


class InvalidValue(PatternError, ValueError):
    """An argument cannot be stored or understood; ``field`` names it."""

    def __init__(self, field: str, problem: str):
        super().__init__(f"Invalid value for {field!r}: {problem}")
        self.field = field


class LimitExceeded(InvalidValue):
    """A value is longer, or there are more of them, than a stated limit."""


class PermissionDenied(PatternError):
    """The permission of a block, or of its attachment to an agent, does not allow this."""


class BatchIncomplete(PatternError):
    """A batch of messages still has tool calls without a response."""


class Unsupported(PatternError):
    """The engine in use cannot do what was asked."""


class ImportFailed(PatternError):
    """A file to import is not what it should be; the message names the place."""


class CopyFailed(PatternError):
    """One database cannot take what another one has; the message names the row."""
