"""nDCG and recall on collections in the layout of BEIR."""

from __future__ import annotations

import shutil
from math import log2
from pathlib import Path
from typing import Any

import pytest

import pattern_db
from pattern_db import EmbeddingProvider, ImportFailed, InvalidValue
from pattern_db.evaluation import DocumentReport, evaluate_beir
from pattern_db.search.ranking import WEIGHTS
from pattern_db.transfer.run import CHUNK
from tests.conftest import Shared
from tests.evaluation.collections import A_BEFORE_B, CORPUS, HEAD, JUDGED, beir, document


async def evaluated(folder: Path, **options: Any) -> DocumentReport:
    return await evaluate_beir(
        folder, **{"embeddings": "none", "mode": "keyword", "ks": (1, 10), **options}
    )


async def test_figures_are_those_of_beir(tmp_path: Path) -> None:
    report = await evaluated(beir(tmp_path / "tiny"))
    assert (report.collection, report.files[-1]) == ("BEIR tiny", "test.tsv")
    assert (report.documents, report.blank_documents) == (4, 1)
    assert report.skipped == {"without a relevant document": 1}
    assert report.overall.questions == 2
    assert report.overall.ndcg == pytest.approx(
        {1: (1 / 3 + 1) / 2, 10: (A_BEFORE_B + 1 / (1 + 1 / log2(3))) / 2}
    )
    assert report.overall.recall == {1: 0.5, 10: 0.75}


async def test_the_query_itself_is_no_hit_and_takes_no_place(tmp_path: Path) -> None:
    folder = beir(tmp_path, judged=f"{HEAD}q1\tA\t1\n")
    assert (await evaluated(folder, ks=[1])).overall.recall == {1: 1.0}
    folder = beir(tmp_path, judged=f"{HEAD}q1\tA\t1\nq1\tq1\t1\n")
    assert (await evaluated(folder, ks=[1])).overall.recall == {1: 0.5}


async def test_a_blank_query_finds_nothing(tmp_path: Path, provider: EmbeddingProvider) -> None:
    folder = beir(tmp_path, queries=[{"_id": "q", "text": " "}], judged=f"{HEAD}q\tA\t1\n")
    report = await evaluated(folder, mode="all", embeddings=Shared(provider))
    assert [r.overall.recall[10] for r in report.rankings] == [0.0, 0.0, 0.0]


async def test_ids_are_not_found_as_text(tmp_path: Path) -> None:
    folder = beir(
        tmp_path,
        corpus=[document("wing", "heat"), document("x", "a wing")],
        queries=[{"_id": "1", "text": "wing"}],
        judged=f"{HEAD}1\twing\t1\n",
    )
    assert (await evaluated(folder)).overall.recall[10] == 0.0


async def test_splits_and_a_single_file_of_judgements(tmp_path: Path) -> None:
    folder = beir(tmp_path, split="dev")
    with pytest.raises(ImportFailed, match=r"no test\.tsv in .*split that is there \(dev\)"):
        await evaluated(folder)
    dev = await evaluated(folder, split="dev")
    assert dev.collection.endswith(" (dev)")
    shutil.rmtree(folder / "qrels")
    with pytest.raises(ImportFailed, match=r"no qrels/ and no qrels\.tsv"):
        await evaluated(folder)
    (folder / "qrels.tsv").write_text(JUDGED.removeprefix(HEAD))
    assert (await evaluated(folder)).overall == dev.overall
    for odd in ("", "../test", "a/b"):
        with pytest.raises(InvalidValue, match="split"):
            await evaluated(folder, split=odd)


