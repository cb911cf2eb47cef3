"""Turso's log of changed rows (its change data capture), which says what searches have to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from ...schema import Table
from ..embedded.driver import Connection
from ..sql import encode_json, quoted
from .record import values_of

LOG = "turso_cdc"
MOST_ENTRIES = 100_000
"""After more changes than this, reading all rows is as good as reading those that changed."""
PAGE_ROWS = 1000
_DELETED = -1
_SCHEMA = "sqlite_schema"
_NEWEST = f"SELECT coalesce(max(change_id), 0) FROM {LOG}"
_AT = f"SELECT change_time, change_type, table_name, id FROM {LOG} WHERE change_id = ?"
_ENTRIES = f"SELECT change_type, table_name, id, before FROM {LOG} WHERE change_id > ?"
_DROP = f"DELETE FROM {LOG} WHERE change_id < ?"
_LENGTH = f"SELECT coalesce(max(change_id) - min(change_id), 0) FROM {LOG}"
_THERE = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?"
_DATABASE_ID = "SELECT database_id FROM system_metadata"

Values = Sequence[Any]


class Place(msgspec.Struct, frozen=True):
    """How far the log was read: the number of an entry, and what tells it from another log's."""

    number: int
    mark: str


class Change(msgspec.Struct, frozen=True):
    """What became of some rows of a table; ``whole``: of all, so that the others are gone."""

    table: Table
    whole: bool
    gone: Sequence[Values]
    """The keys of rows that were removed, perhaps to be added again."""
    pages: Iterable[list[Values]]
    """The rows as they are now, the values of all columns."""


def newest(connection: Connection, revision: str) -> Place:
    """The end of the log; ``revision`` tells the data of a server from later ones."""
    (number,) = connection.execute(_NEWEST).fetchone()
    return Place(number, _mark(connection, number, revision))


def _mark(connection: Connection, number: int, revision: str) -> str:
    database = ()
    if connection.execute(_THERE, ("system_metadata",)).fetchone() is not None:
        database = connection.execute(_DATABASE_ID).fetchone()
    return repr((revision, database, connection.execute(_AT, (number,)).fetchone()))


def is_at_end(connection: Connection, place: Place) -> bool:
    """Whether nothing was logged since; only for a log that is known to be the same."""
    return bool(connection.execute(_NEWEST).fetchone()[0] == place.number)


def shorten(connection: Connection, place: Place) -> None:
    """Forget the entries before one that was read."""
    connection.execute(_DROP, (place.number,))


def keep_short(connection: Connection) -> None:
    """Forget a log that nobody read for long: then all rows are read the next time."""
    if connection.execute(_LENGTH).fetchone()[0] > MOST_ENTRIES:
        shorten(connection, newest(connection, ""))


def changes(
    connection: Connection, since: Place, tables: Sequence[Table], revision: str
) -> list[Change]:
    """What changed in some tables since then, in the order of the tables.

    All of it, where the log does not tell: it is another one, too long, or the schema changed.
    """
    (end,) = connection.execute(_NEWEST).fetchone()
    lost = end < since.number or _mark(connection, since.number, revision) != since.mark
    if lost or end - since.number > MOST_ENTRIES:
        return [_whole(connection, table) for table in tables]
    entries = connection.execute(_ENTRIES, (since.number,)).fetchall()
    if any(name == _SCHEMA for _, name, _, _ in entries):
        return [_whole(connection, table) for table in tables]
    touched = {table.name: [e for e in entries if e[1] == table.name] for table in tables}
    return [_partial(connection, t, touched[t.name]) for t in tables if touched[t.name]]


def _whole(connection: Connection, table: Table) -> Change:
    return Change(table, whole=True, gone=(), pages=_all_rows(connection, table))


def _partial(connection: Connection, table: Table, entries: Sequence[Values]) -> Change:
    places = _key_places(connection, table)
    before = [values_of(image) for kind, _, _, image in entries if kind == _DELETED]
    gone = [[values[place] for place in places] for values in before]
    numbers = sorted({number for _, _, number, _ in entries})
    return Change(table, whole=False, gone=gone, pages=_rows(connection, table, numbers))


def _key_places(connection: Connection, table: Table) -> list[int]:
    """Where the columns of the key are in a row of the database."""
    shown = connection.execute(f"PRAGMA table_info({quoted(table.name)})").fetchall()
    names = [row[1] for row in shown]
    return [names.index(name) for name in table.key]


def _columns(table: Table) -> str:
    return ", ".join(quoted(column.name) for column in table.columns)


def _all_rows(connection: Connection, table: Table) -> Iterator[list[Values]]:
    name, after = quoted(table.name), 0
    sql = (
        f"SELECT rowid, {_columns(table)} FROM {name} WHERE rowid > ? "
        f"ORDER BY rowid LIMIT {PAGE_ROWS}"
    )
    if connection.execute(_THERE, (table.name,)).fetchone() is None:
        return
    while page := connection.execute(sql, (after,)).fetchall():
        after = page[-1][0]
        yield [row[1:] for row in page]


def _rows(connection: Connection, table: Table, numbers: Sequence[int]) -> Iterator[list[Values]]:
    listed = "(SELECT value FROM json_each(?))"
    sql = (
        f"SELECT {_columns(table)} FROM {quoted(table.name)} WHERE rowid IN {listed} ORDER BY rowid"
    )
    for start in range(0, len(numbers), PAGE_ROWS):
        part = encode_json(numbers[start : start + PAGE_ROWS])
        yield connection.execute(sql, (part,)).fetchall()
