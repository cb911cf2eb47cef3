"""Schema versions: fresh equals migrated, down keeps what it can, newer and foreign are refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import apsw
import pytest

import pattern_db
from pattern_db import InvalidValue, MigrationFailed, QueryFailed, SchemaVersionMismatch
from pattern_db.engines.sqlite import SqliteStore
from pattern_db.engines.sqlite.connection import Options
from pattern_db.migrations import Migration, MigrationRunner, known_migrations
from pattern_db.migrations.operations import CreateTables
from pattern_db.models import User
from pattern_db.query import Count, Insert
from pattern_db.schema import Column, ColumnType, Index, Table, all_tables, table_of

NOTES = Table(
    "notes",
    "note",
    (Column("id", ColumnType.TEXT), Column("text", ColumnType.TEXT, nullable=True)),
    indexes=(Index(("text",)),),
)
NEWEST = known_migrations()[-1].version
NEXT = NEWEST + 1
SECOND = Migration(NEXT, "notes", (CreateTables((NOTES,)),))


class Breaks:
    """A step that fails halfway."""

    async def up(self, store) -> None:
        await store.create((NOTES,))
        raise QueryFailed("the disk is on fire")

    async def down(self, store) -> None:
        raise AssertionError

    def describe(self) -> str:
        return "breaks"


@pytest.fixture
async def store(path: str) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.connect(Options(path))
    yield opened
    await opened.close()


def schema_of(path: str) -> list[tuple]:
    connection = apsw.Connection(path)
    try:
        return connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
        ).fetchall()
    finally:
        connection.close()


async def test_a_fresh_schema_equals_the_migrated_one(
    store: SqliteStore, path: str, tmp_path
) -> None:
    await MigrationRunner(store).migrate()
    fresh = str(tmp_path / "fresh.db")
    other = await SqliteStore.connect(Options(fresh))
    await other.create(all_tables())
    await other.close()
    assert schema_of(path) == schema_of(fresh)


async def test_migrating_is_recorded_and_idempotent(store: SqliteStore) -> None:
    runner = MigrationRunner(store)
    assert (await runner.status()).current == 0
    steps = [f"up {known.version:04} {known.description}" for known in known_migrations()]
    assert await runner.migrate(dry_run=True) == steps
    assert (await runner.status()).current == 0
    assert await runner.migrate() == steps
    assert await runner.migrate() == []
    status = await runner.status()
    assert (status.current, status.newest, status.pending) == (NEWEST, NEWEST, [])


async def test_down_then_up_keeps_the_data_it_can(store: SqliteStore, clock) -> None:
    runner = MigrationRunner(store, migrations=[*known_migrations(), SECOND])
    await runner.migrate()
    ada = User(id="ada", name="Ada", created_at=clock(), updated_at=clock())
    await store.execute(Insert(table_of(User)), row=ada)
    assert await runner.migrate(to=NEWEST) == [f"down {NEXT:04} notes"]
    assert not await store.has_table("notes")
    assert await runner.migrate() == [f"up {NEXT:04} notes"]
    assert await store.has_table("notes")
    assert await store.execute(Count(table_of(User))) == 1


async def test_a_database_of_the_first_version_gains_episodes_and_keeps_what_it_has(
    store: SqliteStore, clock, path: str
) -> None:
    await MigrationRunner(store, migrations=known_migrations()[:1]).migrate()
    ada = User(id="ada", name="Ada", created_at=clock(), updated_at=clock())
    await store.execute(Insert(table_of(User)), row=ada)
    await store.close()
    async with pattern_db.open(path, embeddings="none") as db:
        assert await db.users.get("ada") == ada
        agent = await db.agents.create(name="Flux")
        await db.episodes.start(agent.id, task="Move on.")
        assert (await db.status()).schema.current == NEWEST


async def test_all_the_way_down_leaves_an_empty_database(store: SqliteStore, path: str) -> None:
    runner = MigrationRunner(store)
    await runner.migrate()
    await runner.migrate(to=0)
    assert [row for row in schema_of(path) if row[1] != "sqlite_sequence"] == []
    await runner.migrate()
    assert (await runner.status()).pending == []


async def test_a_migration_that_stops_is_undone_and_can_run_again(store: SqliteStore) -> None:
    broken = Migration(NEXT, "breaks", (Breaks(),))
    runner = MigrationRunner(store, migrations=[*known_migrations(), broken])
    with pytest.raises(MigrationFailed, match="stopped and was undone") as failed:
        await runner.migrate()
    assert failed.value.expected == NEXT
    assert not await store.has_table("notes")
    assert (await runner.status()).current == NEWEST
    mended = MigrationRunner(store, migrations=[*known_migrations(), SECOND])
    await mended.migrate()
    assert await store.has_table("notes")


async def test_a_newer_database_is_refused_and_left_alone(store: SqliteStore, path: str) -> None:
    await MigrationRunner(store, migrations=[*known_migrations(), SECOND]).migrate()
    await store.close()
    before = schema_of(path)
    with pytest.raises(SchemaVersionMismatch, match="install a newer") as refused:
        await pattern_db.open(path, embeddings="none")
    assert (refused.value.found, refused.value.expected) == (NEXT, NEWEST)
    assert schema_of(path) == before


async def test_a_database_made_by_other_migrations_is_refused(
    store: SqliteStore, path: str
) -> None:
    await MigrationRunner(store, migrations=[*known_migrations(), SECOND]).migrate()
    changed = Migration(NEXT, "notes", (CreateTables((NOTES,)), CreateTables(())))
    with pytest.raises(SchemaVersionMismatch, match=f"Migration {NEXT}"):
        await MigrationRunner(store, migrations=[*known_migrations(), changed]).migrate()


async def test_opening_without_migrating_says_what_to_do(path: str) -> None:
    with pytest.raises(SchemaVersionMismatch, match="pattern db migrate"):
        await pattern_db.open(path, embeddings="none", migrate=False)
    async with pattern_db.open(path, embeddings="none") as db:
        await db.users.create(name="Ada")
    async with pattern_db.open(path, embeddings="none", migrate=False) as db:
        assert await db.users.count() == 1


@pytest.mark.parametrize("version", [-1, NEXT])
async def test_a_version_that_is_not_there_is_refused(store: SqliteStore, version: int) -> None:
    with pytest.raises(InvalidValue):
        await MigrationRunner(store).migrate(to=version)


async def test_opening_a_new_file_from_many_tasks_migrates_once(path: str) -> None:
    opened = await asyncio.gather(
        *(pattern_db.open(path, embeddings="none")._open() for _ in range(8))
    )
    ids = {db._metadata.database_id for db in opened}
    for db in opened:
        await db.close()
    assert len(ids) == 1
