"""What was changed here and on the server since the last sync, and cannot both be.

A server takes pushed rows as they come: whoever pushes last wins, column by column. So before
anything is pushed each row that was changed here is compared with what it was when it came from the
server, which the log still knows, and with what the server has now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from ...models import Embedding, QueuedEmbedding
from ...schema import ColumnType, Index, Table, all_tables, table_of
from ..embedded.driver import Connection
from ..sql import quoted
from .log import LOG
from .record import values_of
from .server import Server, Statement

_INSERTED, _DELETED = 1, -1
_A_REQUEST = 200
_ENTRIES = (
    f"SELECT change_id, change_type, table_name, before, after, updates FROM {LOG} "
    "WHERE change_id > ? AND change_type <> 2 ORDER BY change_id LIMIT 1000"
)
_DERIVED = (table_of(Embedding), table_of(QueuedEmbedding))
"""Vectors follow their texts: the last ones win."""

Row = dict[str, Any]
T = TypeVar("T")


class Changed(msgspec.Struct):
    """A row that was changed here: what it was when it came, and what it is now."""

    table: Table
    key: tuple[Any, ...]
    before: Row | None
    now: Row | None


class Meeting(msgspec.Struct, frozen=True):
    """A row that was changed here and there: what the server has (``None`` if it was removed
    there), and the columns that cannot be both. ``taken``: they are another row's there."""

    table: Table
    key: tuple[Any, ...]
    theirs: Row | None
    columns: tuple[str, ...]
    taken: bool = False


def changed_rows(connection: Connection, since: int) -> list[Changed]:
    """The rows that were changed here after an entry of the log."""
    tables = {table.name: table for table in all_tables() if table not in _DERIVED}
    names: dict[str, list[str]] = {}
    found: dict[tuple[str, tuple[Any, ...]], Changed] = {}
    while entries := connection.execute(_ENTRIES, (since,)).fetchall():
        since = entries[-1][0]
        for _, kind, name, before, after, updates in entries:
            if (table := tables.get(name)) is None:
                continue
            if name not in names:
                names[name] = _names(connection, name)
            # what an upsert overwrote is not known: the driver notes what it wrote for both
            known = kind == _DELETED or (kind != _INSERTED and updates is not None)
            was = _row(names[name], before) if known else None
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


def meetings(changed: Sequence[Changed], server: Server) -> list[Meeting]:
    """Those rows that the server has otherwise than it gave them, and those that break a rule
    there. Raises ``ConnectionFailed``."""
    mine = {(change.table.name, change.key) for change in changed}
    found = []
    for change, theirs in _with_theirs(changed, server):
        if _changes(change.before, theirs, set()) and change.now != theirs:
            found.append(Meeting(change.table, change.key, theirs, _differing(change, theirs)))
    unique = [(change, index) for change in changed for index in _moved(change)]
    for (change, index), rows in _asked(unique, _holder, server):
        others = {(change.table.name, _key(change.table, row)) for row in rows or ()}
        if others - mine:
            found.append(Meeting(change.table, change.key, None, index.columns, taken=True))
    return found


def unpushed(changed: Sequence[Changed], server: Server) -> list[tuple[Changed, Row | None]]:
    """The rows that the server has otherwise than they are here, and what it has."""
    pairs = _with_theirs(changed, server)
    return [(change, theirs) for change, theirs in pairs if change.now != theirs]


def _with_theirs(
    changed: Sequence[Changed], server: Server
) -> Iterator[tuple[Changed, Row | None]]:
    """Each row and what the server has; none of a table that it does not have yet."""
    for change, rows in _asked(changed, _look_up, server):
        if rows is not None:
            yield change, rows[0] if rows else None


def _asked(
    items: Sequence[T], question: Callable[[T], Statement], server: Server
) -> Iterator[tuple[T, list[Row] | None]]:
    for start in range(0, len(items), _A_REQUEST):
        chunk = items[start : start + _A_REQUEST]
        yield from zip(chunk, server.ask([question(item) for item in chunk]), strict=True)


def _look_up(change: Changed) -> Statement:
    where = " AND ".join(f"{quoted(name)} = ?" for name in change.table.key)
    return Statement(f"SELECT * FROM {quoted(change.table.name)} WHERE {where}", change.key)


def _moved(change: Changed) -> Iterator[Index]:
    """The unique indexes in which a row has another place than when it came."""
    if (now := change.now) is None:
        return
    before = change.before or {}
    for index in change.table.indexes:
        live = ("is_active",) if index.live_only else ()
        values = [now[column] for column in index.columns]
        hidden = index.live_only and not now["is_active"]
        if not index.unique or hidden or None in values:
            continue
        if any(now[column] != before.get(column) for column in (*index.columns, *live)):
            yield index


def _holder(moved: tuple[Changed, Index]) -> Statement:
    change, index = moved
    now = change.now or {}
    where = " AND ".join(f"{quoted(column)} = ?" for column in index.columns)
    if index.live_only:
        where += " AND is_active = 1"
    sql = f"SELECT * FROM {quoted(change.table.name)} WHERE {where}"
    return Statement(sql, [now[column] for column in index.columns])


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
