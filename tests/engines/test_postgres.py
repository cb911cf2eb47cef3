"""What only a server can do to us: being lost, being slow, being somebody else's, being many."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg import errors as pg

import pattern_db
from pattern_db import (
    ConfigError,
    Conflict,
    ConnectionFailed,
    DatabaseBusy,
    PatternDB,
    PatternError,
    QueryFailed,
    SchemaVersionMismatch,
    Unsupported,
    User,
)
from pattern_db.engines.postgres import PostgresStore, vectors
from pattern_db.engines.postgres.connection import Options, conninfo_of
from pattern_db.engines.postgres.failures import translated
from pattern_db.filters import param
from pattern_db.models import Embedding, EmbeddingSpace, Message
from pattern_db.query import Count, select
from pattern_db.schema import all_tables, columns_of, table_of
from pattern_db.testing.rows import NOW, add, agent, embedding, message, read, user
from tests.rigs.proxy import Proxy

pytestmark = pytest.mark.slow

_USERS = table_of(User)


async def store_on(url: str, **options: object) -> PostgresStore:
    """A store with every table."""
    store = await PostgresStore.connect(Options(url=url, **options))  # type: ignore[arg-type]
    if not await store.has_table("users"):
        await store.create(all_tables())
    return store


@pytest.fixture
async def store(postgres: str) -> AsyncIterator[PostgresStore]:
    opened = await store_on(postgres)
    yield opened
    assert opened.pool.in_use == 0
    await opened.close()


def sql(url: str, statement: str) -> list[tuple[object, ...]]:
    """Run a statement beside the store."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


def configure(url: str, setting: str) -> None:
    """Set something for every connection to the database that comes."""
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    sql(url, f"ALTER DATABASE {name} SET {setting}")


def kill_all(url: str) -> None:
    """End every other connection to the database."""
    sql(
        url,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


async def test_every_error_of_the_server_becomes_one_of_ours() -> None:
    kinds = [k for k in vars(pg).values() if isinstance(k, type) and issubclass(k, psycopg.Error)]
    assert len(kinds) > 250
    for kind in kinds:
        ours = translated(kind("something secret"))
        assert isinstance(ours, PatternError), kind
        assert "secret" not in str(ours)


async def test_a_connection_that_was_lost_while_idle_is_not_noticed(
    store: PostgresStore, postgres: str
) -> None:
    await add(store, user("ada"))
    await asyncio.gather(*(store.execute(Count(_USERS)) for _ in range(5)))
    kill_all(postgres)
    await store.execute(pattern_db.query.Insert(_USERS), row=user("bob"))
    assert await store.execute(Count(_USERS)) == 2


async def test_a_transaction_whose_connection_is_lost_is_not_kept(
    store: PostgresStore, postgres: str
) -> None:
    with pytest.raises(ConnectionFailed):
        async with store.transaction():
            await add(store, user("ada"))
            kill_all(postgres)
            await add(store, user("bob"))
    with pytest.raises(ConnectionFailed, match="nothing of the transaction was kept|was lost"):
        async with store.transaction():
            await add(store, user("ada"))
            kill_all(postgres)
    assert await store.execute(Count(_USERS)) == 0


@pytest.mark.slow
async def test_a_hundred_cuts_lose_no_acknowledged_write(
    postgres: str, postgres_server: object
) -> None:
    """Reads go on as if nothing had been; a write is kept, or its caller hears that it may not."""
    host = psycopg.conninfo.conninfo_to_dict(postgres)["host"]
    name = psycopg.conninfo.conninfo_to_dict(postgres)["dbname"]
    rng = random.Random(7)
    acknowledged: set[str] = set()
    async with Proxy(Path(str(host)) / ".s.PGSQL.5432") as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}"
        store = await store_on(url, connections=4)

        async def write(id: str) -> None:
            rows = [user(id), *(user(f"{id}-{n}") for n in range(rng.choice([0, 3, 20])))]
            await add(store, *rows)
            acknowledged.update(row.id for row in rows)

        failed: list[BaseException] = []
        for round_ in range(100):
            proxy.cut_after = rng.randrange(1, 1500)
            results = await asyncio.gather(
                *(write(f"{round_}.{n}") for n in range(9)),
                store.execute(Count(_USERS)),
                return_exceptions=True,
            )
            failed += [one for one in results if isinstance(one, BaseException)]
        proxy.cut_after = None
        assert failed
        assert all(isinstance(error, ConnectionFailed) for error in failed)
        assert not [e for e in failed if "may have been" not in str(e)], "only writes may fail"
        ids = {row.id for row in await store.execute(select(User))}
        assert acknowledged <= ids
        await add(store, user("after"))
        assert store.pool.in_use == 0
        await store.close()


async def test_a_slow_statement_is_stopped(postgres: str) -> None:
    store = await store_on(postgres, statement_timeout_s=0.2)

    async def sleep(connection: object) -> None:
        await connection.execute("SELECT pg_sleep(60)")  # type: ignore[attr-defined]

    with pytest.raises(QueryFailed, match="took too long"):
        await store._read(sleep)
    assert await store.execute(Count(_USERS)) == 0
    await store.close()


