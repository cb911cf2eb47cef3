"""The database as a user sees it: opens an engine, migrates, checks the model, wires the rest."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, cast

import msgspec

from .clock import Clock, utc_now
from .config import Config, DatabaseConfig, EmbeddingConfig, load, urls
from .embeddings import create_provider
from .embeddings.indexing import Indexer, Progress
from .embeddings.provider import EmbeddingProvider
from .engines.base import Capabilities, Prefer, Store, SyncedStore, SyncReport
from .errors import MissingExtra, SchemaVersionMismatch, Unsupported
from .ids import new_id
from .migrations import MigrationRunner, MigrationStatus
from .models import SYSTEM_ID, AuditRecord, SystemMetadata
from .query import Count, Get, Insert, param, select
from .repositories import (
    Agents,
    Archival,
    Context,
    Conversations,
    Episodes,
    Groups,
    Memory,
    Messages,
    Patterns,
    Policy,
    ToolCalls,
    Users,
)
from .schema import all_tables, columns_of, table_of
from .search import Hit, Searcher, SearchOptions
from .tenants import Tenants, require_tenant
from .validation import check_limit

_METADATA = Get(table_of(SystemMetadata))
_ADD_METADATA = Insert(table_of(SystemMetadata), on_conflict="ignore")
_A = columns_of(AuditRecord)
_AUDIT_LOG = (
    select(AuditRecord).order_by(_A.created_at, _A.id, descending=True).limit(param("limit"))
)


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What ``pattern status`` shows."""

    capabilities: Capabilities
    schema: MigrationStatus
    database_id: str
    embedding_model: str | None
    embedding_dimensions: int | None
    queued_embeddings: int
    counts: dict[str, int]
    storage: dict[str, Any]


