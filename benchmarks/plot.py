"""Draw results. Needs matplotlib, which ``peers.py`` puts into an environment of its own.

python benchmarks/plot.py peers OUT RESULTS.json
python benchmarks/plot.py growth OUT RESULTS.json     # of benchmarks/growth.py
python benchmarks/plot.py learning OUT RESULTS.json   # of pattern eval episodes FILE --json
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

import peers_table

OURS, OTHERS = "#c2410c", "#94a3b8"
COLUMNS = 2
LABELS = FuncFormatter(lambda value, _: f"{value:g}" if value < 1000 else f"{value:,.0f}")


def peers(measured: dict[str, Any]) -> plt.Figure:
    """One panel for each work: how long it takes with each product, ours in another colour."""
    rows = -(-len(peers_table.WORKS) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(12, 2.6 * rows), layout="constrained")
    for work, axis in zip(peers_table.WORKS, axes.flat, strict=False):
        _panel(axis, work, measured["peers"])
    counts = measured["counts"]
    figure.suptitle(
        f"{counts['stored']:,} items of {measured['dimensions']} dimensions, "
        f"{measured['agents']} agents, medians of {measured['rounds']} round(s); log scale"
    )
    return figure


def _panel(axis: plt.Axes, work: peers_table.Work, products: dict[str, Any]) -> None:
    taken = [
        (row["value"], product["label"].strip("*").replace("`", ""), name)
        for name, product in products.items()
        if "value" in (row := product["rows"].get(work.act, {}))
    ]
    taken.sort(reverse=work.slower_is_larger)
    values, labels, names = zip(*taken, strict=True) if taken else ((), (), ())
    colours = [OURS if name == "ours" else OTHERS for name in names]
    bars = axis.barh(labels, values, color=colours)
    axis.bar_label(
        bars, [f"{value:.3g}" if value < 1000 else f"{value:,.0f}" for value in values], padding=3
    )
    axis.set_xscale("log")
    if values:  # from a whole decade on: near values shall not look far apart
        axis.set_xlim(10 ** (math.floor(math.log10(min(values))) - 1), max(values) * 8)
    axis.xaxis.set_major_formatter(LABELS)
    axis.xaxis.set_minor_formatter(NullFormatter())
    better = "less is better" if work.slower_is_larger else "more is better"
    axis.set_title(f"{work.title}, {work.unit} ({better})", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def growth(measured: dict[str, Any]) -> plt.Figure:
    """Time against size, both on log scales: a straight line of slope one is linear."""
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    points = measured["results"]
    sizes = [point["vectors"] for point in points]
    axis.plot(sizes, [p["p50_ms"] for p in points], "o-", color=OURS, label="pattern-db")
    axis.plot(
        sizes,
        [p["floor_p50_ms"] for p in points],
        "o-",
        color=OTHERS,
        label="numpy (to 10,000), usearch alone (above)",
    )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("vectors of one agent, 384 dimensions")
    axis.set_ylabel("ten nearest, p50, ms")
    axis.xaxis.set_major_formatter(LABELS)
    axis.yaxis.set_major_formatter(LABELS)
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(visible=True, which="major", alpha=0.3)
    axis.legend()
    return figure


def learning(measured: dict[str, Any]) -> plt.Figure:
    """How often the next step is foreseen, by how much of the runs is stored."""
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    shares, ours, simple = zip(*measured["curve"], strict=True)
    percents = [100 * share for share in shares]
    axis.plot(percents, ours, "o-", color=OURS, label="next_step")
    axis.plot(percents, simple, "o-", color=OTHERS, label="Markov-2")
    for values, above in ((ours, True), (simple, False)):
        for x, y in zip(percents, values, strict=True):
            axis.annotate(
                f"{y:.3f}",
                (x, y),
                (0, 8 if above else -16),
                textcoords="offset points",
                ha="center",
            )
    axis.set_xlabel("families stored, % of those of four folds")
    axis.set_ylabel("next distinct tool foreseen, first guess")
    axis.set_ylim(min(simple) - 0.06, max(ours) + 0.06)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right")
    axis.set_title(
        f"{measured['runs']} runs of {measured['families']} families, "
        f"{len(measured['seeds'])} seeds, five folds by family",
        fontsize=10,
    )
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["peers", "growth", "learning"])
    parser.add_argument("out", type=Path, help="a picture: .svg or .png")
    parser.add_argument("source", type=Path, help="a file of results")
    arguments = parser.parse_args()
    mpl.rcParams["svg.hashsalt"] = "pattern-db"  # equal results draw equal files
    measured = json.loads(arguments.source.read_text("utf-8"))
    figure = {"peers": peers, "growth": growth, "learning": learning}[arguments.kind](measured)
    metadata = {"Date": None} if arguments.out.suffix == ".svg" else None
    figure.savefig(arguments.out, metadata=metadata)


if __name__ == "__main__":
    main()
