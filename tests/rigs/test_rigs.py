"""The rigs themselves: each finds what it is made to find, on plain SQLite."""

from __future__ import annotations

import asyncio
import base64
import gzip
import itertools
import json
import struct
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings

from . import hostile
from .ackpipe import ChildError, kill_cycles, kills, module, script
from .canary import Finding, Needles
from .faultvfs import IO_ERRORS, Fault, FaultVFS, Operation, each_nth
from .powervfs import Image, Recorder, images, write_image
from .ticks import When, cancel_at, count_ticks, each_tick

pytestmark = pytest.mark.slow


def connect(
    path: str | Path, vfs: str | None = None, *, synchronous: str = "full"
) -> apsw.Connection:
    connection = apsw.Connection(str(path), vfs=vfs)
    connection.set_busy_timeout(5000)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", synchronous)
    connection.execute("CREATE TABLE IF NOT EXISTS item (key INTEGER PRIMARY KEY, text)")
    return connection


def keys_in(path: str | Path) -> set[Any]:
    """The keys of a database that must not be corrupt; none if it has no table yet."""
    connection = apsw.Connection(str(path))
    try:
        connection.pragma("synchronous", "off")
        assert connection.pragma("integrity_check") == "ok"
        if not connection.table_exists(None, "item"):
            return set()
        return {key for (key,) in connection.execute("SELECT key FROM item")}
    finally:
        connection.close()


# hostile


def test_the_injection_corpus_is_large_and_has_no_duplicates() -> None:
    assert len(hostile.INJECTIONS) >= 400
    assert len(set(hostile.INJECTIONS)) == len(hostile.INJECTIONS)
    assert max(map(len, hostile.INJECTIONS)) == 64 * 1024
    for sample in (
        "",
        "--help",
        "-1",
        "rowid",
        "__proto__",
        "$eq",
        "x\n",
        "{0.__class__}",
        "'; INFO FOR DB; --",
    ):
        assert sample in hostile.INJECTIONS


def test_sqlite_returns_every_storable_text_unchanged_and_refuses_surrogates() -> None:
    connection = apsw.Connection("")
    for text in hostile.STORABLE_TEXT:
        assert connection.execute("SELECT ?", (text,)).get == text
    assert len(hostile.LONE_SURROGATES) >= 4
    for text in hostile.LONE_SURROGATES:
        with pytest.raises(UnicodeEncodeError):
            connection.execute("SELECT ?", (text,))


def test_texts_are_either_storable_or_refused() -> None:
    assert sorted(hostile.STORABLE_TEXT + hostile.REFUSED_TEXT) == sorted(hostile.NASTY_TEXT)
    assert all("\0" in text or text in hostile.LONE_SURROGATES for text in hostile.REFUSED_TEXT)


@pytest.mark.parametrize("cases", [hostile.NASTY_JSON, hostile.NASTY_TIMES, hostile.NASTY_IDS])
def test_cases_have_names_of_their_own_and_both_kinds(cases: tuple[hostile.Case, ...]) -> None:
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    assert {case.storable for case in cases} == {True, False}


@pytest.mark.parametrize(
    "case", [case for case in hostile.NASTY_JSON if case.storable], ids=lambda case: case.name
)
def test_storable_json_comes_back_identical(case: hostile.Case) -> None:
    assert hostile.identical(json.loads(json.dumps(case.value)), case.value)


def test_identical_sees_what_equality_does_not() -> None:
    assert not hostile.identical([1], [True])
    assert not hostile.identical([1], [1.0])
    assert not hostile.identical([0.0], [-0.0])
    assert hostile.identical({"a": 1, "b": 2}, {"b": 2, "a": 1})


def test_storable_times_have_a_moment_in_utc() -> None:
    for case in hostile.NASTY_TIMES:
        if case.storable:
            assert case.value.astimezone(UTC).tzinfo is UTC


@settings(max_examples=50, deadline=None)
@given(hostile.texts(), hostile.json_objects())
def test_strategies_make_storable_values(text: str, value: dict[str, Any]) -> None:
    stored = apsw.Connection("").execute("SELECT ?, ?", (text, json.dumps(value))).fetchall()[0]
    assert stored[0] == text
    assert hostile.storable(text)
    assert hostile.identical(json.loads(str(stored[1])), value)


# powervfs


