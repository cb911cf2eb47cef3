"""What is Turso's own: one process a file, the mirror that searches read, what is refused."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import turso
from hypothesis import given
from hypothesis import strategies as st
from turso import _turso as driver

import pattern_db
from pattern_db import (
    Agent,
    AlreadyExists,
    ConnectionFailed,
    DatabaseBusy,
    DatabaseClosed,
    DatabaseCorrupt,
    InvalidValue,
    LimitExceeded,
    Message,
    PatternDB,
    PatternError,
    QueryFailed,
    StorageFull,
    Unsupported,
)
from pattern_db.engines.turso import TursoStore, engine, log
from pattern_db.engines.turso.failures import translated
from pattern_db.engines.turso.mirror import COPIED, mirror_path
from pattern_db.engines.turso.record import values_of
from pattern_db.query import param, select
from pattern_db.schema import columns_of
from tests.reliability.tiny import TinyEmbeddings
from tests.rigs.ackpipe import kills, script

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def opened(path: str, **settings: Any) -> Any:
    return pattern_db.open(f"turso://{path}", **{"embeddings": TinyEmbeddings(), **settings})


@pytest.fixture
async def db(path: str) -> AsyncIterator[PatternDB]:
    async with opened(path) as made:
        yield made


async def say(db: PatternDB, agent: Agent, *texts: str) -> list[str]:
    return [(await db.messages.append(agent.id, role="user", content=t)).id for t in texts]


async def found(db: PatternDB, agent: Agent, words: str) -> set[str]:
    hits = await db.search(agent.id, words, mode="keyword", limit=100)
    return {hit.item.id for hit in hits}


# one process


async def test_a_second_process_is_told(path: str) -> None:
    async with opened(path) as db:
        ada = await db.users.create(name="Ada")
        async with opened(path):  # nor does closing another handle let the lock go
            pass
        command = [sys.executable, "-m", "pattern_db", "status", "--db", f"turso://{path}"]
        second = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert second.returncode == 1
        assert "one process at a time" in second.stderr
        assert second.stderr.count("\n") == 1
        assert await db.users.get(ada.id) == ada
    async with opened(path) as db:
        assert await db.users.get(ada.id) == ada


async def test_handles_of_one_process_share_the_file(path: str) -> None:
    async with opened(path) as one, opened(path) as two:
        flux = await one.agents.create(name="Flux")

        async def write(db: PatternDB, name: str) -> list[str]:
            return [id for n in range(20) for id in await say(db, flux, f"{name} {n}")]

        ids = await asyncio.gather(write(one, "word"), write(two, "word"))
        for db in (one, two):
            assert await found(db, flux, "word") == {*ids[0], *ids[1]}
            await agrees(db)
        with pytest.raises(DatabaseBusy, match="open elsewhere"):
            await two.store.erase()
        assert await found(one, flux, "word") == {*ids[0], *ids[1]}
    async with opened(path) as db:
        await db.store.erase()
    assert not list(Path(path).parent.iterdir())


CHILD = """
import asyncio, itertools, os, sys
import pattern_db
from pattern_db.query import param, select
from pattern_db.schema import columns_of
from tests.reliability.tiny import TinyEmbeddings

async def main():
    cycle = os.environ["ACKPIPE_CYCLE"]
    async with pattern_db.open(f"turso://{sys.argv[1]}", embeddings=TinyEmbeddings()) as db:
        if await db.agents.get("flux") is None:
            await db.agents.create(name="Flux", id="flux")
        for n in itertools.count():
            key = f"k{cycle}x{n}"
            said = await db.messages.append("flux", role="user", content=f"note {key}")
            print(f"{said.id} {key}", flush=True)
            if n % 5 == 0:
                await db.search("flux", key, mode="keyword")
            if n % 7 == 3:
                await db.messages.update(said.id, content=f"note {key} again")

