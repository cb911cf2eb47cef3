"""Running writes on a connection: few in one pipeline, many new rows by ``COPY``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import msgspec
import psycopg

from ...errors import Conflict
from ...query import Bound, Insert
from ...schema import Table
from ..sql import Compiled, counted_columns, quoted
from .compiler import type_of
from .names import Schema
from .pool import Connection

COPY_FROM = 16
"""Rows; below, the extra question for the numbers that the database assigned costs more."""

Compile = Callable[[Any, dict[str, Any]], Compiled]


class Run(msgspec.Struct, frozen=True):
    """Neighbouring writes that go together: new rows of one table, or statements of any kind."""

    bounds: list[Bound]
    copied: bool


def runs_of(statements: Sequence[Bound]) -> list[Run]:
    """The writes in their order, rows that can be copied apart from the rest."""
    runs: list[Run] = []
    for _, group in groupby(statements, key=lambda bound: bound.query):
        bounds = list(group)
        if _can_be_copied(bounds):
            runs.append(Run(bounds, True))
        elif runs and not runs[-1].copied:
            runs[-1].bounds.extend(bounds)
        else:
            runs.append(Run(bounds, False))
    return runs


def _can_be_copied(bounds: list[Bound]) -> bool:
    query = bounds[0].query
    return (
        len(bounds) >= COPY_FROM
        and isinstance(query, Insert)
        and query.on_conflict == "fail"
        and all(bound.expected is None for bound in bounds)
        and (len(query.table.key) == 1 or not counted_columns(query.table))
    )


async def write_one(connection: Connection, bound: Bound, compiled: Compiled) -> Any:
    """Run one write; see ``DatabaseBackend.execute`` for what it gives."""
    cursor = connection.cursor(binary=True)
    await cursor.execute(compiled.sql, compiled.bind(bound.params), prepare=True)
    return await _result(cursor, bound)


async def write_all(
    connection: Connection, statements: Sequence[Bound], schema: Schema, compile_: Compile
) -> list[Any]:
    """Run several writes, inside a transaction or savepoint of the caller."""
    results: list[Any] = []
    for run in runs_of(statements):
        if run.copied:
            compiled = compile_(run.bounds[0].query, {})
            results += await _copy(connection, run.bounds, schema, compiled)
        elif len(run.bounds) == 1:
            bound = run.bounds[0]
            results.append(await write_one(connection, bound, compile_(bound.query, bound.params)))
        else:
            results += await _pipeline(connection, run.bounds, compile_)
    return results


async def _pipeline(
    connection: Connection, bounds: Sequence[Bound], compile_: Compile
) -> list[Any]:
    """One journey to the server for all of them; the first that fails says why."""
    cursors = [connection.cursor(binary=True) for _ in bounds]
    try:
        async with connection.pipeline():
            for cursor, bound in zip(cursors, bounds, strict=True):
                compiled = compile_(bound.query, bound.params)
                await cursor.execute(compiled.sql, compiled.bind(bound.params), prepare=True)
    except psycopg.Error:
        for cursor, bound in zip(cursors, bounds, strict=True):
            if cursor.rowcount >= 0:
                _check(cursor, bound)
        raise
    return [await _result(c, bound) for c, bound in zip(cursors, bounds, strict=True)]


def _check(cursor: Any, bound: Bound) -> None:
    if bound.expected is not None and cursor.rowcount != bound.expected:
        raise Conflict("Somebody else changed this in the meantime; read it again and retry.")


async def _result(cursor: Any, bound: Bound) -> Any:
    _check(cursor, bound)
    touched = cursor.rowcount
    if not isinstance(bound.query, Insert):
        return touched
    if touched == 0:
        return None
    row, names = bound.params["row"], counted_columns(bound.query.table)
    return _numbered(row, names, await cursor.fetchone()) if names else row


def _numbered(row: Any, names: Sequence[str], values: Sequence[Any]) -> Any:
    """The row as stored: with the numbers that the database assigned."""
    return msgspec.structs.replace(row, **dict(zip(names, values, strict=True)))


async def _copy(
    connection: Connection, bounds: Sequence[Bound], schema: Schema, compiled: Compiled
) -> list[Any]:
    table: Table = bounds[0].query.table
    listed = ", ".join(quoted(column.name) for column in table.columns)
    types = [connection.adapters.types[type_of(table, column)].oid for column in table.columns]
    sql = f"COPY {schema.of(table.name)} ({listed}) FROM STDIN (FORMAT BINARY)"
    cursor = connection.cursor()
    async with cursor.copy(sql) as copy:
        copy.set_types(types)
        for bound in bounds:
            await copy.write_row(compiled.bind(bound.params))
    rows = [bound.params["row"] for bound in bounds]
    return await _with_numbers(connection, rows, table, schema)


async def _with_numbers(
    connection: Connection, rows: list[Any], table: Table, schema: Schema
) -> list[Any]:
    names = counted_columns(table)
    if not names:
        return rows
    (key,) = table.key
    listed = ", ".join(map(quoted, (key, *names)))
    sql = f"SELECT {listed} FROM {schema.of(table.name)} WHERE {quoted(key)} = ANY($1::text[])"
    cursor = connection.cursor(binary=True)
    await cursor.execute(sql, ([getattr(row, key) for row in rows],), prepare=True)
    found = {values[0]: values[1:] for values in await cursor.fetchall()}
    return [_numbered(row, names, found[getattr(row, key)]) for row in rows]
