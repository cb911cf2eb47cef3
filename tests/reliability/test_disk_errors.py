"""A disk that fails at the n-th call, once or for ever: typed errors, nothing lost, nothing torn."""

from __future__ import annotations

import gc
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from pattern_db import (
    ConnectionFailed,
    DatabaseClosed,
    DatabaseCorrupt,
    MigrationFailed,
    NotFound,
    PatternDB,
    PatternError,
    QueryFailed,
    StorageFailed,
    StorageFull,
)
from tests.rigs.faultvfs import Fault, FaultVFS, each_nth

from .load import TALKER, Load, broken_promises
from .opening import open_over
from .soundness import flaws

pytestmark = pytest.mark.slow

EXPECTED = (
    StorageFull,
    StorageFailed,
    DatabaseCorrupt,
    ConnectionFailed,
    DatabaseClosed,
    QueryFailed,
    MigrationFailed,
    NotFound,
)
"""``NotFound``: what an act builds on was refused before."""

FAULTS = {
    "a write fails": Fault("write"),
    "a write fails half-way": Fault("write", short=True),
    "no write works any more": Fault("write", forever=True),
    "the disk is full for a moment": Fault("write", error=apsw.FullError),
    "the disk is full": Fault("write", error=apsw.FullError, forever=True),
    "a sync fails": Fault("sync"),
    "no sync works any more": Fault("sync", forever=True),
    "a sync finds no space": Fault("sync", error=apsw.FullError),
    "a truncate fails": Fault("truncate"),
    "no truncate works any more": Fault("truncate", forever=True),
    "a read fails": Fault("read"),
    "no read works any more": Fault("read", forever=True),
    "a file cannot be opened": Fault("open"),
    "no file can be opened any more": Fault("open", forever=True),
}
STEPS = {"write": 61, "read": 31, "sync": 2, "truncate": 1, "open": 1}
"""From one failing call to the next: a session makes about 800 writes and 300 reads."""


@pytest.fixture
async def template(tmp_path: Path) -> Path:
    """A database that lived before the disk began to fail."""
    path = tmp_path / "template.db"
    async with open_over(path, None) as db:
        load = Load(db, lambda _: None, "before")
        await load.prepare()
        await load.one_of_each(rounds=1)
    return path


@pytest.fixture(scope="module")
def faults() -> FaultVFS:
    return FaultVFS()


@pytest.fixture
def copy(template: Path, tmp_path: Path) -> Callable[[], Path]:
    """A fresh copy of the template, in place of the copy before."""

    def make() -> Path:
        for old in tmp_path.glob("mind.db*"):
            old.unlink()
        return Path(shutil.copy(template, tmp_path / "mind.db"))

    return make


def left_threads() -> list[str]:
    ours = ("pattern-db-writer", "pattern-db-reader")  # the session keeps its embedding thread
    return [t.name for t in threading.enumerate() if t.name.startswith(ours)]


def steps(db: PatternDB, acks: list[str]) -> list[Callable[[], Awaitable[Any]]]:
    """Everything a program may do in a session, one after the other."""
    load = Load(db, acks.append, "x")
    acts = [lambda act=act: act("x-0") for act in load.acts]
    modes = ("keyword", "semantic", "hybrid")
    searches = [lambda mode=mode: db.search(TALKER, "word1 said", mode=mode) for mode in modes]
    return [
        load.prepare,
        *acts,
        *searches,
        lambda: db.messages.list(TALKER),
        lambda: db.memory.history("before-block"),
        lambda: db.messages.repair(),
        lambda: db.embed_pending(),
        lambda: db.reembed(),
        lambda: db.status(),
        lambda: db.vacuum(),
    ]


async def session(path: Path, vfs: str, acks: list[str]) -> list[PatternError]:
    """A session that goes on after each error; gives the errors."""
    errors: list[PatternError] = []
    try:
        async with open_over(path, vfs) as db:
            for step in steps(db, acks):
                try:
                    await step()
                except PatternError as error:
                    errors.append(error)
    except PatternError as error:
        errors.append(error)
    return errors


async def recover(path: Path, acks: list[str]) -> None:
    """On a disk that works again everything is there, and a session meets no error."""
    assert broken_promises(path, acks) == []
    async with open_over(path, None) as db:
        load = Load(db, acks.append, "after")
        await load.prepare()
        await load.one_of_each(rounds=1)
    assert broken_promises(path, acks) == []
    assert flaws(path) == []