asyncio.run(main())
"""


async def test_a_killed_process_loses_nothing_it_acknowledged(path: str) -> None:
    promised: dict[str, str] = {}
    for cycle in await asyncio.to_thread(
        lambda: list(kills(script(CHILD, path), 4, 5, 0.4, cwd=ROOT))
    ):
        assert cycle.returncode == -9
        promised |= dict(ack.split() for ack in cycle.acks)
    assert promised
    async with opened(path) as db:
        flux = await db.agents.get("flux")
        assert flux is not None
        for id, key in promised.items():
            message = await db.messages.get(id)
            assert message is not None
            assert message.content.startswith(f"note {key}")
            assert await found(db, flux, key) == {id}
        await agrees(db)


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here")
async def test_an_acknowledged_write_was_synced(path: str, tmp_path: Path) -> None:
    source = (
        "import asyncio, sys, pattern_db\n"
        "async def main():\n"
        "    async with pattern_db.open(f'turso://{sys.argv[1]}', embeddings='none') as db:\n"
        "        for n in range(int(sys.argv[2])):\n"
        "            await db.users.create(name=f'u{n}')\n"
        "asyncio.run(main())\n"
    )
    counts = []
    for writes in ("0", "40"):
        traced = tmp_path / f"trace{writes}"
        command = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(traced)]
        subprocess.run([*command, *script(source, f"{path}{writes}", writes)], check=True, cwd=ROOT)
        counts.append(len(traced.read_text().splitlines()))
    assert counts[1] - counts[0] >= 40


# what is refused


async def test_files_of_others_are_refused_and_left_alone(tmp_path: Path) -> None:
    ours, theirs, junk = (str(tmp_path / name) for name in ("ours.db", "theirs.db", "junk.db"))
    async with pattern_db.open(ours, embeddings="none") as db:
        await db.users.create(name="Ada")
    with apsw.Connection(theirs) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    Path(junk).write_bytes(b"no database" * 1000)
    for path in (ours, theirs, junk):
        before = Path(path).read_bytes()
        with pytest.raises(DatabaseCorrupt):
            await opened(path)
        assert Path(path).read_bytes() == before


async def test_what_cannot_be_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed, match="directory"):
        await opened(str(tmp_path))
    with pytest.raises(ConnectionFailed, match="does not exist"):
        await opened(str(tmp_path / "none" / "mind.db"))


async def test_what_lies_beside_the_file_is_its_owners_alone(db: PatternDB, path: str) -> None:
    flux = await db.agents.create(name="Flux")
    await say(db, flux, "a secret")
    assert await found(db, flux, "secret")
    for file in Path(path).parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


async def test_a_file_is_vacuumed_only_where_that_was_turned_on(path: str) -> None:
    async with opened(path) as db:
        assert not db.store.capabilities.vacuums
        with pytest.raises(Unsupported, match="experimental=vacuum"):
            await db.vacuum()
    async with opened(f"{path}?experimental=vacuum") as db:
        flux, sol = [await db.agents.create(name=name) for name in ("Flux", "Sol")]
        ids = await say(db, flux, "one word")
        await say(db, sol, *(f"{n} " + "word " * 500 for n in range(50)))
        await db.agents.purge(sol.id)
        before = (await db.status()).storage["bytes"]
        await db.vacuum()
        assert (await db.status()).storage["bytes"] < before
        assert await found(db, flux, "word") == set(ids)
        assert "vacuum" in db.store.capabilities.experimental


async def test_numbers_beyond_64_bits_are_refused_and_not_rounded(db: PatternDB) -> None:
    at = select(Message).where(columns_of(Message).position == param("position"))
    assert await db.store.execute(at, position=2**63 - 1) == []
    with pytest.raises(InvalidValue, match="64 bits"):
        await db.store.execute(at, position=2**63)


MEANINGS: list[tuple[BaseException, type[PatternError], str]] = [
    (driver.Busy("database is locked"), DatabaseBusy, "write lock"),
    (driver.DatabaseFull("full"), StorageFull, "no space"),
    (driver.Corrupt("x"), DatabaseCorrupt, "damaged"),
    (driver.NotAdb("x"), DatabaseCorrupt, "not a database"),
    (driver.Readonly("x"), QueryFailed, "permissions"),
    (driver.Interrupt("x"), QueryFailed, "interrupted"),
    (driver.Error("Locking error: Failed locking file"), ConnectionFailed, "one process"),
    (driver.Error("Internal error: Connection closed"), DatabaseClosed, "closed"),
    (driver.Error("string or blob too big"), LimitExceeded, "split it"),
    (driver.Error("something new"), QueryFailed, "report this"),
    (driver.Constraint("UNIQUE constraint failed: agents.name"), AlreadyExists, "name"),
    (driver.Constraint("UNIQUE constraint failed: m.(a, label) (19)"), AlreadyExists, "label"),
    (driver.Constraint("NOT NULL constraint failed: users.name (19)"), InvalidValue, "name"),
    (driver.Constraint("FOREIGN KEY constraint failed"), QueryFailed, "not there"),
    (driver.Constraint("cannot store TEXT value in integer column b.m (19)"), InvalidValue, "type"),
    (driver.Constraint("CHECK constraint failed"), QueryFailed, "rule"),
    (OverflowError(), InvalidValue, "64 bits"),
    (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "x"), InvalidValue, "surrogate"),
]


@pytest.mark.parametrize(("error", "ours", "words"), MEANINGS, ids=lambda each: str(each)[:40])
def test_what_the_driver_raises_is_said_in_our_words(
    error: BaseException, ours: type[PatternError], words: str
) -> None:
    told = translated(error)
    assert isinstance(told, ours)
    assert words in str(told)


# the mirror


def mirrored(path: str) -> dict[str, list[tuple[Any, ...]]]:
    connection = apsw.Connection(mirror_path(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return {
            table.name: sorted(connection.execute(f"SELECT {listed(table)} FROM {table.name}"))
            for table in COPIED
        }
    finally:
        connection.close()


def listed(table: Any) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)


async def agrees(db: PatternDB) -> None:
    """The mirror holds what the database holds."""
    store = db.store
    assert isinstance(store, TursoStore)
    await store._asked(lambda mirror: asyncio.sleep(0))
    rows = {
        table.name: sorted(
            await store._read(
                lambda c, t=table: c.execute(f"SELECT {listed(t)} FROM {t.name}").fetchall()
            )
        )
        for table in COPIED
    }
    assert mirrored(store._options.path) == rows


async def vector_rows(db: PatternDB) -> dict[Any, int]:
    """The number of each vector in the mirror."""
    sql = "SELECT item_id, kind, space, chunk_index, pk FROM embeddings"
    rows = await db.store._asked(lambda m: m._read(lambda c: c.execute(sql).fetchall()))  # type: ignore[attr-defined]
    return {row[:-1]: row[-1] for row in rows}


async def live(db: PatternDB, dice: random.Random, steps: int) -> None:
    """Whatever can happen to what is searched."""
    agents = [await db.agents.create(name=f"agent {n}") for n in range(2)]
    said: list[str] = []
    for step in range(steps):
        agent = dice.choice(agents)
        match dice.randrange(8):
            case 0 | 1:
                said += await say(db, agent, f"said {step} word{step % 5}")
            case 2 if said:
                await db.messages.update(dice.choice(said), content=f"edited {step}")
            case 3 if said:
                await db.messages.delete(said.pop(dice.randrange(len(said))))
            case 4:
                await db.archival.create(agent.id, content=f"entry {step} word{step % 3}")
            case 5:
                block = await db.memory.create(agent.id, label=f"b{step}", content=f"block {step}")
                await db.memory.share(block.id, next(a for a in agents if a != agent).id)
            case 6 if step % 3 == 0:
                gone = agents.pop(agents.index(agent))
                await db.agents.purge(gone.id)
                said = [m for m in said if await db.messages.get(m) is not None]
                agents.append(await db.agents.create(name=f"agent {step}"))
            case 7:
                await found(db, agent, "word1 said")


@pytest.mark.parametrize("seed", range(4))
async def test_the_mirror_holds_what_the_database_holds(
    path: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:
        monkeypatch.setattr(log, "MOST_ENTRIES", 7)
    dice = random.Random(seed)
    async with opened(path) as db:
        await live(db, dice, 60)
        await agrees(db)
        await live(db, dice, 20)
    async with opened(path) as db:
        await agrees(db)
        numbers = await vector_rows(db)
        db.store._mirror.forget_place()  # type: ignore[attr-defined]
        await agrees(db)
        assert await vector_rows(db) == numbers  # segments stay as good as they are


@pytest.mark.parametrize("how", ["removed", "damaged", "another's", "older"])
async def test_a_mirror_that_cannot_be_used_is_made_again(path: str, how: str) -> None:
    async with opened(path) as db:
        flux = await db.agents.create(name="Flux")
        (cat,) = await say(db, flux, "a grey cat")
        assert await found(db, flux, "cat") == {cat}
    async with opened(f"{path}2") as other:
        await say(other, await other.agents.create(name="Sol"), "a black cat")
        assert len(await other.search(await first_agent(other), "cat")) == 1
    mirror = Path(mirror_path(path))
    if how == "removed":
        mirror.unlink()
    elif how == "damaged":
        mirror.write_bytes(mirror.read_bytes()[:4096] + b"damage" * 3000)
    elif how == "another's":
        shutil.copy(mirror_path(f"{path}2"), mirror)
    else:
        with apsw.Connection(str(mirror)) as connection:
            connection.execute("UPDATE mirror_state SET fingerprint = 'older'")
        connection.close()
    async with opened(path) as db:
        (dog,) = await say(db, flux, "a brown dog")
        assert await found(db, flux, "cat") == {cat}
        assert await found(db, flux, "dog") == {dog}
        await agrees(db)


async def first_agent(db: PatternDB) -> str:
    return (await db.agents.list())[0].id


async def test_the_log_of_changes_stays_short(
    db: PatternDB, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_LOG_SHORTENED_AFTER", 50)
    flux = await db.agents.create(name="Flux")
    for n in range(40):
        await say(db, flux, f"word {n}")
        assert len(await found(db, flux, "word")) == n + 1
    await db.store.write([])
    length = "SELECT count(*) FROM turso_cdc"
    rows = await db.store._read(lambda c: c.execute(length).fetchall())  # type: ignore[attr-defined]
    assert rows[0][0] < 150


async def test_a_log_that_nobody_reads_is_forgotten(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MOST_ENTRIES", 20)
    async with opened(path) as db:
        flux = await db.agents.create(name="Flux")
        ids = await say(db, flux, *(f"word {n}" for n in range(20)))
    async with opened(path) as db:
        length = "SELECT count(*) FROM turso_cdc"
        rows = await db.store._read(lambda c: c.execute(length).fetchall())  # type: ignore[attr-defined]
        assert rows[0][0] < 10
        assert await found(db, flux, "word") == set(ids)


async def test_what_a_failed_disk_refused_was_not_kept(path: str, tmp_path: Path) -> None:
    source = """
