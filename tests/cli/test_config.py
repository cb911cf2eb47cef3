"""``pattern config``."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Pattern


def test_every_setting_is_shown_with_its_origin(
    pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATTERN_DATABASE__READERS", "3")
    monkeypatch.setenv("PATTERN_DATABASE__KEY", "swordfish")
    ran = pattern("config", "show", "--db", "mind.db", "--json")
    shown = {setting["key"]: setting for setting in ran.json}
    assert shown["database.path"]["value"] == str(Path("mind.db").absolute())
    assert shown["database.path"]["origin"] == "argument"
    assert shown["database.readers"] == {
        "key": "database.readers",
        "value": "3",
        "origin": "PATTERN_DATABASE__READERS",
    }
    assert shown["database.key"]["value"] == "set"
    assert "swordfish" not in ran.out + pattern("config", "show").out
    head, *rows = pattern("config", "show").out.splitlines()
    assert head.split() == ["SETTING", "VALUE", "FROM"]
    assert len(rows) == len(shown)


def test_good_settings_are_said_to_be_good(pattern: Pattern) -> None:
    assert pattern("config", "check") == (0, "The settings are good.\n", "")
    assert pattern("config", "check", "--json").json == []


def test_bad_settings_are_named_and_the_exit_code_says_so(pattern: Pattern) -> None:
    ran = pattern("config", "check", "--db", "nowhere/mind.db")
    assert (ran.code, ran.err) == (1, "")
    assert "of the database does not exist; create it." in ran.out
    machine = pattern("config", "check", "--db", "nowhere/mind.db", "--json")
    assert machine.code == 1
    assert machine.out.startswith("[\n")


def test_a_setting_that_is_unknown_is_an_error(
    pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATTERN_DATABASE__PAHT", "x")
    ran = pattern("config", "show")
    assert (ran.code, ran.out) == (1, "")
    assert "PATTERN_DATABASE__PAHT" in ran.err
