"""``pattern eval`` over documents; what is measured is tested in ``tests/evaluation``."""

from __future__ import annotations

from pathlib import Path

import pytest

from pattern_db.search.ranking import WEIGHTS
from tests.evaluation import collections

from .conftest import Pattern

WORDS = ("--embeddings", "none", "--mode", "keyword")


@pytest.fixture
def cranfield() -> Path:
    return collections.cranfield(Path("cran"))


def test_a_machine_gets_every_figure(cranfield: Path, pattern: Pattern) -> None:
    report = pattern("eval", "cranfield", cranfield, *WORDS, "--k", "10,1", "--json").json
    assert {"name": "keyword", "mode": "keyword", "collection": "Cranfield"}.items() <= (
        report.items()
    )
    assert (report["ks"], report["documents"], report["blank_documents"]) == ([1, 10], 3, 1)
    assert report["overall"]["questions"] == 2
    assert report["overall"]["recall"] == {"1": 0.5, "10": 0.75}
    assert report["overall"]["ndcg"]["1"] == pytest.approx(2 / 3)
    assert set(report["search"]) == {"p50_ms", "p95_ms"}
    assert (report["query_embedding"], report["others"]) == (None, [])
    assert report["documents_per_s"] > 0
    assert set(report["environment"]) == {"pattern_db", "python", "system", "cpus"}


def test_a_person_gets_a_table(cranfield: Path, pattern: Pattern) -> None:
    shown = pattern("eval", "cranfield", cranfield, *WORDS, "--k", "1,10").out.splitlines()
    assert shown[0] == "Cranfield nDCG@k and recall@k, keyword search, no model"
    assert shown[3].split() == ["@1", "@10"]
    assert shown[4].split() == ["nDCG,", "all", "2", "0.667", "0.705"]
    assert shown[5].split() == ["recall,", "all", "2", "50.0%", "75.0%"]
    assert shown[7].startswith("ingest: ")
    assert shown[8].startswith("search: p50 ")


def test_one_command_shows_the_modes_side_by_side(cranfield: Path, pattern: Pattern) -> None:
    line = ("eval", "cranfield", cranfield, "--embeddings", "local", "--mode", "all")
    shown = [row.split("  ")[0] for row in pattern(*line).out.splitlines()]
    modes = ("hybrid", "keyword", "semantic")
    assert [row for row in shown if row.startswith(("nDCG", "recall"))] == [
        f"{measure}, {mode}" for measure in ("nDCG", "recall") for mode in modes
    ]


@pytest.mark.slow
def test_an_ablation_has_a_row_for_each_part(cranfield: Path, pattern: Pattern) -> None:
    line = ("eval", "cranfield", cranfield, "--embeddings", "local", "--ablate", "--json")
    report = pattern(*line).json
    without = [f"without {part}" for part in WEIGHTS["hybrid"]]
    assert report["name"] == "hybrid"
    assert [other["name"] for other in report["others"]] == [*without, "keyword", "semantic"]


def test_the_database_of_documents_can_be_kept(cranfield: Path, pattern: Pattern) -> None:
    line = ("eval", "cranfield", cranfield, *WORDS, "--db", "kept.db", "--json")
    first, again = pattern(*line).json, pattern(*line).json
    assert first["documents_per_s"] is not None
    assert again["documents_per_s"] is None
    assert again["overall"] == first["overall"]
    assert pattern("status", "--db", "kept.db", "--json").json["counts"]["archival_entries"] == 3


def test_a_split_can_be_chosen(pattern: Pattern) -> None:
    folder = collections.beir(Path("tiny"), split="dev")
    report = pattern("eval", "beir", folder, *WORDS, "--split", "dev", "--json").json
    assert report["collection"] == "BEIR tiny (dev)"
    ran = pattern("eval", "beir", folder, *WORDS)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "pattern: There is no test.tsv in tiny/qrels; choose a split that is there (dev).\n"
    )