import asyncio, resource, signal, sys
import pattern_db
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
async def main():
    async with pattern_db.open(f"turso://{sys.argv[1]}", embeddings="none") as db:
        flux = await db.agents.create(name="Flux", id="flux")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
        kept = 0
        try:
            while True:
                await db.messages.append("flux", role="user", content="x" * 20_000)
                kept += 1
        except pattern_db.StorageFull:
            assert await db.messages.count() == kept
            print(kept)
asyncio.run(main())
"""
    done = subprocess.run(script(source, path), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert StorageFull.__name__ not in done.stderr
    async with opened(path, embeddings="none") as db:
        assert await db.messages.count() == int(done.stdout)
        assert int(done.stdout) > 5


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
)


@given(st.lists(VALUES, min_size=1, max_size=9))
def test_a_logged_row_is_read_as_it_was(values: list[Any]) -> None:
    connection = turso.connect(":memory:", isolation_level=None)
    columns = [f"c{n}" for n in range(len(values))]
    connection.execute(f"CREATE TABLE t ({', '.join(columns)})")
    connection.execute("PRAGMA capture_data_changes_conn('before,turso_cdc')")
    places = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO t VALUES ({places})", values)
    connection.execute("DELETE FROM t")
    sql = "SELECT before FROM turso_cdc WHERE before IS NOT NULL"
    ((record,),) = connection.execute(sql).fetchall()
    connection.close()
    assert values_of(record) == values