def fill(
    recorder: Recorder, path: Path, *, commits: int, synchronous: str, readers: int = 0
) -> None:
    """Insert keys one by one, marking each, with readers at work in other threads."""
    connection = connect(path, recorder.name, synchronous=synchronous)
    connection.wal_autocheckpoint(25)
    done = threading.Event()

    def read() -> None:
        reader = connect(path, recorder.name)
        while not done.is_set():
            reader.execute("SELECT count(*), max(text) FROM item").fetchall()
        reader.close()

    with ThreadPoolExecutor(max(readers, 1)) as pool:
        running = [pool.submit(read) for _ in range(readers)]
        for key in range(commits):
            with connection:
                connection.execute("INSERT INTO item VALUES (?, ?)", (key, "x" * (key * 37 % 900)))
                connection.execute(
                    "UPDATE item SET text = text || 'y' WHERE key % 7 = ?", (key % 7,)
                )
            recorder.mark(key)
        done.set()
        for each in running:
            each.result()
    connection.close()


def cuts(recorder: Recorder, path: Path, count: int) -> tuple[int, int]:
    """How many images lost a mark, and how many are corrupt."""
    lost = corrupt = 0
    for image in images(recorder, count, seed=1):
        with tempfile.TemporaryDirectory() as place:
            try:
                copy = write_image(image, place).get(str(path), Path(place, "empty.db"))
                lost += not set(image.marks) <= keys_in(copy)
            except (apsw.CorruptError, apsw.NotADBError, AssertionError):
                corrupt += 1
    return lost, corrupt


@pytest.mark.parametrize("readers", [0, 2])
def test_full_synchronous_loses_and_corrupts_nothing(tmp_path: Path, readers: int) -> None:
    recorder = Recorder()
    path = tmp_path / "full.db"
    fill(recorder, path, commits=150, synchronous="full", readers=readers)
    assert {event[0] for event in recorder.log} >= {"link", "write", "sync", "unlink", "mark"}
    assert cuts(recorder, path, 300) == (0, 0)
    recorder.close()


def test_normal_synchronous_loses_commits_but_corrupts_nothing(tmp_path: Path) -> None:
    recorder = Recorder()
    path = tmp_path / "normal.db"
    fill(recorder, path, commits=150, synchronous="normal")
    lost, corrupt = cuts(recorder, path, 300)
    assert lost > 50
    assert corrupt == 0


def test_no_synchronous_corrupts(tmp_path: Path) -> None:
    recorder = Recorder()
    path = tmp_path / "off.db"
    fill(recorder, path, commits=150, synchronous="off")
    assert cuts(recorder, path, 300)[1] > 10


def test_images_come_from_the_seed(tmp_path: Path) -> None:
    recorder = Recorder()
    fill(recorder, tmp_path / "x.db", commits=20, synchronous="normal")
    assert list(images(recorder, 30, 5)) == list(images(recorder, 30, 5))
    assert list(images(recorder, 30, 5)) != list(images(recorder, 30, 6))


