"""Tenants: databases of their own, made, listed, migrated and erased through one that knows them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psycopg
import pytest

import pattern_db
from pattern_db import (
    AlreadyExists,
    ConfigError,
    Constellation,
    ConstellationStatus,
    DatabaseBusy,
    InvalidValue,
    NotFound,
    PatternDB,
    QueryFailed,
    Unsupported,
)
from pattern_db.config import DatabaseConfig, load
from pattern_db.migrations import MigrationRunner, known_migrations
from pattern_db.models import MigrationRecord
from pattern_db.query import select, update
from pattern_db.schema import columns_of
from pattern_db.service import _connect
from tests.rigs.canary import Needles

pytestmark = pytest.mark.slow

NEWEST = known_migrations()[-1].version


def opened(location: str, tenant: str | None = None) -> pattern_db.service.Opening:
    return pattern_db.open(location, tenant=tenant, embeddings="none")


@pytest.fixture
async def base(location: str) -> AsyncIterator[PatternDB]:
    """The database that knows the tenants."""
    async with opened(location) as db:
        yield db


async def test_a_tenant_is_made_opened_and_erased(base: PatternDB, location: str) -> None:
    ada = await base.users.create(name="Ada")
    made = await base.tenants.create("ada", user_id=ada.id, title="Ada's", metadata={"plan": 1})
    assert (made.id, made.status, made.user_id) == ("ada", ConstellationStatus.ACTIVE, ada.id)
    assert (made.title, made.metadata) == ("Ada's", {"plan": 1})
    async with opened(location, "ada") as db:
        await db.agents.create(name="Flux", id="agent")
        assert await db.users.count() == 0, "users of the base are not the tenant's"
    assert await base.agents.count() == 0
    async with opened(location, "ada") as db:
        assert [agent.id for agent in await db.agents.list()] == ["agent"]
    await base.tenants.drop("ada")
    assert await base.tenants.get("ada") is None
    with pytest.raises(NotFound, match="no tenant 'ada'"):
        await opened(location, "ada")
    await base.tenants.create("ada")
    async with opened(location, "ada") as db:
        assert await db.agents.count() == 0


async def test_tenants_are_listed_by_name_and_page(base: PatternDB) -> None:
    for name in ("sol", "ada", "b-2", "b_1"):
        await base.tenants.create(name)
    assert [t.id for t in await base.tenants.list()] == ["ada", "b-2", "b_1", "sol"]
    assert [t.id for t in await base.tenants.list(limit=2, after="ada")] == ["b-2", "b_1"]


async def test_no_tenant_is_made_by_opening_it(location: str) -> None:
    with pytest.raises(NotFound, match="no tenant 'ada'"):
        await opened(location, "ada")
    async with opened(location) as db:
        await db.tenants.create("ada")
        with pytest.raises(AlreadyExists):
            await db.tenants.create("ada")
        with pytest.raises(NotFound, match="no tenant 'adam'"):
            await opened(location, "adam")
        with pytest.raises(NotFound):
            await db.tenants.drop("adam")
        with pytest.raises(NotFound):
            await db.tenants.create("eve", user_id="nobody")


NO_NAMES = (
    "", "A", "ada lovelace", "a__b", "_a", "a_", "a.b", "a/b", "../a", "a\n", "a\0", "ä", "a;b",
    'a"b', "x" * 41, "-a", "con ", "a$", "a__", "public__a",
)  # fmt: skip


async def test_what_cannot_be_a_place_cannot_be_a_name(base: PatternDB, location: str) -> None:
    for name in NO_NAMES:
        for act in (base.tenants.create, base.tenants.get, base.tenants.drop):
            with pytest.raises(InvalidValue, match="lower-case letters"):
                await act(name)
        if name:
            with pytest.raises(ConfigError, match="lower-case letters"):
                load(location, tenant=name)
    assert await base.tenants.list() == []


def test_no_two_tenants_share_a_place() -> None:
    names = ["a", "b", "a-b", "a_b", "b_c", "public", "tenant"]
    bases = [
        DatabaseConfig(url="postgresql://h/x", type="remote", namespace=namespace)
        for namespace in (None, "a", "a_b", "a__b", "b", "tenant")
    ]
    places = [msgspec.structs.replace(b, tenant=n).located.namespace for b in bases for n in names]
    assert len(set(places)) == len(places)
    surreal = DatabaseConfig(url="ws://h", type="remote", database="d", tenant="a").located
    assert (surreal.database, surreal.namespace, surreal.tenant) == ("d__a", None, None)
    file = DatabaseConfig(path="/x/mind.db", tenant="a").located
    assert file.location == "/x/mind.db-tenants/a.db"
    turso = DatabaseConfig(url="turso:///x/mind%20.db", tenant="a").located
    assert (turso.engine, turso.location) == ("turso", "/x/mind .db-tenants/a.db")


@pytest.mark.parametrize("source", [":memory:", "mem://", "turso:///x.db?remote=http://h"])
def test_a_database_that_cannot_have_tenants_says_so(source: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.tenant is set"):
        load(source, tenant="ada")


async def test_a_tenant_has_no_tenants(base: PatternDB, location: str) -> None:
    await base.tenants.create("ada")
    async with opened(location, "ada") as db:
        with pytest.raises(Unsupported, match="open its base"):
            await db.tenants.create("eve")
        with pytest.raises(Unsupported, match="open its base"):
            await db.tenants.drop("ada")


async def test_a_making_that_was_stopped_is_finished(
    base: PatternDB, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: object) -> None:
        raise QueryFailed("the power went")

    with monkeypatch.context() as broken:
        broken.setattr(MigrationRunner, "migrate", dies)
        for name in ("ada", "eve"):
            with pytest.raises(QueryFailed):
                await base.tenants.create(name)
    assert {t.status for t in await base.tenants.list()} == {ConstellationStatus.CREATING}
    if base.store.capabilities.several_processes:
        with pytest.raises(NotFound):
            await opened(location, "ada")
    await base.tenants.create("ada")
    assert [done.tenant async for done in base.tenants.migrate()] == ["ada", "eve"]
    assert {t.status for t in await base.tenants.list()} == {ConstellationStatus.ACTIVE}
    async with opened(location, "eve") as db:
        assert await db.agents.count() == 0


async def test_an_erasure_that_was_stopped_is_finished(base: PatternDB, location: str) -> None:
    await base.tenants.create("ada")
    dropping = update(Constellation, status=ConstellationStatus.DROPPING)
    await base.store.execute(dropping)
    if base.store.capabilities.several_processes:
        with pytest.raises(NotFound):
            await opened(location, "ada")
    assert [done async for done in base.tenants.migrate()] == []
    await base.tenants.drop("ada")
    assert await base.tenants.list() == []


async def test_migrating_goes_on_past_a_tenant_that_fails(base: PatternDB, location: str) -> None:
    for name in ("a", "b", "c"):
        await base.tenants.create(name)
    config = load(location).database
    for name, version in (("a", 0), ("b", 1), ("c", 1)):
        store = await _connect(msgspec.structs.replace(config, tenant=name))
        await MigrationRunner(store).migrate(to=version)
        if name == "b":
            changed = update(MigrationRecord, checksum="another")
            await store.execute(changed)
        await store.close()
    done = {each.tenant: each async for each in base.tenants.migrate()}
    assert len(done["a"].steps) == NEWEST
    assert len(done["c"].steps) == NEWEST - 1
    assert "is not the one this program has" in done["b"].error
    store = await _connect(msgspec.structs.replace(config, tenant="b"))
    r = columns_of(MigrationRecord)
    mended = update(MigrationRecord, "checksum").where(r.version == 1)
    await store.execute(mended, checksum=known_migrations()[0].checksum)
    await store.close()
    again = {each.tenant: each.steps async for each in base.tenants.migrate()}
    assert {name: len(steps) for name, steps in again.items()} == {"a": 0, "b": NEWEST - 1, "c": 0}
    assert [each.tenant async for each in base.tenants.migrate(["c"])] == ["c"]
    with pytest.raises(NotFound):
        [each async for each in base.tenants.migrate(["nobody"])]


async def test_nothing_of_an_erased_tenant_is_left_in_the_folder(tmp_path: Path) -> None:
    needles, location = Needles(seed=3), str(tmp_path / "mind.db")
    secret = needles.plant("ada")
    async with opened(location) as base:
        for name in ("ada", "eve"):
            await base.tenants.create(name)
        async with opened(location, "ada") as db:
            await db.agents.create(name=secret, id="agent")
            assert needles.in_directory(tmp_path)
            with pytest.raises(DatabaseBusy, match="open elsewhere"):
                await base.tenants.drop("ada")
            assert (await db.agents.require("agent")).name == secret
        await base.tenants.drop("ada")
        assert needles.in_directory(tmp_path) == []
        left = {path.name.split(".")[0] for path in (tmp_path / "mind.db-tenants").iterdir()}
        assert left == {"eve"}
        assert (tmp_path / "mind.db-tenants").stat().st_mode & 0o777 == 0o700


async def test_nothing_of_an_erased_tenant_is_left_on_the_server(postgres: str) -> None:
    def schemas() -> set[str]:
        sql = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'public\\_\\_%'"
        with psycopg.connect(postgres) as connection:
            return {name for (name,) in connection.execute(sql).fetchall()}

    async with opened(postgres) as base:
        for name in ("ada", "eve"):
            await base.tenants.create(name)
        assert schemas() == {"public__ada", "public__eve"}
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("CREATE TABLE public__ada.theirs (x int)")
            with pytest.raises(Unsupported, match="something that this program did not make"):
                await base.tenants.drop("ada")
            connection.execute("DROP TABLE public__ada.theirs")
        await base.tenants.drop("ada")
        assert schemas() == {"public__eve"}
        assert [record.version for record in await base.store.execute(select(MigrationRecord))]
        async with opened(postgres, "eve") as db:
            assert await db.agents.count() == 0
