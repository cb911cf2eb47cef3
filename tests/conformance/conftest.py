"""The engines that are proven."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from pattern_db.engines.base import Store
from pattern_db.engines.embedded.store import EmbeddedStore
from pattern_db.engines.postgres import PostgresStore
from pattern_db.engines.postgres.connection import Options as PostgresOptions
from pattern_db.engines.sqlite import SqliteStore
from pattern_db.engines.sqlite.connection import Options as SqliteOptions
from pattern_db.engines.surreal import SurrealStore
from pattern_db.engines.surreal.connection import Options as SurrealOptions
from pattern_db.engines.turso import TursoStore
from pattern_db.engines.turso.connection import Options as TursoOptions
from pattern_db.testing import Subject
from tests.rigs.surreal import PASSWORD, Bridge

pytest.register_assert_rewrite(
    *(f"pattern_db.testing.{n}" for n in ("asking", "storing", "transacting", "searching"))
)


OTHERS = ("sqlite-encrypted", "postgres", "turso", "surreal-mem", "surrealkv", "surreal-ws")


@pytest.fixture(params=["sqlite", *(pytest.param(n, marks=pytest.mark.slow) for n in OTHERS)])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    if request.param == "surreal-mem":
        return on_surreal(SurrealOptions(url="mem://"))
    if request.param == "surrealkv":
        return on_surreal(SurrealOptions(url=f"surrealkv://{tmp_path}/mind"))
    if request.param == "surreal-ws":
        return on_surreal(on_a_server(request.getfixturevalue("surreal_bridge")))
    if request.param == "postgres":
        return on_postgres(request.getfixturevalue("postgres"))
    if request.param == "turso":
        turso = TursoOptions(path=str(tmp_path / "mind.db"), experimental=("vacuum",))
        return Subject(open=lambda: TursoStore.connect(turso), leaks=_held_writer)
    key = "correct horse" if request.param == "sqlite-encrypted" else None
    options = SqliteOptions(path=str(tmp_path / "mind.db"), key=key)
    return Subject(open=lambda: SqliteStore.connect(options), leaks=_held_writer)


def on_postgres(url: str) -> Subject:
    options = PostgresOptions(url=url, schema="tenant-1")

    def open_transactions(store: Store) -> list[str]:
        assert isinstance(store, PostgresStore)
        sql = "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        with psycopg.connect(url) as connection:
            held = [state for (state,) in connection.execute(sql).fetchall()]
        return held + ["taken"] * store.pool.in_use

    return Subject(open=lambda: PostgresStore.connect(options), leaks=open_transactions)


def on_surreal(options: SurrealOptions) -> Subject:
    return Subject(open=lambda: SurrealStore.connect(options), leaks=_held_turn)


def on_a_server(bridge: Bridge) -> SurrealOptions:
    return SurrealOptions(
        url=bridge.url,
        namespace="test",
        database=bridge.database(),
        username="root",
        password=PASSWORD,
    )


def _held_turn(store: Store) -> list[str]:
    assert isinstance(store, SurrealStore)
    return ["turn"] * store.turn.locked() + ["transaction"] * len(store.transactions)


def _held_writer(store: Store) -> list[str]:
    assert isinstance(store, EmbeddedStore)
    held = store._writer._held
    return ["transaction"] if held is not None and not held.finished else []
