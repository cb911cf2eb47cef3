"""Running writes on the writing connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ...errors import Conflict, NotFound
from ...query import Bound, Insert
from ...schema import entity_of
from ..sql import Compiled, counted_columns, quoted
from .driver import Connection, Driver, MissingReference

_UNTOLD = "A row refers to something that is not there; nothing was kept."


def write_run(
    connection: Connection, bounds: Sequence[Bound], compiled: Compiled, driver: Driver
) -> list[Any]:
    """Run writes of one query, new rows in a single call of the driver."""
    query = bounds[0].query
    if len(bounds) == 1 or not isinstance(query, Insert) or query.on_conflict != "fail":
        return [write_one(connection, bound, compiled, driver) for bound in bounds]
    try:
        connection.executemany(compiled.sql, (compiled.bind(bound.params) for bound in bounds))
    except driver.failures as error:
        raise _explained(connection, bounds, error, driver) from error
    rows = [bound.params["row"] for bound in bounds]
    return _with_counts(connection, rows, query)


def write_one(connection: Connection, bound: Bound, compiled: Compiled, driver: Driver) -> Any:
    """Run one write; see ``DatabaseBackend.execute`` for what it gives."""
    try:
        connection.execute(compiled.sql, compiled.bind(bound.params))
    except driver.failures as error:
        raise _explained(connection, [bound], error, driver) from error
    touched = connection.changes()
    if bound.expected is not None and touched != bound.expected:
        raise Conflict("Somebody else changed this in the meantime; read it again and retry.")
    if not isinstance(bound.query, Insert):
        return touched
    if touched == 0:
        return None
    return _with_counts(connection, [bound.params["row"]], bound.query)[0]


def _with_counts(connection: Connection, rows: list[Any], query: Insert) -> list[Any]:
    """The rows as stored. New rows get ascending numbers, so the last ones are these; asking for
    what the database assigned is cheaper than RETURNING it."""
    names = counted_columns(query.table)
    if not names:
        return rows
    listed = ", ".join(map(quoted, names))
    found = connection.execute(
        f"SELECT {listed} FROM {quoted(query.table.name)} WHERE rowid > ? ORDER BY rowid",
        (connection.last_insert_rowid() - len(rows),),
    ).fetchall()
    return [
        msgspec.structs.replace(row, **dict(zip(names, values, strict=True)))
        for row, values in zip(rows, found, strict=True)
    ]


def _explained(
    connection: Connection, bounds: Sequence[Bound], error: Exception, driver: Driver
) -> BaseException:
    """Which reference of which row points nowhere, if that is what failed."""
    if not driver.misses_reference(error):
        return error
    for bound in bounds:
        if (missing := _missing(connection, bound)) is not None:
            return missing
    return MissingReference(_UNTOLD)


def _missing(connection: Connection, bound: Bound) -> NotFound | None:
    row = bound.params.get("row")
    for column in bound.query.table.columns if row is not None else ():
        key = getattr(row, column.name)
        if column.references is None or key is None:
            continue
        sql = f"SELECT 1 FROM {quoted(column.references.table)} WHERE id = ?"
        if connection.execute(sql, (key,)).fetchone() is None:
            return NotFound(entity_of(column.references.table), str(key))
    return None
