"""What ``evaluate_episodes`` measures, and its definitions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pattern_db import ImportFailed, InvalidValue
from pattern_db.evaluation import EpisodesReport, evaluate_episodes, render_episodes
from pattern_db.evaluation.episode_asking import OutlookRow, Wanted
from pattern_db.evaluation.episode_baselines import (
    Markov,
    WordRetrieval,
    constant_plan,
    success_by_length,
    typical,
    usual_remedies,
)
from pattern_db.evaluation.episode_jobs import Job, Shared, run_job, run_jobs
from pattern_db.evaluation.episode_measures import area_under_curve
from pattern_db.evaluation.episode_trials import changing_tools, folds, interval, read_trials
from pattern_db.transfer.reading import Source
from tests.transfer.files import written

from .trajectories import BOOK, trajectories


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> EpisodesReport:
    file = trajectories(tmp_path_factory.mktemp("runs"))
    return asyncio.run(evaluate_episodes(file, seeds=(0,), embeddings="none"))


@pytest.mark.slow
def test_every_metric_and_guard_is_reported(report: EpisodesReport) -> None:
    assert (report.runs, report.families, report.files) == (30, 10, ["runs.jsonl"])
    assert [m.name for m in report.measures] == ["M1", "M2", "M3", "M4", "M5", "M6"]
    assert {g.name for g in report.guards} == {"G1", "G2", "G3", "G4", "G5", "G6"}
    assert [m.questions for m in report.measures] == [90, 20, 20, 30, 10, 90]
    assert [share for share, _, _ in report.curve] == [0.1, 0.25, 0.5, 1.0]
    for measure in report.measures:
        assert measure.low <= measure.value <= measure.high
        assert set(measure.domains) == {"travel"}


def test_what_can_be_learned_is_learned(report: EpisodesReport) -> None:
    next_step, plan, recall, outlook, error, _ = report.measures
    (lift,) = next_step.against
    assert next_step.value == pytest.approx(lift.baseline + lift.difference)
    assert lift.difference > 0
    assert plan.value == 1.0
    assert recall.value > 0.9
    assert outlook.value == 1.0
    assert error.value == 1.0
    assert report.curve[-1][1] == next_step.value


def test_guards_hold_where_nothing_can_be_learned(report: EpisodesReport) -> None:
    holds = {guard.name: guard.holds for guard in report.guards if guard.name != "G2"}
    assert holds["G3"]
    assert holds["G4"]
    assert holds["G5"]


def test_it_reads_well(report: EpisodesReport) -> None:
    shown = render_episodes(report)
    for measure in report.measures:
        assert f"{measure.name} {measure.what}" in shown
    assert "must" in shown
    assert "30 runs of 10 families" in shown
    assert max(len(line) for line in shown.splitlines()) < 130


async def test_files_that_cannot_be_measured_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="paths"):
        await evaluate_episodes([])
    with pytest.raises(InvalidValue, match="seeds"):
        await evaluate_episodes(trajectories(tmp_path), seeds=())
    nobody = {"task": "x", "steps": [], "reward": 1}
    with pytest.raises(ImportFailed, match="line 1: it does not say whom it is of"):
        await evaluate_episodes(written(tmp_path, "nobody.jsonl", [nobody]))


async def test_what_fails_in_a_process_of_its_own_fails_here() -> None:
    shared = Shared([], {}, None, {})
    with pytest.raises(Exception, match="ended early"):
        await run_jobs(shared, [Job(0, 99, Wanted())], lambda: None)


async def test_no_run_of_a_family_is_stored_when_one_is_asked_about(tmp_path: Path) -> None:
    trials = read_trials([Source(trajectories(tmp_path))])
    dealt = folds(trials, seed=0)
    assert sorted(place for _, asked in dealt for place in asked) == list(range(30))
    for stored, asked in dealt:
        assert not {trials[i].family for i in stored} & {trials[i].family for i in asked}
        assert len(asked) == 6
    assert dealt != folds(trials, seed=1)


async def test_evidence_of_the_asked_family_would_be_seen(tmp_path: Path) -> None:
    trials = read_trials([Source(trajectories(tmp_path))])
    shared = Shared(trials, changing_tools([Source(tmp_path / "runs.jsonl")], trials), None, {})
    job = Job(0, 0, Wanted((1.0,)))
    assert (await run_job(shared, job)).leaks == 0


def test_tools_that_change_something_are_told_or_guessed_by_their_verbs(tmp_path: Path) -> None:
    source = Source(trajectories(tmp_path))
    trials = read_trials([source])
    told = {"travel": frozenset({"book_flight", "cancel_booking"})}
    assert changing_tools([source], trials) == told
    (tmp_path / "write-tools.json").unlink()
    assert changing_tools([source], trials) == told


# baselines and statistics


def test_markov_backs_off_to_what_is_usual() -> None:
    markov = Markov([BOOK, BOOK, ("find_user", "think")])
    assert markov.ranked([])[0] == "find_user"
    assert markov.ranked(["find_user"])[0] == "search_flight"
    assert "think" in markov.ranked(["never", "seen"])
    assert Markov([]).ranked(["x"]) == []


def test_the_best_constant_plan_may_be_none() -> None:
    one, two = frozenset({"a"}), frozenset({"a", "b"})
    assert constant_plan([one, one, two]) == one
    assert constant_plan([frozenset(), frozenset(), one]) == frozenset()


def test_word_retrieval_finds_the_rarest_shared_word() -> None:
    words = WordRetrieval(["cancel my flight", "book my flight", "my lamp is broken"])
    assert words.nearest("my broken lamp", 1) == [2]
    assert words.nearest("nothing known", 3) == [0, 1, 2]


def test_typical_runs_cover_what_there_is() -> None:
    assert set(typical(["abc", "abc", "xyz"], 2)) >= {2}
    assert typical([], 3) == []


def test_success_by_length_is_learned() -> None:
    lengths = [2, 3, 2, 20, 25, 22] * 5
    model = success_by_length(lengths, [n < 10 for n in lengths])
    assert model.probability(2) > 0.8
    assert model.probability(22) < 0.2


def test_what_usually_follows_errors(tmp_path: Path) -> None:
    trials = read_trials([Source(trajectories(tmp_path))])
    assert usual_remedies(trials) == ["think"]


def test_the_area_is_within_files() -> None:
    def row(file: str, probability: float, *, well: bool) -> OutlookRow:
        return OutlookRow("f", "d", 0, (file, 0, 0), well, probability, 0.5, 0.5)

    rows = [
        row("a", 0.9, well=True),
        row("a", 0.8, well=False),
        row("b", 0.2, well=True),
        row("b", 0.1, well=False),
    ]
    assert area_under_curve(rows, lambda r: r.probability) == 1.0
    assert area_under_curve(rows, lambda r: -r.probability) == 0.0
    assert np.isnan(area_under_curve(rows[:1], lambda r: r.probability))


def test_the_interval_covers_the_mean_of_families() -> None:
    chosen = random.Random(1)
    rows = {str(n): [chosen.gauss(n % 2, 0.1)] for n in range(40)}
    low, high = interval(rows, lambda values: float(np.mean(values)))
    assert low < 0.5 < high
    assert 0.15 < high - low < 0.5
    assert interval(rows, lambda values: float(np.mean(values))) == (low, high)


@pytest.mark.slow
async def test_real_runs_meet_what_must_be_met(real_data: Callable[[str], Path]) -> None:
    """One seed; the figures of three are in docs/explanation/learning.md."""
    found = await evaluate_episodes(real_data("tau/episodes-dev.jsonl"), seeds=(0,), guards=False)
    measures = {measure.name: measure for measure in found.measures}
    for name in ("M1", "M2", "M4", "M5", "M6"):
        assert measures[name].must, measures[name]
    assert measures["M3"].value > 0.74