def test_a_database_that_was_there_before_counts_as_synced(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with connect(path) as old:
        old.execute("INSERT INTO item VALUES (-1, 'old')")
    old.close()
    recorder = Recorder()
    fill(recorder, path, commits=20, synchronous="full")
    with_it = [image for image in images(recorder, 100, 1) if image.marks]
    for image in with_it:
        with tempfile.TemporaryDirectory() as place:
            assert {-1, *image.marks} <= keys_in(write_image(image, place)[str(path)])


def test_encryption_above_the_recorder_leaves_ciphertext_in_the_images(tmp_path: Path) -> None:
    recorder = Recorder()
    connection = apsw.Connection(str(tmp_path / "e.db"), vfs="multipleciphers-" + recorder.name)
    connection.pragma("key", "secret")
    connection.pragma("journal_mode", "wal")
    connection.execute("CREATE TABLE item (key, text)")
    connection.execute("INSERT INTO item VALUES (1, 'needle needle')")
    connection.close()
    (*_, last) = images(recorder, 50, 1)
    assert last.files
    assert not any(b"needle" in content for content in last.files.values())


def replace_file(recorder: Recorder, *, sync_first: bool) -> set[bytes | None]:
    """What may be under a name after it was replaced by writing, renaming and syncing."""
    recorder.synced(recorder.created("/d/target", b"old"))
    inode = recorder.created("/d/new")
    recorder.written(inode, b"n" * 1000, 0)
    if sync_first:
        recorder.synced(inode)
    recorder.renamed("/d/new", "/d/target")
    recorder.directory_synced("/d")
    recorder.mark("replaced")
    found = {
        image.files.get("/d/target")
        for image in images(recorder, 400, 1)
        if sync_first or "replaced" in image.marks
    }
    return found - {None}


def test_a_file_that_is_synced_before_its_rename_is_old_or_new() -> None:
    assert replace_file(Recorder(), sync_first=True) == {b"old", b"n" * 1000}


def test_a_file_that_is_renamed_without_a_sync_may_be_empty_or_torn() -> None:
    found = replace_file(Recorder(), sync_first=False)
    assert b"" in found
    assert b"n" * 512 in found


def test_images_keep_their_directories_under_a_root(tmp_path: Path) -> None:
    image = Image((), {"/r/a/m.db": b"1", "/r/b/m.db": b"2"})
    with pytest.raises(ValueError, match="root"):
        write_image(image, tmp_path)
    places = write_image(image, tmp_path, root="/r")
    assert places["/r/b/m.db"] == tmp_path / "b" / "m.db"
    assert places["/r/b/m.db"].read_bytes() == b"2"


def test_a_vfs_name_is_used_once() -> None:
    taken = Recorder().name
    for make in (Recorder, FaultVFS):
        with pytest.raises(ValueError, match="exists"):
            make(taken)


# faultvfs


@pytest.mark.parametrize("operation", ["write", "sync", "read", "open", "truncate"])
@pytest.mark.parametrize("forever", [False, True])
def test_every_fault_leaves_all_or_nothing(
    tmp_path: Path, operation: Operation, forever: bool
) -> None:
    faults = FaultVFS()
    raised = 0
    for fault in each_nth(faults, Fault(operation, forever=forever)):
        path = tmp_path / f"{fault.nth}.db"
        connect(path, faults.name).close()
        written = False
        with faults.armed(fault):
            try:
                with closing(connect(path, faults.name)) as connection:
                    connection.execute("BEGIN IMMEDIATE")
                    for key in range(50):
                        connection.execute("INSERT INTO item VALUES (?, zeroblob(500))", (key,))
                    connection.execute("COMMIT")
                    written = True
            except (apsw.IOError, apsw.CantOpenError):
                raised += 1
        found = keys_in(path)
        assert found == set(range(50)) if written else found in (set(), set(range(50)))
    assert fault.nth > 1
    assert written
    assert raised


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError])
def test_the_chosen_error_is_raised_at_the_chosen_call_only(
    tmp_path: Path, error: type[apsw.Error]
) -> None:
    faults = FaultVFS()
    connection = connect(tmp_path / "x.db", faults.name)
    faults.arm(Fault("write", 3, error=error, suffix="-wal", short=True))
    connection.execute("INSERT INTO item VALUES (0, 'x')")
    with pytest.raises(error) as caught:
        connection.execute("INSERT INTO item VALUES (1, 'x')")
    if error is apsw.IOError:
        assert caught.value.extendedresult == IO_ERRORS["write"]  # type: ignore[attr-defined]
    connection.execute("INSERT INTO item VALUES (2, 'x')")
    faults.disarm()
    assert faults.fired == 1
    assert faults.counts["write"] > 3
    connection.close()
    assert keys_in(tmp_path / "x.db") == {0, 2}


def test_faults_lie_over_a_recorder(tmp_path: Path) -> None:
    recorder = Recorder()
    faults = FaultVFS(base=recorder.name)
    path = tmp_path / "both.db"
    connection = connect(path, faults.name)
    for key in range(60):
        faults.arm(Fault("write", 2, error=apsw.FullError, short=key % 2 == 0))
        if key % 3:
            faults.disarm()
        try:
            connection.execute("INSERT INTO item VALUES (?, 'x')", (key,))
            recorder.mark(key)
        except apsw.FullError:
            pass
    faults.disarm()
    connection.close()
    assert len([event for event in recorder.log if event[0] == "mark"]) == 40
    assert cuts(recorder, path, 100) == (0, 0)


# ackpipe

_WRITER = """
import os, sys, apsw
path, synchronous = sys.argv[1:]
connection = apsw.Connection(path)
connection.set_busy_timeout(10_000)
name = os.environ["ACKPIPE_CYCLE"] + "." + os.environ["ACKPIPE_CHILD"]
for number in range(10**9):
    with connection:
        connection.execute("INSERT INTO item VALUES (?)", (f"{name}.{number}",))
    print(f"{name}.{number}")
"""