async def test_a_session_on_a_disk_that_works_meets_no_error(
    copy: Callable[[], Path], faults: FaultVFS
) -> None:
    acks: list[str] = []
    faults.reset()
    assert await session(copy(), faults.name, acks) == []
    assert len(acks) > 15
    assert all(faults.counts[operation] > 0 for operation in STEPS), faults.counts


async def fail_every(
    copy: Callable[[], Path], faults: FaultVFS, fault: Fault, *, step: int
) -> set[type[PatternError]]:
    """Sessions in which the first call fails, then one ``step`` later, and so on."""
    met: set[type[PatternError]] = set()
    for nth in each_nth(faults, fault, step=step):
        path, acks = copy(), list[str]()
        with faults.armed(nth):
            errors = await session(path, faults.name, acks)
        met |= {type(error) for error in errors}
        assert all(isinstance(error, EXPECTED) for error in errors), errors
        assert left_threads() == []
        await recover(path, acks)
    return met


@pytest.mark.parametrize("name", FAULTS)
async def test_a_few_failing_calls(
    name: str, copy: Callable[[], Path], faults: FaultVFS, caplog: pytest.LogCaptureFixture
) -> None:
    step = {"write": 251, "read": 101, "sync": 9, "open": 3}.get(FAULTS[name].operation, 1)
    assert await fail_every(copy, faults, FAULTS[name], step=step) != set()
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
async def test_many_failing_calls(name: str, copy: Callable[[], Path], faults: FaultVFS) -> None:
    met = await fail_every(copy, faults, FAULTS[name], step=STEPS[FAULTS[name].operation])
    assert met != set()


@pytest.mark.parametrize("operation", ["write", "sync", "read", "open"])
async def test_a_new_file_on_a_failing_disk_is_made_later(
    operation: str, tmp_path: Path, faults: FaultVFS
) -> None:
    path = tmp_path / "new.db"
    step = {"write": 40, "read": 7}.get(operation, 1)
    for fault in each_nth(faults, Fault(operation), step=step):  # type: ignore[arg-type]
        for old in tmp_path.glob("new.db*"):
            old.unlink()
        with faults.armed(fault):
            try:
                async with open_over(path, faults.name):
                    pass
            except PatternError as error:
                assert isinstance(error, EXPECTED)
        assert left_threads() == []
        await recover(path, [])


async def test_a_handle_works_again_once_there_is_space(
    copy: Callable[[], Path], faults: FaultVFS
) -> None:
    async with open_over(copy(), faults.name) as db:
        with faults.armed(Fault("write", error=apsw.FullError, forever=True)):
            for _ in range(3):
                with pytest.raises(StorageFull):
                    await db.messages.append(TALKER, role="user", content="x", id="refused")
            assert await db.messages.get("refused") is None
        await db.messages.append(TALKER, role="user", content="x", id="kept")
        assert await db.messages.get("refused") is None
        assert await db.messages.get("kept") is not None


async def test_a_transaction_on_a_full_disk_is_undone_as_a_whole(
    copy: Callable[[], Path], faults: FaultVFS
) -> None:
    async with open_over(copy(), faults.name) as db:
        before = await db.messages.count()
        full = Fault("write", error=apsw.FullError, forever=True)
        with faults.armed(full), pytest.raises(StorageFull):
            async with db.transaction():
                for n in range(3):
                    await db.messages.append(TALKER, role="user", content=f"part {n}")
        assert await db.messages.count() == before
        async with db.transaction():
            await db.messages.append(TALKER, role="user", content="after")
        assert await db.messages.count() == before + 1


async def test_a_handle_still_reads_after_its_disk_refused_a_sync(
    copy: Callable[[], Path], faults: FaultVFS
) -> None:
    async with open_over(copy(), faults.name) as db:
        with faults.armed(Fault("sync", suffix="-wal")), pytest.raises(StorageFailed):
            await db.messages.append(TALKER, role="user", content="x", id="refused")
        with pytest.raises(StorageFailed, match="open the database again"):
            async with db.transaction():
                await db.messages.append(TALKER, role="user", content="y")
        assert await db.messages.get("refused") is None
        assert await db.search(TALKER, "before-0-said") != []
