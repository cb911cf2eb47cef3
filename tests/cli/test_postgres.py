"""The command line on a PostgreSQL server: the same commands, another URL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Pattern

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def server(postgres: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PATTERN_DATABASE__URL", postgres)
    return postgres


def test_a_memory_from_start_to_end(pattern: Pattern, tmp_path: Path) -> None:
    assert pattern("init").code == 0
    flux = pattern("agent", "create", "Flux", "--json").json["id"]
    assert pattern("message", "add", "I moved to Oslo.").code == 0
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"role": "user", "content": "The garden needs water."}) + "\n")
    assert pattern("import", "jsonl", log, "--agent", flux).code == 0
    found = pattern("search", "who waters the gardens", "--json").json
    assert found[0]["item"]["content"] == "The garden needs water."


def test_status_names_the_database_and_never_the_login(
    pattern: Pattern, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    monkeypatch.setenv("PATTERN_DATABASE__URL", server.replace("postgres@", "postgres:hunter2@"))
    pattern("init")
    shown = pattern("status")
    assert shown.code == 0
    assert "postgres 18" in shown.out
    assert "test_" in shown.out
    assert "hunter2" not in shown.out + pattern("config", "show").out


def test_migrations_go_down_and_up(pattern: Pattern) -> None:
    pattern("init")
    assert pattern("db", "migrate", "--to", "0", "--yes").code == 0
    assert "to apply" in pattern("db", "status").out
    assert pattern("db", "migrate").code == 0
    assert pattern("db", "vacuum").code == 0


def test_details_of_a_server_are_shown_and_never_the_login(
    pattern: Pattern, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    monkeypatch.setenv("PATTERN_DATABASE__URL", server.replace("postgres@", "postgres:hunter2@"))
    pattern("init", "--embeddings", "local")
    shown = dict(line.split("  ", 1) for line in pattern("db", "status").out.splitlines())
    assert shown["engine"].strip().startswith("postgres 18")
    assert shown["server"].strip().endswith("data:5432")
    assert shown["vector extension"].strip().startswith("0.")
    assert (shown["schema"].strip(), shown["vector indexes"].strip()) == ("public", "1")
    assert shown["index bytes"].endswith("KiB")
    assert "hunter2" not in str(shown)
    found = pattern("db", "status", "--json").json
    assert found["storage"]["indexes"] > 20
    assert found["latency_ms"] > 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            ("postgres@", "nobody@"),
            "The server refused the login; check the user and the password.",
        ),
        (("/test_", "/not_"), "The server has no database of this name; create it with `createdb`"),
    ],
)
def test_what_is_wrong_with_a_login_or_a_name_is_said(
    pattern: Pattern,
    monkeypatch: pytest.MonkeyPatch,
    server: str,
    change: tuple[str, str],
    sentence: str,
) -> None:
    monkeypatch.setenv("PATTERN_DATABASE__URL", server.replace(*change))
    ran = pattern("status")
    assert (ran.code, ran.out) == (1, "")
    assert sentence in ran.err


def test_a_server_that_does_not_answer_is_one_sentence(
    pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql://me:hunter2@127.0.0.1:1/x?connect_timeout=2"
    monkeypatch.setenv("PATTERN_DATABASE__URL", url)
    ran = pattern("status")
    assert ran.code not in (0, 2)
    assert "cannot be reached" in ran.err
    assert "hunter2" not in ran.err
    assert len(ran.err.strip().splitlines()) == 1