def made(path: Path) -> Path:
    """A database for writers: two that turn it to WAL at once do not wait for each other."""
    with closing(apsw.Connection(str(path))) as connection:
        connection.pragma("journal_mode", "wal")
        connection.execute("CREATE TABLE item (key TEXT PRIMARY KEY)")
    return path


def test_killed_writers_leave_what_they_acknowledged(tmp_path: Path) -> None:
    path = made(tmp_path / "k.db")
    acked: set[str] = set()
    for cycle in kills(script(_WRITER, str(path), "full"), 3, seed=1, max_delay_s=0.1, processes=2):
        assert cycle.returncode == -9
        assert cycle.acks
        acked |= set(cycle.acks)
        assert acked <= keys_in(path)
    assert len(keys_in(path) - acked) <= 6


def test_the_pipe_sees_acknowledgements_that_were_lies(tmp_path: Path) -> None:
    liar = _WRITER.replace("with connection:", "if number % 2 == 0:")
    path = made(tmp_path / "k.db")
    (cycle,) = kill_cycles(script(liar, str(path), "full"), 1, seed=1, max_delay_s=0.05)
    assert not set(cycle.acks) <= keys_in(path)


def test_a_half_line_is_no_acknowledgement() -> None:
    source = (
        "import sys, time; print('a'); sys.stdout.write('b'); sys.stdout.flush(); time.sleep(60)"
    )
    (cycle,) = kill_cycles(script(source), 1, seed=1)
    assert cycle.acks == ("a",)


def test_a_child_may_be_a_file_and_may_be_done_early(tmp_path: Path) -> None:
    program = tmp_path / "child.py"
    program.write_text("import sys; print(sys.argv[1])")
    (cycle,) = kill_cycles(module(str(program), "hello"), 1, seed=1, max_delay_s=1.0)
    assert cycle.acks == ("hello",)


@pytest.mark.parametrize("source", ["print('a'); 1 / 0", "1 / 0"])
def test_a_child_that_fails_is_reported_with_its_error(source: str) -> None:
    with pytest.raises(ChildError, match="ZeroDivisionError"):
        kill_cycles(script(source), 1, seed=1, max_delay_s=60)


def test_a_child_that_acknowledges_nothing_is_reported() -> None:
    with pytest.raises(ChildError, match="acknowledged nothing"):
        kill_cycles(script("import time; time.sleep(60)"), 1, seed=1, start_timeout_s=0.2)


# ticks


