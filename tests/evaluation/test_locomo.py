"""Evidence recall@k on LoCoMo."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import pattern_db
from pattern_db import EmbeddingProvider, ImportFailed, InvalidValue
from pattern_db.evaluation import LocomoReport, evaluate_locomo, render
from pattern_db.evaluation.questions import evidence_ids
from pattern_db.evaluation.recall import distinct, mean, recall_at
from tests.conftest import Shared
from tests.transfer.files import locomo_sample, written


async def evaluated(path: Any, **options: Any) -> LocomoReport:
    return await evaluate_locomo(path, **{"embeddings": "none", "mode": "keyword", **options})


async def test_recall_is_the_share_of_evidence_among_the_first_k(tmp_path: Path) -> None:
    file = written(tmp_path, "sample.json", [locomo_sample()])
    report = await evaluated(file, ks=(50, 1))

    assert (report.samples, report.messages, report.ks) == (1, 9, [1, 50])
    assert report.skipped == {"adversarial": 1, "no evidence": 1, "evidence names no turn": 1}
    assert [(c.name, c.questions) for c in report.categories] == [
        ("temporal", 1),
        ("single-hop", 1),
    ]
    temporal, single = report.categories
    assert single.recall == {1: 1.0, 50: 1.0}
    assert temporal.recall == {1: 0.5, 50: 1.0}
    assert temporal.session_recall == {1: 0.5, 50: 1.0}
    assert report.overall.questions == 2
    assert report.overall.recall == {1: 0.75, 50: 1.0}
    assert (report.mode, report.embedding_model) == ("keyword", None)
    assert report.messages_per_s is not None
    assert (report.query_embedding, report.search_without_embedding) == (None, None)


async def test_files_together_make_one_report_and_a_given_database_keeps_them(
    tmp_path: Path,
) -> None:
    files = [
        written(tmp_path, f"{name}.json", [locomo_sample(name)]) for name in ("conv-1", "conv-2")
    ]
    kept = tmp_path / "kept.db"
    heard: list[tuple[str, int, int]] = []
    report = await evaluated(files, database=kept, progress=lambda *at: heard.append(at))
    assert (report.files, report.samples) == (["conv-1.json", "conv-2.json"], 2)
    assert report.overall.questions == 4
    assert heard[0] == ("ingest", 5, 9)
    assert heard[-1] == ("ask", 4, 4)

    again = await evaluated(files, database=kept)
    assert (again.messages_per_s, again.messages) == (None, 18)
    assert again.overall == report.overall
    async with pattern_db.open(kept, embeddings="none") as db:
        assert await db.messages.count() == 18


async def test_a_report_is_plain_data_and_a_table(
    tmp_path: Path, provider: EmbeddingProvider
) -> None:
    file = written(tmp_path, "sample.json", [locomo_sample()])
    report = await evaluate_locomo(str(file), embeddings=Shared(provider), ks=[50])
    assert report.mode == "hybrid"
    assert report.search.p50_ms <= report.search.p95_ms
    assert report.query_embedding is not None
    plain = msgspec.to_builtins(report)
    assert json.loads(json.dumps(plain))["overall"]["recall"] == {"50": 1.0}

    lines = render(report).splitlines()
    assert lines[0] == f"LoCoMo evidence recall@k, hybrid search, {provider.model_id}"
    assert lines[1].startswith("1 samples, 9 messages, 2 questions (not asked: 1 adversarial,")
    assert "turns, all                   2   100.0%" in lines
    assert any(line.startswith("search without it: p50 ") for line in lines)
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("ks", [[], [0], [51], [True], ["5"]])
async def test_impossible_ks_are_refused(tmp_path: Path, ks: list[Any]) -> None:
    with pytest.raises(InvalidValue, match="ks"):
        await evaluated(written(tmp_path, "sample.json", [locomo_sample()]), ks=ks)


async def test_no_file_and_no_question_are_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="paths"):
        await evaluated([])
    sample = locomo_sample() | {"qa": []}
    with pytest.raises(ImportFailed, match="no question has evidence"):
        await evaluated(written(tmp_path, "none.json", [sample]))
    del sample["qa"]
    with pytest.raises(ImportFailed, match=r"none\.json, sample 1: expected a list as `qa`"):
        await evaluated(written(tmp_path, "none.json", [sample]))
    sample["qa"] = [{"question": "?", "category": "4", "evidence": ["D2:1"]}]
    with pytest.raises(ImportFailed, match="sample 1, question 1: expected a number"):
        await evaluated(written(tmp_path, "none.json", [sample]))


@pytest.mark.parametrize(
    ("written_as", "ids"),
    [
        (["D1:3", "D2:4"], ["D1:3", "D2:4"]),
        (["D8:6; D9:17"], ["D8:6", "D9:17"]),
        (["D9:1 D4:4 D4:6"], ["D9:1", "D4:4", "D4:6"]),
        ("D1:3, D2:4", ["D1:3", "D2:4"]),
        (["D:11:26", "D30:05", "D", "", None, 7], ["D:11:26", "D30:05", "D"]),
        (None, []),
    ],
)
def test_malformed_evidence_is_read_leniently(written_as: Any, ids: list[str]) -> None:
    assert evidence_ids(written_as) == ids


def test_recall_counts_each_wanted_thing_once() -> None:
    assert recall_at((1, 3), {"a", "b"}, ["a", "a", "b"]) == {1: 0.5, 3: 1.0}
    assert distinct(["s2", "s1", "s2"]) == ["s2", "s1"]
    assert mean([{1: 0.0}, {1: 1.0}], [1]) == {1: 0.5}


@pytest.mark.slow
async def test_the_real_questions_are_counted(real_data: Callable[[str], Path]) -> None:
    report = await evaluated(real_data("locomo/locomo-dev.json"))
    assert (report.samples, report.messages) == (5, 2773)
    assert report.skipped == {"adversarial": 215, "no evidence": 2}
    assert {c.name: c.questions for c in report.categories} == {
        "multi-hop": 131,
        "temporal": 169,
        "open-domain": 39,
        "single-hop": 405,
    }
    recall = report.overall.recall
    assert list(recall.values()) == sorted(recall.values())
    assert recall[50] > 0.75


@pytest.mark.slow
async def test_meaning_finds_what_words_do_not(
    real_data: Callable[[str], Path], provider: EmbeddingProvider, tmp_path: Path
) -> None:
    samples = json.loads(real_data("locomo/locomo-dev.json").read_bytes())
    smallest = min(samples, key=lambda sample: len(json.dumps(sample)))
    file = written(tmp_path, "smallest.json", [smallest])
    words = await evaluated(file)
    both = await evaluate_locomo(file, embeddings=Shared(provider))
    assert both.overall.questions == words.overall.questions
    assert both.overall.recall[10] > words.overall.recall[10] + 0.05
    assert both.overall.session_recall[5] > 0.8
