"""What only SurrealDB can do to us: another process, a lost line, an old server, a wrong login."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import pattern_db
from pattern_db import (
    ConfigError,
    Conflict,
    ConnectionFailed,
    DatabaseBusy,
    MissingExtra,
    PatternError,
    QueryFailed,
    Unsupported,
    User,
)
from pattern_db.engines.surreal import SurrealStore, vectors
from pattern_db.engines.surreal.compiler import compile_query
from pattern_db.engines.surreal.connection import Options
from pattern_db.engines.surreal.failures import SurrealError, translated
from pattern_db.engines.surreal.writes import steps
from pattern_db.filters import param
from pattern_db.models import Message, Role
from pattern_db.query import Bound, Count, Insert, delete, select, update
from pattern_db.schema import all_tables, columns_of, table_of
from pattern_db.testing.rows import (
    MESSAGES,
    SPACE,
    add,
    agent,
    change,
    embedding,
    message,
    read,
    remove,
    space,
    user,
    vector,
)
from tests.rigs import syncs
from tests.rigs.proxy import Proxy
from tests.rigs.surreal import PASSWORD, Bridge

pytestmark = pytest.mark.slow

_USERS = table_of(User)
_U = columns_of(User)


async def with_tables(options: Options) -> SurrealStore:
    """A store with every table."""
    store = await SurrealStore.connect(options)
    if not await store.has_table("users"):
        await store.create(all_tables())
    return store


def on(bridge: Bridge, url: str | None = None, **options: object) -> Options:
    """The options of a database of its own."""
    given = {
        "namespace": "test",
        "database": bridge.database(),
        "username": "root",
        "password": PASSWORD,
    }
    return Options(url=url or bridge.url, **{**given, **options})  # type: ignore[arg-type]


# in this process

_WRITER = """
import asyncio, sys
from pattern_db.engines.surreal import SurrealStore
from pattern_db.engines.surreal.connection import Options
from pattern_db.schema import all_tables
from pattern_db.testing.rows import add, user

async def main():
    store = await SurrealStore.connect(Options(url=sys.argv[1], durability=sys.argv[2]))
    if not await store.has_table("users"):
        await store.create(all_tables())
    {body}

asyncio.run(main())
"""
_COUNTED = """
    from tests.rigs.syncs import done
    for n in range(40):
        before = done()
        await add(store, user(f"u{n}"))
        print(done() - before)
    await store.close()
"""
_ENDLESS = """
    n = 0
    while True:
        await add(store, user(f"{sys.argv[3]}.{n}"), user(f"{sys.argv[3]}.{n}x"))
        print(n, flush=True)
        n += 1
