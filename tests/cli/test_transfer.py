"""``pattern import`` and ``pattern eval``; what they do is tested where it is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pattern_db.embeddings.indexing import Indexer
from tests.evaluation.trajectories import trajectories

from .conftest import Pattern
from .test_json import LOCOMO


@pytest.fixture
def locomo() -> str:
    """A file with one sample of two turns."""
    Path("locomo.json").write_text(json.dumps(LOCOMO))
    return "locomo.json"


def test_an_import_makes_the_database_and_says_what_it_did(locomo: str, pattern: Pattern) -> None:
    ran = pattern("import", "locomo", locomo, "--db", "new.db")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{locomo}: 2 messages written (1 conversation of 1 agent, ")
    (report,) = pattern("import", "locomo", locomo, "--db", "new.db", "--json").json
    assert (report["file"], report["messages_written"], report["messages_present"]) == (
        locomo,
        0,
        2,
    )
    assert ", 2 already there (" in pattern("import", "locomo", locomo, "--db", "new.db").out


def test_an_import_goes_to_an_agent_that_is_there(
    locomo: str, two_agents: tuple[str, str], pattern: Pattern
) -> None:
    (report,) = pattern("import", "locomo", locomo, "--agent", "Vega", "--json").json
    assert report["agents"] == [two_agents[1]]
    assert len(pattern("message", "list", "--agent", "Vega", "--json").json) == 2


def test_an_import_makes_the_agent_it_names(locomo: str, mind: Path, pattern: Pattern) -> None:
    ada = pattern("user", "create", "Ada", "--json").json["id"]
    pattern("import", "locomo", locomo, "--agent", "Nova", "--user", ada)
    (agent,) = pattern("agent", "list", "--json").json
    assert (agent["name"], agent["user_id"]) == ("Nova", ada)


@pytest.mark.slow
def test_an_import_can_leave_embedding_for_later(
    locomo: str, mind: Path, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = ("--embeddings", "local")
    monkeypatch.setattr(Indexer, "wake", lambda _self: None)  # nothing in the background
    pattern("import", "locomo", locomo, "--agent", "Nova", "--queue", *local)
    assert len(pattern("message", "list", "--json").json) == 2
    assert pattern("status", "--json").json["queued_embeddings"] == 2
    assert pattern("db", "reembed", *local).code == 0
    assert pattern("status", "--json").json["queued_embeddings"] == 0
    assert len(pattern("search", "where", "--mode", "semantic", "--json", *local).json) == 2


def test_of_several_files_one_that_is_missing_stops_all(locomo: str, pattern: Pattern) -> None:
    ran = pattern("import", "locomo", locomo, "missing.json", "--db", "new.db")
    assert ran == (1, "", "pattern: No such file or directory: missing.json\n")
    assert not Path("new.db").exists()


def test_a_file_of_another_kind_is_named(mind: Path, pattern: Pattern) -> None:
    Path("odd.json").write_text('{"a": 1}')
    ran = pattern("import", "locomo", "odd.json")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("pattern: odd.json, ")


def test_an_evaluation_prints_recall_and_leaves_the_settings_database_alone(
    locomo: str, mind: Path, pattern: Pattern
) -> None:
    line = ("eval", "locomo", locomo, "--embeddings", "none", "--mode", "keyword", "--k", "1,2")
    out = pattern(*line).out
    assert out.startswith("LoCoMo evidence recall@k, keyword search, no model\n")
    report = pattern(*line, "--json").json
    assert (report["ks"], report["overall"]["recall"]["2"]) == ([1, 2], 1.0)
    assert pattern("agent", "list", "--json").json == []


def test_runs_are_imported_once_and_advise(mind: Path, pattern: Pattern) -> None:
    file = str(trajectories(Path(), families=3))
    first = pattern("import", "episodes", file).out
    assert first.startswith(f"{file}: 9 episodes written (2 agents, ")
    again = pattern("import", "episodes", file, "--json").json
    assert (again[0]["written"], again[0]["present"]) == (0, 9)

    recalled = pattern("episode", "recall", "book a flight to Rome", "--outcome", "success").out
    assert "book a flight to" in recalled
    planned = pattern("episode", "plan", "book a flight to Rome", "--domain", "travel").out
    assert "book_flight" in planned
    assert "drawn from 6 successful episodes" in planned
    told = pattern("episode", "on-error", "find_user", "Error: no such user 9").out
    assert "drawn from 3 errors" in told
    nothing = pattern("episode", "recall", "anything", "--domain", "nowhere")
    assert nothing.out == "(No episode has ended in the domain 'nowhere' yet.)\n"


def test_a_malformed_run_is_named_with_its_line(mind: Path, pattern: Pattern) -> None:
    Path("bad.jsonl").write_text('{"task": "x", "steps": 3, "reward": 1}\n')
    ran = pattern("import", "episodes", "bad.jsonl")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("pattern: bad.jsonl, line 1: expected a list as `steps`")
    assert ran.err.count("\n") == 1
    chats = pattern("import", "jsonl", "bad.jsonl", "--domain", "web")
    assert (chats.code, "--domain" in chats.err) == (1, True)


def test_the_next_step_and_the_outlook_of_an_episode(mind: Path, pattern: Pattern) -> None:
    pattern("import", "episodes", trajectories(Path(), families=3))
    pattern("agent", "create", "Flux")
    line = ("episode", "start", "book a flight to Oslo", "--domain", "travel", "--agent", "Flux")
    id = pattern(*line, "--json").json["id"]
    assert (
        pattern("episode", "next", id, "--limit", "1").out.splitlines()[1].startswith("find_user")
    )
    goes_on = "(The run goes on; how it begins does not tell how it ends.)\n"
    assert pattern("episode", "outlook", id).out == goes_on
    assert pattern("episode", "outlook", id, "--finished").out.startswith("Succeeded with ")


@pytest.mark.slow
def test_an_evaluation_of_advice_prints_what_must_be_met(pattern: Pattern) -> None:
    file = trajectories(Path())
    out = pattern("eval", "episodes", file, "--embeddings", "none", "--seeds", "0", "--quick").out
    assert out.startswith("Advice from past episodes, no model\n30 runs of 10 families;")
    assert "M3 recalled runs, best overlap of three" in out


def test_the_database_of_an_evaluation_can_be_kept(locomo: str, pattern: Pattern) -> None:
    line = ("eval", "locomo", locomo, "--embeddings", "none", "--mode", "keyword")
    assert pattern(*line, "--db", "kept.db").code == 0
    assert len(pattern("message", "list", "--db", "kept.db", "--json").json) == 2


def test_an_evaluation_says_which_k_it_can_measure(locomo: str, pattern: Pattern) -> None:
    ran = pattern("eval", "locomo", locomo, "--k", "0")
    assert (ran.code, ran.out) == (1, "")
    assert "each k must be between 1 and 50" in ran.err
