"""Episodes and what was learned from them, on the command line."""

from __future__ import annotations

import pytest

from .conftest import Pattern

STEPS = (
    ("check the code", "--tool", "grep", "--success", "--duration-ms", "100"),
    ("run it", "--tool", "pytest", "--error", "1 failed", "--duration-ms", "300"),
    ("change it", "--tool", "edit", "--success"),
)


@pytest.fixture
def episode(flux: str, pattern: Pattern) -> str:
    """The id of an active episode of three steps."""
    begun = pattern("episode", "start", "Fix the login test", "--domain", "web", "--json").json
    for step in STEPS:
        assert pattern("episode", "step", begun["id"], *step).code == 0
    return str(begun["id"])


def test_an_episode_is_shown_with_its_steps_as_a_timeline(episode: str, pattern: Pattern) -> None:
    assert "completed (success)" in pattern("episode", "complete", episode, "all green").out
    shown = pattern("episode", "show", episode).out
    first, second, third = (
        next(line for line in shown.splitlines() if line.startswith(f"   {n} ")) for n in (1, 2, 3)
    )
    assert first.split() == ["1", "✓", "━━━━━━", "100", "ms", "grep", "check", "the", "code"]
    assert second.split()[:3] == ["2", "✗", "━" * 18]
    assert second.index("━") > first.index("━")
    assert third.split() == ["3", "✓", "edit", "change", "it"]
    assert "1 failed" in shown
    assert "success: all green" in shown
    assert "It recovered from an error." in shown


def test_an_episode_that_has_ended_says_so_in_one_sentence(episode: str, pattern: Pattern) -> None:
    assert pattern("episode", "fail", episode, "no idea", "--error", "E7").code == 0
    for again in (
        ("step", episode, "more"),
        ("complete", episode),
        ("abstain", episode, "late"),
    ):
        ran = pattern("episode", *again)
        assert (ran.code, ran.out) == (1, "")
        assert "is failed; resume it to go on." in ran.err
        assert len(ran.err.splitlines()) == 1
    assert "failed (failure)" in pattern("episode", "list").out


def test_what_was_not_done_makes_it_a_success_in_part(episode: str, pattern: Pattern) -> None:
    words = ("complete", episode, "half", "--done", "a", "--left", "b", "--json")
    ended = pattern("episode", *words).json
    assert ended["outcome"] == {
        "kind": "partial",
        "verdict": "half",
        "completed": ["a"],
        "failed": ["b"],
    }
    assert ended["outcome_kind"] == "partial"


def test_an_episode_goes_on_from_a_checkpoint(episode: str, pattern: Pattern) -> None:
    point = pattern("episode", "checkpoint", episode, "lunch", "--json").json
    told = pattern("episode", "resume", point["id"])
    assert "Started episode ep_" in told.out
    assert "pytest: run it (1 failed)" in told.out
    assert pattern("episode", "resume", episode).code == 1


def test_advice_is_given_and_judged(episode: str, pattern: Pattern) -> None:
    pattern("episode", "complete", episode)
    assert pattern("learn", "recommend", "bake bread", "--domain", "kitchen").out == (
        "(No similar episode is stored.)\n"
    )
    advised = pattern("learn", "recommend", "login test fails", "--domain", "web")
    session = advised.out.splitlines()[-1].removeprefix("session ")
    listed = pattern("learn", "list", "--type", "error_resolution", "--json").json
    used = listed[0]["id"]
    assert used in advised.out
    kept = pattern("learn", "feedback", session, "success", "--applied", used)
    assert kept.out == "Kept: success with 1 pattern applied.\n"
    shown = pattern("learn", "show", used).out
    assert "helped         1\n" in shown
    assert episode in shown
    refused = pattern("learn", "feedback", session, "success", "--applied", "nothing")
    assert refused.code == 1
    assert "applied" in refused.err


def test_parameters_that_are_no_json_are_wrong_usage(episode: str, pattern: Pattern) -> None:
    ran = pattern("episode", "step", episode, "x", "--parameters", "{oops")
    assert ran.code == 2
    assert "it is no JSON" in ran.err
