"""Do the ranking's weights generalise? Fitted on all conversations but one, measured on that one.

    .venv/bin/python benchmarks/leave_one_out.py locomo10.json

The fit is a softmax regression: the weights (none below 0) that make the evidence turns most likely
among a question's candidates. The product's own weights are these, rounded; the table shows both.
The candidates are those that ``db.search`` ranks, kept once for all fits. The file is not part of
the project (its licence allows measuring, not shipping).
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pattern_db
from pattern_db.evaluation import locomo
from pattern_db.evaluation.recall import distinct, recall_at
from pattern_db.search import ranking
from pattern_db.transfer.reading import Source

RESULTS = Path(__file__).parent / "results"
KS = (1, 5, 10, 20, 50)
STEPS, RATE, DECAY, RIDGE = 300, 0.15, (0.9, 0.99), 1e-4
Floats = NDArray[np.float64]


@dataclass
class Asked:
    """A question: its candidates' parts, which turns they are, and what should be found."""

    sample: int
    parts: Floats  # a row a candidate, a column a part
    present: NDArray[np.bool_]
    turns: list[str]
    sessions: dict[str, str]
    evidence: frozenset[str]

    def recall(self, weights: Floats) -> dict[str, float]:
        scores = np.round(self.parts @ weights / weights[self.present].sum(), 9)
        best = np.argsort(-scores, kind="stable")[: locomo.LIMIT]
        turns = [self.turns[i] for i in best]
        wanted = {self.sessions[turn] for turn in self.evidence}
        sessions = recall_at([10], wanted, distinct(self.sessions[turn] for turn in turns))
        found = {f"@{k}": value for k, value in recall_at(KS, self.evidence, turns).items()}
        return {**found, "sessions @10": sessions[10]}


async def ask_all(paths: list[str]) -> list[Asked]:
    seen: list[tuple[ranking.Question, Any]] = []
    real = ranking.rank

    def keep(question: Any, candidates: Any, **options: Any) -> Any:
        seen.append((question, candidates))
        return real(question, candidates, **options)

    asked: list[Asked] = []
    ranking.rank = keep
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with pattern_db.open(Path(folder) / "locomo.db") as db:
                sources = [Source(Path(path)) for path in paths]
                ingested = await locomo._ingest(db, sources, lambda *_: None)
                for number, subject in enumerate(ingested.subjects):
                    for question in subject.asked.questions:
                        seen.clear()
                        await db.search(subject.agent_id, question.text, kinds=["message"])
                        ids = {candidate.item_id for _, pool in seen for candidate in pool}
                        rows = await asyncio.gather(*(db.messages.get(id) for id in ids))
                        turns = {row.id: str(row.metadata.get("dia_id")) for row in rows if row}
                        asked.append(_asked(number, subject.asked.sessions, question, seen, turns))
    finally:
        ranking.rank = real
    return asked


def _asked(
    sample: int, sessions: dict[str, str], question: Any, seen: list[Any], turns: dict[str, str]
) -> Asked:
    read, candidates = seen[0]
    pool = sorted(candidates, key=lambda each: each.item_id)
    pool.sort(key=lambda each: each.created_at, reverse=True)
    scene = ranking._Scene(read, pool)
    columns = [ranking._PARTS[name](scene) for name in ranking.WEIGHTS["hybrid"]]
    parts = [np.zeros(len(pool)) if column is None else column for column in columns]
    return Asked(
        sample,
        np.stack(parts, axis=1),
        np.array([column is not None for column in columns]),
        [turns[each.item_id] for each in pool],
        sessions,
        question.evidence,
    )


def fit(asked: list[Asked]) -> Floats:
    """The likeliest weights, by Adam over all questions at once."""
    known = [each for each in asked if each.evidence & {*each.turns}]
    parts = np.concatenate([each.parts for each in known])
    found = [np.array([turn in each.evidence for turn in each.turns]) for each in known]
    target = np.concatenate([each / each.sum() for each in found])
    lengths = np.array([len(each.turns) for each in known])
    starts = np.cumsum(lengths) - lengths
    weights = np.full(parts.shape[1], 0.5)
    mean, spread = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, STEPS + 1):
        logits = parts @ weights
        logits -= np.repeat(np.maximum.reduceat(logits, starts), lengths)
        likely = np.exp(logits)
        likely /= np.repeat(np.add.reduceat(likely, starts), lengths)
        slope = parts.T @ (likely - target) / len(known) + 2 * RIDGE * weights
        mean = DECAY[0] * mean + (1 - DECAY[0]) * slope
        spread = DECAY[1] * spread + (1 - DECAY[1]) * slope**2
        pace = np.sqrt(spread / (1 - DECAY[1] ** step)) + 1e-8
        weights = np.maximum(weights - RATE * mean / (1 - DECAY[0] ** step) / pace, 0.0)
    return weights


def measure(asked: list[Asked]) -> dict[str, Any]:
    names = list(ranking.WEIGHTS["hybrid"])
    own = np.array(list(ranking.WEIGHTS["hybrid"].values()))
    held_out: list[dict[str, float]] = []
    folds: dict[str, Any] = {}
    for sample in sorted({each.sample for each in asked}):
        weights = fit([each for each in asked if each.sample != sample])
        recalls = [each.recall(weights) for each in asked if each.sample == sample]
        held_out += recalls
        shown = {name: round(float(w), 2) for name, w in zip(names, weights, strict=True)}
        folds[f"sample {sample + 1}"] = {"weights": shown, "recall": _mean(recalls)}
    return {
        "questions": len(asked),
        "weights": ranking.WEIGHTS["hybrid"],
        "with the weights": _mean([each.recall(own) for each in asked]),
        "left out": _mean(held_out),
        "folds": folds,
    }


def _mean(recalls: list[dict[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for recall in recalls:
        for name, value in recall.items():
            sums[name] += value
    return {name: round(value / len(recalls), 4) for name, value in sums.items()}


def main() -> None:
    report = measure(asyncio.run(ask_all(sys.argv[1:])))
    report = {"files": [Path(path).name for path in sys.argv[1:]], **report}
    print(json.dumps(report, indent=1))
    name = f"leave-one-out-{datetime.now(UTC):%Y-%m-%d}.json"
    (RESULTS / name).write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
