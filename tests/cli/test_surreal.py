"""The command line on SurrealDB: the same commands, another URL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Pattern

pytestmark = pytest.mark.slow


@pytest.fixture(params=["embedded", "remote"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Settings of a database in a directory, and of one on a server, as the seeds write them."""
    if request.param == "embedded":
        return [f'url = "surrealkv://{tmp_path}/mind"', 'type = "embedded"']
    bridge = request.getfixturevalue("surreal_bridge")
    monkeypatch.setenv("SURREALDB_PASS", "secret")
    return [
        'type = "remote"',
        f'url = "{bridge.url}"',
        'namespace = "test"',
        f'database = "{bridge.database()}"',
        'username = "root"',
        'password = "${SURREALDB_PASS}"',
    ]


@pytest.fixture(autouse=True)
def configured(place: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pattern.toml"
    file.write_text("\n".join(["[database]", *place]))
    monkeypatch.setenv("PATTERN_CONFIG", str(file))


def test_a_memory_from_start_to_end(pattern: Pattern, tmp_path: Path) -> None:
    assert pattern("init").code == 0
    flux = pattern("agent", "create", "Flux", "--json").json["id"]
    assert pattern("message", "add", "I moved to Oslo.").code == 0
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"role": "user", "content": "The garden needs water."}) + "\n")
    assert pattern("import", "jsonl", log, "--agent", flux).code == 0
    found = pattern("search", "who waters the gardens", "--json").json
    assert found[0]["item"]["content"] == "The garden needs water."


def test_migrations_go_down_and_up_and_status_shows_no_secret(pattern: Pattern) -> None:
    assert pattern("init").code == 0
    assert pattern("db", "migrate", "--to", "0", "--yes").code == 0
    assert "to apply" in pattern("db", "status").out
    assert pattern("db", "migrate").code == 0
    assert "cannot be asked to" in pattern("db", "vacuum").err
    shown = pattern("status")
    assert shown.code == 0
    assert "surreal 3." in shown.out
    assert "secret" not in shown.out
