"""What is learned from an episode: formulas against hand-made figures, rules against what they say."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pattern_db
from pattern_db import (
    Abstained,
    Agent,
    Complexity,
    ContextPattern,
    DecisionPoint,
    Episode,
    ErrorResolution,
    Failure,
    InvalidValue,
    NotFound,
    Optimization,
    Partial,
    PatternDB,
    Step,
    Success,
    TaskType,
    TestingStrategy,
    ToolSequence,
)
from pattern_db.episodes.extraction import MOST_OF_A_TYPE, Usual, content_key, lessons_of
from pattern_db.episodes.quality import quality_of
from pattern_db.episodes.reflection import MOST_OF_A_KIND, RULES, Ended, reflect
from pattern_db.episodes.reward import reward_of
from pattern_db.episodes.statistics import boost, effectiveness, shrunk_rate, wilson_lower
from pattern_db.episodes.summary import MOST_WORDS, key_steps, summary_of
from pattern_db.episodes.wording import error_signature, generalized
from pattern_db.models import Outcome, Pattern, PatternKind
from pattern_db.testing.entities import structs, texts

from .working import FIX, worked

NOW = datetime(2026, 8, 20, 12, tzinfo=UTC)
EPISODE = Episode("e", "a", "Fix the login test.", NOW, NOW, domain="web")


def steps(*told: str) -> list[Step]:
    """Steps from ``tool`` (succeeded), ``!tool`` (failed) or ``?tool`` (nobody knows)."""
    made = []
    for number, each in enumerate(told, start=1):
        tool = each.lstrip("!?")
        success = {"!": False, "?": None}.get(each[0], True)
        error = f"{tool} broke 'x' at {number}" if success is False else None
        made.append(
            Step(
                id=f"s{number}",
                episode_id="e",
                action=f"use {tool}",
                timestamp=NOW,
                step_number=number,
                tool_name=tool,
                success=success,
                error_message=error,
                error_signature=error and error_signature(error),
                duration_ms=100.0,
            )
        )
    return made


def lessons(*told: str, outcome: Outcome | None = None, **fields: Any) -> list[Any]:
    usual = fields.pop("usual", Usual())
    episode = msgspec.structs.replace(EPISODE, **fields)
    return lessons_of(episode, steps(*told), outcome or Success(), usual)


def of_kind(found: list[Any], kind: type) -> list[Any]:
    return [lesson.data for lesson in found if isinstance(lesson.data, kind)]


# patterns


def test_a_sequence_is_how_it_began_and_each_three_tools_that_worked() -> None:
    found = of_kind(lessons("a", "a", "b", "c", "!d", "e"), ToolSequence)
    assert found == [
        ToolSequence(["a", "b", "c", "d", "e"], opening=True),
        ToolSequence(["a", "b", "c"]),
    ]


def test_an_error_is_resolved_by_the_step_right_after_it() -> None:
    found = of_kind(lessons("a", "!b", "c", "!d", "!d", "e"), ErrorResolution)
    assert found == [
        ErrorResolution("b broke _ at _", "b", ["c"]),
        ErrorResolution("d broke _ at _", "d", ["e"]),
    ]
    assert of_kind(lessons("a", "!b"), ErrorResolution) == []


def test_an_optimization_took_much_less_than_usual() -> None:
    usual = Usual(steps=10, duration_ms=60_000)
    quick = {"completed_at": NOW + timedelta(seconds=48), "task_type": TaskType.TESTING}
    found = of_kind(lessons("a", "b", usual=usual, **quick), Optimization)
    assert found == [
        Optimization("steps", "testing", ["a", "b"]),
        Optimization("duration_ms", "testing", ["a", "b"]),
    ]
    slow = {"completed_at": NOW + timedelta(seconds=49)}
    assert of_kind(lessons(*"abcdefghi", usual=usual, **slow), Optimization) == []
    assert of_kind(lessons("a", usual=usual, outcome=Failure(), **quick), Optimization) == []
    assert of_kind(lessons("a", **quick), Optimization) == []


@pytest.mark.parametrize(
    ("told", "placement"),
    [
        (("pytest", "edit"), "before"),
        (("edit", "pytest"), "after"),
        (("pytest", "edit", "pytest"), "throughout"),
        (("pytest", "pytest"), "only"),
    ],
)
def test_a_testing_strategy_says_when_was_tested(told: tuple[str, ...], placement: str) -> None:
    found = of_kind(lessons(*told), TestingStrategy)
    assert found == [TestingStrategy(["pytest"], placement)]
    assert of_kind(lessons("contest", "latest", "attestation"), TestingStrategy) == []


def test_a_context_names_its_features_and_what_was_done_there() -> None:
    found = of_kind(lessons("a", "b", "a", language="python", tags=["db"]), ContextPattern)
    features = ["domain:web", "language:python", "tag:db", "task_type:other"]
    assert found == [ContextPattern(features, ["a", "b"])]


@pytest.mark.parametrize(
    ("told", "outcome", "founds"),
    [
        (("a", "b", "c"), Success(), True),
        (("a", "b", "c"), Partial("half"), True),
        (("a", "b", "c"), Failure("no"), False),
        (("a", "b", "c"), Abstained("no"), False),
        (("a", "!b", "!c", "d"), Success(), False),
        (("?a", "?b", "?c"), Success(), True),
    ],
)
def test_only_what_went_well_founds_a_pattern(
    told: tuple[str, ...], outcome: Outcome, founds: bool
) -> None:
    found = [x for x in lessons(*told, outcome=outcome) if not isinstance(x.data, ErrorResolution)]
    assert {lesson.founds for lesson in found} == {founds}


def test_there_are_never_too_many_lessons() -> None:
    found = lessons(*(f"tool{n}" for n in range(500)))
    assert len(of_kind(found, ToolSequence)) == MOST_OF_A_TYPE
    assert len(found) < 40


def test_equal_lessons_have_one_key_whatever_differs_by_chance() -> None:
    same = DecisionPoint("Check order 123", "refund"), DecisionPoint("check  ORDER #77", "Refund")
    assert len({content_key(data, "shop") for data in same}) == 1
    assert content_key(same[0], "shop").startswith("decision_point:")
    assert len(content_key(same[0], "shop").split(":")[1]) == 64
    other = DecisionPoint("Check the invoice", "refund")
    assert content_key(other, "shop") != content_key(same[0], "shop")
    v2 = ToolSequence(["get_v1", "get_v2"]), ToolSequence(["get_v2", "get_v1"])
    assert len({content_key(data, "shop") for data in v2}) == 2
    assert content_key(same[0], "bank") != content_key(same[0], "shop")
    assert content_key(ToolSequence(["a", "b"]), "x") != content_key(ToolSequence(["b", "a"]), "x")
    there_and_back = (ContextPattern(["a", "b"]), ContextPattern(["b", "a"]))
    assert len({content_key(data, "x") for data in there_and_back}) == 1


_DATA = st.one_of(
    *(
        structs(kind)
        for kind in (
            ToolSequence,
            ErrorResolution,
            Optimization,
            TestingStrategy,
            DecisionPoint,
            ContextPattern,
        )
    )
)


@given(_DATA, texts())
def test_any_pattern_comes_back_as_its_own_type_and_key(data: Any, domain: str) -> None:
    kind = content_key(data, domain).partition(":")[0]
    assert PatternKind(kind).value == msgspec.to_builtins(data)["type"]
    row = Pattern("p", PatternKind(kind), "k", data, domain, NOW, NOW)
    again = msgspec.json.decode(msgspec.json.encode(row), type=Pattern)
    assert (again.pattern_data, type(again.pattern_data)) == (data, type(data))
    assert content_key(again.pattern_data, domain) == content_key(data, domain)


@pytest.mark.parametrize(
    ("message", "signature"),
    [
        (
            "Error: payment amount does not add up, total price is 305",
            "error: payment amount does not add up,",
        ),
        ("KeyError: 'user_8'", "keyerror: _"),
        ("Timeout after 30s on /api/v2/users", "timeout after _ on /_"),
        ("", ""),
    ],
)
def test_equal_errors_have_one_signature(message: str, signature: str) -> None:
    assert error_signature(message) == signature


@given(texts(at_most=300))
def test_generalizing_twice_changes_nothing_more(text: str) -> None:
    assert generalized(generalized(text)) == generalized(text)


async def test_five_equal_episodes_are_one_row_of_each_pattern_with_five_pieces_of_evidence(
    path: str,
) -> None:
    async with pattern_db.open(path, embeddings="none") as db:
        flux = await db.agents.create(name="Flux")
        done = [await worked(db, flux.id, f"Fix login test {n}") for n in range(5)]
        patterns = {p.id: p for p in await db.patterns.list()}
    async with pattern_db.open(path, embeddings="none") as db:
        assert {p.id: p for p in await db.patterns.list()} == patterns
        lasting = [p for p in patterns.values() if p.pattern_type != "optimization"]
        assert len(lasting) == 5
        for pattern in lasting:
            assert (pattern.occurrences, pattern.successes, pattern.failures) == (5, 5, 0)
            evidence = await db.patterns.evidence(pattern.id)
            assert {e.episode_id for e in evidence} == {e.id for e in done}
            assert pattern.confidence == wilson_lower(5, 5)
            assert 0.5 < pattern.success_rate < 1


async def test_a_pattern_that_fails_later_loses_its_standing(db: PatternDB, flux: Agent) -> None:
    def of(patterns: list[Pattern]) -> Pattern:
        return next(p for p in patterns if p.pattern_type == "context_pattern")

    for _ in range(3):
        await worked(db, flux.id)
    before = of(await db.patterns.list())
    for _ in range(3):
        await worked(db, flux.id, outcome=Failure("no"))
    await worked(db, flux.id, outcome=Abstained("no"))
    after = of(await db.patterns.list())
    assert (after.occurrences, after.successes, after.failures) == (7, 3, 3)
    assert after.success_rate < before.success_rate
    assert after.confidence < before.confidence


# figures


def test_wilson_ranks_and_shrinking_predicts() -> None:
    assert wilson_lower(0, 0) == 0
    assert wilson_lower(10, 10) == pytest.approx(0.7225, abs=1e-4)
    assert wilson_lower(8, 10) == pytest.approx(0.4902, abs=1e-4)
    assert shrunk_rate(0, 0, 0.6) == pytest.approx(0.6)
    assert shrunk_rate(10, 10, 0.5) == 0.75
    assert boost(10, 10) == pytest.approx(0.25 * 0.7225, abs=1e-4)


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0, 1))
def test_no_rate_leaves_its_bounds(a: int, b: int, base: float) -> None:
    well, known = min(a, b), max(a, b)
    share = well / known if known else base
    assert 0 <= wilson_lower(well, known) <= share + 1e-12 or known == 0
    low, high = sorted((share, base))
    assert low - 1e-12 <= shrunk_rate(well, known, base) <= high + 1e-12


def test_effectiveness_halves_its_recency_in_thirty_days() -> None:
    pattern = Pattern(
        "p", PatternKind.TOOL_SEQUENCE, "k", ToolSequence(["a"]), "web", NOW, NOW,
        occurrences=20, success_rate=0.5, retrieved=10, usage_count=5, helped=4,
    )  # fmt: skip
    assert effectiveness(pattern, NOW) == pytest.approx(0.4 * 0.8 + 0.3 * 0.5 + 0.2 + 0.1)
    later = NOW + timedelta(days=30)
    assert effectiveness(pattern, later) == pytest.approx(effectiveness(pattern, NOW) - 0.1)


def test_the_reward_of_a_good_episode() -> None:
    """By hand, after §2.2: 60 s, 4 steps with 3 tools and a recovered error, moderate."""
    made = steps("grep", "!pytest", "edit", "pytest")
    reward = reward_of(
        EPISODE, made, Success("", ["test.patch"]), duration=timedelta(seconds=60), discovered=5
    )
    efficiency = 0.5 * (0.5 + math.exp(-0.5)) + 0.5 * (0.5 + math.exp(-0.2))
    quality = 1 + 0.1 - 0.1
    learning = min(0.5, 0.3 + 0.1 + 0.15)
    assert reward.base == 1
    assert reward.efficiency == pytest.approx(efficiency)
    assert (reward.complexity, reward.quality, reward.learning) == (1.1, quality, learning)
    assert reward.total == pytest.approx(efficiency * 1.1 * quality + learning)


@pytest.mark.parametrize(
    ("outcome", "taken", "base", "abstention"),
    [
        (Success(), 3, 1.0, 0.0),
        (Partial("", ["a", "b"], ["c"]), 3, 2 / 3, 0.0),
        (Partial(), 3, 0.5, 0.0),
        (Failure(), 3, 0.0, 0.0),
        (Failure(), 11, 0.0, -0.2),
        (Abstained("", 2), 3, 0.3, 0.5),
        (Abstained("", 10), 12, 0.3, pytest.approx(-0.3)),
        (Abstained(""), 3, 0.3, 0.5),
    ],
)
def test_each_outcome_has_its_base(
    outcome: Outcome, taken: int, base: float, abstention: float
) -> None:
    reward = reward_of(EPISODE, steps(*["?a"] * taken), outcome, duration=None, discovered=0)
    assert (reward.base, reward.abstention) == (base, abstention)
    assert reward.total >= 0


@given(
    st.lists(st.sampled_from(["a", "b", "!a", "?c", "!d"]), max_size=60),
    structs(Success) | structs(Partial) | structs(Failure),
    st.none() | st.timedeltas(timedelta(0), timedelta(days=900)),
    st.integers(0, 50),
    st.sampled_from(Complexity),
)
def test_no_episode_has_a_reward_or_quality_beyond_its_bounds(
    told: list[str], outcome: Outcome, took: timedelta | None, found: int, hard: Complexity
) -> None:
    episode = msgspec.structs.replace(EPISODE, complexity=hard)
    reward = reward_of(episode, steps(*told), outcome, duration=took, discovered=found)
    assert 0 <= reward.total <= 1.5 * 1.2 * 1.5 + 0.5
    assert 0 <= quality_of(steps(*told), findings=found, patterns=found) <= 1


def test_quality_can_be_all_of_it() -> None:
    """Of the system behind the seed the best episode reached 0.64 where 0.70 was asked (D1)."""
    best = steps(*(f"{'!' if n == 5 else ''}tool{n}" for n in range(25)))
    assert quality_of(best, findings=11, patterns=6) == pytest.approx(0.96)


# reflection and summary


def test_every_rule_of_reflection_can_be_met() -> None:
    hasty, slow = timedelta(seconds=5), timedelta(seconds=400)
    wasteful = [
        msgspec.structs.replace(step, duration_ms=90_000.0 if n == 3 else 6_000.0, tokens_used=400)
        for n, step in enumerate(steps(*["!a"] * 4, *["b"] * 50))
    ]
    told = [
        Ended(EPISODE, steps(*"abcdef"), Success("green", ["x"]), hasty),
        Ended(EPISODE, steps("a", "!a", "!a", "!a", "b"), Partial("", ["x"], ["y"]), hasty),
        Ended(EPISODE, wasteful, Failure("broke"), slow),
        Ended(EPISODE, steps(*"aaaa"), Success(), hasty),
    ]
    met = {
        rule for ended in told for rules in RULES.values() for rule, f in rules.items() if f(ended)
    }
    assert met == {rule for rules in RULES.values() for rule in rules}
    for ended in told:
        found = reflect(ended)
        assert len(found) <= 3 * MOST_OF_A_KIND
        assert all(finding.text and finding.rule in RULES[finding.kind] for finding in found)
        assert all(1 <= n <= len(ended.steps) for finding in found for n in finding.steps)


def test_an_episode_of_nothing_is_not_reflected_on() -> None:
    assert reflect(Ended(EPISODE, [], Success(), None)) == []


def test_a_summary_is_made_of_the_words_of_the_episode_and_not_endless() -> None:
    made = steps("grep", "!pytest", "edit", "pytest")
    told = summary_of(EPISODE, made, Success("all green"))
    assert told.startswith("Fix the login test. This succeeded after 4 steps: all green.")
    assert key_steps(made)[1] == "pytest: use pytest"
    long = msgspec.structs.replace(EPISODE, task="word " * 2000)
    assert len(summary_of(long, made, Failure("no")).split()) == MOST_WORDS
    assert len(key_steps(steps(*["!a"] * 50))) == 5


# recommending


async def test_without_evidence_nothing_is_recommended_and_the_reason_is_told(
    db: PatternDB, flux: Agent
) -> None:
    empty = await db.patterns.recommend("Fix the login test")
    assert (len(empty), empty.session_id) == (0, None)
    assert empty.reason == "No similar episode is stored."
    with pytest.raises(InvalidValue):
        await db.patterns.feedback(empty, outcome="success")
    await worked(db, flux.id, "Fix the login test", outcome=Failure("no"))
    bare = await db.patterns.recommend("Fix the login test", domain="web")
    assert {tip.pattern.pattern_type for tip in bare} == {"error_resolution"}
    with pytest.raises(NotFound):
        await db.patterns.feedback("rec_nothing", outcome="success")


async def test_the_latest_feedback_of_a_session_counts_and_only_for_what_was_applied(
    db: PatternDB, flux: Agent
) -> None:
    await worked(db, flux.id)
    tips = await db.patterns.recommend("Fix the login test", limit=3)
    first, second, _ = (tip.pattern.id for tip in tips)
    await db.patterns.feedback(tips, outcome="failure", applied=[first, second])
    assert await counts(db, first) == (1, 0)
    kept = await db.patterns.feedback(tips, outcome=Success(), applied=[second], rating=0.5)
    assert (await counts(db, first), await counts(db, second)) == ((0, 0), (1, 1))
    assert kept.rating == 0.5
    again = await db.patterns.recommend("Fix the login test", limit=3)
    assert again[0].pattern.id == second
    assert again[0].why["feedback"] == pytest.approx(boost(1, 1))
    assert again[1].why["feedback"] == 0
    for bad in ({"applied": ["nothing"]}, {"rating": 2.0}, {"outcome": "fine"}):
        with pytest.raises(InvalidValue) as refused:
            await db.patterns.feedback(again, **{"outcome": "success", **bad})
        assert refused.value.field in bad


async def counts(db: PatternDB, id: str) -> tuple[int, int]:
    pattern = await db.patterns.require(id)
    return pattern.usage_count, pattern.helped


async def test_replaying_the_feedback_gives_the_same_boosts(db: PatternDB, flux: Agent) -> None:
    await worked(db, flux.id)
    given_ = []
    for outcome in ("success", "failure", "success"):
        tips = await db.patterns.recommend("Fix the login test")
        given_.append((tips.session_id, outcome, [tips[0].pattern.id]))
        await db.patterns.feedback(tips, outcome=outcome, applied=given_[-1][2])
    before = await db.patterns.recommend("Fix the login test")
    for session, outcome, applied in given_:
        assert session is not None
        await db.patterns.feedback(session, outcome=outcome, applied=applied)
    after = await db.patterns.recommend("Fix the login test")
    assert [(t.pattern.id, t.why["feedback"]) for t in after] == [
        (t.pattern.id, t.why["feedback"]) for t in before
    ]


async def test_decay_erases_what_is_of_no_use_any_more(path: str, clock: Any) -> None:
    async with pattern_db.open(path, embeddings="none", clock=clock) as db:
        flux = await db.agents.create(name="Flux")
        await worked(db, flux.id)
        for _ in range(3):
            tips = await db.patterns.recommend("Fix the login test", limit=1)
            await db.patterns.feedback(tips, outcome="failure", applied=[tips[0].pattern.id])
        assert await db.patterns.decay() == []
        clock.now += timedelta(days=300)
        used = tips[0].pattern.id
        gone = await db.patterns.decay(below=0.4, dry_run=True)
        assert used in gone
        assert await db.patterns.get(used) is not None
        assert await db.patterns.decay(below=0.4) == gone
        assert await db.patterns.get(used) is None
        assert [r.action for r in await db.audit_log(limit=1)] == ["decay_patterns"]


async def test_the_same_episodes_teach_the_same(tmp_path: Any, clock: Any) -> None:
    async def learned(name: str) -> list[tuple[Any, ...]]:
        async with pattern_db.open(str(tmp_path / name), embeddings="none", clock=clock) as db:
            flux = await db.agents.create(name="Flux")
            for n in range(4):
                outcome = Success() if n % 2 else Failure("no")
                await worked(db, flux.id, f"task {n}", steps=[*FIX, *FIX[:n]], outcome=outcome)
            told = ("content_key", "occurrences", "successes", "success_rate", "confidence")
            return sorted(tuple(getattr(p, n) for n in told) for p in await db.patterns.list())

    assert await learned("one.db") == await learned("two.db")
