"""An episode from its start to its end: durable steps, one completion, resuming, many agents."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pattern_db
from pattern_db import (
    Abstained,
    Agent,
    Failure,
    InvalidValue,
    LimitExceeded,
    NotFound,
    Partial,
    PatternDB,
    Success,
)
from pattern_db.engines.base import Store
from pattern_db.models import OutcomeKind, Pattern, PatternEvidence, SpatiotemporalKey
from pattern_db.query import Count, select
from pattern_db.schema import table_of
from pattern_db.testing.entities import json_values, texts
from tests.conftest import REFUSED_UNHEARD
from tests.rigs.ticks import cancel_at, count_ticks

from .working import FIX, worked


@pytest.fixture
def path(location: str) -> str:
    """All of this holds on every engine."""
    return location


async def test_a_recording_is_kept_step_by_step_and_completed(db: PatternDB, flux: Agent) -> None:
    async with db.episodes.record(
        flux.id, task="Fix the login test", domain="web", task_type="debugging"
    ) as episode:
        step = await episode.step(
            action="run the tests",
            tool="pytest",
            parameters={"path": "tests"},
            result="1 failed",
            success=False,
            duration_ms=840,
            tokens=12,
        )
        assert (step.step_number, step.result_kind, step.error_message) == (1, "error", "1 failed")
        assert await db.episodes.steps(episode.id) == [step]
        done = await episode.complete(Success("all green", artifacts=["fix.patch"]))
    assert await db.episodes.get(episode.id) == done
    assert (done.status, done.outcome) == ("completed", Success("all green", ["fix.patch"]))
    assert (done.success_rate, done.tools, done.step_count) == (0.0, ["pytest"], 1)


async def test_a_recording_that_is_left_stays_active_and_goes_on_by_its_id(
    db: PatternDB, flux: Agent
) -> None:
    async with db.episodes.record(flux.id, task="Write a poem") as episode:
        await episode.step(action="think")
    assert (await db.episodes.require(episode.id)).status == "active"
    assert (await db.episodes.step(episode.id, action="write")).step_number == 2
    assert (await db.episodes.complete(episode.id, "success")).step_count == 2


async def test_a_recording_left_by_an_error_has_failed_with_it(db: PatternDB, flux: Agent) -> None:
    with pytest.raises(ZeroDivisionError):
        async with db.episodes.record(flux.id, task="Divide") as episode:
            raise ZeroDivisionError("division by zero")
    failed = await db.episodes.require(episode.id)
    assert (failed.status, failed.outcome) == (
        "failed",
        Failure("ZeroDivisionError", "division by zero"),
    )


async def test_a_recording_left_by_cancellation_stays_active(db: PatternDB, flux: Agent) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with db.episodes.record(flux.id, task="Wait", id="waiting"):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await db.episodes.require("waiting")).status == "active"


async def test_an_error_after_completing_changes_nothing(db: PatternDB, flux: Agent) -> None:
    with pytest.raises(RuntimeError):
        async with db.episodes.record(flux.id, task="Finish") as episode:
            done = await episode.complete(Success())
            raise RuntimeError
    assert await db.episodes.require(episode.id) == done


@pytest.mark.parametrize(
    ("outcome", "status", "kind"),
    [
        (Success("done"), "completed", "success"),
        (Partial("half", ["a"], ["b"]), "completed", "partial"),
        (Failure("no", "E1"), "failed", "failure"),
        (Abstained("cannot", 2, ["locked"]), "completed", "abstained"),
        ({"kind": "success", "verdict": "yes"}, "completed", "success"),
        ("failure", "failed", "failure"),
    ],
)
async def test_every_outcome_is_kept_as_it_was_given(
    db: PatternDB, flux: Agent, outcome: Any, status: str, kind: str
) -> None:
    done = await worked(db, flux.id, outcome=outcome)
    assert (done.status, done.outcome_kind) == (status, kind)
    if not isinstance(outcome, str | dict):
        assert (await db.episodes.require(done.id)).outcome == outcome


async def test_completing_twice_is_an_error_and_so_is_a_step_afterwards(
    db: PatternDB, flux: Agent
) -> None:
    done = await worked(db, flux.id)
    for again in (
        db.episodes.complete(done.id, Failure("no")),
        db.episodes.step(done.id, action="one more"),
        db.episodes.abstain(done.id, "late"),
    ):
        with pytest.raises(InvalidValue) as refused:
            await again
        assert refused.value.field == "status"
    assert await db.episodes.require(done.id) == done
    with pytest.raises(NotFound):
        await db.episodes.complete("nobody", "success")
    with pytest.raises(NotFound):
        await db.episodes.step("nobody", action="x")


async def test_of_many_completions_at_once_one_counts(db: PatternDB, flux: Agent) -> None:
    episode = await db.episodes.start(flux.id, task="Race")
    await db.episodes.step(episode.id, action="check it", tool="look", success=True)
    ended = await asyncio.gather(
        *(db.episodes.complete(episode.id, "success") for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(each, InvalidValue) for each in ended) == 4
    assert {p.occurrences for p in await db.patterns.list()} == {1}


async def test_agents_that_learn_the_same_at_once_lose_no_evidence(
    db: PatternDB, flux: Agent
) -> None:
    agents = [flux, *[await db.agents.create(name=f"a{n}") for n in range(3)]]
    await asyncio.gather(
        *(worked(db, agents[n % 4].id, f"Fix the login test {n}") for n in range(12))
    )
    patterns = await db.patterns.list()
    sequence = next(p for p in patterns if p.pattern_type == "tool_sequence")
    assert (sequence.occurrences, sequence.successes) == (12, 12)
    for pattern in patterns:
        assert len(await db.patterns.evidence(pattern.id)) == pattern.occurrences
    assert len({p.content_key for p in patterns}) == len(patterns)


async def test_steps_of_one_episode_from_many_tasks_are_numbered_without_gaps(
    db: PatternDB, flux: Agent
) -> None:
    episode = await db.episodes.start(flux.id, task="Fan out")
    made = await asyncio.gather(
        *(db.episodes.step(episode.id, action=f"part {n}") for n in range(30))
    )
    assert sorted(step.step_number for step in made) == list(range(1, 31))
    stored = await db.episodes.steps(episode.id)
    assert {step.id: step for step in stored} == {step.id: step for step in made}
    assert await db.episodes.steps(episode.id, after=28, limit=1) == stored[28:29]


async def test_a_completion_cancelled_anywhere_is_whole_or_not_at_all(tmp_path: Any) -> None:
    async with pattern_db.open(str(tmp_path / "c.db"), embeddings="none") as db:
        flux = await db.agents.create(name="Flux")

        async def begun() -> str:
            episode = await db.episodes.start(flux.id, task="Fix it")
            for step in FIX:
                await db.episodes.step(episode.id, **step)
            return episode.id

        first = await begun()
        ticks = await count_ticks(lambda: db.episodes.complete(first, "success"))
        assert ticks
        for tick in range(ticks + 1):
            id = await begun()
            await cancel_at(lambda id=id: db.episodes.complete(id, "success"), tick)  # type: ignore[misc]
            await whole(db.store)


async def whole(store: Store) -> None:
    """Each episode that has ended has all that belongs to it, the others nothing of it."""
    episodes = await store.execute(select(table_of(PatternEvidence).model))
    evidence = {row.episode_id for row in episodes}
    keys = {row.episode_id for row in await store.execute(select(SpatiotemporalKey))}
    ended = {
        row.id
        for row in await store.execute(select(pattern_db.Episode))
        if row.outcome_kind is not None
    }
    assert evidence == keys == ended
    seen = await store.execute(Count(table_of(PatternEvidence)))
    assert seen == sum(row.occurrences for row in await store.execute(select(Pattern)))


async def test_a_step_between_reading_and_completing_is_not_left_out(
    db: PatternDB, flux: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    episode = await db.episodes.start(flux.id, task="Hurry")
    work_out = db.episodes._completion.of
    late = iter([True])

    async def slowly(*given: Any) -> Any:
        done = await work_out(*given)
        if next(late, False):
            await db.episodes.step(episode.id, action="the late step", tool="late")
        return done

    monkeypatch.setattr(db.episodes._completion, "of", slowly)
    done = await db.episodes.complete(episode.id, "success")
    assert (done.step_count, done.tools) == (1, ["late"])


async def test_what_cannot_be_learned_never_stops_the_episode(
    db: PatternDB, flux: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pattern_db.repositories.completing.lessons_of", broken)
    done = await worked(db, flux.id)
    assert await db.episodes.require(done.id) == done
    assert await db.patterns.count() == 0


async def test_resuming_a_checkpoint_hands_the_work_to_another_agent(
    db: PatternDB, flux: Agent
) -> None:
    sol = await db.agents.create(name="Sol")
    episode = await db.episodes.start(flux.id, task="Move house", tags=["home"])
    await db.episodes.step(episode.id, action="pack", tool="boxes", success=True)
    point = await db.episodes.checkpoints.create(episode.id, "shift ends", note="keys at Ada's")
    await db.episodes.step(episode.id, action="carry", error="too heavy")
    with pytest.raises(InvalidValue):
        await db.episodes.resume(episode.id)
    again = await db.episodes.resume(point.id, agent_id=sol.id)
    assert (again.agent_id, again.resumed_from_id, again.tags) == (sol.id, episode.id, ["home"])
    assert point.handoff.steps_completed == ["boxes: pack"]
    await db.episodes.step(again.id, action="drive", success=True)
    handoff = await db.episodes.checkpoints.handoff(again.id)
    assert handoff.what_worked == ["boxes: pack", "drive"]
    assert (await db.episodes.checkpoints.handoff(point.id)) == point.handoff


async def test_abstaining_leaves_a_checkpoint_and_is_no_failure(db: PatternDB, flux: Agent) -> None:
    episode = await db.episodes.start(flux.id, task="Open the vault")
    await db.episodes.step(episode.id, action="look", error="no key")
    done = await db.episodes.abstain(episode.id, "there is no key", signals=["no key"])
    assert (done.status, done.outcome) == ("completed", Abstained("there is no key", 1, ["no key"]))
    (point,) = await db.episodes.checkpoints.list(episode.id)
    assert (point.is_abstention, point.step_number) == (True, 1)
    assert done.reward is not None
    assert (done.reward.base, done.reward.abstention) == (0.3, 0.5)


async def test_an_archived_episode_takes_no_steps_and_comes_back_as_it_was(
    db: PatternDB, flux: Agent
) -> None:
    episode = await db.episodes.start(flux.id, task="Later")
    archived = await db.episodes.archive(episode.id)
    assert (archived.status, archived.archived_from) == ("archived", "active")
    assert await db.episodes.archive(episode.id) == archived
    with pytest.raises(InvalidValue):
        await db.episodes.step(episode.id, action="now")
    assert (await db.episodes.unarchive(episode.id)).status == "active"
    await db.episodes.step(episode.id, action="now")


async def test_purging_an_episode_erases_what_only_it_has_shown(db: PatternDB, flux: Agent) -> None:
    secret = [{"action": "check the secret door", "tool": "look", "success": True}]
    first = await worked(db, flux.id, steps=[*FIX, *secret])
    await worked(db, flux.id)
    before = {p.content_key for p in await db.patterns.list()}
    await db.episodes.purge(first.id)
    after = await db.patterns.list()
    assert {p.content_key for p in after} < before
    assert not any("secret" in str(p.pattern_data) for p in after)
    assert all([await db.patterns.evidence(p.id) for p in after])


async def test_purging_an_agent_erases_its_episodes_and_what_only_they_have_shown(
    db: PatternDB, flux: Agent
) -> None:
    sol = await db.agents.create(name="Sol")
    await worked(db, flux.id)
    await worked(db, sol.id, domain="elsewhere")
    await db.agents.purge(sol.id)
    assert {p.domain for p in await db.patterns.list()} == {"web"}
    assert {e.agent_id for e in await db.episodes.list()} == {flux.id}


# importing

TOLD: list[dict[str, Any]] = [
    {
        "key": f"run {n}",
        "task": f"Book flight {n}",
        "domain": "airline",
        "steps": [{"tool": "search", "success": True}, {"tool": "book", "success": n % 2 == 0}],
        "outcome": "success" if n % 2 == 0 else {"kind": "failure", "reason": "sold out"},
        "created_at": f"2026-03-0{n + 1}T10:00:00Z",
    }
    for n in range(6)
]


async def test_importing_twice_changes_nothing(db: PatternDB, flux: Agent) -> None:
    first = await db.episodes.import_many(flux.id, TOLD)
    assert [episode.task for episode in first] == [told["task"] for told in TOLD]
    assert [await db.episodes.require(each.id) for each in first] == first
    patterns = await db.patterns.list()
    assert await db.episodes.import_many(flux.id, TOLD) == []
    assert await db.patterns.list() == patterns
    assert await db.episodes.count() == 6
    opening = next(p for p in patterns if getattr(p.pattern_data, "opening", False))
    assert (opening.occurrences, opening.successes, opening.failures) == (6, 3, 3)
    (one,) = await db.episodes.import_many(flux.id, [*TOLD, {**TOLD[0], "key": "another"}])
    assert one.id not in {each.id for each in first}


async def test_two_imports_of_the_same_at_once_write_it_once(db: PatternDB, flux: Agent) -> None:
    both = await asyncio.gather(*(db.episodes.import_many(flux.id, TOLD) for _ in range(2)))
    assert min(map(len, both)) + max(map(len, both)) == 6
    assert await db.episodes.count() == 6
    await whole(db.store)


@REFUSED_UNHEARD
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"task": ""}, "task"),
        ({"outcome": "fine"}, "outcome"),
        ({"outcome": None}, "outcome"),
        ({"steps": [{"tool": "x", "colour": "red"}]}, "steps"),
        ({"steps": [{"tool": "x"}] * 1001}, "steps"),
        ({"steps": "none"}, "steps"),
        ({"completed_at": "2020-01-01T00:00:00Z"}, "completed_at"),
        ({"colour": "red"}, "trajectories"),
        ({"created_at": "yesterday"}, "created_at"),
    ],
)
async def test_a_trajectory_that_cannot_be_is_refused_before_any_is_written(
    db: PatternDB, flux: Agent, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        await db.episodes.import_many(flux.id, [TOLD[0], {**TOLD[1], **change}])
    assert refused.value.field == field
    assert await db.episodes.count() == 0


# what may be stored

LIMITS: list[tuple[str, dict[str, Any]]] = [
    ("task", {"task": "x" * 10_001}),
    ("task", {"task": " "}),
    ("domain", {"domain": ""}),
    ("domain", {"domain": "x" * 201}),
    ("task_type", {"task_type": "cooking"}),
    ("complexity", {"complexity": "hard"}),
    ("context", {"context": 7}),
    ("context", {"context": {"x": "y" * 1_000_001}}),
    ("context", {"context": {"x": float("nan")}}),
    ("tags", {"tags": ["a"]}),
    ("tags", {"tags": ["x" * 101]}),
    ("tags", {"tags": ["no spaces"]}),
    ("tags", {"tags": "auth"}),
    ("tags", {"tags": [7]}),
    ("metadata", {"metadata": {"x": float("inf")}}),
    ("created_at", {"created_at": "yesterday"}),
    ("language", {"language": " "}),
]


@REFUSED_UNHEARD
@pytest.mark.parametrize(("field", "given_"), LIMITS)
async def test_an_episode_that_cannot_be_is_refused_by_the_name_of_the_field(
    db: PatternDB, flux: Agent, field: str, given_: dict[str, Any]
) -> None:
    with pytest.raises(InvalidValue) as refused:
        await db.episodes.start(flux.id, **{"task": "Fix it", **given_})
    assert refused.value.field == field
    assert await db.episodes.count() == 0


@pytest.mark.parametrize(
    ("field", "outcome"),
    [
        ("outcome", "fine"),
        ("outcome", None),
        ("outcome", 7),
        ("outcome", {"kind": "success", "verdict": 7}),
        ("verdict", Success("x" * 10_001)),
        ("artifacts", Success("", ["y" * 1_000_001])),
        ("stopped_at_step", Abstained("no", -1)),
    ],
)
async def test_an_outcome_that_cannot_be_leaves_the_episode_active(
    db: PatternDB, flux: Agent, field: str, outcome: Any
) -> None:
    episode = await db.episodes.start(flux.id, task="Fix it")
    with pytest.raises(InvalidValue) as refused:
        await db.episodes.complete(episode.id, outcome)
    assert refused.value.field == field
    assert (await db.episodes.require(episode.id)).status == "active"


async def test_an_episode_holds_ten_megabytes_of_steps_and_no_more(
    db: PatternDB, flux: Agent
) -> None:
    episode = await db.episodes.start(flux.id, task="Hoard")
    large = {"x": "y" * 999_000}
    for _ in range(10):
        await db.episodes.step(episode.id, action="keep", parameters=large)
    with pytest.raises(LimitExceeded) as refused:
        await db.episodes.step(episode.id, action="keep", parameters=large)
    assert refused.value.field == "steps"
    assert (await db.episodes.require(episode.id)).step_count == 10


async def test_a_duration_of_minus_zero_is_given_as_it_is_kept(db: PatternDB, flux: Agent) -> None:
    episode = await db.episodes.start(flux.id, task="Blink")
    given = await db.episodes.step(episode.id, action="blink", duration_ms=-0.0)
    (kept,) = await db.episodes.steps(episode.id)
    assert repr(given.duration_ms) == repr(kept.duration_ms) == "0.0"


def test_tags_are_brought_into_one_form() -> None:
    from pattern_db.repositories.episode_values import tags_of

    assert tags_of([" Auth ", "auth", "LOG-in", "naïve_1"]) == ["auth", "log-in", "naïve_1"]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    step=st.fixed_dictionaries(
        {"action": texts()},
        optional={
            "tool": texts(at_most=30),
            "parameters": json_values(),
            "result": json_values(),
            "success": st.none() | st.booleans(),
            "error": texts(),
            "duration_ms": st.floats(-1, 1e12),
            "tokens": st.integers(-1, 2**40),
            "metadata": st.dictionaries(texts(), json_values(), max_size=2),
        },
    )
)
def test_any_step_is_kept_as_it_is_or_refused_by_name(step: dict[str, Any]) -> None:
    async def keep() -> None:
        async with pattern_db.open(":memory:", embeddings="none") as db:
            flux = await db.agents.create(name="Flux")
            episode = await db.episodes.start(flux.id, task="Try")
            try:
                kept = await db.episodes.step(episode.id, **step)
            except InvalidValue as refused:
                assert refused.field
                assert await db.episodes.steps(episode.id) == []
            else:
                (read,) = await db.episodes.steps(episode.id)
                assert repr(read) == repr(kept)
                assert read.parameters == step.get("parameters")
                await db.episodes.complete(episode.id, OutcomeKind.SUCCESS)

    asyncio.run(keep())


# relationships


async def test_what_depends_forms_no_circle(db: PatternDB, flux: Agent) -> None:
    a, b, c = [await db.episodes.start(flux.id, task=name) for name in "abc"]
    link = db.episodes.relationships.create
    await link(a.id, b.id, "depends_on", priority=1, weight=0.5, reason="first b")
    await link(b.id, c.id, "depends_on")
    for kind, ids in (("depends_on", (c.id, a.id)), ("depends_on", (a.id, a.id))):
        with pytest.raises(InvalidValue):
            await link(*ids, kind)
    await link(c.id, a.id, "blocks")
    await link(c.id, a.id, "related_to")
    with pytest.raises(pattern_db.AlreadyExists):
        await link(a.id, b.id, "depends_on")
    with pytest.raises(NotFound):
        await link(a.id, "nobody", "follows")
    for bad in ({"priority": 11}, {"priority": 0}, {"weight": 1.5}, {"reason": "x" * 1001}):
        with pytest.raises(InvalidValue) as refused:
            await link(b.id, a.id, "follows", **bad)  # type: ignore[arg-type]
        assert refused.value.field in bad
    out = await db.episodes.relationships.list(a.id, direction="outgoing")
    assert [(r.to_episode_id, r.relationship_type) for r in out] == [(b.id, "depends_on")]
    assert len(await db.episodes.relationships.list(a.id)) == 3
    await db.episodes.purge(b.id)
    assert len(await db.episodes.relationships.list(a.id)) == 2


async def test_opposite_dependencies_at_once_form_no_circle(db: PatternDB, flux: Agent) -> None:
    for n in range(5):
        a, b = [await db.episodes.start(flux.id, task=f"{name}{n}") for name in "ab"]
        both = await asyncio.gather(
            db.episodes.relationships.create(a.id, b.id, "depends_on"),
            db.episodes.relationships.create(b.id, a.id, "depends_on"),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in both) == [
            "EpisodeRelationship",
            "InvalidValue",
        ]


async def test_an_update_that_others_interfere_with_is_made_again(
    db: PatternDB, flux: Agent
) -> None:
    episode = await db.episodes.start(flux.id, task="Share")
    await asyncio.gather(
        *(db.episodes.step(episode.id, action=f"s{n}") for n in range(5)),
        db.episodes.update(episode.id, tags=["shared"]),
        db.episodes.update(episode.id, metadata={"x": 1}),
    )
    after = await db.episodes.require(episode.id)
    assert (after.tags, after.metadata, after.step_count) == (["shared"], {"x": 1}, 5)
