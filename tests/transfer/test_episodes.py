"""Runs of agents that other programs kept, imported as episodes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pattern_db
from pattern_db import Episode, Failure, ImportFailed, InvalidValue, NotFound, Partial, PatternDB
from pattern_db.transfer import FORMATS, import_episodes

from . import runs
from .files import dump, written
from .mutations import damaged, damaged_bytes

TOOLS = [tool for tool, *_ in runs.ORDER]


async def imported(db: PatternDB, folder: Path, format: str) -> list[Episode]:
    """The episodes of the file of a form, which must show it."""
    name, value = runs.FILES[format]
    report = await import_episodes(db, written(folder, name, value))
    episodes = await db.episodes.list(limit=100)
    assert (report.written, report.present) == (len(episodes), 0)
    return episodes


async def test_lines_of_ours(db: PatternDB, tmp_path: Path) -> None:
    done, failed, partly = await imported(db, tmp_path, "episodes")
    assert (done.task, done.domain, done.tools) == (runs.TASK, "retail", TOOLS)
    assert [type(e.outcome).__name__ for e in (done, failed, partly)] == [
        "Success",
        "Failure",
        "Partial",
    ]
    assert done.metadata == {
        "source": "shop.json",
        "family": "customer 1",
        "reward": 1.0,
        "needed_tools": ["return_order"],
    }
    assert (await db.agents.require(done.agent_id)).name == "model-a"
    first, second, *_ = await db.episodes.steps(done.id)
    assert (first.parameters, first.result, first.success) == ({"name": "Ada"}, "user_1", True)
    assert (second.success, second.error_message) == (False, "Error: order 7 not found")


async def test_tau_bench(db: PatternDB, tmp_path: Path) -> None:
    done, _ = await imported(db, tmp_path, "tau-bench")
    assert (done.task, done.domain, done.tools) == (runs.TASK, "retail", TOOLS)
    assert done.metadata["needed_tools"] == ["return_order"]
    assert (done.metadata["user_id"], done.metadata["task_id"]) == ("ada_1", 1)
    assert (await db.agents.require(done.agent_id)).name == "model-c-retail"
    steps = await db.episodes.steps(done.id)
    assert [step.success for step in steps] == [True, False, True, True]
    assert steps[2].parameters == {"id": 8}


async def test_tau2_bench_has_only_what_the_agent_did(db: PatternDB, tmp_path: Path) -> None:
    (done,) = await imported(db, tmp_path, "tau2-bench")
    assert (done.domain, done.tools) == ("retail", TOOLS)
    assert done.metadata["needed_tools"] == ["return_order"]
    assert (done.created_at.isoformat(), done.completed_at is not None) == (
        "2025-08-01T16:23:24.895557+00:00",
        True,
    )
    assert [step.success for step in await db.episodes.steps(done.id)] == [True, False, True, True]


async def test_a_task_of_tau2_bench_without_a_user_is_its_ticket(
    db: PatternDB, tmp_path: Path
) -> None:
    file = runs.tau2()
    file["tasks"][0]["ticket"] = "The canoe must go back."
    messages = file["simulations"][0]["messages"]
    file["simulations"][0]["messages"] = [m for m in messages if m["role"] != "user"]
    await import_episodes(db, written(tmp_path, "solo.json", file))
    (done,) = await db.episodes.list()
    assert done.task == "The canoe must go back."
    assert done.metadata["needed_tools"] == ["return_order", "reboot"]


async def test_swe_agent_says_no_more_than_its_exit_status(db: PatternDB, tmp_path: Path) -> None:
    (done,) = await imported(db, tmp_path, "swe-agent")
    assert (done.task, done.tools) == ("The canoe sinks.", ["find_file", "python", "submit"])
    assert done.outcome == Partial("exit status: submitted")
    steps = await db.episodes.steps(done.id)
    assert (steps[1].action, steps[1].duration_ms) == ("python canoe.py", 250.0)
    assert steps[0].metadata == {"thought": "Where is it?"}
    assert [step.success for step in steps] == [None, None, None]
    stopped = written(tmp_path, "stopped.traj", runs.swe_agent(status="exit_cost"))
    await import_episodes(db, stopped)
    *_, last = await db.episodes.list()
    assert last.outcome == Failure("exit status: exit_cost")


async def test_logs_of_messages(db: PatternDB, tmp_path: Path) -> None:
    (done,) = await imported(db, tmp_path, "messages")
    assert (done.task, done.domain, done.tools) == (runs.TASK, "general", TOOLS)
    steps = await db.episodes.steps(done.id)
    assert [step.success for step in steps] == [None, False, None, None]
    alone = written(tmp_path, "alone.json", runs.chat())
    await import_episodes(db, alone, domain="shop", agent_name="Flux")
    *_, last = await db.episodes.list()
    assert (last.domain, last.outcome) == ("shop", Partial("nobody checked how it went"))
    assert (await db.agents.require(last.agent_id)).name == "Flux"


@pytest.mark.parametrize("format", FORMATS)
async def test_importing_again_adds_only_what_is_new(
    db: PatternDB, tmp_path: Path, format: str
) -> None:
    episodes = await imported(db, tmp_path, format)
    before = await dump(db)
    name, value = runs.FILES[format]
    again = await import_episodes(db, tmp_path / name, format=format)
    assert (again.written, again.present) == (0, len(episodes))
    assert await dump(db) == before
    if isinstance(value, list):
        more = written(tmp_path, name, [*value, {**value[0], "task_id": 9, "id": "new"}])
        assert (await import_episodes(db, more)).written == 1


async def test_runs_that_share_an_id_are_both_kept(db: PatternDB, tmp_path: Path) -> None:
    twins = [runs.line(1), runs.line(1, task="Send it to Rome.")]
    report = await import_episodes(db, written(tmp_path, "twins.jsonl", twins))
    assert report.written == 2


async def test_what_is_longer_than_what_is_stored_is_cut_and_counted(
    db: PatternDB, tmp_path: Path
) -> None:
    long = runs.line(1, task="x" * 12_000)
    long["steps"][0]["result"] = "y" * 12_000
    report = await import_episodes(db, written(tmp_path, "long.jsonl", [long]))
    assert report.skipped == {"texts cut to what is stored of one": 1}
    (done,) = await db.episodes.list()
    assert (len(done.task), done.context) == (10_000, "x" * 12_000)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"task": "x", "steps": 3, "reward": 1}, "line 2: expected a list as `steps`"),
        ({"task": "x", "steps": [3], "reward": 1}, "line 2, `steps` 1: expected an object"),
        ({"task": "", "steps": [], "reward": 1}, "line 2: it does not say what was to be done"),
        ({"task": "x", "steps": []}, "line 2: there is neither an outcome nor a `reward`"),
        ({"task": "x", "steps": [{"tool": ""}], "reward": 1}, "line 2: Invalid value"),
        ({"task": "x", "steps": [], "reward": 1, "created_at": "soon"}, "line 2: `created_at`"),
        ({"hello": 1}, "line 2: this is no run of a known form"),
    ],
)
async def test_a_malformed_line_is_named_and_those_before_it_are_kept(
    db: PatternDB, tmp_path: Path, value: Any, problem: str
) -> None:
    file = written(tmp_path, "runs.jsonl", [runs.line(1), value, runs.line(3)])
    with pytest.raises(ImportFailed) as failed:
        await import_episodes(db, file)
    assert str(failed.value).startswith(f"runs.jsonl, {problem}")
    assert len(await db.episodes.list()) == 1
    await import_episodes(db, written(tmp_path, "runs.jsonl", [runs.line(1), runs.line(3)]))
    assert len(await db.episodes.list()) == 2


async def test_what_cannot_be_asked_for_is_refused(db: PatternDB, tmp_path: Path) -> None:
    file = written(tmp_path, "runs.jsonl", [runs.line()])
    with pytest.raises(InvalidValue, match="format"):
        await import_episodes(db, file, format="csv")
    with pytest.raises(NotFound):
        await import_episodes(db, file, agent_id="agent_none")
    with pytest.raises(NotFound):
        await import_episodes(db, file, user_id="user_none")
    with pytest.raises(ImportFailed, match="no such file"):
        await import_episodes(db, tmp_path / "none.jsonl")
    with pytest.raises(ImportFailed, match="expected a list"):
        await import_episodes(db, file, format="messages")


async def import_or_refuse(name: str, data: bytes) -> None:
    """Import these bytes twice; a success must be the same twice, a refusal one sentence."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(data)
        async with pattern_db.open(f"{folder}/mind.db", embeddings="none") as db:
            try:
                report = await import_episodes(db, file)
            except ImportFailed as error:
                assert str(error).startswith(file.name)
                assert "\n" not in str(error)
                return
            before = await dump(db)
            again = await import_episodes(db, file)
            assert (again.written, again.present) == (0, report.written + report.present)
            assert await dump(db) == before


