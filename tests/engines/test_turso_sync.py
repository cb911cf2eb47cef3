"""Following a Turso server: what is written on one side is found on the other, and nothing is lost.

The server is the real one (``tests/rigs/turso.py``).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import pattern_db
from pattern_db import (
    Agent,
    ConfigError,
    ConnectionFailed,
    InvalidValue,
    PatternDB,
    SyncConflict,
    Unsupported,
)
from pattern_db.engines.turso import TursoStore, syncing
from tests.reliability.tiny import TinyEmbeddings
from tests.rigs.ackpipe import kills, script
from tests.rigs.turso import Server

from .test_turso import ROOT, agrees, found, say

pytestmark = pytest.mark.slow

CANARY = "token-that-nobody-may-see"

Open = Callable[..., Any]


@pytest.fixture
async def follow(turso_server: Server, tmp_path: Path) -> Any:
    """Opens files that follow the server, by name; a name that is open gives the same handle."""
    async with AsyncExitStack() as stack:

        async def opened(name: str, **settings: Any) -> PatternDB:
            url = f"turso://{tmp_path}/{name}.db?sync={turso_server.url}"
            given = {"embeddings": TinyEmbeddings(), **settings}
            db: PatternDB = await stack.enter_async_context(pattern_db.open(url, **given))
            return db

        yield opened


async def meant(db: PatternDB, agent: Agent, words: str) -> list[str]:
    hits = await db.search(agent.id, words, mode="semantic", limit=100)
    return [hit.item.content for hit in hits]


async def two(follow: Open) -> tuple[PatternDB, PatternDB, Agent]:
    """Two files with the same agent."""
    first = await follow("first")
    flux = await first.agents.create(name="Flux")
    await first.sync()
    return first, await follow("second"), flux


async def meet(*dbs: PatternDB) -> None:
    """Bring all to the same state."""
    for db in (*dbs, *dbs):
        await db.sync()


async def test_what_is_written_on_one_side_is_found_on_the_other(follow: Open) -> None:
    first, second, flux = await two(follow)
    here = await say(first, flux, "the grey cat Misu", "rain in Oslo")
    there = await say(second, flux, "the brown dog Rufus")
    assert await found(first, flux, "the") == {here[0]}
    await meet(first, second)
    for db in (first, second):
        assert await found(db, flux, "the") == {here[0], there[0]}
        assert (await meant(db, flux, "brown dog"))[0] == "the brown dog Rufus"
        assert (await meant(db, flux, "grey cat"))[0] == "the grey cat Misu"
        assert [m.id for m in await db.messages.list(flux.id)] != []
        await agrees(db)
    await second.messages.delete(here[0])
    await meet(second, first)
    assert await found(first, flux, "cat") == set()
    assert "the grey cat Misu" not in await meant(first, flux, "grey cat")
    await agrees(first)


async def test_a_sync_says_what_it_did(follow: Open) -> None:
    first, second, flux = await two(follow)
    assert (await first.status()).storage["waiting_changes"] == 0
    await say(first, flux, "one")
    assert (await first.status()).storage["waiting_changes"] > 0
    report = await first.sync()
    assert report.pushed > 0
    assert await second.sync() == pattern_db.SyncReport(pushed=0, pulled=True)
    assert await second.sync() == pattern_db.SyncReport(pushed=0, pulled=False)
    capabilities = second.store.capabilities
    assert capabilities.follows_server
    assert "sync" in capabilities.experimental


async def test_local_work_goes_on_without_the_server(
    follow: Open, turso_server: Server, tmp_path: Path
) -> None:
    first, second, flux = await two(follow)
    turso_server.stop()
    ids = await say(first, flux, "written alone")
    with pytest.raises(ConnectionFailed, match="cannot be reached"):
        await first.sync()
    await first.close()
    first = await follow("first")
    assert await found(first, flux, "alone") == set(ids)
    ids += await say(first, flux, "and still alone")
    with pytest.raises(ConnectionFailed, match="cannot be reached"):
        await follow("third")
    assert not list(tmp_path.glob("third*"))
    turso_server.start()
    await meet(first, second)
    assert await found(second, flux, "alone") == set(ids)
    third = await follow("third")
    assert await found(third, flux, "alone") == set(ids)


async def test_a_user_who_is_removed_is_removed_everywhere(follow: Open) -> None:
    first, second, flux = await two(follow)
    sol = await first.agents.create(name="Sol")
    await say(first, flux, "stays")
    await say(first, sol, "goes")
    await meet(first, second)
    assert await found(second, sol, "goes")
    await first.agents.purge(sol.id)
    await meet(first, second)
    assert await second.agents.get(sol.id) is None
    assert await second.messages.count() == 1
    assert await meant(second, flux, "stays") == ["stays"]
    await agrees(second)


# what was changed on both sides


async def test_a_conflict_is_told_and_nothing_is_lost(follow: Open) -> None:
    first, second, flux = await two(follow)
    block = await first.memory.create(flux.id, label="human", content="nobody")
    await meet(first, second)
    await first.memory.update(block.id, content="from the first")
    await second.memory.update(block.id, content="from the second")
    (kept,) = await say(second, flux, "said meanwhile")
    await first.sync()
    for _ in range(2):
        with pytest.raises(SyncConflict, match=block.id) as told:
            await second.sync()
        assert ("memory block", block.id, ("content",)) in told.value.rows
        assert (await second.memory.get(block.id)).content == "from the second"
        assert await second.messages.get(kept) is not None
    assert "from the" not in str(told.value)


@pytest.mark.parametrize("prefer", ["ours", "theirs"])
async def test_who_is_preferred_stays(follow: Open, prefer: str) -> None:
    first, second, flux = await two(follow)
    block = await first.memory.create(flux.id, label="human", content="nobody")
    await meet(first, second)
    await first.memory.update(block.id, content="cats")
    await second.memory.update(block.id, content="dogs")
    (kept,) = await say(second, flux, "said meanwhile")
    await first.sync()
    assert (await second.sync(prefer=prefer)).resolved > 0
    await second.embed_pending()
    await meet(second, first)
    content = {"ours": "dogs", "theirs": "cats"}[prefer]
    for db in (first, second):
        assert (await db.memory.get(block.id)).content == content
        assert await db.messages.get(kept) is not None
        assert await found(db, flux, content) == {block.id}
        assert (await meant(db, flux, content))[0] == content
        await agrees(db)
    assert await second.reembed() == 0  # each text has its own vector


async def test_different_columns_of_a_row_are_merged(follow: Open) -> None:
    first, second, flux = await two(follow)
    block = await first.memory.create(flux.id, label="human", content="nobody")
    await meet(first, second)
    await first.memory.update(block.id, content="somebody")
    await second.memory.update(block.id, description="who it is")
    await first.sync()
    assert (await second.sync()).resolved == 0
    await second.embed_pending()
    await meet(second, first)
    for db in (first, second):
        merged = await db.memory.get(block.id)
        assert (merged.content, merged.description) == ("somebody", "who it is")
    assert await first.reembed() == 0


@pytest.mark.parametrize("prefer", ["ours", "theirs"])
async def test_removed_there_and_changed_here_is_a_conflict(follow: Open, prefer: str) -> None:
    first, second, flux = await two(follow)
    entry = await first.archival.create(flux.id, content="a fact")
    await meet(first, second)
    await first.archival.purge(entry.id)
    await second.archival.update(entry.id, content="a better fact")
    await first.sync()
    with pytest.raises(SyncConflict, match="archival entry"):
        await second.sync()
    await second.sync(prefer=prefer)
    await meet(second, first)
    for db in (first, second):
        assert await db.archival.get(entry.id) is None  # what is gone has no columns to set
        await agrees(db)


async def test_changed_there_and_removed_here_is_a_conflict(follow: Open) -> None:
    first, second, flux = await two(follow)
    entry = await first.archival.create(flux.id, content="a fact")
    await meet(first, second)
    await first.archival.update(entry.id, content="a better fact")
    await second.archival.purge(entry.id)
    await first.sync()
    with pytest.raises(SyncConflict, match="archival entry"):
        await second.sync()
    await second.sync(prefer="theirs")
    assert (await second.archival.get(entry.id)).content == "a better fact"
    await second.embed_pending()
    assert await found(second, flux, "better") == {entry.id}


async def test_a_name_that_is_taken_there_is_told_and_the_row_stays(follow: Open) -> None:
    first, second, flux = await two(follow)
    await first.memory.create(flux.id, label="human", content="from the first")
    mine = await second.memory.create(flux.id, label="human", content="from the second")
    await first.sync()
    for _ in range(2):
        with pytest.raises(SyncConflict, match="must be unique.*label"):
            await second.sync(prefer="ours")
        assert (await second.memory.get(mine.id)).content == "from the second"
    await second.memory.update(mine.id, label="human 2")
    await meet(second, first)
    assert {b.label for b in await first.memory.list(flux.id)} == {"human", "human 2"}


def _cut(*_: Any) -> Any:
    raise ConnectionFailed("The server is gone.")


async def test_a_push_that_the_server_took_by_half_is_mended(
    follow: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server keeps what it can of a push, and counts all of it as pushed."""
    first, second, flux = await two(follow)
    await first.memory.create(flux.id, label="human", content="from the first")
    entry = await second.archival.create(flux.id, content="a fact")
    gone = await second.archival.create(flux.id, content="soon gone")
    mine = await second.memory.create(flux.id, label="human", content="from the second")
    await second.archival.purge(gone.id)
    await first.sync()
    with monkeypatch.context() as patch:
        patch.setattr(syncing, "meetings", lambda changed, server: [])  # as if it came in between
        patch.setattr(syncing, "unpushed", _cut)
        with pytest.raises(ConnectionFailed):
            await second.sync()
    assert (await second.memory.get(mine.id)).content == "from the second"
    await second.close()
    second = await follow("second")
    with pytest.raises(SyncConflict, match=mine.id):
        await second.sync()
    await second.memory.update(mine.id, label="human 2")
    await meet(second, first)
    assert {b.label for b in await first.memory.list(flux.id)} == {"human", "human 2"}
    assert (await first.archival.get(entry.id)).content == "a fact"
    await agrees(first)
    await agrees(second)


