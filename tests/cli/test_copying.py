"""``pattern db copy`` and ``pattern db compare``."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from pattern_db.migrations import known_migrations

from .conftest import Pattern

pytestmark = pytest.mark.slow

NEWEST = known_migrations()[-1].version


@pytest.fixture
def talk(mind: Path, flux: str, pattern: Pattern) -> Path:
    """A database with an agent that was told two things."""
    pattern("message", "add", "I moved to Oslo.")
    pattern("memory", "add", "human", "Ada climbs.")
    return mind


def test_a_copy_says_what_it_did_and_that_it_arrived(talk: Path, pattern: Pattern) -> None:
    ran = pattern("db", "copy", talk, "copied.db", "--verify")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Copied 4 rows (")
    lines = [line.split() for line in ran.out.splitlines()[1:]]
    assert lines[0] == ["TABLE", "ROWS", "ARRIVED", "HASH", "RESULT"]
    assert {line[0]: (line[1], line[2], line[4]) for line in lines[1:]}["messages"] == (
        "1",
        "1",
        "equal",
    )
    again = pattern("db", "copy", talk, "copied.db")
    assert again.out.startswith("Copied 0 rows, 4 already there (")
    found = pattern("search", "who moved", "--db", "copied.db", "--json").json
    assert found[0]["item"]["content"] == "I moved to Oslo."


def test_there_and_back_over_a_server(talk: Path, pattern: Pattern, postgres: str) -> None:
    assert pattern("db", "copy", talk, postgres).code == 0
    assert pattern("db", "copy", postgres, "back.db").code == 0
    compared = pattern("db", "compare", talk, "back.db", "--json").json
    assert compared["equal"]
    assert {table["table"]: table["source_rows"] for table in compared["tables"]}["agents"] == 1


def test_a_difference_is_shown_and_fails(talk: Path, pattern: Pattern) -> None:
    pattern("db", "copy", talk, "copied.db")
    block = pattern("memory", "list", "--json").json[0]["id"]
    pattern("memory", "edit", block, "Ada swims.", "--db", "copied.db")
    ran = pattern("db", "compare", talk, "copied.db")
    assert ran.code == 1
    assert f"1 different ({block}) " in f"{ran.out} ".replace("\n", " ")
    assert ran.err == (
        "pattern: The databases are not equal in memory_blocks; copy again, or look at the rows.\n"
    )
    refused = pattern("db", "copy", talk, "copied.db")
    assert refused.code == 1
    assert f"memory block '{block}' with other values" in refused.err
    assert pattern("db", "copy", talk, "copied.db", "--overwrite", "--verify").code == 0


def test_one_agent_by_name_and_one_table(
    talk: Path, two_agents: tuple[str, str], pattern: Pattern
) -> None:
    assert pattern("db", "copy", talk, "one.db", "--agent", "Vega").code == 0
    assert [a["name"] for a in pattern("agent", "list", "--db", "one.db", "--json").json] == [
        "Vega"
    ]
    assert pattern("db", "copy", talk, "two.db", "--table", "agents").code == 0
    assert len(pattern("agent", "list", "--db", "two.db", "--json").json) == 2
    missing = pattern("db", "copy", talk, "three.db", "--agent", "Nobody")
    assert (missing.code, "no agent 'Nobody'" in missing.err) == (1, True)
    unknown = pattern("db", "copy", talk, "three.db", "--table", "nothing")
    assert (unknown.code, "There is no table 'nothing'" in unknown.err) == (1, True)


def test_settings_of_each_side_may_be_a_file(
    talk: Path, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPY_KEY", "correct horse")
    Path("new.toml").write_text('[database]\npath = "locked.db"\nkey = "${COPY_KEY}"\n')
    ran = pattern("db", "copy", talk, "new.toml", "--verify")
    assert (ran.code, ran.err) == (0, "")
    assert b"Oslo" not in Path("locked.db").read_bytes()
    assert pattern("db", "compare", talk, "new.toml", "--json").json["equal"]


@pytest.mark.parametrize("verb", ["copy", "compare"])
def test_a_source_that_is_not_there_or_newer_is_one_sentence(
    talk: Path, pattern: Pattern, verb: str
) -> None:
    missing = pattern("db", verb, "nothing.db", "copied.db")
    assert missing.code == 1
    assert "There is no database at" in missing.err
    assert not Path("copied.db").exists()
    connection = apsw.Connection(str(talk))
    connection.execute("UPDATE schema_migrations SET version = 99 WHERE version = ?", (NEWEST,))
    connection.close()
    newer = pattern("db", verb, talk, "copied.db")
    assert newer.code == 1
    assert "install a newer pattern-db" in newer.err
    assert not Path("copied.db").exists()


def test_a_source_is_never_migrated(talk: Path, pattern: Pattern) -> None:
    pattern("db", "migrate", "--to", "0", "--yes")
    ran = pattern("db", "copy", talk, "copied.db")
    assert ran.code == 1
    assert "run `pattern db migrate`" in ran.err


def test_db_is_no_option_of_two_databases(talk: Path, pattern: Pattern) -> None:
    ran = pattern("db", "copy", talk, "copied.db", "--db", "third.db")
    assert (ran.code, "leave --db out" in ran.err) == (2, True)
