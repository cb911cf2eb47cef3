"""``pattern demo``: the first thing that anybody runs."""

from __future__ import annotations

import shlex
import statistics
from pathlib import Path

import pytest

import pattern_db
from pattern_db.demo import run_demo, story

from .conftest import Pattern


def test_the_story_is_whole() -> None:
    told = story()
    turns = [turn for session in told.sessions for turn in session.turns]
    ids = [turn.id for turn in turns]
    assert len(ids) == len(set(ids))
    assert {turn.speaker for turn in turns} == set(told.participants)
    assert {id for question in told.questions for id in question.evidence} <= set(ids)
    assert all(question.evidence for question in told.questions)
    starts = [session.started_at for session in told.sessions]
    assert starts == sorted(starts)
    assert all(start.tzinfo is not None for start in starts)


async def test_the_demo_stores_the_story_and_measures_its_own_answers(tmp_path: Path) -> None:
    told = story()
    async with pattern_db.open(tmp_path / "demo.db", embeddings="none") as db:
        report = await run_demo(db)
        (agent,) = await db.agents.list()
        conversations = await db.conversations.list(agent.id)
        messages = await db.messages.list(agent.id, limit=1000)
    assert (agent.id, agent.name) == (report.agent_id, told.agent)
    assert [c.title for c in conversations] == [session.title for session in told.sessions]
    said = [(turn.speaker, turn.text) for session in told.sessions for turn in session.turns]
    assert [(m.speaker, m.content) for m in messages] == said
    assert {m.created_at for m in messages} == {s.started_at for s in told.sessions}
    assert report.ingested.turns == len(said)
    for answer, question in zip(report.answers, told.questions, strict=True):
        first = {hit.turn for hit in answer.found[:10]} & set(question.evidence)
        assert answer.recall[10] == pytest.approx(len(first) / len(question.evidence))
        assert [h.is_evidence for h in answer.found] == [
            h.turn in question.evidence for h in answer.found
        ]
    assert report.recall[10] == pytest.approx(statistics.mean(a.recall[10] for a in report.answers))


def test_the_demo_shows_a_handful_and_how_all_went(pattern: Pattern) -> None:
    ran = pattern("demo")
    told = story()
    assert (ran.code, ran.err) == (0, "")
    turns = sum(len(session.turns) for session in told.sessions)
    assert f"{turns} turns of {len(told.sessions)} sessions stored in " in ran.out
    shown = [question for question in told.questions if question.question in ran.out]
    assert len(shown) == len({question.about for question in told.questions})
    assert f"\nAll {len(told.questions)} questions: evidence recall@1 " in ran.out
    assert "\x1b" not in ran.out
    everything = pattern("demo", "--all").out
    assert all(question.question in everything for question in told.questions)


def test_the_demo_finds_most_of_the_evidence_with_the_bundled_model(pattern: Pattern) -> None:
    report = pattern("demo", "--embeddings", "local", "--json").json
    assert report["ingested"]["dimensions"] == 384
    assert report["recall"]["10"] > 0.6
    assert report["recall"]["10"] > pattern("demo", "--json").json["recall"]["10"]


@pytest.mark.parametrize("keep", [[], ["--keep", "my demo.db"]])
def test_what_to_try_next_works_as_typed(pattern: Pattern, keep: list[str]) -> None:
    out = pattern("demo", *keep).out
    _, _, commands = out.partition("What to try next\n")
    assert len(commands.splitlines()) >= 4
    for line in commands.splitlines():
        name, *arguments = shlex.split(line)
        ran = pattern(*arguments)
        assert (name, ran.code, ran.err) == ("pattern", 0, ""), line
        assert ran.out.strip() not in ("", "(nothing found)"), line


def test_a_demo_without_a_place_leaves_nothing_behind(
    tmp_path: Path, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert pattern("demo").code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--keep", "--db"])
def test_a_demo_is_not_mixed_into_another_database(
    mind: Path, pattern: Pattern, option: str
) -> None:
    ran = pattern("demo", option, mind)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.endswith(f"there is a file at {mind} already; name another.\n")


def test_a_demo_ignores_the_database_of_the_settings(mind: Path, pattern: Pattern) -> None:
    assert pattern("demo").code == 0
    assert pattern("agent", "list", "--json").json == []