async def test_files_that_began_apart_do_not_mix_by_accident(follow: Open) -> None:
    first, second = await follow("first"), await follow("second")
    flux = await first.agents.create(name="Flux")
    sol = await second.agents.create(name="Sol")
    await first.sync()
    with pytest.raises(SyncConflict, match="system metadata"):
        await second.sync()
    await second.sync(prefer="theirs")
    await meet(second, first)
    for db in (first, second):
        assert {a.id for a in await db.agents.list()} == {flux.id, sol.id}


# what may happen meanwhile


async def test_what_is_written_during_a_sync_is_not_lost(follow: Open) -> None:
    first, second, flux = await two(follow)
    syncing = True

    async def write(db: PatternDB, name: str) -> list[str]:
        ids: list[str] = []
        while syncing:
            ids += await say(db, flux, f"{name} {len(ids)}")
        return ids

    writers = [asyncio.create_task(write(first, "a")), asyncio.create_task(write(second, "b"))]
    for _ in range(3):
        await asyncio.gather(first.sync(), second.sync())
        for db in (first, second):
            await found(db, flux, "a b")
    syncing = False
    written = {id for ids in await asyncio.gather(*writers) for id in ids}
    assert len(written) > 8
    await meet(first, second)
    for db in (first, second):
        assert {m.id for m in await db.messages.list(flux.id, limit=10_000)} == written
        await agrees(db)