async def test_a_lock_that_is_held_too_long_is_busy(store: PostgresStore, postgres: str) -> None:
    await add(store, user("ada"))
    hasty = await store_on(postgres, lock_timeout_s=0.1)
    async with store.transaction():
        await store.execute(pattern_db.query.delete(User))
        with pytest.raises(DatabaseBusy, match="busy_timeout_s"):
            await hasty.execute(pattern_db.query.delete(User))
    await hasty.close()


async def test_a_cancelled_statement_is_stopped_at_the_server(
    store: PostgresStore, postgres: str
) -> None:
    async def sleep(connection: object) -> None:
        await connection.execute("SELECT pg_sleep(600)")  # type: ignore[attr-defined]

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await store._read(sleep)
    running = sql(
        postgres,
        "SELECT query FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600)%' "
        "AND pid <> pg_backend_pid()",
    )
    assert running == []
    assert store.pool.in_use == 0


async def test_more_tasks_than_connections_wait_their_turn(postgres: str) -> None:
    store = await store_on(postgres, connections=2)

    async def work(n: int) -> None:
        async with store.transaction():
            await add(store, user(f"u{n}"))

    tasks = [asyncio.create_task(work(n)) for n in range(30)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.write([])
    assert store.pool.in_use == 0
    assert await store.execute(Count(_USERS)) >= 20
    await store.close()


async def test_transactions_that_wait_for_each_other_are_tried_again(
    store: PostgresStore,
) -> None:
    await add(store, user("ada"), user("bob"))
    rename = pattern_db.query.update(User, "name").where(columns_of(User).id == param("id"))

    async def both(first: str, second: str, name: str) -> None:
        await store.write([rename(id=first, name=name), rename(id=second, name=name)])

    await asyncio.gather(
        *(both("ada", "bob", str(n)) if n % 2 else both("bob", "ada", str(n)) for n in range(6))
    )
    ada, bob = await read(store, user("ada")), await read(store, user("bob"))
    assert ada.name == bob.name


async def test_one_tenant_a_schema(postgres: str) -> None:
    async with (
        pattern_db.open(postgres, namespace="one", embeddings="none") as one,
        pattern_db.open(postgres, namespace="two", embeddings="none") as two,
    ):
        flux = await one.agents.create(name="Flux", id="agent_same")
        await two.agents.create(name="Sol", id="agent_same")
        await one.messages.append(flux.id, role="user", content="a secret of the first")
        assert [a.name for a in await two.agents.list()] == ["Sol"]
        assert await two.messages.count() == 0
        assert await two.search("agent_same", "secret") == []
        assert len(await one.search("agent_same", "secret")) == 1
        await two.migrations.migrate(to=0)
        assert await one.messages.count() == 1


@pytest.mark.parametrize("name", ["", 'a"b', "a;b", "a b", "a$body$", "x" * 64, "a.b", "a'b"])
async def test_a_namespace_that_is_no_name_is_refused(postgres: str, name: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.namespace"):
        await PostgresStore.connect(Options(url=postgres, schema=name))


async def test_processes_that_open_a_new_database_at_once_migrate_it_once(postgres: str) -> None:
    async def opened() -> PatternDB:
        return await pattern_db.open(postgres, embeddings="none")

    databases = await asyncio.gather(*(opened() for _ in range(5)))
    ids = {(await db.status()).database_id for db in databases}
    assert len(ids) == 1
    for db in databases:
        await db.close()


async def test_going_down_leaves_nothing_and_up_again_makes_the_same(postgres: str) -> None:
    columns = "SELECT table_name, column_name, data_type FROM information_schema.columns "
    columns += "WHERE table_schema = 'public' ORDER BY 1, 2"
    async with pattern_db.open(postgres, embeddings="none") as db:
        fresh = sql(postgres, columns)
        await db.migrations.migrate(to=0)
        assert sql(postgres, columns) == []
        triggers = "SELECT proname FROM pg_proc WHERE prorettype = 'trigger'::regtype AND "
        triggers += "pronamespace = 'public'::regnamespace"
        assert sql(postgres, triggers) == []
        await db.migrations.migrate()
        assert sql(postgres, columns) == fresh
    with pytest.raises(SchemaVersionMismatch, match="pattern db migrate"):
        await pattern_db.open(postgres, embeddings="none", namespace="new", migrate=False)


async def test_a_large_scope_is_searched_by_the_index_and_still_whole(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest 600 belong to others or are filtered out: an index alone would find nothing."""
    monkeypatch.setattr(vectors, "EXACT_UP_TO", 100)
    configure(postgres, "enable_sort = off")
    store = await store_on(postgres)
    rng = np.random.default_rng(1)
    made = rng.normal(size=(1500, 32)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    made = made[np.argsort(-(made @ made[0]))]
    await store.execute(
        pattern_db.query.Insert(table_of(EmbeddingSpace)), row=EmbeddingSpace(1, "test", 32, NOW)
    )
    await add(store, agent("flux"), agent("sol"))
    rows = [
        message(f"{n:06}", "sol" if n < 300 else "flux", source="x" if n >= 900 else None)
        for n in range(1500)
    ]
    await add(store, *rows)
    await add(store, *(embedding(row, v) for row, v in zip(rows, made, strict=True)))
    await store.vacuum()
    indexes = sql_indexes(await _explained(store, made[0]))
    assert indexes == ["embeddings_near_1"]
    scope = {"space": 1, "agent_ids": ["flux"], "limit": 10}
    found = [id for id, _ in await store.vector_search(table_of(Message), made[0], **scope)]
    best = [row.id for row in rows[300:310]]
    assert len({*found} & {*best}) >= 9
    narrowed = {
        "condition": columns_of(Message).source == param("source"),
        "params": {"source": "x"},
    }
    found = [
        id for id, _ in await store.vector_search(table_of(Message), made[0], **scope, **narrowed)
    ]
    assert len({*found} & {row.id for row in rows[900:910]}) >= 9
    assert len(found) == 10
    await store.execute(pattern_db.query.delete(EmbeddingSpace))
    assert await store.execute(Count(table_of(Embedding))) == 0
    await store.close()


async def _explained(store: PostgresStore, vector: np.ndarray) -> str:
    scope = vectors._Scope(store._schema, table_of(Message), vector, 1, ["flux"], None, {}, ())
    compiled = scope.near(10)
    explained = pattern_db.engines.sql.Compiled(
        "EXPLAIN " + compiled.sql, compiled.bind, None, False, False
    )
    return "\n".join(row[0] for row in await store._rows(explained, {}))


def sql_indexes(plan: str) -> list[str]:
    return [
        line.split(" on ")[0].split()[-1]
        for line in plan.splitlines()
        if "using embeddings_near" in line
    ]


async def test_a_text_longer_than_its_index_can_hold_is_kept_and_found(
    store: PostgresStore,
) -> None:
    """PostgreSQL indexes one megabyte of words at most."""
    words = " ".join(f"word{n:07}" for n in range(200_000))
    await add(store, agent("flux"), message("long", content=words))
    hits = await store.text_search(table_of(Message), ["word0000001"], agent_ids=["flux"], limit=1)
    assert [id for id, _ in hits] == ["long"]
    assert (await read(store, message("long"))).content == words


async def test_a_database_in_use_by_another_program_is_left_alone(postgres: str) -> None:
    sql(postgres, "CREATE TABLE users (mine int)")
    with pytest.raises(PatternError):
        await pattern_db.open(postgres, embeddings="none")
    assert sql(postgres, "SELECT count(*) FROM users") == [(0,)]


async def test_another_event_loop_is_refused(store: PostgresStore) -> None:
    def elsewhere() -> str:
        async def ask() -> str:
            with pytest.raises(Unsupported) as raised:
                await store.execute(Count(_USERS))
            return str(raised.value)

        return asyncio.run(ask())

    assert "another event loop" in await asyncio.to_thread(elsewhere)


@pytest.mark.parametrize(
    ("url", "message_"),
    [
        ("postgresql://127.0.0.1:1/x?connect_timeout=2", "cannot be reached"),
        ("postgresql://h/x?nothing=1", "not a URL that libpq understands"),
    ],
)
async def test_a_server_that_is_not_there_is_said_without_the_password(
    url: str, message_: str
) -> None:
    with pytest.raises(PatternError, match=message_) as raised:
        await PostgresStore.connect(Options(url=url, password="hunter2", username="me"))
    assert "hunter2" not in str(raised.value)


async def test_a_database_that_is_not_there_is_named_as_such(postgres: str) -> None:
    with pytest.raises(ConnectionFailed, match="cannot be reached|no database"):
        await PostgresStore.connect(Options(url=postgres, database="nothing"))


async def test_of_several_hosts_the_one_that_writes_is_taken(postgres: str) -> None:
    asked = psycopg.conninfo.conninfo_to_dict(conninfo_of(Options(url=postgres)))
    assert asked["target_session_attrs"] == "read-write"
    host = asked["host"]
    several = f"postgresql://postgres@/{asked['dbname']}?host=/nowhere,{host}"
    store = await store_on(several)
    assert await store.execute(Count(_USERS)) == 0
    await store.close()


@pytest.mark.parametrize(("durability", "expected"), [("full", "on"), ("relaxed", "off")])
async def test_a_commit_is_as_durable_as_was_asked(
    postgres: str, durability: str, expected: str
) -> None:
    sql(postgres, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', "
        "current_database()); END $$")  # fmt: skip
    store = await store_on(postgres, durability=durability)

    async def shown(connection: object) -> object:
        cursor = await connection.execute("SHOW synchronous_commit")  # type: ignore[attr-defined]
        return (await cursor.fetchone())[0]

    assert await store._read(shown) == expected
    assert store.capabilities.durable is (durability == "full")
    await store.close()


async def test_a_guard_that_fails_is_not_tried_again(store: PostgresStore) -> None:
    with pytest.raises(Conflict, match="Somebody else changed"):
        await store.write([pattern_db.query.delete(User)().expect(1)])


async def test_settings_of_a_server_are_refused_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is for a PostgreSQL server"):
        await pattern_db.open(tmp_path / "mind.db", connections=3)
