"""The SQLite engine."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import apsw
import msgspec

from ...embeddings.provider import Vector
from ...errors import InvalidValue
from ...filters import Filter
from ...schema import Table, all_tables
from ..base import Capabilities, Progress
from ..embedded.store import EmbeddedStore, opened
from ..embedded.writer import Alone
from ..sql import quoted
from . import ddl
from .connection import Options, claim, connect, prepare_file
from .failures import DRIVER, disconnect, driver_errors
from .files import remove_files
from .text import TextSearch
from .vectors import VectorSearch, segments_folder

MEMORY = ":memory:"


class SqliteStore(EmbeddedStore):
    """One SQLite file. ``await SqliteStore.connect(options)`` opens it.

    The path ``:memory:`` is a file of its own in the temporary directory, gone when closed: every
    connection must see the same database, and SQLite keeps one in memory for each.
    """

    def __init__(self, options: Options):
        self._options = options
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        writing = connect(options, writes=True)
        try:
            with driver_errors():
                claim(writing)
        except BaseException:
            disconnect(writing)
            raise
        super().__init__(
            DRIVER, writing, lambda: connect(options, writes=False), readers=options.readers
        )
        self._text = TextSearch()
        self._vectors = VectorSearch(self._read, self._read_short, options)

    @classmethod
    async def connect(cls, options: Options) -> SqliteStore:
        """Open or create the file; refuse one that is not ours."""

        temporary = None
        if options.path == MEMORY:
            temporary = tempfile.TemporaryDirectory(prefix="pattern-db-")
            path = os.path.join(temporary.name, "memory.db")
            options = msgspec.structs.replace(options, path=path, durability="relaxed")
        await asyncio.to_thread(prepare_file, options)
        store = await opened(partial(cls, options))
        store._temporary = temporary
        return store

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do."""
        return Capabilities(
            engine="sqlite",
            version=apsw.sqlite_lib_version(),
            durable=self._options.durability == "full",
            encrypted=self._options.key is not None,
        )

    def _close_indexes(self) -> None:
        self._vectors.close()

    def _sweep_indexes(self) -> None:
        self._vectors.sweep()

    def _release(self) -> None:
        super()._release()
        if self._temporary is not None:
            self._temporary.cleanup()

    # schema

    async def create(self, tables: Sequence[Table], /) -> None:
        """See ``DatabaseBackend.create``."""
        await self._run_statements(list(ddl.create_tables(tables)))

    async def drop(self, tables: Sequence[Table], /) -> None:
        """See ``DatabaseBackend.drop``."""
        await self._run_statements(list(ddl.drop_tables(tables)))

    async def vacuum(self) -> None:
        """Rebuild the file without removed rows, and the text indexes without their words."""
        if self._current() is not None:
            raise InvalidValue("transaction", "a database cannot be vacuumed inside one.")
        self._check_open()

        def run(connection: apsw.Connection) -> None:
            for index in _text_indexes():
                connection.execute(f"INSERT INTO {index} ({index}) VALUES ('optimize')")
            connection.execute("VACUUM")
            with suppress(apsw.BusyError):  # somebody still reads the log; it shrinks later
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

        await self._writer.submit(Alone(run, savepoint=False))
        await asyncio.to_thread(partial(self._vectors.sweep, whole=True))

    async def optimize(self, *, progress: Progress | None = None) -> None:
        """See ``DatabaseBackend.optimize``: merge the text indexes and build vector segments."""
        self._check_open()
        await self._run_statements(
            [f"INSERT INTO {index} ({index}) VALUES ('optimize')" for index in _text_indexes()]
        )
        await self._vectors.build(progress)

    async def erase(self) -> None:
        """See ``DatabaseBackend.erase``."""
        if self._current() is not None:
            raise InvalidValue("transaction", "a database cannot be erased inside one.")
        self._check_open()
        await self.close()
        if self._temporary is None:
            await asyncio.shield(asyncio.to_thread(remove_files, self._options))

    async def describe(self) -> dict[str, Any]:
        """Sizes and versions, for ``pattern status``."""

        def run(connection: apsw.Connection) -> dict[str, Any]:
            page_size, pages = connection.pragma("page_size"), connection.pragma("page_count")
            free = connection.pragma("freelist_count")
            sql = "SELECT name FROM sqlite_schema WHERE type = 'index'"
            indexes = len(connection.execute(sql).fetchall())
            return {
                "bytes": page_size * pages,
                "free_bytes": page_size * free,
                "indexes": indexes,
            }

        shown: dict[str, Any] = await self._read(run)
        segments = segments_folder(self._options.path).glob("*.segment")
        return {"path": self._options.path, **shown, "vector_segments": len(list(segments))}

    # search

    async def text_search(
        self,
        table: Table,
        terms: Sequence[str],
        *,
        agent_ids: Sequence[str],
        limit: int,
        condition: Filter | None = None,
        params: dict[str, Any] | None = None,
        exclude: Sequence[str] = (),
    ) -> list[tuple[str, float]]:
        """See ``TextStore.text_search``."""
        if not terms:
            return []
        run = self._text.compile(
            table,
            terms,
            agent_ids=agent_ids,
            limit=limit,
            condition=condition,
            params=params or {},
            exclude=exclude,
        )
        return await self._read(run)  # type: ignore[no-any-return]

    async def vector_search(
        self,
        table: Table,
        vector: Vector,
        *,
        space: int,
        agent_ids: Sequence[str],
        limit: int,
        condition: Filter | None = None,
        params: dict[str, Any] | None = None,
        exclude: Sequence[str] = (),
    ) -> list[tuple[str, float]]:
        """See ``VectorStore.vector_search``."""
        return await self._vectors.search(
            table,
            vector,
            space=space,
            agent_ids=agent_ids,
            limit=limit,
            condition=condition,
            params=params or {},
            exclude=exclude,
        )

    async def vector_scores(
        self,
        table: Table,
        vector: Vector,
        *,
        space: int,
        agent_ids: Sequence[str],
        ids: Sequence[str],
    ) -> dict[str, float]:
        """See ``VectorStore.vector_scores``."""
        return await self._vectors.scores(table, vector, space=space, agent_ids=agent_ids, ids=ids)


def _text_indexes() -> list[str]:
    return [quoted(ddl.text_table(table)) for table in all_tables() if table.text is not None]
