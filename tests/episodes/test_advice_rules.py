"""The rules that advice follows, on plain runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pattern_db.episodes.errors import Incident, remedies
from pattern_db.episodes.next_step import Next, rank_next
from pattern_db.episodes.outlook import estimate
from pattern_db.episodes.planning import f1, plan_tools
from pattern_db.episodes.recall import consensus
from pattern_db.episodes.runs import Likeness, Run, overlap, overlaps, path_of
from pattern_db.models import OutcomeKind

WELL, BADLY = OutcomeKind.SUCCESS, OutcomeKind.FAILURE
PATHS = st.lists(st.sampled_from("abcd"), max_size=12)


def run(id: str, tools: str = "", outcome: Any = WELL, **fields: Any) -> Run:
    return Run(id=id, task=fields.pop("task", "t"), tools=tuple(tools), outcome=outcome, **fields)


def ranked(tools: str, *runs: Run, likeness: list[float] | None = None, **now: Any) -> list[Next]:
    alike = np.array([0.5] * len(runs) if likeness is None else likeness)
    return rank_next(run("now", tools, None, **now), runs, alike)


# runs


def longest_common(a: list[str], b: list[str]) -> int:
    """By the textbook, without bits."""
    best = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            same = best[i][j] + 1 if x == y else 0
            best[i + 1][j + 1] = max(same, best[i][j + 1], best[i + 1][j])
    return best[-1][-1]


@settings(deadline=None)
@given(PATHS, PATHS)
def test_overlap_is_twice_the_longest_common_subsequence_over_both_lengths(
    a: list[str], b: list[str]
) -> None:
    expected = 2 * longest_common(a, b) / (len(a) + len(b)) if a or b else 1.0
    assert overlap(a, b) == expected
    assert overlap(b, a) == expected


def test_repetitions_in_a_row_count_once() -> None:
    assert path_of(tuple("aabbba")) == ("a", "b", "a")


def test_tasks_are_alike_by_words_and_by_vectors_where_both_have_one() -> None:
    tasks = ["cancel my flight", "cancel the flight please", "return a lamp"]
    x, y = np.eye(2, dtype=np.float32)
    bare = Likeness([run(str(n), task=task) for n, task in enumerate(tasks)])
    assert bare.to(0)[0] == pytest.approx(1.0)
    assert bare.to(0)[1] > 0 == bare.to(0)[2]
    some = [run("0", task=tasks[0], vector=x), run("1", task=tasks[1], vector=y)]
    partly = Likeness([*some, run("2", task=tasks[2])])
    assert partly.to(0)[1] < bare.to(0)[1]
    assert partly.to(0)[2] == 0
    np.testing.assert_allclose(partly.all(), [partly.to(n) for n in range(3)], atol=1e-12)


# what comes next


def test_what_followed_the_same_steps_comes_next_with_its_evidence() -> None:
    first, second, *_ = ranked("ab", run("1", "abc"), run("2", "abc"), run("3", "xbd"))
    assert (first.tool, first.times, first.episodes) == ("c", 2, ["1", "2"])
    assert (second.tool, second.times) == ("d", 1)
    assert sum(n.probability for n in ranked("ab", run("1", "abc"), run("3", "xbd"))) <= 1.0 + 1e-9


def test_the_nearer_task_says_more() -> None:
    runs = (run("1", "abc"), run("2", "abd"))
    assert ranked("ab", *runs, likeness=[0.9, 0.1])[0].tool == "c"
    assert ranked("ab", *runs, likeness=[0.1, 0.9])[0].tool == "d"


def test_the_agents_own_runs_say_more() -> None:
    runs = (run("1", "abc", agent_id="ada"), run("2", "abd", agent_id="bob"))
    assert ranked("ab", *runs, agent_id="ada")[0].tool == "c"
    assert ranked("ab", *runs, agent_id="bob")[0].tool == "d"


def test_a_tool_that_was_used_before_is_less_likely_where_it_was_new() -> None:
    assert ranked("cab", run("1", "xabc"), run("2", "yabd"))[0].tool == "d"


def test_the_last_tool_is_not_said_to_come_next_but_all_others_are() -> None:
    tools = [n.tool for n in ranked("ab", run("1", "ababc"), run("2", "e"))]
    assert "b" not in tools
    assert set(tools) == {"a", "c", "e"}


def test_of_no_runs_nothing_is_said() -> None:
    assert ranked("ab") == []
    assert ranked("", run("1")) == []


@settings(deadline=None)
@given(st.lists(PATHS, max_size=6), PATHS)
def test_whatever_the_runs_chances_are_chances(paths: list[list[str]], before: list[str]) -> None:
    found = ranked("".join(before), *(run(str(n), "".join(p)) for n, p in enumerate(paths)))
    assert all(0 < n.probability <= 1 for n in found)
    assert sum(n.probability for n in found) == pytest.approx(1.0) or not found
    assert [n.probability for n in found] == sorted((n.probability for n in found), reverse=True)


# what to recall


def chosen(runs: list[Run], limit: int, **given: Any) -> list[str]:
    eligible = given.get("eligible", [True] * len(runs))
    alike = np.array(given.get("likeness", [0.5] * len(runs)))
    return [runs[place].id for place, _ in consensus(runs, alike, eligible, limit=limit)]


def test_the_run_that_others_agree_with_comes_before_the_nearest() -> None:
    runs = [run("odd", "xyz"), run("1", "abc"), run("2", "abd"), run("3", "abc")]
    assert chosen(runs, 2, likeness=[0.55, 0.5, 0.5, 0.5])[0] in ("1", "3")


def test_what_is_chosen_next_covers_what_was_not() -> None:
    runs = [run("1", "abc"), run("2", "abc"), run("3", "xy")]
    assert set(chosen(runs, 2)) == {"1", "3"}


def test_only_what_is_eligible_is_chosen_but_failures_still_speak() -> None:
    runs = [run("bad", "ab", BADLY), run("1", "ab"), run("2", "xy")]
    assert chosen(runs, 5, eligible=[False, True, True]) == ["1", "2"]
    assert chosen(runs, 5, eligible=[False] * 3) == []


def test_agreement_is_a_share() -> None:
    runs = [run(str(n), tools) for n, tools in enumerate(("abc", "ab", "", "xyz"))]
    found = consensus(runs, np.zeros(4), [True] * 4, limit=4)
    assert all(0 <= agreement <= 1 for _, agreement in found)


# what a task needs


def planned(*runs: Run, likeness: list[float] | None = None, among: Any = None) -> set[str]:
    alike = np.array([0.5] * len(runs) if likeness is None else likeness)
    return {p.tool for p in plan_tools(runs, alike, among=among) if p.is_likely}


def test_a_plan_is_the_set_that_similar_runs_agree_with() -> None:
    runs = (run("1", "ab"), run("2", "ab"), run("3", "xyz"))
    assert planned(*runs) == {"a", "b"}
    assert planned(*runs, likeness=[0.1, 0.1, 0.9]) == {"x", "y", "z"}
    (first, *_) = plan_tools(runs, np.full(3, 0.5))
    assert (first.tool, first.episodes) == ("a", ["1", "2"])
    assert first.probability == pytest.approx(2 / 3)


def test_a_plan_may_be_to_need_nothing() -> None:
    assert planned(run("1"), run("2"), run("3", "a")) == set()


def test_what_was_found_to_be_needed_counts_instead_of_what_was_done() -> None:
    assert planned(run("1", "abc", needed=frozenset("a"))) == {"a"}


def test_a_plan_is_about_the_tools_that_are_asked_for() -> None:
    assert planned(run("1", "abc"), among={"c", "d"}) == {"c"}


@settings(deadline=None)
@given(st.sets(st.sampled_from("abc")), st.sets(st.sampled_from("abc")))
def test_f1_is_the_harmonic_mean(a: set[str], b: set[str]) -> None:
    common = len(a & b)
    if not a and not b:
        assert f1(a, b) == 1
    elif not common:
        assert f1(a, b) == 0
    else:
        precision, recall = common / len(a), common / len(b)
        assert f1(a, b) == pytest.approx(2 * precision * recall / (precision + recall))


# how a run went


def test_a_run_like_those_that_succeeded_probably_did() -> None:
    good = [run(f"g{n}", "abc") for n in range(6)]
    bad = [run(f"b{n}", "axy", BADLY) for n in range(6)]
    likely = estimate(run("now", "abc", None), [*good, *bad])
    unlikely = estimate(run("now", "axy", None), [*good, *bad])
    assert unlikely.probability < unlikely.base_rate == 0.5 < likely.probability
    assert {place < 6 for place in likely.in_favour} == {True}
    assert {place < 6 for place in unlikely.against} == {False}


@settings(deadline=None)
@given(st.lists(st.tuples(PATHS, st.booleans()), min_size=1, max_size=8), PATHS)
def test_whatever_the_runs_an_outlook_is_a_probability(
    told: list[tuple[list[str], bool]], tools: list[str]
) -> None:
    runs = [run(str(n), "".join(p), WELL if well else BADLY) for n, (p, well) in enumerate(told)]
    assert 0 < estimate(run("now", "".join(tools), None), runs).probability < 1


# what resolves an error


def incident(id: str, tool: str, signature: str, after: str | None, **given: Any) -> Incident:
    return Incident(id, given.get("domain", "d"), tool, signature, after, given.get("ok", False))


def test_what_followed_the_same_error_comes_first_with_its_counts() -> None:
    known = [
        incident("1", "book", "no money", "ask", ok=True),
        incident("2", "book", "no money", "ask"),
        incident("3", "book", "not found", "book"),
        incident("4", "find", "not found", "find"),
        incident("5", "find", "broken", None),
    ]
    first, *rest = remedies("d", "book", "no money", known)
    assert (first.tool, first.times, first.resolved) == ("ask", 2, 1)
    assert first.episodes == ["1", "2"]
    assert {remedy.tool for remedy in rest} == {"book", None}


def test_trying_again_is_learned_from_other_tools() -> None:
    known = [incident(str(n), tool, "x", tool) for n, tool in enumerate("abcd")]
    (again,) = remedies("d", "new", "never seen", known)
    assert (again.tool, again.times, again.episodes) == ("new", 0, [])


def test_each_tool_is_said_once() -> None:
    known = [
        incident("1", "b", "x", "a"),
        incident("2", "a", "x", "a"),
        incident("3", "a", "x", "c"),
    ]
    tools = [remedy.tool for remedy in remedies("d", "a", "x", known)]
    assert sorted(str(tool) for tool in tools) == ["a", "c"]


def test_another_domain_says_less() -> None:
    known = [
        incident("1", "t", "x", "here", domain="d"),
        incident("2", "t", "x", "there", domain="e"),
    ]
    assert remedies("d", "t", "x", known)[0].tool == "here"
    assert remedies("e", "t", "x", known)[0].tool == "there"


def test_of_no_errors_nothing_is_said() -> None:
    assert remedies("d", "t", "x", []) == []


_PATHS = st.lists(st.lists(st.sampled_from("abcdef"), max_size=70), min_size=1, max_size=5)


@given(_PATHS, _PATHS)
def test_all_pairs_of_paths_overlap_as_each_pair_does(some: list, others: list) -> None:
    assert overlaps(some, others).tolist() == [[overlap(a, b) for b in others] for a in some]