async def test_one_sync_at_a_time(follow: Open) -> None:
    first = await follow("first")
    done = await asyncio.gather(first.sync(), first.sync(), return_exceptions=True)
    assert [type(d).__name__ for d in done] == ["SyncReport", "DatabaseBusy"]
    async with first.transaction():
        with pytest.raises(InvalidValue, match="inside one"):
            await first.sync()
    with pytest.raises(InvalidValue, match="prefer"):
        await first.sync(prefer="mine")  # type: ignore[arg-type]


async def test_a_cancelled_sync_leaves_all_as_it_should_be(follow: Open) -> None:
    first, second, flux = await two(follow)
    written = []
    for n in range(12):
        written += await say(first, flux, f"note {n}")
        task = asyncio.create_task(first.sync())
        for _ in range(n * 3):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    while isinstance(await _try(first.sync()), pattern_db.DatabaseBusy):
        await asyncio.sleep(0)  # what was under way ends
    await meet(first, second)
    assert await found(second, flux, "note") == set(written)


async def _try(work: Any) -> Any:
    try:
        return await work
    except pattern_db.PatternError as error:
        return error


CHILD = """
import asyncio, itertools, os, sys
import pattern_db

async def main():
    name = os.environ["ACKPIPE_CYCLE"]
    async with pattern_db.open(sys.argv[1], embeddings="none") as db:
        (flux,) = await db.agents.list()
        for n in itertools.count():
            said = await db.messages.append(flux.id, role="user", content=f"note {name} {n}")
            print(said.id, flush=True)
            if n % 3 == 0:
                await db.sync()

asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_process_killed_while_it_syncs_loses_nothing(
    follow: Open, turso_server: Server, tmp_path: Path
) -> None:
    first, second, flux = await two(follow)
    await first.close()
    url = f"turso://{tmp_path}/first.db?sync={turso_server.url}"
    cycles = await asyncio.to_thread(lambda: list(kills(script(CHILD, url), 12, 3, 0.6, cwd=ROOT)))
    acks = {ack for cycle in cycles for ack in cycle.acks}
    assert {cycle.returncode for cycle in cycles} == {-9}
    assert acks
    first = await follow("first")
    assert acks <= {m.id for m in await first.messages.list(flux.id, limit=10_000)}
    await meet(first, second)
    assert acks <= {m.id for m in await second.messages.list(flux.id, limit=10_000)}


# with and without


async def test_a_file_that_follows_is_not_opened_without_its_server(
    follow: Open, tmp_path: Path
) -> None:
    first = await follow("first")
    await first.close()
    with pytest.raises(ConnectionFailed, match="follows a server"):
        await pattern_db.open(f"turso://{tmp_path}/first.db", embeddings="none")
    async with pattern_db.open(f"turso://{tmp_path}/alone.db", embeddings="none") as alone:
        with pytest.raises(Unsupported, match="follows no server"):
            await alone.sync()
    with pytest.raises(ConnectionFailed, match="without a server"):
        await follow("alone")


@contextmanager
def answering(status: int, headers: dict[str, str], seen: list[str | None]) -> Iterator[str]:
    """A server that gives one answer to everything, and notes the authorization it was shown."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_POST = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def refusal(path: Path, server: str) -> str:
    with pytest.raises(ConnectionFailed) as refused:
        await pattern_db.open(f"turso://{path}?sync={server}", password=CANARY, embeddings="none")
    error: BaseException | None = refused.value
    while error is not None:
        assert CANARY not in f"{error!r}"
        error = error.__cause__ or error.__context__
    assert not path.exists()
    return str(refused.value)


