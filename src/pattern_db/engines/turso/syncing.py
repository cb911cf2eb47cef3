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

from ...clock import to_micros, utc_now
from ...errors import PatternError, SyncConflict
from ...ids import new_id
from ...schema import Table, TextIndex, entity_of
from ..base import Prefer, SyncReport
from ..embedded.driver import Connection
from ..embedded.writer import Alone, Run, Writer
from ..sql import quoted
from .conflicts import Meeting, Row, changed_rows, meetings
from .ddl import mend_triggers
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
        pushed = resolved = 0
        for _ in range(_ROUNDS):
            rows = await asyncio.to_thread(self._meetings)
            resolved += _told(rows, prefer)
            if rows:
                await self._alone(partial(_settle, rows, prefer))
            pushed += await asyncio.to_thread(self._push)
            changes = await asyncio.to_thread(self._file.fetch)
            pulled = await self._alone(partial(self._apply, changes))
            if pulled is not None:
                return SyncReport(pushed=pushed, pulled=pulled, resolved=resolved)
        report: SyncReport = await self._alone(partial(self._at_once, prefer))
        return report

    async def _alone(self, run: Run) -> Any:
        """Run something while nobody writes."""
        return await self._writer.submit(Alone(run, savepoint=False))

    def _at_once(self, prefer: Prefer | None, connection: Connection) -> SyncReport:
        rows = self._meetings()
        resolved = _told(rows, prefer)
        _settle(rows, prefer, connection)
        pushed = self._push()
        pulled = self._apply(self._file.fetch())
        return SyncReport(pushed=pushed, pulled=bool(pulled), resolved=resolved)

    def _meetings(self) -> list[Meeting]:
        if not self._file.waiting():
            return []
        with self._file.connected(writes=False) as connection:
            changed = changed_rows(connection, self._file.last_pushed())
        return meetings(changed, self._file.server)

    def _push(self) -> int:
        """How many changes were pushed. Raises ``SyncConflict``."""
        waiting = self._file.waiting()
        try:
            if waiting:
                self._file.push()
        except PatternError as error:
            if (broken := _BROKEN_THERE.search(str(error.__cause__))) is None:
                raise
            raise _taken(broken[1], broken[2]) from error
        return waiting

    def _apply(self, changes: Any, _connection: Connection | None = None) -> bool | None:
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
    with file.unnoted() as connection:
        mend_triggers(connection)


def _told(rows: Sequence[Meeting], prefer: Prefer | None) -> int:
    """How many rows cannot be both; raises ``SyncConflict`` unless somebody is preferred."""
    clashing = [row for row in rows if row.columns]
    if clashing and prefer is None:
        raise SyncConflict(
            [(row.table.entity, "/".join(map(str, row.key)), row.columns) for row in clashing]
        )
    return len(clashing)


def _taken(table: str, columns: str) -> SyncConflict:
    entity, column = entity_of(table), columns.split(", ")[-1]
    return SyncConflict(
        [],
        f"The server has another {entity} with the {column} of one here; change it here, then "
        "sync again.",
    )


def _settle(rows: Sequence[Meeting], prefer: Prefer | None, connection: Connection) -> None:
    """Make clashing rows what they are on the server, if that is preferred; its references are
    whole. Texts that may be merged have no right vector on either side, and are queued for one."""
    if not rows:
        return
    connection.execute("PRAGMA foreign_keys = 0")
    try:
        connection.execute("BEGIN IMMEDIATE")
        for row in rows:
            if row.columns and prefer == "theirs":
                _put(connection, row.table, row.key, row.theirs)
            if row.table.text is not None:
                _embed_anew(connection, row.table, row.table.text, row.key[0])
        connection.execute("COMMIT")
    finally:
        if not connection.get_autocommit():
            connection.execute("ROLLBACK")
        connection.execute("PRAGMA foreign_keys = 1")


def _embed_anew(connection: Connection, table: Table, text: TextIndex, id: str) -> None:
    connection.execute("DELETE FROM embeddings WHERE item_id = ? AND kind = ?", (id, text.kind))
    if not connection.changes():
        return
    live = f"id = ? AND {quoted(text.hidden[0])} <> {int(text.hidden[1])}"
    now = utc_now()
    connection.execute(
        "INSERT OR REPLACE INTO embedding_queue (kind, item_id, agent_id, token, queued_at) "
        f"SELECT ?, id, {quoted(text.owner)}, ?, ? FROM {quoted(table.name)} WHERE {live}",
        (text.kind, new_id("queued", now), to_micros(now), id),
    )


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
