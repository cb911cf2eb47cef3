"""``pattern init``, ``pattern status`` and ``pattern db``: the database as a whole."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter

from pattern_db.clock import monotonic

from . import copying, output, progress
from .options import DEFAULTS, Options
from .session import existing, opened, settings, unmigrated
from .values import UsageError

if TYPE_CHECKING:
    from pattern_db.engines.base import Store
    from pattern_db.migrations import MigrationStatus
    from pattern_db.service import Status

app = App("db", help="The database as a whole: schema, space, embeddings.")

_QUESTIONS = 9
_OF_SYNC = ("follows", "waiting_changes", "last_pushed_at", "last_pulled_at")
_INNER_TABLES = {"system_metadata", "schema_migrations", "embedding_spaces", "embedding_queue"}


async def init(
    url: Annotated[str | None, Parameter(metavar="URL")] = None,
    /,
    *,
    options: Options = DEFAULTS,
) -> None:
    """Make a database; one that is there already is left as it is.

    Parameters
    ----------
    url
        Its path or URL. [default: that of the settings]
    """
    from pattern_db.service import open as open_database

    if url is not None and options.db is not None:
        raise UsageError("The database is given twice, as an argument and as --db; give it once.")
    config = settings(options, db=url)
    was_there = existing(config)
    async with open_database(config) as db:
        status = await db.status()
    where = _place(status)
    said = f"There is a database at {where} already" if was_there else f"Made a database at {where}"
    output.answer(
        options,
        {"created": not was_there, **msgspec.structs.asdict(status)},
        f"{said} (schema version {status.schema.current}).",
    )


async def status(*, options: Options = DEFAULTS) -> None:
    """Show the engine, the schema, the embedding model, counts and sizes."""
    async with opened(options) as db:
        found = await db.status()
    if options.json:
        output.document(found)
    else:
        output.record(_status_facts(found))


def _status_facts(status: Status) -> list[tuple[str, object]]:
    capabilities, storage = status.capabilities, status.storage
    model = status.embedding_model
    return [
        ("database", _place(status)),
        ("namespace", storage.get("schema") or storage.get("namespace")),
        ("id", status.database_id),
        ("engine", f"{capabilities.engine} {capabilities.version}"),
        ("durable", "yes" if capabilities.durable else "no, a power cut may lose the last writes"),
        ("encrypted", "yes" if capabilities.encrypted else None),
        ("schema", _schema_sentence(status.schema)),
        (
            "embedding model",
            f"{model} ({status.embedding_dimensions} dimensions)" if model else "none yet",
        ),
        (
            "waiting to be embedded",
            f"{status.queued_embeddings:,}" if status.queued_embeddings else None,
        ),
        ("experimental", ", ".join(capabilities.experimental) or None),
        ("server", storage.get("server")),
        *((name.replace("_", " "), _shown(name, storage.get(name))) for name in _OF_SYNC),
        ("size", output.size(storage["bytes"]) if "bytes" in storage else None),
        ("unused", output.size(storage["free_bytes"]) if storage.get("free_bytes") else None),
        *(
            (table.replace("_", " "), f"{number:,}")
            for table, number in status.counts.items()
            if number and table not in _INNER_TABLES
        ),
    ]


def _place(status: Status) -> str:
    """The file, or the name of the database on its server."""
    storage = status.storage
    return str(storage.get("path") or storage.get("database") or status.capabilities.engine)


def _schema_sentence(schema: MigrationStatus) -> str:
    if not schema.pending:
        return f"version {schema.current}, the newest"
    return f"version {schema.current} of {schema.newest}, {len(schema.pending)} to apply"


@app.command(name="status")
async def details(*, options: Options = DEFAULTS) -> None:
    """Show the server or file, versions, indexes, sizes and latency. Changes nothing."""
    async with unmigrated(options) as (store, migrations):
        schema, storage = await migrations.status(), await store.describe()
        latency_ms = await _latency_ms(store)
    if options.json:
        found = {"capabilities": store.capabilities, "storage": storage, "latency_ms": latency_ms}
        output.document({**msgspec.structs.asdict(schema), **found})
        return
    capabilities = store.capabilities
    output.record(
        [
            ("engine", f"{capabilities.engine} {capabilities.version}"),
            ("experimental", ", ".join(capabilities.experimental) or None),
            ("schema version", _schema_sentence(schema)),
            *(("to apply", title) for title in schema.pending),
            *((name.replace("_", " "), _shown(name, value)) for name, value in storage.items()),
            ("latency", f"{latency_ms:.2f} ms"),
        ]
    )


async def _latency_ms(store: Store) -> float:
    """The median time of a question that costs the engine next to nothing, in milliseconds."""
    taken = []
    for _ in range(_QUESTIONS):
        begun = monotonic()
        await store.has_table("schema_migrations")
        taken.append(monotonic() - begun)
    return statistics.median(taken) * 1000


def _shown(name: str, value: object) -> object:
    return output.size(value) if isinstance(value, int) and name.endswith("bytes") else value


@app.command
async def migrate(
    *,
    to: int | None = None,
    dry_run: bool = False,
    yes: bool = False,
    options: Options = DEFAULTS,
) -> None:
    """Bring the schema to the newest version, or to another one.

    Parameters
    ----------
    to
        The version; going down erases what the later versions added, with its data.
    dry_run
        Only say what would be done.
    yes
        Go down without being asked again.
    """
    async with unmigrated(options) as (_, migrations):
        planned = await migrations.migrate(to=to, dry_run=True)
        if not (dry_run or yes) and any(step.startswith("down ") for step in planned):
            raise UsageError("Going down erases data; add --yes if that is wanted.")
        steps = await migrations.migrate(to=to, dry_run=dry_run)
        current = (await migrations.status()).current
    if options.json:
        output.document({"dry_run": dry_run, "steps": steps, "current": current})
        return
    for step in steps:
        output.line(f"would go {step}" if dry_run else f"went {step}")
    output.line(f"The schema has version {current}.")


@app.command
async def vacuum(*, options: Options = DEFAULTS) -> None:
    """Give the space of removed data back to the file system."""
    async with opened(options) as db:
        before = (await db.status()).storage
        await db.vacuum()
        after = (await db.status()).storage
    sizes = {"bytes_before": before.get("bytes", 0), "bytes_after": after.get("bytes", 0)}
    output.answer(
        options,
        sizes,
        f"{output.size(sizes['bytes_before'])} before, {output.size(sizes['bytes_after'])} now.",
    )


@app.command
async def optimize(*, options: Options = DEFAULTS) -> None:
    """Build now what makes large searches fast; else it is built in the background."""
    async with opened(options) as db:
        with progress.bar("indexing") as update:
            await db.optimize(progress=update)
    output.answer(options, {"optimized": True}, "The search indexes are up to date.")


@app.command
async def sync(
    *, prefer: Literal["ours", "theirs"] | None = None, options: Options = DEFAULTS
) -> None:
    """Push what was written here to the server that the database follows, and pull the rest.

    Parameters
    ----------
    prefer
        Whose values stay where both changed the same; without it that is an error.
    """
    async with opened(options, any_model=True) as db:
        report = await db.sync(prefer=prefer)
    pulled = "pulled what others wrote" if report.pulled else "there was nothing to pull"
    said = f"Pushed {output.count(report.pushed, 'change')}, {pulled}."
    if report.resolved:
        said += f" {output.count(report.resolved, 'row')} changed on both sides kept {prefer}."
    output.answer(options, msgspec.structs.asdict(report), said)


@app.command
async def reembed(*, all: bool = False, options: Options = DEFAULTS) -> None:
    """Embed what has no vector of the configured model; needed after choosing another model.

    Parameters
    ----------
    all
        Embed again also what has one.
    """
    async with opened(options, embeds=True, any_model=True) as db:
        with progress.bar("embedding") as update:
            embedded = await db.reembed(progress=update, everything=all)
        model = (await db.status()).embedding_model
    answer: dict[str, Any] = {"embedded": embedded, "model": model}
    output.answer(options, answer, f"Embedded {output.count(embedded, 'text')} with {model}.")


app.command(copying.copy)
app.command(copying.compare)
