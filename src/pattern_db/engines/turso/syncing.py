"""Bringing a file and its server together: push first, then pull, and nothing is lost.

The driver replays changes that wait onto what it pulls, and drops one that breaks a rule with it.
So what was pulled is only applied while nothing waits. Of a push the server keeps what it can, and
then takes all of it for pushed. So what would break a rule there is found before, and a push that
did not end well, also one of a killed process, is looked through: what the server does not have is
noted again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from ...clock import to_micros, utc_now
from ...errors import PatternError, SyncConflict
from ...ids import new_id
from ...schema import Table, TextIndex
from ..base import Prefer, SyncReport
from ..embedded.driver import Connection
from ..embedded.writer import Alone, Run, Writer
from ..sql import quoted
from .conflicts import Changed, Meeting, Row, changed_rows, meetings, unpushed
from .ddl import mend_triggers
from .following import FollowingFile, PushBroken

_ROUNDS = 5
"""When others wrote between push and pull so often, they wait until both are done."""


class Syncing:
    """Syncs one file. ``renewed`` is called when pulled rows are in the place of others."""

    def __init__(self, file: FollowingFile, writer: Writer, renewed: Callable[[], None]):
        self._file, self._writer, self._renewed = file, writer, renewed

    async def sync(self, prefer: Prefer | None) -> SyncReport:
        """See ``SyncedStore.sync``."""
        pushed = resolved = 0
        for _ in range(_ROUNDS):
            if missing := await asyncio.to_thread(self._unpushed):
                await self._alone(partial(_note_again, missing))
            rows = await asyncio.to_thread(self._meetings)
            resolved += _told(rows, prefer)
            await self._alone(partial(_settle, rows, prefer))
            try:
                pushed += await asyncio.to_thread(self._file.push)
            except PushBroken:
                continue
            fetched = [await asyncio.to_thread(self._file.fetch)]
            pulled = await self._alone(partial(self._apply, fetched))
            if pulled is not None:
                return SyncReport(pushed=pushed, pulled=pulled, resolved=resolved)
        report: SyncReport = await self._alone(partial(self._at_once, prefer))
        return report

    async def _alone(self, run: Run) -> Any:
        """Run something while nobody writes."""
        return await self._writer.submit(Alone(run, savepoint=False))

    def _at_once(self, prefer: Prefer | None, connection: Connection) -> SyncReport:
        _note_again(self._unpushed(), connection)
        rows = self._meetings()
        resolved = _told(rows, prefer)
        _settle(rows, prefer, connection)
        pushed = self._file.push()
        pulled = self._apply([self._file.fetch()], connection)
        return SyncReport(pushed=pushed, pulled=bool(pulled), resolved=resolved)

    def _meetings(self) -> list[Meeting]:
        if not self._file.waiting():
            return []
        with self._file.connected(writes=False) as connection:
            changed = changed_rows(connection, self._file.last_pushed())
        return meetings(changed, self._file.server)

    def _unpushed(self) -> list[tuple[Changed, Row | None]]:
        """What the server does not have although it was pushed, after a push that broke."""
        if not self._file.push_began():
            return []
        with self._file.connected(writes=False) as connection:
            changed = changed_rows(connection, 0)
        return unpushed(changed, self._file.server)

    def _apply(self, fetched: list[Any], _connection: Connection) -> bool | None:
        """Whether there was something to apply; ``None`` if it must wait for another push. What was
        fetched is taken out, for the driver fetches again only when nobody has it any more."""
        changes = fetched.pop()
        if self._file.waiting() or self._file.push_began():
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
    if taken := [row for row in rows if row.taken]:
        raise SyncConflict([_named(row) for row in taken], taken=True)
    clashing = [row for row in rows if row.columns]
    if clashing and prefer is None:
        raise SyncConflict([_named(row) for row in clashing])
    return len(clashing)


def _named(row: Meeting) -> tuple[str, str, tuple[str, ...]]:
    return row.table.entity, "/".join(map(str, row.key)), row.columns


def _note_again(missing: Sequence[tuple[Changed, Row | None]], connection: Connection) -> None:
    """Write rows as they are, so that they wait for the server again."""
    if not missing:
        return
    with _without_references(connection):
        for change, theirs in missing:
            if change.now is None:
                _put(connection, change.table, change.key, theirs)
            _put(connection, change.table, change.key, change.now)


@contextmanager
def _without_references(connection: Connection) -> Iterator[None]:
    """A transaction of rows whose references are whole elsewhere."""
    connection.execute("PRAGMA foreign_keys = 0")
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    finally:
        if not connection.get_autocommit():
            connection.execute("ROLLBACK")
        connection.execute("PRAGMA foreign_keys = 1")


def _settle(rows: Sequence[Meeting], prefer: Prefer | None, connection: Connection) -> None:
    """Make clashing rows what they are on the server, if that is preferred; its references are
    whole. Texts that may be merged have no right vector on either side, and are queued for one."""
    with _without_references(connection):
        for row in rows:
            if row.columns and prefer == "theirs":
                _put(connection, row.table, row.key, row.theirs)
            if row.table.text is not None:
                _embed_anew(connection, row.table, row.table.text, row.key[0])


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
