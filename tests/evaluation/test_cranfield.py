"""nDCG and recall on Cranfield."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pattern_db
from pattern_db import EmbeddingProvider, ImportFailed, InvalidValue, Unsupported
from pattern_db.evaluation import DocumentReport, cranfield, evaluate_cranfield, render
from tests.conftest import Shared
from tests.evaluation import collections
from tests.evaluation.collections import A_BEFORE_B, CODED, CRANFIELD, GRADED


async def evaluated(folder: Path, **options: Any) -> DocumentReport:
    return await evaluate_cranfield(
        folder, **{"embeddings": "none", "mode": "keyword", "ks": (1, 10), **options}
    )


async def test_queries_are_numbered_by_their_place_and_judged_by_grade(tmp_path: Path) -> None:
    report = await evaluated(collections.cranfield(tmp_path))
    assert (report.documents, report.blank_documents) == (3, 1)
    assert (report.overall.questions, report.skipped) == (2, {"without a relevant document": 1})
    assert report.overall.ndcg == pytest.approx(
        {
            1: (1 / 3 + 1) / 2,
            10: (A_BEFORE_B + 2 / (2 + 2 / 1.5849625)) / 2,  # one of two cannot be found
        }
    )
    assert report.overall.recall == {1: (0.5 + 0.5) / 2, 10: (1.0 + 0.5) / 2}
    assert (report.overall.session_recall, report.categories, report.others) == (None, [], [])
    assert report.files == ["cran.all.1400", "cran.qry", "QRelsCorrectedforTRECeval"]


async def test_codes_of_the_older_file_mean_the_same_grades(tmp_path: Path) -> None:
    graded = await evaluated(collections.cranfield(tmp_path / "graded"))
    coded = await evaluated(collections.cranfield(tmp_path / "coded", graded=None, coded=CODED))
    assert coded.files[-1] == "cranqrel"
    assert coded.overall == graded.overall
    folder = collections.cranfield(tmp_path / "named", graded=None)
    (folder / "my.qrels.txt").write_text(GRADED)
    assert (await evaluated(folder)).overall == graded.overall


async def test_the_most_relevant_of_the_older_file_has_the_code_minus_one(tmp_path: Path) -> None:
    coded = "1 1 1\n1 2 -1\n"
    folder = collections.cranfield(tmp_path, graded=None, coded=coded)
    assert (await evaluated(folder)).overall.ndcg[1] == pytest.approx(4 / 5)


async def test_texts_are_whole_and_hold_neither_ids_nor_authors(tmp_path: Path) -> None:
    kept = tmp_path / "kept.db"
    await evaluated(collections.cranfield(tmp_path), database=kept)
    async with pattern_db.open(kept, embeddings="none") as db:
        entries = await db.archival.list(limit=10)
        texts = {entry.metadata["document"]: entry.content for entry in entries}
    assert texts == {
        "1": "flutter of a slender wing .\n"
        "a slender wing shows flutter in a stream . damaged lines go on .",
        "2": "heat conduction\nheat goes through slabs behind the wing .",
        "4": "tides of the baltic sea .",
    }


async def test_a_kept_database_is_used_again(tmp_path: Path, provider: EmbeddingProvider) -> None:
    kept, folder = tmp_path / "kept.db", collections.cranfield(tmp_path)
    first = await evaluated(folder, database=kept)
    again = await evaluated(folder, database=kept)
    assert first.documents_per_s is not None
    assert (again.documents_per_s, again.documents) == (None, 3)
    assert again.overall == first.overall
    meaning = await evaluated(folder, database=kept, mode="semantic", embeddings=Shared(provider))
    assert meaning.documents_per_s is None
    assert meaning.overall.recall[10] == first.overall.recall[10]
    async with pattern_db.open(kept, embeddings=Shared(provider)) as db:
        assert await db.archival.count() == 3


async def test_another_corpus_in_the_same_database_is_apart(tmp_path: Path) -> None:
    kept = tmp_path / "kept.db"
    first = await evaluated(collections.cranfield(tmp_path / "a"), database=kept)
    other = collections.cranfield(tmp_path / "b", documents=CRANFIELD.replace("sea", "lake"))
    assert (await evaluated(other, database=kept)).documents == 3
    again = await evaluated(collections.cranfield(tmp_path / "a"), database=kept)
    assert again.overall == first.overall
    async with pattern_db.open(kept, embeddings="none") as db:
        assert await db.archival.count() == 6


async def test_modes_are_compared_in_one_run(tmp_path: Path, provider: EmbeddingProvider) -> None:
    folder = collections.cranfield(tmp_path)
    heard: list[tuple[str, int, int]] = []
    report = await evaluated(
        folder,
        mode="all",
        embeddings=Shared(provider),
        progress=lambda *at: heard.append(at),
    )
    assert [(r.name, r.mode) for r in report.rankings] == [
        (name, name) for name in ("hybrid", "keyword", "semantic")
    ]
    words = await evaluated(folder)
    assert report.others[0].overall == words.overall
    assert [r.query_embedding is None for r in report.rankings] == [False, True, False]
    assert heard == [("ingest", 4, 4), *(("ask", n, 6) for n in range(1, 7))]

    lines = render(report).splitlines()
    assert lines[0].startswith("Cranfield nDCG@k and recall@k, 3 rankings, all-MiniLM")
    assert lines[1] == (
        "3 documents (1 more without a text), 2 questions "
        "(not asked: 1 without a relevant document)"
    )
    assert f"nDCG, keyword                2{words.overall.ndcg[1]:>9.3f}" in "\n".join(lines)
    assert any(line.startswith("search without it, semantic: p50 ") for line in lines)


async def test_comparing_needs_vectors_and_says_so_before_anything_is_done(tmp_path: Path) -> None:
    folder = collections.cranfield(tmp_path)
    for options in ({"mode": "all"}, {"mode": "semantic"}, {"mode": "hybrid", "ablate": True}):
        with pytest.raises(Unsupported, match="need an embedding provider"):
            await evaluated(folder, **options)
    assert (await evaluated(folder, mode="hybrid")).mode == "keyword"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"ks": [1000]}, "ks"),
        ({"ks": []}, "ks"),
        ({"mode": "fast"}, "mode"),
        ({"mode": "semantic", "ablate": True}, "mode"),
    ],
)
async def test_impossible_options_are_refused(
    tmp_path: Path, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidValue, match=field):
        await evaluated(collections.cranfield(tmp_path), **options)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"documents": None}, r"There is no cran\.all\.1400 in "),
        ({"queries": None}, r"There is no cran\.qry in "),
        ({"graded": None}, r"no judgements in .*; add QRelsCorrectedforTRECeval or cranqrel"),
        ({"documents": ""}, r"cran\.all\.1400: the file is empty"),
        ({"documents": "words\n"}, r"cran\.all\.1400, line 1: expected a line such as `\.I 1`"),
        ({"documents": ".I one\n"}, r"line 1: expected a number after `\.I`"),
        ({"documents": f".I {'1' * 5000}\n"}, r"line 1: expected a number after `\.I`"),
        (
            {"documents": f"{CRANFIELD}.I 9\n.W\n\0\n"},
            r"line 29: .*'text': it holds a NUL character",
        ),
        ({"graded": f"1 0 1 {'1' * 5000}\n"}, r"line 1: expected `query 0 document grade`"),
        ({"documents": ".I 1\n.I 1\n"}, r"line 2: there is a document 1 before this one"),
        ({"documents": "\xff"}, r"cran\.all\.1400, line 1"),
        ({"graded": "1 0 1 1\n9 0 1 1\n"}, r"line 2: expected the number of a query, 1 to 3"),
        ({"graded": "0 0 1 1\n"}, r"line 1: expected the number of a query, 1 to 3"),
        ({"graded": "1 0 77 1\n"}, r"QRelsCorrectedforTRECeval, line 1: there is no document 77"),
        ({"graded": "1 0 1 good\n"}, r"line 1: expected `query 0 document grade`"),
        ({"graded": "1 1 9\n"}, r"with a code of -1 to 5"),
        (
            {"graded": "1 0 1 0\n"},
            r"cran\.qry, QRelsCorrectedforTRECeval: no query has a relevant document",
        ),
    ],
)
async def test_a_wrong_file_is_named_with_its_line(
    tmp_path: Path, files: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ImportFailed, match=sentence):
        await evaluated(collections.cranfield(tmp_path / "cran", **files))


async def test_a_folder_that_is_missing_or_ambiguous_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match="There is no folder"):
        await evaluated(tmp_path / "nowhere")
    folder = collections.cranfield(tmp_path, graded=None)
    for name in ("a.qrel", "b.qrel"):
        (folder / name).write_text(GRADED)
    with pytest.raises(ImportFailed, match=r"\(a\.qrel, b\.qrel\); call the right one"):
        await evaluated(folder)


@pytest.mark.slow
async def test_the_real_collection_is_read_whole(real_data: Callable[[str], Path]) -> None:
    folder = real_data("cranfield")
    report = await evaluated(folder)
    assert (report.documents, report.blank_documents) == (1398, 2)
    assert (report.overall.questions, report.skipped) == (225, {})
    assert report.overall.ndcg[10] > 0.5


def test_both_real_files_of_judgements_say_the_same(
    real_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = real_data("cranfield")
    by_file = []
    for name in cranfield.JUDGEMENTS:
        monkeypatch.setattr(cranfield, "JUDGEMENTS", (name,))
        by_file.append(cranfield._collection(folder).queries)
    assert by_file[0] == by_file[1]
    assert sum(len(query.grades) for query in by_file[0]) == 1837
