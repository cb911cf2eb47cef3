"""Bringing a file and its server together: push first, then pull, and nothing is lost.

The driver replays changes that wait onto what it pulls, and drops one that breaks a rule with it.
So what was pulled is only applied while nothing waits, and what cannot be pushed is told and stays.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ...errors import PatternError, SyncConflict
from ...schema import Table, entity_of
from ..base import Prefer, SyncReport
from ..embedded.driver import Connection
from ..embedded.writer import Alone, Run, Writer
from ..sql import quoted
from .conflicts import Conflicting, Row, changed_rows, conflicting
from .ddl import mend_triggers
from .failures import disconnect, driver_errors
from .following import FollowingFile

_ROUNDS = 5
"""When others wrote between push and pull so often, they wait until both are done."""
_BROKEN_THERE = re.compile(r"UNIQUE constraint failed: (\w+)\.\(?(\w+(?:, \w+)*)")


class Syncing:
    """Syncs one file. ``renewed`` is called when pulled rows are in the place of others."""

    def __init__(self, file: FollowingFile, writer: Writer, renewed: Callable[[], None]):
        self._file, self._writer, self._renewed = file, writer, renewed

    async def sync(self, prefer: Prefer | None) -> SyncReport:
        """See ``SyncedStore.sync``."""
        resolved: Sequence[Conflicting] = ()
        if prefer == "theirs":
            resolved = await asyncio.to_thread(self._conflicts)
            await self._alone(lambda c: _take(c, resolved))
        pushed, checked = 0, prefer != "ours"
        for _ in range(_ROUNDS):
            pushed += await asyncio.to_thread(self._push, checked=checked)
            changes = await asyncio.to_thread(self._file.fetch)
            applied = await self._alone(partial(self._apply_alone, changes))
            if applied is not None:
                return SyncReport(pushed=pushed, pulled=applied, resolved=len(resolved))
        sent, applied = await self._alone(lambda _: self._push_and_pull(checked=checked))
        return SyncReport(pushed=pushed + sent, pulled=bool(applied), resolved=len(resolved))

    async def _alone(self, run: Run) -> Any:
        """Run something while nobody writes."""
        return await self._writer.submit(Alone(run, savepoint=False))

    def _push_and_pull(self, *, checked: bool) -> tuple[int, bool | None]:
        sent = self._push(checked=checked)
        return sent, self._apply(self._file.fetch())

    def _push(self, *, checked: bool) -> int:
        """How many changes were pushed. Raises ``SyncConflict``."""
        waiting = self._file.waiting()
        if not waiting:
            return 0
        if checked and (rows := self._conflicts()):
            raise _conflict(rows)
        try:
            self._file.push()
        except PatternError as error:
            if (broken := _BROKEN_THERE.search(str(error.__cause__))) is None:
                raise
            raise _taken(broken[1], broken[2]) from error
        return waiting

    def _conflicts(self) -> list[Conflicting]:
        connection = self._file.connect(writes=False)
        try:
            with driver_errors():
                changed = changed_rows(connection, self._file.last_pushed())
            return conflicting(changed, self._file.server)
        finally:
            disconnect(connection)

    def _apply_alone(self, changes: Any, _connection: Connection) -> bool | None:
        return self._apply(changes)

    def _apply(self, changes: Any) -> bool | None:
        """Whether there was something to apply; ``None`` if it must wait for another push."""
        if self._file.waiting():
            return None
        if changes is None:
            return False
        try:
            self._file.apply(changes)
        finally:
            self._renewed()
        mend_triggers_of(self._file)
        with suppress(PatternError):  # somebody still reads; it is folded the next time
            self._file.fold_log()
        self._file.keep_private()
        return True


def mend_triggers_of(file: FollowingFile) -> None:
    """Make the triggers that a server's data comes without. Blocks."""
    connection = file.unnoted()
    try:
        with driver_errors():
            mend_triggers(connection)
    finally:
        disconnect(connection)


def _conflict(rows: Sequence[Conflicting]) -> SyncConflict:
    return SyncConflict(
        [(row.table.entity, "/".join(map(str, row.key)), row.columns) for row in rows]
    )


def _taken(table: str, columns: str) -> SyncConflict:
    entity, column = entity_of(table), columns.split(", ")[-1]
    return SyncConflict(
        [],
        f"The server has another {entity} with the {column} of one here; change it here, then "
        "sync again.",
    )


def _take(connection: Connection, rows: Sequence[Conflicting]) -> None:
    """Make rows here what they are on the server, whose references are whole."""
    if not rows:
        return
    connection.execute("PRAGMA foreign_keys = 0")
    try:
        connection.execute("BEGIN IMMEDIATE")
        for row in rows:
            _put(connection, row.table, row.key, row.theirs)
        connection.execute("COMMIT")
    finally:
        if not connection.get_autocommit():
            connection.execute("ROLLBACK")
        connection.execute("PRAGMA foreign_keys = 1")


def _put(connection: Connection, table: Table, key: Sequence[Any], theirs: Row | None) -> None:
    name, keys = quoted(table.name), ", ".join(map(quoted, table.key))
    if theirs is None:
        where = " AND ".join(f"{quoted(column)} = ?" for column in table.key)
        connection.execute(f"DELETE FROM {name} WHERE {where}", tuple(key))
        return
    columns = [column.name for column in table.columns if column.name in theirs]
    listed = ", ".join(map(quoted, columns))
    places = ", ".join("?" * len(columns))
    changes = ", ".join(f"{quoted(c)} = excluded.{quoted(c)}" for c in columns)
    connection.execute(
        f"INSERT INTO {name} ({listed}) VALUES ({places}) ON CONFLICT ({keys}) DO UPDATE SET "
        f"{changes}",
        tuple(theirs[column] for column in columns),
    )