def as_bytes(name: str, value: Any) -> bytes:
    if name.endswith(".jsonl") and isinstance(value, list):
        return b"".join(json.dumps(line).encode() + b"\n" for line in value)
    return json.dumps(value).encode()


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
async def test_files_with_damaged_values(format: str, data: st.DataObject) -> None:
    name, value = runs.FILES[format]
    await import_or_refuse(name, as_bytes(name, data.draw(damaged(value))))


@pytest.mark.parametrize(
    "reward",
    [10**400, -(10**400), float("inf"), float("nan"), True, "1"],
    ids=["huge", "-huge", "inf", "nan", "true", "text"],
)
async def test_a_reward_that_is_no_number_of_use_is_refused_or_left(reward: Any) -> None:
    """One too large for a float stopped the import with a traceback."""
    (name, value) = runs.FILES["tau-bench"]
    damaged_runs = [{**run, "reward": reward} for run in value]
    await import_or_refuse(name, as_bytes(name, damaged_runs))


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
async def test_files_with_damaged_bytes(format: str, data: st.DataObject) -> None:
    name, value = runs.FILES[format]
    await import_or_refuse(name, data.draw(damaged_bytes(as_bytes(name, value))))


REAL = {
    "tau/tau-bench-sample.json": 6,
    "tau/tau2-bench-sample.json": 5,
    "swe-agent/ctf__misc__networking_1.traj": 1,
    "swe-agent/test-repo-i1.traj": 1,
}