"""


@pytest.mark.parametrize("durability", ["full", "relaxed"])
def test_every_acknowledged_write_was_synced(tmp_path: Path, durability: str) -> None:
    environment = syncs.environment(tmp_path)
    if environment is None:
        pytest.skip("there is no C compiler to count syncs with")
    environment.pop("SURREAL_SYNC_DATA", None)
    command = [sys.executable, "-c", _WRITER.format(body=_COUNTED)]
    command += [f"surrealkv://{tmp_path}/mind", durability]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "panicked" not in ran.stderr
    counts = [int(line) for line in ran.stdout.split()]
    assert len(counts) == 40
    if durability == "full":
        assert min(counts) >= 1
    else:
        assert sum(counts) < 10, "relaxed writes are not synced one by one"


@pytest.mark.slow
def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    url, rng = f"surrealkv://{tmp_path}/mind", random.Random(11)
    acknowledged: set[str] = set()
    for round_ in range(6):
        command = [sys.executable, "-c", _WRITER.format(body=_ENDLESS), url, "full", str(round_)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(rng.randrange(5, 60)):
                n = child.stdout.readline().strip()
                assert n, "the writer ended by itself"
                acknowledged |= {f"{round_}.{n}", f"{round_}.{n}x"}
            child.send_signal(signal.SIGKILL)

    async def ids() -> list[str]:
        store = await SurrealStore.connect(Options(url=url))
        found = [id for (id,) in await store.execute(select(User).only(_U.id))]
        await store.close()
        return found

    found = set(asyncio.run(ids()))
    assert acknowledged <= found
    assert {id + "x" for id in found if not id.endswith("x")} == {
        id for id in found if id.endswith("x")
    }


async def test_a_second_process_is_told_that_there_is_a_first(tmp_path: Path) -> None:
    store = await with_tables(Options(url=f"surrealkv://{tmp_path}/mind"))
    assert not store.capabilities.several_processes
    command = [sys.executable, "-c", _WRITER.format(body="pass")]
    command += [f"surrealkv://{tmp_path}/mind", "full"]
    ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert ran.returncode == 1
    assert "DatabaseBusy: Another process has the database open" in ran.stderr
    await store.close()


async def test_what_was_closed_can_be_opened_again(tmp_path: Path) -> None:
    options = Options(url=f"surrealkv://{tmp_path}/with blank ü", namespace="a-b")
    store = await with_tables(options)
    await add(store, user("ada"))
    assert store.capabilities.durable
    described = await store.describe()
    assert described["path"].endswith("with blank ü")
    assert described["bytes"] > 0
    await store.close()
    again = await SurrealStore.connect(options)
    assert await read(again, user("ada")) == user("ada")
    await again.close()


async def test_the_url_does_not_say_what_durability_says(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"database\.durability"):
        await SurrealStore.connect(Options(url=f"surrealkv://{tmp_path}/mind?sync=never"))


async def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "surrealdb_embedded", None)
    with pytest.raises(MissingExtra, match=r"pip install 'pattern-db\[surreal\]'"):
        await SurrealStore.connect(Options(url="mem://"))


@pytest.mark.parametrize("name", ["", "a;b", "`", "a b", "../x"])
async def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.namespace"):
        await SurrealStore.connect(Options(url="mem://", namespace=name))


@pytest.mark.parametrize("kind", ["Thrown", "NotAllowed", "Internal", "Query", "AlreadyExists", ""])
def test_every_error_of_the_engine_becomes_one_of_ours(kind: str) -> None:
    for details in (None, {"kind": "Auth"}, {"kind": "Record", "details": {"id": "users:secret"}}):
        for words in ("secret", "can be retried: secret", "Database at secret/LOCK already locked"):
            ours = translated(SurrealError({"kind": kind, "result": words, "details": details}))
            assert isinstance(ours, PatternError)
            assert "secret" not in str(ours)


@pytest.fixture
async def store() -> SurrealStore:
    return await with_tables(Options(url="mem://"))


async def _clustered(store: SurrealStore) -> np.ndarray:
    """300 messages of flux and 300 of sol, with vectors anywhere."""
    await space(store)
    await add(store, agent("flux"), agent("sol"))
    made = np.random.default_rng(5).normal(size=(600, 8)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    rows = [message(f"m{n:03}", "flux" if n < 300 else "sol") for n in range(600)]
    await add(store, *rows)
    await add(store, *(embedding(row, v) for row, v in zip(rows, made, strict=True)))
    return made


async def test_a_large_scope_is_searched_through_the_index_and_finds_the_same(
    store: SurrealStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _clustered(store)
    await change(store, message("m007"), role=Role.TOOL)
    is_tool = {
        "condition": columns_of(Message).role == param("role"),
        "params": {"role": Role.TOOL},
    }

    async def found(**options: object) -> list[list[tuple[str, float]]]:
        hits = []
        for n in range(10):
            asked = vector(*np.random.default_rng(n).normal(size=8))
            scope = {"space": SPACE, "agent_ids": ["flux"], "limit": 10, **options}
            hits.append(await store.vector_search(MESSAGES, asked, **scope))
        return hits

    exact = await found()
    left_out = [id for id, _ in exact[0]]
    without, tools = await found(exclude=left_out), await found(**is_tool)
    assert [[id for id, _ in hits] for hits in tools] == [["m007"]] * 10
    monkeypatch.setattr(vectors, "EXACT_UP_TO", 100)
    await found()
    monkeypatch.setattr(vectors.VectorSearch, "_exact", _never)
    for indexed, expected in ((await found(), exact), (await found(exclude=left_out), without)):
        assert [[id for id, _ in hits] for hits in indexed] == [
            [id for id, _ in hits] for hits in expected
        ]
    monkeypatch.undo()
    assert await found(**is_tool) == tools, "a filter never hides what exists"
    await store.close()


async def _never(*_: object) -> list[tuple[str, float]]:
    raise AssertionError("the scope was searched exactly")


async def test_the_index_forgets_what_is_gone(
    store: SurrealStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await _clustered(store)
    monkeypatch.setattr(vectors, "EXACT_UP_TO", 10)
    scope = {"space": SPACE, "agent_ids": ["flux"], "limit": 3}
    await store.vector_search(MESSAGES, made[0], **scope)
    monkeypatch.setattr(vectors.VectorSearch, "_exact", _never)
    assert (await store.vector_search(MESSAGES, made[5], **scope))[0][0] == "m005"
    await remove(store, message("m005"))
    with pytest.raises(KeyError):
        async with store.transaction():
            await remove(store, message("m006"))
            raise KeyError
    assert "m005" not in dict(await store.vector_search(MESSAGES, made[5], **scope))
    left = await store._run("RETURN count(SELECT VALUE id FROM near_1)", {})
    assert left[-1]["result"] == 599
    assert (await store.vector_search(MESSAGES, made[6], **scope))[0][0] == "m006"
    await store.close()


async def test_a_text_of_another_table_in_one_transaction_is_numbered_once(
    store: SurrealStore,
) -> None:
    """What is done again at the end of a transaction gives the same numbers."""
    await add(store, agent("flux"))
    async with store.transaction():
        (first,) = await add(store, message("m1"))
        async with store.transaction():
            (second,) = await add(store, message("m2"))
        await remove(store, message("m1"))
        (third,) = await add(store, message("m3"))
    assert [first.ordinal, second.ordinal, third.ordinal] == [0, 1, 2]
    assert (await read(store, message("m3"))).ordinal == 2
    await store.close()


async def test_rows_of_several_groups_are_numbered_in_one_write(store: SurrealStore) -> None:
    await add(store, agent("flux"), agent("sol"))
    await add(store, message("m0", "flux"), message("m1", "flux"), message("m2", "sol"))
    turns = [message(f"n{n}", "flux" if n % 3 else "sol") for n in range(9)]
    stored = await add(store, *turns)
    assert [row.ordinal for row in stored] == [1, 2, 3, 2, 4, 5, 3, 6, 7]
    assert [(await read(store, row)).ordinal for row in turns] == [1, 2, 3, 2, 4, 5, 3, 6, 7]
    await store.close()


async def test_what_a_row_costs_does_not_depend_on_how_many_there_are(store: SurrealStore) -> None:
    """A closure costs what the whole script weighs each time; a number is one step in an index."""
    await space(store)
    await add(store, agent("flux"), message("m0"))
    item = message("m1")
    rows = [item, embedding(item, vector(1, *[0] * 7))]
    for row in rows:
        (write,) = steps([Bound(Insert(table_of(type(row))), {"row": row})], compile_query)
        assert "|$" not in "".join(write.texts)
        if row is item:
            found = re.search(r"SELECT .* LIMIT 1", write.texts[0])
            assert found is not None
            values = {f"_{n}_": value for n, value in enumerate(write.values)}
            (plan,) = await store._run(f"EXPLAIN {found[0]}", values)
            assert re.search(r"IndexScan.*Backward, limit: 1\]", str(plan["result"]))
    await store.close()


# on a server


async def test_each_level_of_login_opens_the_database(surreal_bridge: Bridge) -> None:
    levels = [("root", "root"), ("namespace", "keeper"), ("database", "writer")]
    for url in (surreal_bridge.url, surreal_bridge.http_url):
        for level, name in levels:
            options = on(surreal_bridge, url, auth=level, username=name, database="test")
            store = await with_tables(options)
            await add(store, user(f"{level}-{url[:4]}"))
            assert store.capabilities.several_processes
            await store.close()
        record = on(
            surreal_bridge, url, auth="record", access="people", username="ada", database="test"
        )
        store = await SurrealStore.connect(record)
        assert await read(store, user(f"root-{url[:4]}"))
        await store.close()


async def test_a_token_is_a_login(surreal_bridge: Bridge) -> None:
    asked = on(surreal_bridge)
    store = await SurrealStore.connect(asked)
    token = await store._link.call("signin", [{"user": "root", "pass": PASSWORD}])
    token = token if isinstance(token, str) else token["access"]
    await store.close()
    for url in (surreal_bridge.url, surreal_bridge.http_url):
        options = on(surreal_bridge, url, auth="token", username=None, password=token)
        store = await with_tables(options)
        await add(store, user("ada"))
        await store.close()


async def test_a_login_that_runs_out_is_made_again(surreal_bridge: Bridge) -> None:
    store = await with_tables(on(surreal_bridge))
    surreal_bridge.expired += 1
    await add(store, user("ada"))
    assert await store.execute(Count(_USERS)) == 1
    await store.close()
    store = await with_tables(on(surreal_bridge, surreal_bridge.http_url))
    headers = store._link._headers  # type: ignore[attr-defined]
    surreal_bridge.revoked.add(headers["Authorization"].removeprefix("Bearer "))
    await add(store, user("ada"))
    assert await store.execute(Count(_USERS)) == 1
    await store.close()


async def test_an_answer_that_does_not_come_is_not_waited_for(surreal_bridge: Bridge) -> None:
    for url in (surreal_bridge.url, surreal_bridge.http_url):
        store = await with_tables(on(surreal_bridge, url, statement_timeout_s=0.3))
        surreal_bridge.slow = lambda: 3.0
        with pytest.raises(ConnectionFailed, match="did not answer in time"):
            await store.execute(Count(_USERS))
        surreal_bridge.slow = lambda: 0.0
        await add(store, user("ada"))
        assert await store.execute(Count(_USERS)) == 1
        await store.close()


@pytest.mark.parametrize("auth", ["root", "namespace", "database", "record", "token"])
async def test_a_wrong_login_is_refused(surreal_bridge: Bridge, auth: str) -> None:
    for url in (surreal_bridge.url, surreal_bridge.http_url):
        options = on(
            surreal_bridge, url, auth=auth, access="people", database="test", password="hunter.2.x"
        )
        with pytest.raises((ConnectionFailed, QueryFailed)) as raised:
            await SurrealStore.connect(options)
        assert "hunter" not in str(raised.value) + repr(options)
    with pytest.raises((ConnectionFailed, QueryFailed)):
        await SurrealStore.connect(on(surreal_bridge, username=None, password=None))


async def test_a_record_login_needs_its_access_method(surreal_bridge: Bridge) -> None:
    with pytest.raises(ConfigError, match=r"database\.access"):
        await SurrealStore.connect(on(surreal_bridge, auth="record"))


@pytest.mark.parametrize("version", ["surrealdb-2.3.7", "surrealdb-3.0.1", "something"])
async def test_an_old_server_is_refused_by_its_version(version: str) -> None:
    bridge = Bridge(version=version)
    try:
        with pytest.raises(Unsupported, match=r"3\.1 or newer is needed"):
            await SurrealStore.connect(on(bridge))
    finally:
        bridge.stop()


@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_a_server_that_is_not_there_is_one_sentence(scheme: str) -> None:
    with pytest.raises(ConnectionFailed, match="cannot be reached"):
        await SurrealStore.connect(Options(url=f"{scheme}://127.0.0.1:1"))


async def test_something_else_that_answers_is_one_sentence() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for url in (f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"):
            with pytest.raises((ConnectionFailed, QueryFailed), match=r"database\.url"):
                await SurrealStore.connect(Options(url=url))


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[tuple[Path, Bridge]]:
    """A certificate for ``localhost`` that nobody trusts, and a server that has it."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    bridge = Bridge(tls=context)
    yield certificate, bridge
    bridge.stop()


