"""Segments are files beside the database, which are never trusted, and may fail to be written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pattern_db import Agent, PatternDB, QueryFailed
from pattern_db.engines.sqlite.vectors import segments_folder
from pattern_db.vectors import Scope, index
from pattern_db.vectors.building import Builder
from pattern_db.vectors.locking import only_builder
from pattern_db.vectors.segment import header_of, open_segment
from tests.reliability.segments import (
    DIMENSIONS,
    LARGE,
    built,
    files,
    index_of,
    missing,
    nearest,
    say,
    texts,
    wrong,
)

from .conftest import MANY, opened, segment_of

pytestmark = pytest.mark.slow


def nothing(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_bytes(b"")


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def beheaded(file: Path) -> None:
    file.write_bytes(file.read_bytes()[1:])


def prolonged(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"more")


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [nothing, empty, zeroed, truncated, beheaded, prolonged, flipped],
    ids=lambda f: f.__name__,
)
async def test_a_damaged_segment_is_made_anew_while_searches_stay_right(
    db: PatternDB, large: Agent, path: str, damage: Callable[[Path], None]
) -> None:
    damage(files(path)[0])
    async with opened(path) as again:
        assert await wrong(again, path, large.id) == []
        await built(again)
        assert header_of(files(path)[0]).count == MANY
        assert await wrong(again, path, large.id) == []


async def test_no_changed_byte_goes_unnoticed(db: PatternDB, large: Agent, path: str) -> None:
    file = files(path)[0]
    content, scope = file.read_bytes(), header_of(file).scope

    with index_of(db)._connect() as source:
        assert open_segment(file, source, scope, DIMENSIONS) is not None

        @given(st.integers(0, len(content) - 1), st.integers(1, 255))
        @settings(max_examples=300, deadline=None)
        def changed(place: int, by: int) -> None:
            other = bytearray(content)
            other[place] ^= by
            file.write_bytes(other)
            assert open_segment(file, source, scope, DIMENSIONS) is None
            header_of(file)

        @given(st.integers(0, len(content) - 1))
        @settings(max_examples=100, deadline=None)
        def cut(length: int) -> None:
            file.write_bytes(content[:length])
            assert open_segment(file, source, scope, DIMENSIONS) is None
            header_of(file)

        changed()
        cut()


async def test_a_segment_of_another_scope_is_not_used(
    db: PatternDB, large: Agent, path: str
) -> None:
    other = await db.agents.create(name="Other")
    await say(db, other.id, texts(MANY, "other"))
    await db.optimize()
    one, two = files(path)
    contents = one.read_bytes(), two.read_bytes()
    two.write_bytes(contents[0])
    one.write_bytes(contents[1])
    async with opened(path) as again:
        for agent in (large.id, other.id):
            assert await wrong(again, path, agent) == []


async def test_a_segment_of_another_database_is_not_used(
    db: PatternDB, large: Agent, path: str, tmp_path: Path
) -> None:
    elsewhere = str(tmp_path / "other.db")
    async with opened(elsewhere) as other:
        agent = await other.agents.create(name="Flux", id=large.id)
        await say(other, agent.id, texts(MANY, "other"))
        await other.optimize()
    (theirs,) = files(elsewhere)
    (mine,) = files(path)
    assert mine.name == theirs.name
    shutil.copy(theirs, mine)
    async with opened(path) as again:
        assert await wrong(again, path, large.id) == []
        await built(again)
        assert header_of(mine).database_id != header_of(theirs).database_id


async def test_closing_removes_a_segment_of_another_database(
    db: PatternDB, large: Agent, path: str, tmp_path: Path
) -> None:
    (mine,) = files(path)
    elsewhere = str(tmp_path / "other.db")
    async with opened(elsewhere) as other:
        await other.agents.create(name="Flux")
        segments_folder(elsewhere).mkdir()
        shutil.copy(mine, segments_folder(elsewhere))
    assert files(elsewhere) == []


@pytest.mark.parametrize("newest_gone", [False, True])
@pytest.mark.parametrize("same_ids", [False, True])
async def test_an_older_copy_that_grew_differently_finds_all_it_has(
    path: str, tmp_path: Path, same_ids: bool, newest_gone: bool
) -> None:
    """Its rows have numbers that the segment knows as other rows."""

    async def grow(db: PatternDB, name: str, count: int) -> list[str]:
        turns = [
            {"role": "user", "content": text, **({"id": f"id-{n}"} if same_ids else {})}
            for n, text in enumerate(texts(count, name))
        ]
        return [m.id for m in await db.messages.append_many("agent-flux", turns)]

    async with opened(path) as db:
        await db.agents.create(name="Flux", id="agent-flux")
        await say(db, "agent-flux", texts(LARGE // 2))
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    async with opened(path) as db:
        await grow(db, "one way", MANY)
        await db.optimize()
    assert len(files(path)) == 1
    shutil.copy(copy, path)
    async with opened(path) as db:
        ids = await grow(db, "the other way", MANY + 5)
        if newest_gone:  # the very rows that would have shown that histories differ
            for id in ids[MANY - 16 : MANY]:
                await db.messages.purge(id)
        for _ in range(2):
            assert await missing(db, "agent-flux", texts(MANY - 16, "the other way")) == []
            assert await wrong(db, path, "agent-flux") == []
            await built(db)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "pattern_db.vectors"]


async def test_a_folder_that_cannot_be_made_is_told_once(
    db: PatternDB, flux: Agent, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    segments_folder(path).write_text("in the way")
    await say(db, flux.id, texts(MANY))
    for _ in range(3):
        assert await wrong(db, path, flux.id) == []
        await built(db)
    assert len(warnings_of(caplog)) == 1
    with pytest.raises(QueryFailed, match="cannot be written beside the database"):
        await db.optimize()
    await db.vacuum()
    await db.agents.purge(flux.id)
    segments_folder(path).unlink()


async def test_a_directory_in_place_of_a_segment_is_told_once(
    db: PatternDB, large: Agent, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    (file,) = files(path)
    file.unlink()
    file.mkdir()
    (file / "something").write_text("of somebody")
    async with opened(path) as again:
        for _ in range(3):
            assert await wrong(again, path, large.id) == []
            await built(again)
        assert len(warnings_of(caplog)) == 1
        await again.agents.purge(large.id)
    assert (file / "something").read_text() == "of somebody"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
async def test_a_full_disk_is_told_once_and_used_when_there_is_room(
    db: PatternDB,
    flux: Agent,
    path: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await say(db, flux.id, texts(MANY))
    folder = segments_folder(path)
    folder.mkdir()
    real = index._remove_leftovers

    def fill(_folder: Path) -> None:
        real(_folder)
        name = index_of(db)._path(Scope(db.embeddings.space or 0, flux.id, "message"))
        name.with_suffix(f".{os.getpid()}.new").symlink_to("/dev/full")

    monkeypatch.setattr(index, "_remove_leftovers", fill)
    for _ in range(3):
        assert await wrong(db, path, flux.id) == []
        await built(db)
    assert len(warnings_of(caplog)) == 1
    assert files(path) == []
    with pytest.raises(QueryFailed, match="make room"):
        await db.optimize()
    monkeypatch.setattr(index, "_remove_leftovers", real)
    assert await wrong(db, path, flux.id) == []
    await built(db)
    assert len(files(path)) == 1
    assert set(os.listdir(folder)) == {files(path)[0].name, "lock"}


async def test_a_file_that_the_disk_took_by_half_is_not_put_in_place(
    db: PatternDB, large: Agent, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = files(path)
    with index_of(db)._connect() as source:
        found = open_segment(file, source, header_of(file).scope, DIMENSIONS)
    before = file.read_bytes()

    class Short:
        def save(self, name: str) -> None:
            Path(name).write_bytes(before[: len(before) // 2])

    monkeypatch.setattr(found, "_index", Short())
    with pytest.raises(OSError, match="did not take all"):
        found.save(file)
    assert file.read_bytes() == before
    assert not list(segments_folder(path).glob("*.new"))


async def test_any_error_of_a_builder_is_told_once_and_harms_no_search(
    db: PatternDB,
    flux: Agent,
    path: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no memory")

    monkeypatch.setattr(Builder, "_add", fail)
    await say(db, flux.id, texts(MANY))
    for _ in range(3):
        assert await wrong(db, path, flux.id) == []
        await built(db)
    assert len(warnings_of(caplog)) == 1


@pytest.mark.parametrize("act", ["build", "close"])
async def test_what_killed_builders_left_is_removed(
    db: PatternDB, large: Agent, path: str, act: str
) -> None:
    left = files(path)[0].with_suffix(".4242.new")
    left.write_bytes(b"half")
    if act == "build":
        await db.optimize()
    else:
        async with opened(path):
            pass
    assert not left.exists()


async def test_closing_leaves_alone_what_another_builder_is_writing(
    db: PatternDB, large: Agent, path: str
) -> None:
    left = files(path)[0].with_suffix(".4242.new")
    left.write_bytes(b"half")
    with only_builder(segments_folder(path)) as alone:
        assert alone()
        async with opened(path):
            pass
        assert left.exists()


async def test_an_encrypted_database_writes_no_vector_file(path: str) -> None:
    async with opened(path, key="a key of a test") as db:
        agent = await db.agents.create(name="Flux")
        await say(db, agent.id, texts(MANY))
        await nearest(db, agent.id, "where")
        await built(db)
        assert len(segment_of(db)) == MANY
        await say(db, agent.id, texts(LARGE + 1, "more"))
        assert await missing(db, agent.id, [*texts(10), *texts(10, "more")]) == []
        await built(db)
        assert len(segment_of(db)) == MANY + LARGE + 1
        assert await missing(db, agent.id, [*texts(10), *texts(10, "more")]) == []
        await db.optimize()
        gone = (await nearest(db, agent.id, "where", 1))[0][0]
        await db.messages.purge(gone)
        await db.vacuum()
        assert gone not in dict(await nearest(db, agent.id, "where", MANY))
        await db.agents.purge(agent.id)
        assert not index_of(db)._scopes
        assert not segments_folder(path).exists()
    assert not segments_folder(path).exists()


async def test_a_database_in_memory_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with opened(":memory:") as db:
        agent = await db.agents.create(name="Flux")
        await say(db, agent.id, texts(MANY))
        await db.optimize()
        assert len(segment_of(db)) == MANY
        assert list(tmp_path.rglob("*.segment"))
    assert list(tmp_path.iterdir()) == []