async def test_a_stopped_evaluation_goes_on_where_it_was(tmp_path: Path) -> None:
    corpus = [*(document(f"d{n}", f"text number {n}") for n in range(CHUNK)), *CORPUS]
    folder, kept = beir(tmp_path, corpus=corpus), tmp_path / "kept.db"
    size = (folder / "corpus.jsonl").stat().st_size
    heard: list[tuple[str, int, int]] = []

    def stop(*at: Any) -> None:
        heard.append(at)
        raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"):
        await evaluated(folder, database=kept, progress=stop)
    assert heard == [("ingest", heard[0][1], size)]
    assert heard[0][1] < size
    async with pattern_db.open(kept, embeddings="none") as db:
        assert await db.archival.count() == CHUNK

    report = await evaluated(folder, database=kept)
    assert report.documents == CHUNK + 4
    async with pattern_db.open(kept, embeddings="none") as db:
        assert await db.archival.count() == CHUNK + 4
        assert await db.agents.count() == 1
    assert report.overall == (await evaluated(folder)).overall


async def test_each_part_of_the_score_is_left_out_once(
    tmp_path: Path, provider: EmbeddingProvider
) -> None:
    before = {mode: dict(parts) for mode, parts in WEIGHTS.items()}
    kept, folder = tmp_path / "kept.db", beir(tmp_path)
    report = await evaluated(
        folder, mode="hybrid", ablate=True, embeddings=Shared(provider), database=kept
    )
    without = [f"without {part}" for part in WEIGHTS["hybrid"]]
    assert [r.name for r in report.rankings] == ["hybrid", *without, "keyword", "semantic"]
    assert {r.overall.questions for r in report.rankings} == {2}
    assert before == WEIGHTS
    async with pattern_db.open(kept, embeddings="none", allow_other_model=True) as db:
        assert await db.archival.count() == 4


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("corpus.jsonl", "", r"corpus\.jsonl: the file is empty"),
        ("corpus.jsonl", '{"_id": "a"}\n{"_id": ', r"corpus\.jsonl, line 2: it is not valid JSON"),
        ("corpus.jsonl", "[]\n", r"corpus\.jsonl, line 1: expected an object as the document"),
        ("corpus.jsonl", '{"text": "x"}\n', r"line 1: expected text as `_id`, found nothing"),
        ("corpus.jsonl", '{"_id": 7}\n', r"line 1: expected text as `_id`, found a number"),
        ("corpus.jsonl", '{"_id": ""}\n', r"line 1: expected an `_id` of 1 to 512 characters"),
        ("corpus.jsonl", '{"_id": "a", "text": 7}\n', r"line 1: expected text as `text`"),
        ("corpus.jsonl", '{"_id": "a"}\n\n{"_id": "a"}\n', r"line 3: a line before this one has"),
        ("queries.jsonl", '{"_id": "q1"}\n', r"queries\.jsonl, line 1: expected text as `text`"),
        ("queries.jsonl", '{"_id": "q1", "text": "x"}\n', r"2 of the judged queries are not there"),
        ("queries.jsonl", "7\n", r"queries\.jsonl, line 1: expected an object as the query"),
        ("qrels/test.tsv", "", r"test\.tsv: the file is empty"),
        ("qrels/test.tsv", f"{HEAD}q1\tA\n", r"test\.tsv, line 2: expected query, document and"),
        ("qrels/test.tsv", f"{HEAD}q1\tA\tgood\n", r"test\.tsv, line 2: expected query, document"),
        ("qrels/test.tsv", f"{HEAD}q1\tA\t1{'0' * 400}\n", r"test\.tsv, line 2: expected query"),
        ("qrels/test.tsv", "q1 A 1\n", r"test\.tsv, line 1: .* with tabs between them"),
        ("qrels/test.tsv", HEAD, r"no query has a relevant document"),
    ],
)
async def test_a_wrong_line_is_named(tmp_path: Path, file: str, text: str, sentence: str) -> None:
    folder = beir(tmp_path)
    (folder / file).write_text(text)
    with pytest.raises(ImportFailed, match=sentence):
        await evaluated(folder)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
async def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = beir(tmp_path)
    (folder / name).unlink()
    with pytest.raises(ImportFailed, match=f"There is no {name} in "):
        await evaluated(folder)
    with pytest.raises(ImportFailed, match="There is no folder"):
        await evaluated(tmp_path / "nowhere")
