"""The command line on a Turso file: the same commands, another URL, and ``db sync``."""

from __future__ import annotations

import pytest

from tests.rigs.turso import Server

from .conftest import Pattern

pytestmark = pytest.mark.slow


def test_a_memory_on_two_machines(pattern: Pattern, turso_server: Server) -> None:
    desk = ("--db", f"turso://desk.db?sync={turso_server.url}")
    sofa = ("--db", f"turso://sofa.db?sync={turso_server.url}")
    assert pattern("init", *desk).code == 0
    assert pattern("agent", "create", "Flux", *desk).code == 0
    assert pattern("message", "add", "I moved to Oslo.", *desk).code == 0
    assert "nothing to pull" not in pattern("db", "sync", *desk).out
    assert pattern("init", *sofa).code == 0
    found = pattern("search", "Oslo", "--json", *sofa).json
    assert found[0]["item"]["content"] == "I moved to Oslo."
    assert pattern("db", "sync", *sofa).out == "Pushed 0 changes, there was nothing to pull.\n"


def test_status_says_what_is_experimental_and_what_waits(
    pattern: Pattern, turso_server: Server
) -> None:
    here = ("--db", f"turso://desk.db?sync={turso_server.url}")
    pattern("init", *here)
    shown = pattern("status", *here).out
    assert "change data capture, sync" in shown
    assert "127.0.0.1" in shown
    waits = dict(line.rsplit(maxsplit=1) for line in shown.splitlines())["waiting changes"]
    assert int(waits) > 0
    assert "change data capture, sync" in pattern("db", "status", *here).out


def test_what_follows_no_server_cannot_be_synced(pattern: Pattern) -> None:
    pattern("init")
    refused = pattern("db", "sync")
    assert refused.code == 1
    assert "follows no server" in refused.err


def test_a_server_that_is_away_is_told(pattern: Pattern, turso_server: Server) -> None:
    here = ("--db", f"turso://desk.db?sync={turso_server.url}")
    pattern("init", *here)
    turso_server.stop()
    refused = pattern("db", "sync", *here)
    assert refused.code == 1
    assert "cannot be reached" in refused.err
    assert refused.err.count("\n") == 1
    assert pattern("agent", "create", "Flux", *here).code == 0