class PatternDB:
    """An open database: the repositories, search and transactions.

    Made by ``pattern_db.open``. Belongs to the process that opened it; tasks may share it freely.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        runner: MigrationRunner,
        indexer: Indexer,
        metadata: SystemMetadata,
        clock: Clock,
    ):
        self.config = config
        self.store = store
        self.migrations = runner
        self.embeddings = indexer
        self._metadata = metadata
        self._searcher = Searcher(store, indexer, clock)
        policy = Policy(config.database.max_episodes, config.database.max_episode_age_days)
        context = Context(store, indexer, self._searcher, clock, policy)
        self.users = Users(context)
        self.agents = Agents(context)
        self.groups = Groups(context)
        self.memory = Memory(context)
        self.archival = Archival(context)
        self.conversations = Conversations(context)
        self.messages = Messages(context)
        self.tool_calls = ToolCalls(context)
        self.tenants = Tenants(store, config.database, _connect, clock)
        self.episodes = Episodes(context)
        self.patterns = Patterns(context)

    async def search(self, agent_id: str | Sequence[str], query: str, **options: Any) -> list[Hit]:
        """What an agent, or one of several, knows that answers a question best, best first.

        ``agent_id`` is an id or a list of them; ``hit.item.agent_id`` says whose a hit is. Options:
        ``kinds`` ("message", "memory", "archival", "episode"), ``limit`` (10), ``mode`` ("hybrid",
        "semantic", "keyword"), ``roles``, ``speakers`` (in any case), ``since`` (inclusive),
        ``until`` (exclusive), ``tags`` (all of them, an episode's or in ``metadata["tags"]``),
        ``metadata`` (values at these keys, or ``{"$gte": 4}``: $eq $ne $gt $gte $lt $lte $in),
        ``conversation_id``, ``domain``, ``task_type`` and ``outcome`` (of episodes),
        ``include_archived`` (True), ``as_of`` (a time: what was known then, memory blocks with
        their text of then), ``diversity`` (0…1: how much hits shall differ from each other; then
        they come as they are chosen, not by score). A filter finds only what has the field it asks
        for, ``$ne`` too. The query is text, never syntax. Raises ``NotFound`` if there is no such
        agent or conversation, ``InvalidValue`` naming an option that cannot be, ``Unsupported`` if
        the mode needs vectors and no embedding provider is configured.
        """
        return await self._searcher.search(agent_id, query, SearchOptions.of(options))

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """All that this task writes inside is kept at the end, or undone on error or cancellation.

        Nested ones are savepoints. Other writers wait while one is open: keep it short.
        """
        return self.store.transaction()

    async def status(self) -> Status:
        """Versions, counts and sizes."""
        counts = {t.name: await self.store.execute(Count(t)) for t in all_tables()}
        metadata = await self.store.execute(_METADATA, id=SYSTEM_ID)
        return Status(
            capabilities=self.store.capabilities,
            schema=await self.migrations.status(),
            database_id=metadata.database_id,
            embedding_model=metadata.embedding_model,
            embedding_dimensions=metadata.embedding_dimensions,
            queued_embeddings=await self.embeddings.pending(),
            counts=counts,
            storage=await self.store.describe(),
        )

    async def audit_log(self, *, limit: int = 100) -> list[AuditRecord]:
        """What was done to the data as a whole (repairs, purges), newest first."""
        records: list[AuditRecord] = await self.store.execute(_AUDIT_LOG, limit=check_limit(limit))
        return records

    async def reembed(self, *, progress: Progress | None = None, everything: bool = False) -> int:
        """Embed what has no current vector of the configured model; see ``Indexer.reembed``."""
        return await self.embeddings.reembed(progress=progress, everything=everything)

    async def embed_pending(self) -> int:
        """Embed what was queued, now; gives how many items. Raises ``EmbeddingFailed``."""
        return await self.embeddings.drain()

    async def optimize(self, *, progress: Progress | None = None) -> None:
        """Bring up to date now what searches derive from the data in the background.

        They are right without it, if slower: it is for after a large import. ``progress`` gets
        (rows done, rows in all).
        """
        await self.store.optimize(progress=progress)

    async def vacuum(self) -> None:
        """Give unused space back to the file system, where the engine keeps files."""
        await self.store.vacuum()

    async def sync(self, *, prefer: Prefer | None = None) -> SyncReport:
        """Bring the database and the server it follows together (``turso://…?sync=…``).

        What was written here is pushed, then what others wrote is pulled. Rows that were changed
        on both sides to different values raise ``SyncConflict``, unless ``prefer`` says whose
        values stay ("ours", "theirs"). Without the server everything else goes on: raises
        ``ConnectionFailed`` then, and ``Unsupported`` if the database follows none.
        """
        if not self.store.capabilities.follows_server:
            raise Unsupported(
                "The database follows no server; open a Turso file as turso://PATH?sync=URL."
            )
        report = await cast(SyncedStore, self.store).sync(prefer=prefer)
        if report.pulled:
            await self.migrations.check()
            await self.embeddings.open()
            if await self.embeddings.pending():
                self.embeddings.wake()
        return report

    async def close(self) -> None:
        """Finish acknowledged work and release everything; idempotent."""
        try:
            await self.embeddings.close()
        finally:
            await self.store.close()

    async def __aenter__(self) -> PatternDB:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()


class Opening(AbstractAsyncContextManager[PatternDB]):
    """What ``pattern_db.open`` returns: await it, or use it in ``async with``."""

    def __init__(
        self,
        config: Config,
        provider: EmbeddingProvider | None,
        *,
        clock: Clock,
        allow_other_model: bool,
    ):
        self._config = config
        self._provider = provider
        self._clock = clock
        self._allow_other_model = allow_other_model
        self._db: PatternDB | None = None

    def __await__(self) -> Generator[Any, None, PatternDB]:
        return self._open().__await__()

    async def __aenter__(self) -> PatternDB:
        self._db = await self._open()
        return self._db

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._db is not None:
            await self._db.close()

    async def _open(self) -> PatternDB:
        if self._config.database.tenant is not None:
            await require_tenant(self._config.database, _connect, self._clock)
        store = await _connect(self._config.database)
        try:
            return await self._wire(store)
        except BaseException:
            await store.close()
            raise

    async def _wire(self, store: Store) -> PatternDB:
        runner = MigrationRunner(store, clock=self._clock)
        await _migrate(runner, allowed=self._config.database.migrate)
        metadata = await _metadata(store, self._clock)
        provider = self._provider or _provider(self._config.embeddings)
        mode = self._config.embeddings.mode
        indexer = Indexer(store, provider, mode=mode, clock=self._clock)
        await indexer.open(allow_other_model=self._allow_other_model)
        if not self._allow_other_model and await indexer.pending():
            indexer.wake()
        return PatternDB(self._config, store, runner, indexer, metadata, self._clock)


def open(
    source: str | os.PathLike[str] | Config | None = None,
    *,
    embeddings: EmbeddingProvider | EmbeddingConfig | str | dict[str, Any] | None = None,
    config_file: str | os.PathLike[str] | None = None,
    clock: Clock = utc_now,
    allow_other_model: bool = False,
    **settings: Any,
) -> Opening:
    """Open a database, creating and migrating it if need be.

    ``source`` is a path, a URL or a ``Config``; without it ``pattern.toml`` and ``PATTERN_*``
    variables say. ``embeddings`` is a provider's name ("local" by default, "none" for keyword
    search only), its settings, or a provider of your own. ``settings`` are those of ``[database]``,
    such as ``durability="relaxed"``, or ``tenant="ada"`` for one that ``db.tenants`` made. Use it
    as ``async with open(…) as db`` or ``db = await open(…)``. Raises ``ConfigError``,
    ``ConnectionFailed``, ``DatabaseCorrupt``, ``SchemaVersionMismatch``,
    ``EmbeddingModelMismatch``, ``NotFound`` (the tenant).
    """
    own = embeddings if isinstance(embeddings, EmbeddingProvider) else None
    if own is None and embeddings is not None:
        settings["embeddings"] = embeddings
    config = load(source, config_file=config_file, **settings)
    return Opening(config, own, clock=clock, allow_other_model=allow_other_model)


async def _connect(config: DatabaseConfig) -> Store:
    config = config.located
    return await _ENGINES[config.engine](config)


async def _open_sqlite(config: DatabaseConfig) -> Store:
    from .engines.sqlite import SqliteStore
    from .engines.sqlite.connection import Options

    return await SqliteStore.connect(
        Options(
            path=config.location,
            durability=config.durability,
            busy_timeout_s=config.busy_timeout_s,
            readers=config.readers,
            key=config.key.reveal() if config.key else None,
            strict=config.strict_mode,
        )
    )


async def _open_postgres(config: DatabaseConfig) -> Store:
    try:
        from .engines.postgres import PostgresStore
        from .engines.postgres.connection import Options
    except ModuleNotFoundError as error:
        raise MissingExtra("postgres", "A PostgreSQL database") from error

    return await PostgresStore.connect(
        Options(
            url=config.url or "",
            username=config.username,
            password=config.password.reveal() if config.password else None,
            database=config.database,
            schema=config.namespace or "public",
            durability=config.durability,
            lock_timeout_s=config.busy_timeout_s,
            statement_timeout_s=config.statement_timeout_s,
            connections=config.connections,
        )
    )


_TURSO_PARAMETERS = frozenset({"sync", "experimental"})


async def _open_turso(config: DatabaseConfig) -> Store:
    try:
        from .engines.turso import TursoStore
        from .engines.turso.connection import Options
    except ModuleNotFoundError as error:
        raise MissingExtra("turso", "A Turso database") from error

    subject = "database.url"
    given = urls.parameters_of(config.url or "", known=_TURSO_PARAMETERS, subject=subject)
    server = given.get("sync")
    if server is not None:
        server = server.replace("libsql://", "https://", 1)
        urls.require_host(server, subject=f"sync in {subject}")
    return await TursoStore.connect(
        Options(
            path=config.location,
            durability=config.durability,
            busy_timeout_s=config.busy_timeout_s,
            readers=config.readers,
            strict=config.strict_mode,
            server=server,
            token=config.password.reveal() if config.password else None,
            experimental=tuple(filter(None, given.get("experimental", "").split(","))),
        )
    )


async def _open_surreal(config: DatabaseConfig) -> Store:
    try:
        from .engines.surreal import SurrealStore
        from .engines.surreal.connection import Options
    except ModuleNotFoundError as error:
        raise MissingExtra("surreal", "A SurrealDB database") from error

    return await SurrealStore.connect(
        Options(
            url=config.url or "",
            namespace=config.namespace or "pattern",
            database=config.database or "pattern",
            username=config.username,
            password=config.password.reveal() if config.password else None,
            auth=config.auth,
            access=config.access,
            durability=config.durability,
            lock_timeout_s=config.busy_timeout_s,
            statement_timeout_s=config.statement_timeout_s,
        )
    )


_ENGINES: dict[str, Callable[[DatabaseConfig], Awaitable[Store]]] = {
    "sqlite": _open_sqlite,
    "postgres": _open_postgres,
    "turso": _open_turso,
    "surreal": _open_surreal,
}


async def _migrate(runner: MigrationRunner, *, allowed: bool) -> None:
    if allowed:
        await runner.migrate()
        return
    status = await runner.status()
    if status.pending:
        raise SchemaVersionMismatch(
            f"The database has schema version {status.current}, this program needs "
            f"{status.newest}; run `pattern db migrate`.",
            found=status.current,
            expected=status.newest,
        )


async def _metadata(store: Store, clock: Clock) -> SystemMetadata:
    """The database's own row, made when it is opened for the first time."""
    found: SystemMetadata | None = await store.execute(_METADATA, id=SYSTEM_ID)
    if found is not None:
        return found
    now = clock()
    row = SystemMetadata(
        id=SYSTEM_ID, database_id=new_id("db", now), created_at=now, updated_at=now
    )
    await store.execute(_ADD_METADATA, row=row)
    made: SystemMetadata = await store.execute(_METADATA, id=SYSTEM_ID)
    return made


def _provider(config: EmbeddingConfig) -> EmbeddingProvider | None:
    if config.provider == "none":
        return None
    return create_provider(
        config.provider,
        model=config.model,
        api_key=config.api_key.reveal() if config.api_key else None,
        base_url=config.base_url,
        dimensions=config.dimensions,
        cache_dir=config.cache_dir,
        timeout_s=config.timeout_s,
    )