@pytest.mark.parametrize("name", REAL)
async def test_real_files(db: PatternDB, real_data: Callable[[str], Path], name: str) -> None:
    report = await import_episodes(db, real_data(name))
    assert (report.written, report.skipped) == (REAL[name], {})
    episodes = await db.episodes.list()
    assert all(episode.task and episode.outcome for episode in episodes)
    assert sum(len(episode.tools) for episode in episodes) > 0


async def test_the_benchmarks_own_files_become_what_was_normalized_from_them(
    db: PatternDB, real_data: Callable[[str], Path]
) -> None:
    await import_episodes(db, real_data("tau/tau-bench-sample.json"))
    lines = real_data("tau/episodes-dev.jsonl").read_text("utf-8").splitlines()
    told = {value["task"]: value for value in map(json.loads, lines) if "tb_gpt4o" in value["id"]}
    compared = 0
    for episode in await db.episodes.list():
        if (line := told.get(episode.task)) and int(line["trial"]) == episode.metadata["trial"]:
            compared += 1
            assert episode.tools == [step["tool"] for step in line["steps"]]
    assert compared > 0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"tasks": True}, "`tasks`: expected a list as the tasks"),
        ({"simulations": 3}, "`simulations`: expected a list as the runs"),
        ({"simulations": [3]}, "simulation 1: expected an object as the run"),
    ],
)
async def test_a_malformed_result_file_is_refused(
    db: PatternDB, tmp_path: Path, change: Any, problem: str
) -> None:
    file = written(tmp_path, "tau2.json", {**runs.tau2(), **change})
    with pytest.raises(ImportFailed) as failed:
        await import_episodes(db, file)
    assert str(failed.value).startswith(f"tau2.json, {problem}")


async def test_an_agent_without_a_name_is_called_after_the_file(
    db: PatternDB, tmp_path: Path
) -> None:
    file = {**runs.tau2(), "info": {"agent_info": {"llm": True}}}
    await import_episodes(db, written(tmp_path, "tau2.json", file))
    (done,) = await db.episodes.list()
    assert (await db.agents.require(done.agent_id)).name == "tau2"
