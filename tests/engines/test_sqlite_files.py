"""Which files the SQLite engine opens, and how."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import apsw
import pytest

import pattern_db
from pattern_db import (
    ConnectionFailed,
    DatabaseClosed,
    DatabaseCorrupt,
    PatternError,
    StorageFailed,
)
from pattern_db.engines.embedded import files
from pattern_db.engines.embedded.files import file_system_of
from pattern_db.engines.sqlite import SqliteStore
from pattern_db.engines.sqlite import connection as opening
from pattern_db.engines.sqlite.connection import Options, connect
from pattern_db.migrations import MigrationRunner
from pattern_db.models import User
from pattern_db.query import Count, Insert
from pattern_db.schema import table_of
from tests.rigs.faultvfs import Fault, FaultVFS


async def test_new_files_belong_to_their_owner_alone(path: str) -> None:
    before = os.umask(0)
    try:
        async with pattern_db.open(path, embeddings="none") as db:
            await db.users.create(name="Ada")
            for name in Path(path).parent.iterdir():
                assert stat.S_IMODE(name.stat().st_mode) == 0o600, name
    finally:
        os.umask(before)


async def test_every_setting_is_in_force(path: str) -> None:
    for durability, level in (("full", 2), ("relaxed", 1)):
        connection = connect(Options(path, durability=durability), writes=True)
        settings = {
            name: connection.pragma(name)
            for name in ("journal_mode", "synchronous", "foreign_keys", "cell_size_check")
        }
        connection.close()
        assert settings == {
            "journal_mode": "wal",
            "synchronous": level,
            "foreign_keys": 1,
            "cell_size_check": 1,
        }


async def test_a_reading_connection_cannot_write(path: str) -> None:
    async with pattern_db.open(path, embeddings="none"):
        connection = connect(Options(path), writes=False)
        with pytest.raises(apsw.ReadOnlyError):
            connection.execute("DELETE FROM users")
        connection.close()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"this is not a database, but long enough to look like one" * 100, DatabaseCorrupt),
        (b"SQLite format 3\0" + b"\xff" * 5000, PatternError),
    ],
)
async def test_what_is_no_database_is_refused_and_left_alone(
    path: str, content: bytes, error: type[Exception]
) -> None:
    Path(path).write_bytes(content)
    with pytest.raises(error):
        await pattern_db.open(path, embeddings="none")
    assert Path(path).read_bytes() == content


async def test_the_database_of_another_program_is_left_alone(path: str) -> None:
    other = apsw.Connection(path)
    other.execute("CREATE TABLE mine (x); INSERT INTO mine VALUES (1)")
    other.close()
    before = Path(path).read_bytes()
    with pytest.raises(DatabaseCorrupt, match="another program"):
        await pattern_db.open(path, embeddings="none")
    assert Path(path).read_bytes() == before


async def test_an_empty_file_becomes_a_database(path: str) -> None:
    Path(path).touch()
    async with pattern_db.open(path, embeddings="none") as db:
        assert await db.users.count() == 0


async def test_impossible_paths_are_one_clear_sentence(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, words in (
        (tmp_path, "directory"),
        (tmp_path / "no" / "such" / "place.db", "does not exist"),
        (fifo, "not a regular file"),
    ):
        with pytest.raises(ConnectionFailed, match=words):
            await pattern_db.open(str(path), embeddings="none")


async def test_a_key_encrypts_the_whole_file(path: str) -> None:
    async with pattern_db.open(path, embeddings="none", key="correct horse") as db:
        await db.users.create(name="needle-in-plain-sight")
        assert db.store.capabilities.encrypted
        for name in Path(path).parent.iterdir():
            assert b"needle-in-plain-sight" not in name.read_bytes(), name
    for wrong in ({"key": "wrong"}, {}):
        with pytest.raises(DatabaseCorrupt, match="another key"):
            await pattern_db.open(path, embeddings="none", **wrong)
    async with pattern_db.open(path, embeddings="none", key="correct horse") as db:
        assert [user.name for user in await db.users.list()] == ["needle-in-plain-sight"]


async def test_a_database_in_memory_is_one_database_and_leaves_nothing() -> None:
    async with pattern_db.open(":memory:", embeddings="none") as db:
        where = Path((await db.status()).storage["path"])
        await db.users.create(name="Ada")
        async with pattern_db.open(":memory:", embeddings="none") as other:
            assert await other.users.count() == 0
        assert await db.users.count() == 1
        assert where.exists()
    assert not where.parent.exists()


def test_network_file_systems_are_known(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"disk / ext4 rw 0 0\nserver:/x {tmp_path.resolve()} nfs4 rw 0 0\n")
    assert file_system_of(tmp_path / "mind.db", str(mounts)) == "nfs4"
    assert file_system_of(Path("/mind.db"), str(mounts)) == "ext4"
    assert file_system_of(Path("/mind.db"), str(tmp_path / "none")) is None


async def test_a_network_file_system_warns_or_is_refused(path: str, monkeypatch) -> None:
    monkeypatch.setattr(files, "file_system_of", lambda _path: "nfs4")
    with pytest.warns(UserWarning, match="network file system"):
        db = await pattern_db.open(path, embeddings="none")
    await db.close()
    with pytest.raises(ConnectionFailed, match="network file system"):
        await pattern_db.open(path, embeddings="none", strict_mode=True)


async def test_an_unsafe_sqlite_is_refused(path: str, monkeypatch) -> None:
    monkeypatch.setattr(opening, "_FIRST_SAFE_SQLITE", sys.maxsize)
    with pytest.raises(ConnectionFailed, match="newer apsw"):
        await pattern_db.open(path, embeddings="none")


async def test_a_forked_child_is_told_to_open_again(db: pattern_db.PatternDB) -> None:
    await db.users.create(name="Ada")
    from pattern_db.engines.embedded import store

    store._forked()
    try:
        with pytest.raises(DatabaseClosed, match="forked"):
            await db.users.count()
        with pytest.raises(DatabaseClosed, match="forked"):
            await db.users.create(name="Bob")
    finally:
        store._forks -= 1
    assert await db.users.count() == 1


async def test_after_a_failed_sync_nothing_more_is_written(path: str, clock) -> None:
    """A failed fsync must not be retried: the pages it covered may be gone (fsyncgate)."""
    faults = FaultVFS()
    store = await SqliteStore.connect(Options(path, vfs=faults.name))
    await MigrationRunner(store).migrate()
    ada = User(id="ada", created_at=clock(), updated_at=clock())
    with faults.armed(Fault("sync", suffix="-wal")), pytest.raises(StorageFailed):
        await store.execute(Insert(table_of(User)), row=ada)
    with pytest.raises(StorageFailed):
        await store.execute(Insert(table_of(User)), row=ada)
    assert await store.execute(Count(table_of(User))) == 0
    await store.close()
    async with pattern_db.open(path, embeddings="none") as db:
        assert await db.users.count() == 0
