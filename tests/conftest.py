"""What tests share: a database that is empty, real and closed at the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import pattern_db
from pattern_db import Agent, PatternDB
from pattern_db.embeddings import EmbeddingProvider, create_provider

from .rigs.postgres import Server as PostgresServer
from .rigs.surreal import Bridge as SurrealBridge
from .rigs.turso import Server as TursoServer

DATA = Path(os.environ.get("PATTERN_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))

# the first run in a new clone makes its tables of characters while it draws
settings.register_profile("whole", suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("whole"), max_examples=10)
settings.load_profile("whole")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pattern.toml and no PATTERN_* variable of the machine reaches a test."""
    for name in list(os.environ):
        if name.startswith("PATTERN_") and name != "PATTERN_TEST_DATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATTERN_CONFIG", os.devnull)


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """The path of a real input file; skips where the folder is not there."""

    def find(name: str) -> Path:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"no {name} in PATTERN_TEST_DATA")
        return path

    return find


@pytest.fixture(scope="session")
def provider() -> EmbeddingProvider:
    """The bundled model, loaded once."""
    return create_provider("local")


class Ticking:
    """A clock that moves one second at every look, so that times differ and tests repeat."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "mind.db")


@pytest.fixture
async def db(path: str) -> AsyncIterator[PatternDB]:
    """An empty database without embeddings; checks that closing leaves no thread behind."""
    before = set(threading.enumerate())
    async with pattern_db.open(path, embeddings="none") as opened:
        yield opened
    started = set(threading.enumerate()) - before
    left = [thread.name for thread in started if thread.name.startswith("pattern-db")]
    assert not left, left


@pytest.fixture
async def minded(path: str, provider: EmbeddingProvider) -> AsyncIterator[PatternDB]:
    """An empty database with the bundled embedding model."""
    async with pattern_db.open(path, embeddings=Shared(provider)) as opened:
        yield opened


@pytest.fixture
async def flux(db: PatternDB) -> Agent:
    return await db.agents.create(name="Flux")


class Shared:
    """A provider that several databases use: closing one of them must not close it."""

    def __init__(self, inner: EmbeddingProvider):
        self._inner = inner
        self.model_id = inner.model_id
        self.dimensions = inner.dimensions
        self.max_batch = inner.max_batch
        self.embed = inner.embed
        self.embed_batch = inner.embed_batch
        self.embed_query = inner.embed_query
        self.split = inner.split

    async def close(self) -> None:
        """Nothing: the session owns the model."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that starts when a test first asks for a database."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    url = postgres_server.database()
    yield url
    postgres_server.drop(url)


@pytest.fixture(scope="session")
def surreal_bridge() -> Iterator[SurrealBridge]:
    """What stands for a SurrealDB server, started when a test first asks for it."""
    bridge = SurrealBridge()
    yield bridge
    bridge.stop()


@pytest.fixture
def turso_server() -> Iterator[TursoServer]:
    """A Turso sync server with an empty database."""
    server = TursoServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("postgres", "turso", "surreal")]
"""The engines beside SQLite: the quick tests leave them out."""


REFUSED_UNHEARD = pytest.mark.parametrize("location", ["sqlite"], indirect=True)
"""For tests of what is refused before an engine hears of it: to ask one is enough."""


@pytest.fixture(params=["sqlite", *OTHERS])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty database is, on each engine: for tests that hold for all."""
    return located(request, tmp_path)


def located(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database on the engine that the parameter names. Where making one takes long, it is a
    copy of one that was made before."""
    if request.param == "surreal":
        shutil.copytree(request.getfixturevalue("made_surreal"), tmp_path / "mind")
        return f"surrealkv://{tmp_path}/mind"
    if request.param == "turso":
        return f"turso://{tmp_path}/mind.db"
    if request.param == "sqlite":
        return shutil.copy(request.getfixturevalue("made_sqlite"), str(tmp_path / "mind.db"))
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.database(like=request.getfixturevalue("made_postgres"))
    request.addfinalizer(lambda: server.drop(url))
    return url


@pytest.fixture(scope="session")
def made_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "mind.db"
    asyncio.run(_make(str(path)))
    return path


@pytest.fixture(scope="session")
def made_surreal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "mind"
    asyncio.run(_make(f"surrealkv://{path}"))
    return path


@pytest.fixture(scope="session")
def made_postgres(postgres_server: PostgresServer) -> str:
    url = postgres_server.database()
    asyncio.run(_make(url))
    return url


async def _make(url: str) -> None:
    async with pattern_db.open(url, embeddings="none"):
        pass
