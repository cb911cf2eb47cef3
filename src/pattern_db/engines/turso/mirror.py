"""What searches need, as a SQLite file beside the database: its ``-search`` file.

Turso's own full text is experimental and does not know of agents, and a server renumbers rows, so
the texts and vectors are copied into a database where FTS5 and the index of vectors work as they do
for the SQLite engine. It is derived: without it, or when it is damaged, stale or another
database's, it is made again from the rows. It never has anything that was not committed.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import apsw
import msgspec

from ...errors import PatternError
from ...models import Agent, Embedding, QueuedEmbedding, SystemMetadata
from ...schema import Table, all_tables, table_of
from ..embedded.driver import Connection
from ..sql import quoted
from ..sqlite.connection import Options as SqliteOptions
from ..sqlite.connection import connect, prepare_file
from ..sqlite.ddl import create_tables
from ..sqlite.engine import SqliteStore
from ..sqlite.failures import disconnect, driver_errors
from ..sqlite.vectors import segments_folder
from . import log
from .log import Change, Place

_FORMAT = 1
_STATE = (
    "CREATE TABLE mirror_state (id INTEGER PRIMARY KEY CHECK (id = 1), fingerprint TEXT NOT NULL, "
    "number INTEGER NOT NULL, mark TEXT NOT NULL) STRICT"
)
_READ_STATE = "SELECT fingerprint, number, mark FROM mirror_state"
_WRITE_STATE = "INSERT OR REPLACE INTO mirror_state VALUES (1, ?, ?, ?)"
_NOWHERE = Place(-1, "")

Ask = Callable[[SqliteStore], Awaitable[Any]]


def _plain(table: Table) -> Table:
    """The table without rules: those of the database hold for what is copied from it."""
    columns = tuple(msgspec.structs.replace(c, references=None) for c in table.columns)
    indexes = tuple(msgspec.structs.replace(index, unique=False) for index in table.indexes)
    return msgspec.structs.replace(table, columns=columns, indexes=indexes)


def _copied() -> list[Table]:
    """Agents first, for texts name them; vectors last, for they name texts."""
    texts = [table for table in all_tables() if table.text is not None]
    shares = {table.text.shared_through for table in texts if table.text is not None}
    shared = [table for table in all_tables() if table.name in shares]
    first, last = [table_of(SystemMetadata), table_of(Agent)], [table_of(Embedding)]
    return [_plain(table) for table in [*first, *texts, *shared, *last]]


COPIED = _copied()
_MADE = [*COPIED, _plain(table_of(QueuedEmbedding))]
_FINGERPRINT = blake2b(
    msgspec.json.encode([_FORMAT, [table.describe() for table in _MADE]]), digest_size=16
).hexdigest()


def mirror_path(path: str) -> str:
    """Where the mirror of a database file lies."""
    return f"{path}-search"


class Mirror(SqliteStore):
    """The mirror of one database. Making one takes no time: rows are copied by ``catch_up``."""

    def __init__(self, options: SqliteOptions):
        prepare_file(options)
        super().__init__(options)
        self._copying = threading.Lock()
        try:
            self._copier = connect(options, writes=True)
            self.place = _prepared(self._copier)
        except BaseException:
            self.release()
            raise

    @classmethod
    def of(cls, path: str, *, readers: int) -> Mirror:
        """The mirror of the database file at a path; one that cannot be used is made again."""
        options = SqliteOptions(path=mirror_path(path), durability="relaxed", readers=readers)
        try:
            return cls(options)
        except PatternError:
            remove_mirror(path)
            return cls(options)

    def _close_indexes(self) -> None:
        super()._close_indexes()
        if hasattr(self, "_copier"):
            disconnect(self._copier)

    def forget_place(self) -> None:
        """Compare all rows the next time: others are in their place."""
        with self._copying:
            self.place = _NOWHERE

    def catch_up(self, source: Connection, revision: str) -> None:
        """Bring the copy up to what is committed in the database. Blocks."""
        with self._copying, _snapshot(source):
            if log.is_at_end(source, self.place):
                return
            changed = log.changes(source, self.place, COPIED, revision)
            place = log.newest(source, revision)
            with driver_errors(), _transaction(self._copier):
                for change in changed:
                    _apply(self._copier, change)
                self._copier.execute(_WRITE_STATE, (_FINGERPRINT, place.number, place.mark))
            self.place = place

    def pending(self, source: Connection, revision: str) -> list[Change]:
        """What an open transaction changed since the mirror caught up."""
        if log.is_at_end(source, self.place):
            return []
        return [
            msgspec.structs.replace(change, pages=list(change.pages))
            for change in log.changes(source, self.place, COPIED, revision)
        ]

    async def pretend(self, changes: Sequence[Change], ask: Ask) -> Any:
        """What is answered if these changes are made, which are undone afterwards."""

        def run(connection: apsw.Connection) -> None:
            for change in changes:
                _apply(connection, change)

        try:
            async with self.transaction():
                await self._submit(run, savepoint=False)
                raise _Answered(await ask(self))
        except _Answered as answered:
            return answered.answer


class _Answered(Exception):
    """Undoes a transaction once its answer is known."""

    def __init__(self, answer: Any):
        super().__init__()
        self.answer = answer


def remove_mirror(path: str) -> None:
    """Forget what was derived from a database."""
    derived = mirror_path(path)
    for suffix in ("", "-wal", "-shm"):
        Path(derived + suffix).unlink(missing_ok=True)
    with suppress(OSError):
        shutil.rmtree(segments_folder(derived))


def _prepared(connection: apsw.Connection) -> Place:
    """Make the tables of a new mirror; how far an old one has read the log."""
    with driver_errors(), _transaction(connection):
        if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None:
            for statement in [_STATE, *create_tables(_MADE)]:
                connection.execute(statement)
            connection.execute(_WRITE_STATE, (_FINGERPRINT, _NOWHERE.number, _NOWHERE.mark))
        found: Any = connection.execute(_READ_STATE).fetchone()
        if found is None or found[0] != _FINGERPRINT:
            raise StaleMirror("The search file is of another version.")
    return Place(*found[1:])


class StaleMirror(PatternError):
    """The mirror was made by another version; it is made again."""


@contextmanager
def _snapshot(source: Connection) -> Iterator[None]:
    source.execute("BEGIN")
    try:
        yield
    finally:
        source.execute("COMMIT")


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if not connection.get_autocommit():
            connection.execute("ROLLBACK")
        raise


def _apply(connection: apsw.Connection, change: Change) -> None:
    """Make a change of the database in the mirror."""
    table, name = change.table, quoted(change.table.name)
    staged = f"temp.{quoted(f'staged_{table.name}')}"
    listed = ", ".join(quoted(column.name) for column in table.columns)
    key = ", ".join(map(quoted, table.key))
    same_key = " AND ".join(f"m.{quoted(k)} = s.{quoted(k)}" for k in table.key)
    matching = f"{staged} AS s CROSS JOIN {name} AS m ON {same_key}"
    equal = " AND ".join(f"m.{quoted(c.name)} IS s.{quoted(c.name)}" for c in table.columns)
    by_key = " AND ".join(f"{quoted(k)} = ?" for k in table.key)
    connection.executemany(f"DELETE FROM {name} WHERE {by_key}", change.gone)
    connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {staged[5:]} ({listed}, UNIQUE ({key}))")
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS seen (pk INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM temp.seen")
    places = ", ".join("?" * len(table.columns))
    for page in change.pages:
        connection.execute(f"DELETE FROM {staged}")
        connection.executemany(f"INSERT INTO {staged} VALUES ({places})", page)
        if table.logged_removals:  # a row that changed is another one, with another number
            connection.execute(
                f"DELETE FROM {name} WHERE pk IN (SELECT m.pk FROM {matching} WHERE NOT ({equal}))"
            )
        connection.execute(_upsert(table, staged, listed, key))
        if change.whole:
            connection.execute(f"INSERT INTO temp.seen SELECT m.pk FROM {matching}")
    if change.whole:
        connection.execute(f"DELETE FROM {name} WHERE pk NOT IN (SELECT pk FROM temp.seen)")


def _upsert(table: Table, staged: str, listed: str, key: str) -> str:
    names = [quoted(column.name) for column in table.columns if column.name not in table.key]
    changes = ", ".join(f"{name} = excluded.{name}" for name in names)
    main = quoted(table.name)
    differs = " OR ".join(f"{main}.{name} IS NOT excluded.{name}" for name in names)
    update = f"DO UPDATE SET {changes} WHERE {differs}" if names else "DO NOTHING"
    return (
        f"INSERT INTO {main} ({listed}) SELECT {listed} FROM {staged} WHERE true "
        f"ON CONFLICT ({key}) {update}"
    )
