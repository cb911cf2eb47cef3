"""What the benchmarks say: ratios the right way round, honest recall, pages made of results."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "explanation" / "peers.md"


def _load(path: str):
    name = f"benchmark_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


peers_table = _load("peers_table.py")
dataset = _load("adapters/dataset.py")
WORKS = {work.act: work for work in peers_table.WORKS}


def _measured(ours: dict, peer: dict) -> dict:
    def product(rows):
        return {"label": "A product", "rows": rows, "rounds": []}

    return {"peers": {"ours": product(ours), "other": product(peer)}}


def test_below_one_we_are_faster_for_times_and_for_rates():
    ours = {"get": {"value": 1.0}, "bulk": {"value": 1000.0}}
    slower = {"get": {"value": 4.0}, "bulk": {"value": 250.0}}

    assert peers_table.ratio(WORKS["get"], ours, slower) == 0.25
    assert peers_table.ratio(WORKS["bulk"], ours, slower) == 0.25
    assert peers_table.behind(_measured(ours, slower)) == "Nowhere, in this run."
    assert "get by id**: A product 4 ×" in peers_table.behind(_measured(slower, ours))


def test_work_a_product_does_not_do_is_not_compared():
    ours, peer = {"get": {"value": 1.0}}, {"get": {"error": "it broke"}}

    assert peers_table.ratio(WORKS["get"], ours, peer) is None
    assert peers_table.ratio(WORKS["add"], ours, peer) is None
    assert "failed" in peers_table.table(_measured(ours, peer))


def test_a_product_that_could_not_be_installed_says_why_in_its_row():
    measured = _measured({"get": {"value": 1.0}}, {})
    measured["peers"]["other"]["error"] = "pip install: no such version"

    assert "not measured: pip install: no such version" in peers_table.table(measured)


def test_recall_is_judged_within_the_agent_that_is_asked(tmp_path):
    counts = {**dataset.QUICK, "stored": 200, "queries": 5, "add": 5, "add_async": 5}
    truth = dataset.write(tmp_path, counts=counts, seed=1)
    vectors = np.load(tmp_path / "vectors.npz")
    named = json.loads((tmp_path / "items.json").read_text("utf-8"))

    def nearest(query: int, agent: str | None) -> list[str]:
        order = np.argsort(-(vectors["stored"] @ vectors["queries"][query]))
        return [named["stored"][n][0] for n in order if agent in (None, named["stored"][n][1])][:10]

    everywhere = [nearest(query, None) for query in range(5)]
    within = [nearest(query, agent) for query, (_, agent) in enumerate(named["queries"])]
    assert truth.recall("search", everywhere, 10) == 1.0
    assert truth.recall("search_in", within, 10) == 1.0
    assert truth.recall("search_in", everywhere, 10) < 1.0
    assert truth.recall("search", [ids[:5] for ids in everywhere], 10) == 0.5


def test_the_page_about_peers_is_what_the_newest_results_say(tmp_path):
    newest = max((ROOT / "benchmarks" / "results").glob("peers-*.json"))
    page = tmp_path / "peers.md"
    page.write_text(PAGE.read_text("utf-8"), "utf-8")

    peers_table.update(page, json.loads(newest.read_text("utf-8")), source=newest.name)

    assert page.read_text("utf-8") == PAGE.read_text("utf-8")


def test_a_page_without_marks_is_refused_and_left_alone(tmp_path):
    page = tmp_path / "peers.md"
    page.write_text("nothing", "utf-8")
    newest = max((ROOT / "benchmarks" / "results").glob("peers-*.json"))

    with pytest.raises(SystemExit, match="no marks for setting"):
        peers_table.update(page, json.loads(newest.read_text("utf-8")), source=newest.name)
    assert page.read_text("utf-8") == "nothing"
