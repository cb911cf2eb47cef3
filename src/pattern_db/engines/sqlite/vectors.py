"""Vector search: the index in this process, kept in step with the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import apsw

from ...embeddings.provider import Vector
from ...errors import PatternError, QueryFailed
from ...filters import And, Comparison, Filter, In, Param
from ...models import Embedding
from ...schema import Table, table_of
from ...vectors import Accepted, Row, Scope, VectorIndex
from ...vectors.scope import exact_rows
from ...vectors.source import PAGE_ROWS, best_items, scored
from ..base import Progress
from ..embedded.writer import Run
from ..sql import Compiled, Statement, encode_json, quoted
from .connection import Options, connect
from .ddl import removals_table
from .failures import disconnect, driver_errors

_LOG = quoted(removals_table(table_of(Embedding)))
_IN_SCOPE = "space = ? AND agent_id = ? AND kind = ?"
_LISTED = "(SELECT value FROM json_each(?))"
_ROW = "SELECT pk, item_id, vector FROM embeddings"
_ROWS = f"{_ROW} WHERE {_IN_SCOPE} AND pk > ? ORDER BY pk LIMIT ?"
_COUNT = f"SELECT count(*) FROM embeddings WHERE {_IN_SCOPE} AND pk <= ?"
_NUMBERED = f"{_ROW} WHERE pk IN {_LISTED} AND {_IN_SCOPE}"
_OF_ITEMS = f"{_ROW} WHERE item_id IN {_LISTED} AND {_IN_SCOPE}"
_NEWEST = (
    "SELECT (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'embeddings'), "
    f"(SELECT coalesce(max(pk), 0) FROM {_LOG})"
)
_REMOVALS = f"SELECT removed FROM {_LOG} WHERE pk > ? ORDER BY pk"
_REMOVED = f"SELECT removed FROM {_LOG} WHERE removed IN {_LISTED}"
_SCOPES = (
    "SELECT space, agent_id, kind, count(*), min(length(vector)) / 4 FROM embeddings "
    "GROUP BY space, agent_id, kind"
)
_DATABASE_ID = "SELECT database_id FROM system_metadata"

_FEW_SCOPES = 8
"""Of more agents it is not even looked for what is at hand."""

Read = Callable[[Run], Awaitable[Any]]
Hits = list[tuple[str, float]]


def segments_folder(path: str) -> Path:
    """Where the segments of a database file lie."""
    return Path(f"{path}-vectors")


class SqliteSource:
    """See ``vectors.Source``."""

    def __init__(self, connection: apsw.Connection):
        self._connection = connection

    def _all(self, sql: str, *values: Any) -> list[Any]:
        with driver_errors():
            rows: Any = self._connection.execute(sql, values).fetchall()
        return rows  # type: ignore[no-any-return]

    def database_id(self) -> str:
        """See ``vectors.Source``."""
        return str(self._all(_DATABASE_ID)[0][0])

    def newest(self) -> tuple[int, int]:
        """See ``vectors.Source``."""
        row, removal = self._all(_NEWEST)[0]
        return row, removal

    def rows(self, scope: Scope, after: int, limit: int) -> list[Row]:
        """See ``vectors.Source``."""
        return self._all(_ROWS, *_values(scope), after, limit)

    def count(self, scope: Scope, up_to: int) -> int:
        """See ``vectors.Source``."""
        return int(self._all(_COUNT, *_values(scope), up_to)[0][0])

    def rows_numbered(self, scope: Scope, numbers: Sequence[int]) -> list[Row]:
        """See ``vectors.Source``."""
        return self._all(_NUMBERED, encode_json(list(numbers)), *_values(scope))

    def rows_of(self, scope: Scope, items: Sequence[str]) -> list[Row]:
        """See ``vectors.Source``."""
        return self._all(_OF_ITEMS, encode_json(list(items)), *_values(scope))

    def removals(self, after: int) -> list[int]:
        """See ``vectors.Source``."""
        return [row[0] for row in self._all(_REMOVALS, after)]

    def removed_among(self, numbers: Sequence[int]) -> set[int]:
        """See ``vectors.Source``."""
        return {row[0] for row in self._all(_REMOVED, encode_json(list(numbers)))}


class VectorSearch:
    """The vectors of one database; ``read`` runs a function on a reading connection, ``read_short``
    one that is quick without changing threads."""

    def __init__(self, read: Read, read_short: Read, options: Options):
        self._read, self._read_short = read, read_short
        self._options = options
        # vectors tell much of their text: those of an encrypted database stay in memory
        folder = segments_folder(options.path) if options.key is None else None
        self._index = VectorIndex(self._connected, folder)

    @contextmanager
    def _connected(self) -> Iterator[SqliteSource]:
        connection = connect(self._options, writes=False)
        try:
            yield SqliteSource(connection)
        finally:
            disconnect(connection)

    async def search(
        self,
        table: Table,
        vector: Vector,
        *,
        space: int,
        agent_ids: Sequence[str],
        limit: int,
        condition: Filter | None,
        params: dict[str, Any],
        exclude: Sequence[str],
    ) -> Hits:
        """See ``VectorStore.vector_search``."""
        assert table.text is not None
        scopes = [Scope(space, agent, table.text.kind) for agent in agent_ids]
        accepting = _accepting(table, condition, params)

        def run(connection: apsw.Connection) -> Hits:
            found: Hits = []
            with _snapshot(connection) as (source, keep):
                for scope in scopes:
                    accepted = accepting(connection, scope)
                    found += self._index.search(
                        source,
                        scope,
                        vector,
                        limit,
                        accepted=accepted,
                        exclude=exclude,
                        keep=keep,
                    )
                rows = _shared(connection, table, agent_ids, space)
                found += _passing(scored(rows, vector), accepting(connection, None), exclude)
            return best_items(found, limit)

        if condition is not None:
            return await self._read(run)  # type: ignore[no-any-return]
        return await self._read_near(run, scopes, vector)  # type: ignore[no-any-return]

    async def scores(
        self,
        table: Table,
        vector: Vector,
        *,
        space: int,
        agent_ids: Sequence[str],
        ids: Sequence[str],
    ) -> dict[str, float]:
        """See ``VectorStore.vector_scores``."""
        assert table.text is not None
        scopes = [Scope(space, agent, table.text.kind) for agent in agent_ids]
        wanted = set(ids)

        def run(connection: apsw.Connection) -> dict[str, float]:
            found: dict[str, float] = {}
            with _snapshot(connection) as (source, keep):
                for scope in scopes:
                    found |= self._index.scores(source, scope, vector, ids, keep=keep)
                rows = _shared(connection, table, agent_ids, space)
                found |= best_items(scored([r for r in rows if r[1] in wanted], vector), len(rows))
            return found

        return await self._read_near(run, scopes, vector)  # type: ignore[no-any-return]

    async def _read_near(self, run: Run, scopes: Sequence[Scope], vector: Vector) -> Any:
        """Compare what is at hand in this thread: two that compute at once wait for each other
        longer than that takes. Else as ``read``."""

        def now(connection: apsw.Connection) -> Any:
            source = SqliteSource(connection)
            near = self._index.is_at_hand(source, scopes, len(vector))
            return run(connection) if near else None

        found = await self._read_short(now) if len(scopes) <= _FEW_SCOPES else None
        return await self._read(run) if found is None else found

    async def build(self, progress: Progress | None) -> None:
        """Bring the segments of all scopes up to date. Raises ``QueryFailed``."""
        scopes = await self._read(_large_scopes)
        total, done = sum(rows for _, _, rows in scopes), 0
        for scope, dimensions, rows in scopes:

            def tell(built: int, before: int = done) -> None:
                if progress is not None:
                    progress(min(before + built, total), total)

            await asyncio.to_thread(self._build, scope, dimensions, tell)
            done += rows

    def _build(self, scope: Scope, dimensions: int, tell: Callable[[int], None]) -> None:
        try:
            self._index.build(scope, dimensions, tell)
        except OSError as error:
            raise QueryFailed(
                "A vector segment cannot be written beside the database; make room, or give this "
                "user the right to write there."
            ) from error

    def sweep(self, *, whole: bool = False) -> None:
        """Remove the segments of scopes that are gone; ``whole``: those of removed rows too.

        What cannot be removed now is left for the next time: the rows themselves are gone.
        """
        with suppress(PatternError, OSError):
            self._index.sweep(whole=whole)

    def close(self) -> None:
        """Stop building."""
        self._index.close()
        self.sweep()


@contextmanager
def _snapshot(connection: apsw.Connection) -> Iterator[tuple[SqliteSource, bool]]:
    """One state of the database, and whether it is a committed one."""
    keep = not connection.in_transaction
    connection.execute("SAVEPOINT snapshot")
    try:
        yield SqliteSource(connection), keep
    finally:
        connection.execute("RELEASE snapshot")


class _Accepted:
    """See ``vectors.Accepted``: items whose rows meet a condition."""

    def __init__(
        self, connection: apsw.Connection, among: Compiled, pages: Compiled | None, params: Any
    ):
        self._connection = connection
        self._among, self._pages, self._params = among, pages, params

    def among(self, items: Sequence[str]) -> set[str]:
        """See ``vectors.Accepted``."""
        values = self._among.bind({**self._params, "_ids": items})
        return {row[0] for row in self._connection.execute(self._among.sql, values)}

    def pages(self, after: int) -> Iterator[list[Row]]:
        """See ``vectors.Accepted``."""
        assert self._pages is not None
        values = self._pages.bind({**self._params, "_after": after})
        rows: Any = self._connection.execute(self._pages.sql, values)
        while page := list(islice(rows, PAGE_ROWS)):
            yield page


Accepting = Callable[[apsw.Connection, Scope | None], Accepted | None]


def _accepting(table: Table, condition: Filter | None, params: dict[str, Any]) -> Accepting:
    """The condition for each scope, when there is one."""
    if condition is None:
        return lambda _connection, _scope: None
    assert table.text is not None
    owner = table.text.owner
    among = Statement(table)
    listed = among.condition(And((In("id", Param("_ids")), condition)))
    compiled = among.finish(
        f"SELECT id FROM {quoted(table.name)} WHERE {listed}", None, writes=False, bounded=False
    )

    def accepting(connection: apsw.Connection, scope: Scope | None) -> Accepted:
        if scope is None:
            return _Accepted(connection, compiled, None, params)
        pages = Statement(table)
        mine = pages.condition(And((Comparison(owner, "=", scope.agent_id), condition)))
        sql = (
            "SELECT e.pk, e.item_id, e.vector "
            f"FROM (SELECT id FROM {quoted(table.name)} WHERE {mine}) AS i CROSS JOIN embeddings "
            f"AS e ON e.item_id = i.id AND e.kind = {pages.value(scope.kind)} "
            f"AND e.space = {pages.value(scope.space)} AND e.pk > {pages.value(Param('_after'))}"
        )
        read = pages.finish(sql, None, writes=False, bounded=False)
        return _Accepted(connection, compiled, read, params)

    return accepting


def _passing(found: Hits, accepted: Accepted | None, exclude: Sequence[str]) -> Hits:
    hidden = set(exclude)
    among = accepted.among([item for item, _ in found]) if accepted and found else None
    return [hit for hit in found if hit[0] not in hidden and (among is None or hit[0] in among)]


def _shared(
    connection: apsw.Connection, table: Table, agent_ids: Sequence[str], space: int
) -> list[Row]:
    """The vectors of what others share with these agents: few, so read anew for each search."""
    assert table.text is not None
    if table.text.shared_through is None:
        return []
    rows: Any = connection.execute(
        f"{_ROW} WHERE item_id IN (SELECT block_id FROM {quoted(table.text.shared_through)} "
        f"WHERE agent_id IN {_LISTED}) AND kind = ? AND space = ?",
        (encode_json(list(agent_ids)), table.text.kind, space),
    ).fetchall()
    return list(rows)


def _large_scopes(connection: apsw.Connection) -> list[tuple[Scope, int, int]]:
    """(scope, dimensions, rows) of each that is worth a segment."""
    rows: Any = connection.execute(_SCOPES).fetchall()
    return [
        (Scope(space, agent, kind), width, count)
        for space, agent, kind, count, width in rows
        if count >= exact_rows(width)
    ]


def _values(scope: Scope) -> tuple[int, str, str]:
    return scope.space, scope.agent_id, scope.kind
