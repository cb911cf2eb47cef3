"""``pattern tenant``, and ``--tenant`` of the other verbs."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from .conftest import Pattern


def test_a_tenant_from_start_to_end(tmp_path: Path, pattern: Pattern) -> None:
    made = pattern("tenant", "create", "ada", "--title", "Ada's", "--db", "mind.db")
    assert made.out == "Made the tenant ada; use it with --tenant ada.\n"
    hers = ("--db", "mind.db", "--tenant", "ada")
    assert pattern("agent", "create", "Flux", *hers).code == 0
    assert pattern("message", "add", "I moved to Oslo.", *hers).code == 0
    assert pattern("search", "Oslo", *hers, "--json").json[0]["item"]["content"].endswith("Oslo.")
    assert pattern("agent", "list", "--db", "mind.db", "--json").json == []
    listed = pattern("tenant", "list", "--db", "mind.db")
    assert listed.out.splitlines()[1].split()[:2] == ["ada", "active"]
    refused = pattern("tenant", "drop", "ada", "--db", "mind.db")
    assert (refused.code, "add --yes" in refused.err) == (2, True)
    assert pattern("tenant", "drop", "ada", "--yes", "--db", "mind.db").code == 0
    assert pattern("tenant", "list", "--db", "mind.db").out == "(no tenants)\n"
    gone = pattern("agent", "list", *hers)
    assert (gone.code, "run `pattern tenant create ada`" in gone.err) == (1, True)


def test_the_settings_name_a_tenant(
    mind: Path, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern("tenant", "create", "ada")
    monkeypatch.setenv("PATTERN_DATABASE__TENANT", "ada")
    pattern("agent", "create", "Flux")
    assert len(pattern("tenant", "list", "--json").json) == 1, "the registry is that of the base"
    monkeypatch.delenv("PATTERN_DATABASE__TENANT")
    assert pattern("agent", "list", "--json").json == []


def test_migrating_names_those_that_fail(mind: Path, pattern: Pattern) -> None:
    for name in ("ada", "eve"):
        pattern("tenant", "create", name)
    connection = apsw.Connection(f"{mind}-tenants/ada.db")
    connection.execute("UPDATE schema_migrations SET version = 99 WHERE version = 1")
    connection.close()
    ran = pattern("tenant", "migrate")
    assert ran.code == 1
    lines = ran.out.splitlines()
    assert lines[0].startswith("ada: The database has schema version 99")
    assert lines[1:] == ["eve: nothing to do", "1 tenant at the newest schema."]
    assert ran.err.startswith("pattern: 1 tenant could not be migrated (ada)")
    assert pattern("tenant", "migrate", "eve", "--json").json == [
        {"tenant": "eve", "steps": [], "error": None}
    ]


@pytest.mark.slow
def test_a_tenant_moves_from_one_base_to_another(
    mind: Path, pattern: Pattern, postgres: str
) -> None:
    Path("old.toml").write_text(f'[database]\npath = "{mind}"\n')
    Path("new.toml").write_text(f'[database]\nurl = "{postgres}"\nnamespace = "prod"\n')
    for side in ("old.toml", "new.toml"):
        assert pattern("tenant", "create", "ada", "--db", side).code == 0
    pattern("agent", "create", "Flux", "--tenant", "ada", "--db", "old.toml")
    moved = pattern("db", "copy", "old.toml", "new.toml", "--tenant", "ada", "--verify", "--json")
    assert moved.json["comparison"]["equal"]
    assert pattern("tenant", "drop", "ada", "--yes", "--db", "old.toml").code == 0
    found = pattern("agent", "list", "--db", "new.toml", "--tenant", "ada", "--json").json
    assert [agent["name"] for agent in found] == ["Flux"]
    assert pattern("agent", "list", "--db", "new.toml", "--json").json == []


@pytest.mark.parametrize("words", [("create", "Ada!"), ("drop", "../x", "--yes")])
def test_a_name_that_cannot_be_is_one_sentence(
    mind: Path, pattern: Pattern, words: tuple[str, ...]
) -> None:
    ran = pattern("tenant", *words)
    assert (ran.code, "lower-case letters" in ran.err) == (1, True)


def test_a_tenant_is_not_asked_for_its_tenants(mind: Path, pattern: Pattern) -> None:
    ran = pattern("tenant", "list", "--tenant", "ada")
    assert (ran.code, "leave --tenant out" in ran.err) == (2, True)
