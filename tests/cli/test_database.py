"""``pattern init``, ``pattern status`` and ``pattern db``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import pytest

import pattern_db
from pattern_db.migrations import known_migrations

from .conftest import Pattern

NEWEST = known_migrations()[-1].version


def test_init_makes_a_database_and_twice_is_fine(tmp_path: Path, pattern: Pattern) -> None:
    path = tmp_path / "new.db"
    first = pattern("init", path)
    assert (first.code, first.err) == (0, "")
    assert first.out == f"Made a database at {path} (schema version {NEWEST}).\n"
    bytes_before = path.read_bytes()
    again = pattern("init", path)
    assert again.code == 0
    assert again.out == f"There is a database at {path} already (schema version {NEWEST}).\n"
    assert path.read_bytes() == bytes_before


def test_init_says_the_same_to_machines(pattern: Pattern) -> None:
    first = pattern("init", "sqlite://new.db", "--json").json
    again = pattern("init", "--db", "new.db", "--json").json
    assert (first["created"], again["created"]) == (True, False)
    assert first["database_id"] == again["database_id"]
    assert first["schema"] == {"current": NEWEST, "newest": NEWEST, "pending": []}


def test_init_takes_the_database_of_the_settings(
    tmp_path: Path, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pattern("init").out.startswith(f"Made a database at {tmp_path / 'pattern.db'} ")
    settings = tmp_path / "settings.toml"
    settings.write_text('[database]\npath = "from_file.db"\n')
    monkeypatch.setenv("PATTERN_CONFIG", str(settings))
    assert pattern("init").out.startswith(f"Made a database at {tmp_path / 'from_file.db'} ")
    monkeypatch.setenv("PATTERN_DATABASE__URL", "sqlite://from_variable.db")
    assert pattern("init").out.startswith(f"Made a database at {tmp_path / 'from_variable.db'} ")


def test_init_with_two_places_is_wrong_usage(pattern: Pattern) -> None:
    ran = pattern("init", "a.db", "--db", "b.db")
    assert ran.code == 2
    assert "given twice" in ran.err
    assert not Path("a.db").exists()


def test_status_shows_what_is_there(mind: Path, flux: str, pattern: Pattern) -> None:
    pattern("message", "add", "I moved to Oslo.")
    found = pattern("status", "--json").json
    assert (found["counts"]["agents"], found["counts"]["messages"]) == (1, 1)
    assert found["capabilities"]["engine"] == "sqlite"
    assert found["storage"]["path"] == str(mind)
    lines = dict(line.split("  ", 1) for line in pattern("status").out.splitlines())
    shown = {name: value.strip() for name, value in lines.items()}
    assert shown["database"] == str(mind)
    assert shown["schema"] == f"version {NEWEST}, the newest"
    assert (shown["agents"], shown["messages"]) == ("1", "1")
    assert (shown["embedding model"], shown["durable"]) == ("none yet", "yes")
    assert shown["size"].endswith("KiB")
    assert "system metadata" not in shown


def test_a_database_of_another_model_can_still_be_looked_at(flux: str, pattern: Pattern) -> None:
    pattern("message", "add", "I moved to Oslo.", "--embeddings", "local")
    for verb in (("status",), ("message", "list"), ("db", "status"), ("db", "vacuum")):
        assert pattern(*verb, "--embeddings", "ollama", "--json").json is not None
    assert "dimensions)" in pattern("status").out


def test_the_schema_is_shown_and_left_alone(mind: Path, pattern: Pattern) -> None:
    shown = dict(line.split("  ", 1) for line in pattern("db", "status").out.splitlines())
    assert shown["schema version"].strip() == f"version {NEWEST}, the newest"
    assert shown["engine"].strip().startswith("sqlite 3.")
    assert (shown["path"].strip(), int(shown["indexes"]) > 20) == (str(mind), True)
    assert shown["bytes"].endswith("KiB")
    assert float(shown["latency"].strip().removesuffix(" ms")) > 0
    bytes_before = mind.read_bytes()
    going = pattern("db", "migrate", "--to", "0", "--dry-run")
    assert going.out.startswith("would go down ")
    assert going.out.endswith(f"The schema has version {NEWEST}.\n")
    assert mind.read_bytes() == bytes_before


def test_the_schema_goes_down_and_up(mind: Path, pattern: Pattern) -> None:
    refused = pattern("db", "migrate", "--to", "0")
    assert (refused.code, refused.err) == (
        2,
        "pattern: Going down erases data; add --yes if that is wanted.\n",
    )
    down = pattern("db", "migrate", "--to", "0", "--yes", "--json").json
    assert (down["current"], down["dry_run"], len(down["steps"])) == (0, False, NEWEST)
    waiting = pattern("db", "status", "--json").json
    assert (waiting["current"], len(waiting["pending"])) == (0, NEWEST)
    assert f"version 0 of {NEWEST}, {NEWEST} to apply" in pattern("db", "status").out
    up = pattern("db", "migrate").out
    assert up.startswith("went up ")
    assert up.endswith(f"The schema has version {NEWEST}.\n")
    assert pattern("db", "migrate").out == f"The schema has version {NEWEST}.\n"


def test_a_version_that_nobody_knows_is_refused(mind: Path, pattern: Pattern) -> None:
    ran = pattern("db", "migrate", "--to", NEWEST + 1)
    assert ran.code == 1
    assert ran.err == (
        f"pattern: Invalid value for 'version': it must be between 0 and {NEWEST}.\n"
    )


@pytest.mark.parametrize("verb", ["status", "agent list", "db status", "db migrate", "init"])
def test_a_newer_database_is_refused_untouched(mind: Path, pattern: Pattern, verb: str) -> None:
    connection = apsw.Connection(str(mind))
    connection.execute("UPDATE schema_migrations SET version = 99 WHERE version = ?", (NEWEST,))
    connection.close()
    ran = pattern(*verb.split())
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "pattern: The database has schema version 99 but this program knows only up to "
        f"{NEWEST}; install a newer pattern-db.\n"
    )


def test_a_vacuum_gives_space_back(mind: Path, flux: str, pattern: Pattern) -> None:
    async def fill() -> None:
        async with pattern_db.open(mind) as db:
            for _ in range(20):
                message = await db.messages.append(flux, role="user", content="x" * 50_000)
                await db.messages.purge(message.id)

    asyncio.run(fill())
    sizes = pattern("db", "vacuum", "--json").json
    assert sizes["bytes_after"] < sizes["bytes_before"]
    assert pattern("db", "vacuum").out.endswith(" now.\n")


@pytest.mark.slow
def test_what_was_stored_without_a_model_is_embedded_later(flux: str, pattern: Pattern) -> None:
    local = ("--embeddings", "local")
    pattern("message", "add", "She adores her little cat.")
    pattern("memory", "add", "human", "Ada climbs.")
    assert pattern("db", "reembed", *local).out.startswith("Embedded 2 texts with ")
    assert pattern("db", "reembed", "--json", *local).json["embedded"] == 0
    assert pattern("db", "reembed", "--all", "--json", *local).json["embedded"] == 2
    assert len(pattern("search", "pets", "--mode", "semantic", "--json", *local).json) == 2


@pytest.mark.slow
def test_reembedding_leaves_nothing_waiting(flux: str, pattern: Pattern) -> None:
    local = ("--embeddings", "local")
    pattern("message", "add", "one", *local)
    pattern("message", "add", "two")  # queued: the database has a model that is not loaded here
    assert pattern("status", "--json").json["queued_embeddings"] == 1
    assert "waiting to be embedded  1\n" in pattern("status").out
    assert pattern("db", "reembed", "--json", *local).json["embedded"] == 1
    assert pattern("status", "--json").json["queued_embeddings"] == 0


def test_reembedding_needs_a_model(mind: Path, pattern: Pattern) -> None:
    ran = pattern("db", "reembed")
    assert (ran.code, ran.out) == (1, "")
    assert "No embedding provider is configured" in ran.err