async def test_certificates_are_checked(
    authority: tuple[Path, Bridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, bridge = authority
    for url in (bridge.url, bridge.http_url):
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        with pytest.raises(ConnectionFailed, match="SSL_CERT_FILE"):
            await SurrealStore.connect(on(bridge, url))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        store = await with_tables(on(bridge, url))
        await add(store, user("ada"))
        await store.close()


async def test_a_lost_update_between_two_handles_is_a_conflict(surreal_bridge: Bridge) -> None:
    options = on(surreal_bridge)
    ours, theirs = await with_tables(options), await with_tables(options)
    await add(ours, user("ada"), user("bob"))
    rename = update(User, "name").where(_U.is_active == True)  # noqa: E712
    with pytest.raises(Conflict):
        async with ours.transaction():
            assert await ours.execute(rename, name="x") == 2
            await add(theirs, user("cyd"))
    assert {row.name for row in await ours.execute(select(User))} == {""}
    await ours.close()
    await theirs.close()


async def test_many_handles_number_without_gaps(surreal_bridge: Bridge) -> None:
    options = on(surreal_bridge)
    stores = [await with_tables(options) for _ in range(4)]
    await add(stores[0], agent("flux"))
    writes = [add(stores[n % 4], message(f"m{n:03}")) for n in range(40)]
    stored = await asyncio.gather(*writes)
    assert sorted(row.ordinal for (row,) in stored) == list(range(40))
    for each in stores:
        await each.close()


async def test_who_died_while_alone_keeps_others_out_only_for_a_while(
    surreal_bridge: Bridge,
) -> None:
    options = on(surreal_bridge, lock_timeout_s=0.2)
    dead, alive = await with_tables(options), await with_tables(options)
    await dead.shut_out()
    with pytest.raises(DatabaseBusy):
        await add(alive, user("ada"))
    later = "UPDATE pattern_turn:writes SET until = time::now() - 1s"
    await alive._link.call("query", [later, {}])
    await add(alive, user("ada"))
    assert await alive.execute(Count(_USERS)) == 1
    await dead.close()
    await alive.close()


@pytest.mark.slow
async def test_a_hundred_cuts_lose_no_acknowledged_write(surreal_bridge: Bridge) -> None:
    """Reads go on as if nothing had been; a write is kept, or its caller hears that it may not."""
    rng = random.Random(7)
    acknowledged: set[str] = set()
    failed: list[BaseException] = []
    surreal_bridge.slow = lambda: rng.random() / 500
    async with Proxy(surreal_bridge.socket) as proxy:
        store = await with_tables(on(surreal_bridge, f"ws://127.0.0.1:{proxy.port}"))

        async def write(id: str) -> None:
            rows = [user(id), *(user(f"{id}-{n}") for n in range(rng.choice([0, 3, 20])))]
            await add(store, *rows)
            acknowledged.update(row.id for row in rows)

        for round_ in range(100):
            proxy.cut_after = rng.randrange(1, 1500)
            results = await asyncio.gather(
                *(write(f"{round_}.{n}") for n in range(3)),
                store.execute(Count(_USERS)),
                return_exceptions=True,
            )
            failed += [one for one in results if isinstance(one, BaseException)]
        proxy.cut_after = None
        assert failed
        assert all(isinstance(error, ConnectionFailed) for error in failed), failed
        assert not [e for e in failed if "may have been" not in str(e)], "only writes may fail"
        ids = {row.id for row in await store.execute(select(User))}
        assert acknowledged <= ids
        assert not [i for i in ids if f"{i}-0" in ids and f"{i}-2" not in ids], "a torn write"
        await add(store, user("after"))
        assert not store.turn.locked()
        await store.close()
    surreal_bridge.slow = lambda: 0.0


async def test_a_transaction_outlives_a_lost_line_until_it_is_kept(surreal_bridge: Bridge) -> None:
    """It is gathered here, so nothing of it was on the line."""
    async with Proxy(surreal_bridge.socket) as proxy:
        store = await with_tables(on(surreal_bridge, f"ws://127.0.0.1:{proxy.port}"))
        async with store.transaction():
            await add(store, user("ada"))
            proxy.cut()
            await add(store, user("bob"))
            assert await store.execute(Count(_USERS)) == 2
        assert await store.execute(delete(User)) == 2
        await store.close()


async def test_a_database_on_a_server_is_opened_by_its_url(surreal_bridge: Bridge) -> None:
    login = {"namespace": "test", "username": "root", "password": PASSWORD}
    database = surreal_bridge.database()
    for _ in range(2):
        async with pattern_db.open(
            surreal_bridge.url, embeddings="none", database=database, **login
        ) as db:
            assert PASSWORD not in repr(db.config) + repr(await db.status())
            flux = await db.agents.create(name="Flux")
            await db.messages.append(flux.id, role="user", content="I moved to Oslo.")
            found = await db.search([flux.id], "Oslo")
            assert [hit.item.content for hit in found] == ["I moved to Oslo."]