async def test_a_token_is_sent_and_never_shown(tmp_path: Path) -> None:
    seen: list[str | None] = []
    with answering(401, {}, seen) as server:
        assert "refused the token" in await refusal(tmp_path / "a.db", server)
    assert set(seen) == {f"Bearer {CANARY}"}


async def test_a_token_does_not_follow_a_redirect(tmp_path: Path) -> None:
    seen: list[str | None] = []
    with (
        answering(401, {}, seen) as elsewhere,
        answering(302, {"Location": elsewhere}, []) as server,
    ):
        assert "HTTP 302" in await refusal(tmp_path / "a.db", server)
    assert seen == []


async def test_a_token_does_not_travel_in_the_clear(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="https"):
        await pattern_db.open(
            f"turso://{tmp_path}/a.db?sync=http://example.com", password=CANARY, embeddings="none"
        )


async def test_what_is_no_turso_server_is_told(tmp_path: Path) -> None:
    for status in (200, 404, 500):
        with answering(status, {}, []) as server:
            assert await refusal(tmp_path / "a.db", server)


@pytest.mark.parametrize("parameters", ["?authToken=x", "?sync=", "?sync=nowhere", "?other=1"])
async def test_what_is_wrong_in_the_url_is_told(tmp_path: Path, parameters: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.url"):
        await pattern_db.open(f"turso://{tmp_path}/a.db{parameters}", embeddings="none")
    assert not list(tmp_path.iterdir())


async def test_a_server_that_does_not_answer_is_not_waited_for_long(
    follow: Open, tmp_path: Path
) -> None:
    first = await follow("first")
    flux = await first.agents.create(name="Flux")
    store = first.store
    assert isinstance(store, TursoStore)
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        store._file.server._timeout_s = 0.2  # type: ignore[attr-defined]
        store._file.server.url = f"http://127.0.0.1:{silent.getsockname()[1]}"  # type: ignore[attr-defined]
        syncing = asyncio.create_task(first.sync())
        ids = await say(first, flux, "written while it waits")
        with pytest.raises(ConnectionFailed, match="cannot be reached"):
            await syncing
    assert await found(first, flux, "written") == set(ids)
