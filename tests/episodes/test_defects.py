"""Each of the defects D1–D24 of the system that seed 5 describes has a test that would catch it.

The list is in ``reference/episodic-memory.md`` §7.2.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

import pattern_db
from pattern_db import (
    Abstained,
    Agent,
    AlreadyExists,
    Failure,
    InvalidValue,
    LimitExceeded,
    PatternDB,
    PatternKind,
    Success,
)
from pattern_db.engines.sql import compile_query
from pattern_db.models import Embedding, Episode, Pattern, PatternEvidence, Step
from pattern_db.query import Count, Insert, select
from pattern_db.repositories.episode_lists import OF_WEEK
from pattern_db.schema import all_tables, table_of
from tests.conftest import Shared
from tests.reliability.soundness import flaws

from .working import FIX, worked

ROOT = Path(__file__).parents[2]


def rows(path: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(apsw.Connection(path)) as connection:
        return connection.execute(sql, values).fetchall()


async def test_d1_the_defaults_accept_a_good_episode(db: PatternDB, flux: Agent) -> None:
    done = await worked(db, flux.id)
    assert done.status == "completed"
    assert done.quality is not None
    assert done.quality >= 0.64
    assert done.reward is not None
    assert done.reward.learning > 0


async def test_d2_writing_an_episode_again_wipes_nothing_beside_it(
    db: PatternDB, flux: Agent
) -> None:
    first = await worked(db, flux.id, tags=["auth", "login"])
    second = await worked(db, flux.id)
    link = await db.episodes.relationships.create(second.id, first.id, "follows")
    point = await db.episodes.checkpoints.create(first.id)
    summary = await db.episodes.summary(first.id)
    steps = await db.episodes.steps(first.id)
    patterns = await db.patterns.list()
    changed = await db.episodes.update(first.id, metadata={"seen": True})
    await db.episodes.archive(first.id)
    back = await db.episodes.unarchive(first.id)
    await db.episodes.import_many(flux.id, [{"id": first.id, "task": "x", "outcome": "success"}])
    assert (back.tags, back.created_at, back.metadata) == (
        ["auth", "login"],
        first.created_at,
        changed.metadata,
    )
    assert await db.episodes.relationships.list(first.id) == [link]
    assert await db.episodes.checkpoints.list(first.id) == [point]
    assert await db.episodes.summary(first.id) == summary
    assert await db.episodes.steps(first.id) == steps
    assert await db.patterns.list() == patterns
    assert (await db.episodes.update(first.id, tags=[])).tags == []
    assert (await db.episodes.require(first.id)).tags == []


async def test_d3_each_type_of_pattern_reloads_as_it_was_saved(path: str) -> None:
    """Five equal episodes, one of them quicker than usual: all six types."""
    async with pattern_db.open(path, embeddings="none") as db:
        flux = await db.agents.create(name="Flux")
        for _ in range(5):
            await worked(db, flux.id, steps=[*FIX, *FIX])
        for _ in range(5):
            await worked(db, flux.id)
        before = {p.id: p for p in await db.patterns.list()}
    assert {p.pattern_type for p in before.values()} == set(PatternKind)
    async with pattern_db.open(path, embeddings="none") as db:
        after = {p.id: p for p in await db.patterns.list()}
        for pattern in after.values():
            evidence = await db.patterns.evidence(pattern.id)
            assert len(evidence) == pattern.occurrences
            assert await db.patterns.get(pattern.id) == pattern
    assert after == before
    for kind in PatternKind:
        most = max(p.occurrences for p in after.values() if p.pattern_type is kind)
        assert most >= 5, kind


async def test_d4_a_paraphrase_finds_an_episode_with_the_default_settings(
    minded: PatternDB,
) -> None:
    flux = await minded.agents.create(name="Flux")
    wanted = await worked(minded, flux.id, "Repair the sign-in check that breaks")
    await worked(minded, flux.id, "Bake a chocolate cake for the party")
    await worked(minded, flux.id, "Water the tomatoes in the garden")
    best, *_ = await minded.episodes.search("mend the broken login verification", mode="semantic")
    assert best.item.id == wanted.id


async def test_d5_vectors_of_episodes_are_searched_by_the_engine(minded: PatternDB) -> None:
    flux = await minded.agents.create(name="Flux")
    done = await worked(minded, flux.id, "Book a flight to Oslo")
    hits = await minded.episodes.search("plane ticket to Norway", mode="semantic")
    assert [(hit.item, hit.mode) for hit in hits] == [(done, "semantic")]
    assert hits[0].why["dense"] > 0


async def test_d6_vectors_are_stored_under_the_kind_that_is_searched(minded: PatternDB) -> None:
    flux = await minded.agents.create(name="Flux")
    done = await worked(minded, flux.id)
    stored: list[Embedding] = await minded.store.execute(select(Embedding))
    assert {(row.item_id, row.kind) for row in stored} == {(done.id, "episode")}
    hits = await minded.search(flux.id, "login test", kinds=["episode"])
    assert [(hit.item.id, hit.kind) for hit in hits] == [(done.id, "episode")]


async def test_d7_metrics_are_read_off_the_steps(db: PatternDB, flux: Agent) -> None:
    await worked(db, flux.id)
    await worked(db, flux.id, outcome=Failure("no"))
    await worked(db, flux.id)
    found = await db.episodes.metrics(flux.id)
    assert (found.episodes, found.by_outcome, found.streak) == (3, {"success": 2, "failure": 1}, 1)
    pytest_, edit = (next(t for t in found.tools if t.tool == n) for n in ("pytest", "edit"))
    assert (pytest_.uses, pytest_.failures, pytest_.success_rate) == (6, 3, 0.5)
    assert (edit.p50_ms, edit.p95_ms, pytest_.p50_ms) == (40.0, 40.0, None)


async def test_d8_the_newest_are_the_newest_whatever_their_ids(
    db: PatternDB, flux: Agent, clock: Any
) -> None:
    times = [clock() for _ in range(9)]
    for n, moment in enumerate(times):
        await db.episodes.start(flux.id, task=f"t{n}", id=f"{9 - n}", created_at=moment)
    newest = await db.episodes.list(limit=3, newest_first=True)
    assert [episode.task for episode in newest] == ["t8", "t7", "t6"]
    since = await db.episodes.list(since=times[5], until=times[7])
    assert [episode.task for episode in since] == ["t5", "t6"]


async def test_d9_what_is_let_go_is_gone_from_the_file(path: str) -> None:
    async with pattern_db.open(path, embeddings="none", max_episodes=3) as db:
        flux = await db.agents.create(name="Flux")
        done = [await worked(db, flux.id, f"task {n}") for n in range(6)]
        kept = await db.episodes.list()
        assert len(kept) == 3
        gone = {each.id for each in done} - {each.id for each in kept}
    for table in ("steps", "episode_summaries", "spatiotemporal_index"):
        assert {id for (id,) in rows(path, f"SELECT episode_id FROM {table}")}.isdisjoint(gone)
    assert rows(path, "SELECT count(*) FROM episodes") == [(3,)]
    assert flaws(path, embedded=False) == []


async def test_d10_retention_counts_what_is_stored_and_runs_by_itself(path: str) -> None:
    async with pattern_db.open(path, embeddings="none") as db:
        flux = await db.agents.create(name="Flux")
        for n in range(6):
            await worked(db, flux.id, f"task {n}")
    async with pattern_db.open(path, embeddings="none", max_episodes=4) as db:
        newest = await worked(db, flux.id, "another one")
        assert await db.episodes.count() == 4
        assert await db.episodes.get(newest.id) == newest
        journal = [r for r in await db.audit_log() if r.action == "evict_episode"]
        assert len(journal) == 3
        assert {r.details["reason"] for r in journal} == {"capacity"}


async def test_d11_active_and_referenced_episodes_stay_and_a_failed_completion_evicts_nothing(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pattern_db.open(path, embeddings="none", max_episodes=2) as db:
        flux = await db.agents.create(name="Flux")
        active = [await db.episodes.start(flux.id, task=f"still at it {n}") for n in range(4)]
        parent = await worked(db, flux.id, "the first")
        child = await worked(db, flux.id, "the second", parent_id=parent.id)
        lasting = await db.episodes.start(flux.id, task="the third")
        write = db.store.write

        async def torn(statements: Any) -> Any:
            return await write([*statements, Insert(table_of(Episode))(row=parent)])

        monkeypatch.setattr(db.store, "write", torn)
        with pytest.raises((AlreadyExists, pattern_db.Conflict)):
            await db.episodes._complete(lasting.id, Success())
        monkeypatch.undo()
        assert await db.episodes.get(child.id) == child
        await db.episodes.complete(lasting.id, "success")
        kept = {each.id for each in await db.episodes.list()}
        assert kept == {*(each.id for each in active), parent.id, lasting.id}


async def test_d12_counts_of_patterns_outlast_the_process(path: str) -> None:
    async with pattern_db.open(path, embeddings="none") as db:
        flux = await db.agents.create(name="Flux")
        await worked(db, flux.id)
        tips = await db.patterns.recommend("fix the login test")
        used = tips[0].pattern
        await db.patterns.feedback(tips, outcome="success", applied=[used.id])
    async with pattern_db.open(path, embeddings="none") as db:
        again = await db.patterns.require(used.id)
        assert (again.retrieved, again.usage_count, again.helped) == (1, 1, 1)
        assert again.last_used is not None
        tips = await db.patterns.recommend("fix the login test")
        assert tips[0].pattern.id == used.id
        assert tips[0].why["feedback"] > 0


async def test_d13_a_search_never_shows_what_was_changed_or_removed(
    db: PatternDB, flux: Agent
) -> None:
    done = await worked(db, flux.id, "Fix the zebra crossing")

    async def found(word: str, **options: Any) -> list[str]:
        return [hit.item.id for hit in await db.episodes.search(word, **options)]

    assert await found("zebra") == [done.id]
    await db.episodes.update(done.id, task="Fix the giraffe", tags=["savanna"])
    assert (await found("zebra"), await found("giraffe")) == ([], [done.id])
    assert await found("savanna", tags=["savanna"]) == [done.id]
    await db.episodes.archive(done.id)
    assert await found("giraffe", include_archived=False) == []
    assert await found("giraffe") == [done.id]
    await db.episodes.delete(done.id)
    assert await found("giraffe") == []
    await db.episodes.restore(done.id)
    assert await found("giraffe") == [done.id]


async def test_d14_summaries_outlast_the_process(path: str) -> None:
    async with pattern_db.open(path, embeddings="none") as db:
        flux = await db.agents.create(name="Flux")
        done = await worked(db, flux.id)
        before = await db.episodes.summary(done.id)
    assert before is not None
    assert "all green" in before.summary_text
    async with pattern_db.open(path, embeddings="none") as db:
        assert await db.episodes.summary(done.id) == before


async def test_d15_the_text_index_is_searched_and_never_stale(path: str) -> None:
    async with pattern_db.open(path, embeddings="none") as db:
        flux = await db.agents.create(name="Flux")
        steps = [{"action": "calibrate the flange", "error": "sprocket jammed"}]
        done = await worked(db, flux.id, steps=steps, outcome=Success("lubricated"))
        for word in ("flange", "sprocket", "lubricated", "web"):
            hits = await db.episodes.search(word, mode="keyword")
            assert [hit.item.id for hit in hits] == [done.id], word
        for n in range(5):
            await db.episodes.update(done.id, task=f"Fix number {n}")
    assert rows(path, "SELECT count(*) FROM episodes_text") == [(1,)]
    assert flaws(path, embedded=False) == []


async def test_d16_deleting_leaves_no_vector_and_nothing_comes_back(
    path: str, provider: Any
) -> None:
    async with pattern_db.open(path, embeddings=Shared(provider)) as db:
        flux = await db.agents.create(name="Flux")
        deleted, purged, kept = [await worked(db, flux.id, f"task {n}") for n in range(3)]
        await db.episodes.delete(deleted.id)
        await db.episodes.purge(purged.id)
    assert rows(path, "SELECT DISTINCT item_id FROM embeddings") == [(kept.id,)]
    async with pattern_db.open(path, embeddings=Shared(provider)) as db:
        assert await db.episodes.get(deleted.id) is None
        assert await db.episodes.get(purged.id, include_deleted=True) is None
        assert [hit.item.id for hit in await db.episodes.search("task")] == [kept.id]
        assert await db.store.execute(Count(table_of(Step))) == 2 * len(FIX)


async def test_d17_the_spatiotemporal_index_answers_and_tells_types_apart(path: str) -> None:
    async with pattern_db.open(path, embeddings="none") as db:
        flux = await db.agents.create(name="Flux")
        first = await worked(db, flux.id, "Fix the login test")
        same = await worked(db, flux.id, "Fix the login test")
        other = await worked(db, flux.id, "Bake bread")
        await worked(db, flux.id, task_type="testing")
        placed = await db.episodes.diverse("web", task_type="debugging", week=first.created_at)
        assert [each.episode.id for each in placed][-1] == same.id
        assert {each.episode.id for each in placed} == {first.id, same.id, other.id}
        assert placed[-1].diversity_score == 0.0
        year, week, _ = first.created_at.isocalendar()
        assert placed[0].temporal_key == f"{year}-W{week:02}"
        assert await db.episodes.diverse("web", task_type="analysis") == []
    compiled = compile_query(OF_WEEK)
    values = compiled.bind({"spatial_key": "web|debugging", "temporal_key": "x", "limit": 3})
    plan = "; ".join(
        str(row[3]) for row in rows(path, f"EXPLAIN QUERY PLAN {compiled.sql}", *values)
    )
    assert "spatiotemporal_index_by_spatial_key_temporal_key_diversity_score" in plan
    assert "TEMP B-TREE" not in plan
    assert "SCAN" not in plan


async def test_d18_nothing_is_stored_in_a_larger_form_than_it_has(path: str, provider: Any) -> None:
    long = "wide load ÄÖ " * 700
    async with pattern_db.open(path, embeddings=Shared(provider)) as db:
        flux = await db.agents.create(name="Flux")
        done = await worked(db, flux.id, steps=[{"action": "read", "result": long}])
        assert (await db.episodes.steps(done.id))[0].result == long
    assert rows(path, "SELECT length(CAST(result AS BLOB)) FROM steps") == [(len(long.encode()),)]
    assert rows(path, "SELECT length(vector) FROM embeddings") == [(4 * provider.dimensions,)]


async def test_d19_a_copy_of_every_table_holds_everything(path: str, tmp_path: Path) -> None:
    async with pattern_db.open(path, embeddings="none") as db:
        flux = await db.agents.create(name="Flux")
        first = await worked(db, flux.id)
        again = await db.episodes.resume(first.id)
        await db.episodes.relationships.create(again.id, first.id, "follows")
        tips = await db.patterns.recommend("login test")
        await db.patterns.feedback(tips, outcome="failure", applied=[tips[0].pattern.id])
        held = {t.name: await db.store.execute(select(t.model)) for t in all_tables()}
    episodes = ("episode", "step", "pattern", "recommendation", "spatio")
    assert all(held[name] for name in held if name.startswith(episodes))
    copy = str(tmp_path / "copy.db")
    async with pattern_db.open(copy, embeddings="none") as db:
        for table in all_tables():
            if table.name not in ("system_metadata", "schema_migrations"):
                await db.store.write([Insert(table)(row=row) for row in held[table.name]])
        for table in all_tables():
            if table.name not in ("system_metadata", "schema_migrations"):
                assert await db.store.execute(select(table.model)) == held[table.name]
        assert (await db.episodes.search("login test"))[0].item.task == first.task
    backup = str(tmp_path / "backup.db")
    shutil.copyfile(path, backup)
    async with pattern_db.open(backup, embeddings="none") as db:
        assert await db.episodes.get(first.id) == first
        assert len(await db.patterns.list()) == len(held["patterns"])


async def test_d20_a_rate_is_measured_and_not_the_one_that_was_asked_for(
    db: PatternDB, flux: Agent
) -> None:
    for outcome in (Success(), Success(), Success(), Failure("no")):
        await worked(db, flux.id, outcome=outcome)
    found = await db.patterns.list(pattern_type="error_resolution", min_success_rate=0.1)
    assert [(p.occurrences, p.successes, p.failures) for p in found] == [(4, 3, 1)]
    assert 0.5 < found[0].success_rate < 0.75
    assert await db.patterns.list(min_success_rate=0.9) == []


async def test_d21_what_is_recommended_can_be_looked_up(db: PatternDB, flux: Agent) -> None:
    done = await worked(db, flux.id)
    tips = await db.patterns.recommend("login test", domain="web", limit=50)
    assert len(tips) == await db.patterns.count()
    for tip in tips:
        assert (await db.patterns.require(tip.pattern.id)).content_key == tip.pattern.content_key
        assert tip.evidence == [done.id]
        (evidence,) = await db.patterns.evidence(tip.pattern.id)
        assert (evidence.episode_id, evidence.agent_id) == (done.id, flux.id)


@pytest.mark.parametrize(
    ("action", "decides"),
    [
        ("this list of phases has an analysis", False),
        ("hash the thesis", False),
        ("recheckout of checksums", False),
        ("check the order", True),
        ("Verify: totals", True),
        ("decide whether to refund", True),
        ("select_flight", True),
        ("specify the identity", False),
    ],
)
async def test_d22_a_decision_is_told_by_whole_words(
    db: PatternDB, flux: Agent, action: str, decides: bool
) -> None:
    await worked(db, flux.id, steps=[{"action": action, "tool": "think", "success": True}])
    found = await db.patterns.list(pattern_type="decision_point")
    assert [p.pattern_data.condition for p in found] == ([action] if decides else [])  # type: ignore[union-attr]


RESUMING = """
import asyncio, sys, pattern_db
async def main(path, id):
    async with pattern_db.open(path, embeddings="none") as db:
        episode = await db.episodes.resume(id)
        print(episode.id)