class Writer:
    """A store whose one thread does the writing, and which hands results back to the loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self.rows: list[int] = []
        self.open = False

    def close(self) -> None:
        self._pool.shutdown()

    async def _do(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _begin(self) -> None:
        self.open = True

    def _commit(self, rows: list[int]) -> None:
        self.rows += rows
        self.open = False

    async def put_naively(self, row: int) -> None:
        await self._do(self._begin)
        await asyncio.sleep(0)
        await self._do(lambda: self._commit([row, row]))

    async def put_in_one_hop(self, row: int) -> None:
        await self._do(lambda: self._commit([row, row]))


@pytest.fixture
async def writer() -> AsyncIterator[Writer]:
    made = Writer()
    yield made
    made.close()


async def test_ticks_are_counted_with_a_writer_thread(writer: Writer) -> None:
    assert await count_ticks(lambda: writer.put_naively(1)) == 3
    assert await count_ticks(lambda: writer.put_in_one_hop(1)) == 1
    assert await count_ticks(lambda: asyncio.sleep(0)) == 1


@pytest.mark.parametrize("when", ["waiting", "resuming"])
async def test_a_naive_transaction_is_caught_open(writer: Writer, when: When) -> None:
    finished = []
    left_open = set()
    async for k, done in each_tick(lambda: writer.put_naively(1), when=when):
        await writer._do(lambda: None)
        finished.append(done)
        if writer.open:
            left_open.add(k)
        writer.open = False
    assert finished == [False, False, False, False, True]
    assert 2 in left_open
    assert when == "waiting" or 1 in left_open


async def test_cancelled_while_resuming_the_work_was_done(writer: Writer) -> None:
    assert not await cancel_at(lambda: writer.put_in_one_hop(1), 0)
    assert writer.rows == []
    assert not await cancel_at(lambda: writer.put_in_one_hop(2), 1, when="resuming")
    assert writer.rows == [2, 2]
    assert await cancel_at(lambda: writer.put_in_one_hop(3), 2)
    assert writer.rows == [2, 2, 3, 3]


async def test_a_coroutine_may_absorb_its_cancellation_or_raise_something_else() -> None:
    async def absorbs() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    async def raises() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise KeyError("x")

    assert await cancel_at(absorbs, 1)
    with pytest.raises(KeyError):
        await cancel_at(raises, 1)


@pytest.mark.parametrize("when", ["waiting", "resuming"])
async def test_timeouts_task_groups_and_queues_work_while_stepped(when: When) -> None:
    seen = []

    async def busy() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(queue.put(1))
            seen.append(await queue.get())
        assert asyncio.current_task() is not None

    async for k, finished in each_tick(busy, when=when):
        assert finished or k <= 2
    assert 1 in seen
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_coroutine_that_hangs_after_its_cancellation_is_reported() -> None:
    async def stubborn() -> None:
        for _ in range(2):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    with pytest.raises(TimeoutError, match="cancelled at 1"):
        await cancel_at(stubborn, 1, timeout_s=0.05)


# canary


def test_needles_are_unique_and_come_from_the_seed() -> None:
    needles, same = Needles(seed=1), Needles(seed=1)
    planted = [needles.plant("a") for _ in range(100)]
    assert len(set(planted)) == 100
    assert planted == [same.plant("a") for _ in range(100)]
    assert planted[0] != Needles(seed=2).plant("a")


def test_needles_are_found_in_every_disguise() -> None:
    needles = Needles(seed=1)
    for label in ("a", "b"):
        needle = needles.plant(label)
        disguises = [
            needle.encode(), needle.upper().encode(), needle[:16].encode(), needle[16:].encode(),
            needle.encode("utf-16"), needle.encode("utf-16-be"), needle.encode().hex().encode(),
            json.dumps(f"\n{needle}").encode(), repr({needle: 1}).encode(),
        ]  # fmt: skip
        disguises += [
            base64.b64encode(b"#" * n + needle.encode() + b"?" * m)
            for n, m in itertools.product(range(4), range(4))
        ]
        for data in disguises:
            assert needles.in_bytes(b"..." + data + b"...") == {label}, data
    assert needles.in_bytes(bytes(range(256)) * 100) == set()


def test_vectors_are_found_by_their_numbers() -> None:
    needles = Needles(seed=1)
    vector = needles.plant_vector("v", 384)
    assert sum(number * number for number in vector) == pytest.approx(1.0, abs=1e-5)
    for layout in ("<384f", ">384f", "<384d"):
        assert needles.in_bytes(b"x" + struct.pack(layout, *vector)) == {"v"}
    needles.plant_vector("short", 4)


def test_needles_are_found_in_values_and_exceptions() -> None:
    needles = Needles(seed=1)
    inner, outer, hidden = (needles.plant(label) for label in ("inner", "outer", "hidden"))
    assert needles.in_value([{"x": (inner,)}]) == {"inner"}
    assert needles.in_value("\ud800" + outer) == {"outer"}
    assert needles.in_value(bytearray(outer.encode())) == {"outer"}
    cause = ValueError(inner)
    cause.query = hidden  # type: ignore[attr-defined]
    error = KeyError(outer)
    error.__context__, error.__suppress_context__ = cause, True
    assert needles.in_exception(error) == {"inner", "outer", "hidden"}


def test_needles_are_found_in_files_names_archives_and_large_files(tmp_path: Path) -> None:
    needles = Needles(seed=1)
    text, name, packed, far = (needles.plant(label) for label in ("text", "name", "packed", "far"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "plain").write_text(f"12345{text}")
    (tmp_path / name).touch()
    (tmp_path / "x.gz").write_bytes(gzip.compress(f"1{packed}".encode()))
    with (tmp_path / "large").open("wb") as file:
        file.seek((1 << 22) - 10)
        file.write(far.encode())
    (tmp_path / "broken.gz").write_bytes(gzip.compress(b"x" * 100)[:-9])
    found = {(each.label, each.path.name, each.offset) for each in needles.in_directory(tmp_path)}
    assert {
        ("text", "plain", 5),
        ("name", name, -1),
        ("packed", "x.gz", 1),
        ("far", "large", (1 << 22) - 10),
    } <= found
    assert {label for label, _, _ in found} == {"text", "name", "packed", "far"}
    assert needles.in_directory(tmp_path / "sub") == sorted(
        Finding("text", tmp_path / "sub" / "plain", at) for at in (5, 21)
    )
