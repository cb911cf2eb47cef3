"""What was changed here and on the server since the last sync, and cannot both be.

A server takes pushed rows as they come: whoever pushes last wins, column by column. So before
anything is pushed each row that was changed here is compared with what it was when it came from the
server, which the log still knows, and with what the server has now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from ...models import Embedding, QueuedEmbedding
from ...schema import ColumnType, Table, all_tables, table_of
from ..embedded.driver import Connection
from ..sql import quoted
from .log import LOG
from .record import values_of
from .server import Server, Statement

_INSERTED, _DELETED = 1, -1
_KEYS_A_REQUEST = 200
_ENTRIES = (
    f"SELECT change_id, change_type, table_name, before, after FROM {LOG} "
    "WHERE change_id > ? AND change_type <> 2 ORDER BY change_id LIMIT 1000"
)
_DERIVED = (table_of(Embedding), table_of(QueuedEmbedding))
"""Vectors follow their texts: the last ones win."""

Row = dict[str, Any]


class Changed(msgspec.Struct):
    """A row that was changed here: what it was when it came, and what it is now."""

    table: Table
    key: tuple[Any, ...]
    before: Row | None
    now: Row | None


class Meeting(msgspec.Struct, frozen=True):
    """A row that was changed here and there: what the server has (``None`` if it was removed
    there), and the columns that cannot be both."""

    table: Table
    key: tuple[Any, ...]
    theirs: Row | None
    columns: tuple[str, ...]


def changed_rows(connection: Connection, since: int) -> list[Changed]:
    """The rows that were changed here after an entry of the log."""
    tables = {table.name: table for table in all_tables() if table not in _DERIVED}
    names: dict[str, list[str]] = {}
    found: dict[tuple[str, tuple[Any, ...]], Changed] = {}
    while entries := connection.execute(_ENTRIES, (since,)).fetchall():
        since = entries[-1][0]
        for _, kind, name, before, after in entries:
            if (table := tables.get(name)) is None:
                continue
            if name not in names:
                names[name] = _names(connection, name)
            was = None if kind == _INSERTED else _row(names[name], before)
            now = None if kind == _DELETED else _row(names[name], after)
            key = _key(table, now or was or {})
            change = found.setdefault((name, key), Changed(table, key, was, None))
            change.now = now
    return list(found.values())


def _names(connection: Connection, table: str) -> list[str]:
    rows = connection.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
    return [row[1] for row in rows]


def _row(names: Sequence[str], record: bytes) -> Row:
    return dict(zip(names, values_of(record), strict=False))


def _key(table: Table, row: Row) -> tuple[Any, ...]:
    return tuple(row.get(column) for column in table.key)


def meetings(changed: Iterable[Changed], server: Server) -> list[Meeting]:
    """Those rows that the server has otherwise than it gave them. Raises ``ConnectionFailed``."""
    found = []
    for chunk in _chunks(changed, _KEYS_A_REQUEST):
        there = server.ask([_look_up(change) for change in chunk])
        for change, rows in zip(chunk, there, strict=True):
            if rows is None:
                continue  # the server has no such table yet
            theirs = rows[0] if rows else None
            if _changes(change.before, theirs, set()) and change.now != theirs:
                columns = _differing(change, theirs)
                found.append(Meeting(change.table, change.key, theirs, columns))
    return found


def _chunks(items: Iterable[Changed], size: int) -> Iterator[list[Changed]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _look_up(change: Changed) -> Statement:
    where = " AND ".join(f"{quoted(name)} = ?" for name in change.table.key)
    return Statement(f"SELECT * FROM {quoted(change.table.name)} WHERE {where}", change.key)


def _differing(change: Changed, theirs: Row | None) -> tuple[str, ...]:
    """The columns that were changed here and there, to different values. Times alone do not count:
    whoever touches a row changes those."""
    times = {c.name for c in change.table.columns if c.type is ColumnType.TIME}
    there = _changes(change.before, theirs, times)
    if change.now is None or theirs is None:
        return change.table.key if there else ()
    here = _changes(change.before, change.now, times)
    now = change.now
    return tuple(c for c in now if c in here & there and now[c] != theirs[c])


def _changes(before: Row | None, after: Row | None, ignored: set[str]) -> set[str]:
    """The columns whose values differ; all of them for a row that was added or removed."""
    if before is None or after is None:
        return set(before or after or ()) - ignored
    return {c for c in after if c not in ignored and (c not in before or before[c] != after[c])}