asyncio.run(main(*sys.argv[1:]))
"""


async def test_d23_an_episode_resumed_in_another_process_keeps_its_context(path: str) -> None:
    circumstances: dict[str, Any] = {
        "domain": "web",
        "task_type": "refactoring",
        "language": "python",
        "framework": "django",
        "complexity": "complex",
        "context": {"repository": "shop", "branch": "main"},
        "tags": ["auth"],
        "metadata": {"ticket": 7},
    }
    async with pattern_db.open(path, embeddings="none") as db:
        flux = await db.agents.create(name="Flux")
        outcome = Abstained("the vault is locked", signals=["403"])
        before = await worked(db, flux.id, outcome=outcome, **circumstances)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RESUMING, path, before.id, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    told, _ = await child.communicate()
    assert child.returncode == 0
    async with pattern_db.open(path, embeddings="none") as db:
        after = await db.episodes.require(told.decode().strip())
        assert after.resumed_from_id == before.id
        for name in ("task", *circumstances):
            assert getattr(after, name) == getattr(before, name), name
        handoff = await db.episodes.checkpoints.handoff(after.id)
        assert handoff.goal == before.task
        assert handoff.what_worked == ["grep: check the code", "edit: change it", "pytest: run it"]
        assert handoff.what_failed == ["pytest: run it (1 failed: 'x' at line 3)"]
        assert any("the vault is locked" in fact for fact in handoff.facts)
        assert len(handoff.patterns) <= 5


async def test_d24_a_step_that_cannot_be_is_refused_by_name_and_no_step_waits_in_memory(
    db: PatternDB, flux: Agent, path: str
) -> None:
    episode = await db.episodes.start(flux.id, task="Count")
    for field, bad in (
        ("result", "x" * 10_001),
        ("action", ""),
        ("duration_ms", -1),
        ("tokens_used", -1),
        ("parameters", {"x": "y" * 1_000_001}),
    ):
        given: dict[str, Any] = {"action": "count", field: bad}
        if field == "tokens_used":
            given["tokens"] = given.pop(field)
        with pytest.raises(InvalidValue) as refused:
            await db.episodes.step(episode.id, **given)
        assert refused.value.field == field
    for n in range(1, 4):
        step = await db.episodes.step(episode.id, action=f"count {n}")
        assert step.step_number == n
        assert rows(path, "SELECT max(step_number), count(*) FROM steps") == [(n, n)]


async def test_an_episode_takes_a_thousand_steps_and_no_more(db: PatternDB, flux: Agent) -> None:
    """D24, and §5.1: buffered steps were not counted, so that the limit could be passed."""
    episode = await db.episodes.start(flux.id, task="Count")
    for _ in range(10):
        await asyncio.gather(
            *(db.episodes.step(episode.id, action=f"count {n}") for n in range(100))
        )
    with pytest.raises(LimitExceeded) as refused:
        await db.episodes.step(episode.id, action="one more")
    assert refused.value.field == "steps"
    done = await db.episodes.complete(episode.id, "success")
    numbers = [step.step_number for step in await db.episodes.steps(episode.id)]
    assert (done.step_count, numbers) == (1000, list(range(1, 1001)))


async def test_age_lets_episodes_go_too(path: str, clock: Any) -> None:
    """D10: by age, with the reason in the journal; patterns and their evidence stay."""
    async with pattern_db.open(path, embeddings="none", clock=clock) as db:
        flux = await db.agents.create(name="Flux")
        old = await worked(db, flux.id)
    clock.now += timedelta(days=40)
    async with pattern_db.open(path, embeddings="none", clock=clock, max_episode_age_days=30) as db:
        new = await worked(db, flux.id)
        assert await db.episodes.list() == [new]
        assert [r.details["reason"] for r in await db.audit_log() if r.subject_id == old.id] == [
            "age"
        ]
        assert await db.store.execute(
            Count(table_of(PatternEvidence))
        ) == 2 * await db.store.execute(Count(table_of(Pattern)))
