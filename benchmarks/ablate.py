"""What each part of the ranking is worth: LoCoMo recall with one part left out at a time.

    .venv/bin/python benchmarks/ablate.py locomo10.json

The file is not part of the project (its licence allows measuring, not shipping).
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from pattern_db.evaluation import LocomoReport, evaluate_locomo
from pattern_db.search import ranking

RESULTS = Path(__file__).parent / "results"
KS = (1, 5, 10, 20, 50)


async def measure(paths: list[str]) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    whole = dict(ranking.WEIGHTS["hybrid"])
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "locomo.db"
        table["everything"] = _recall(await evaluate_locomo(paths, ks=KS, database=database))
        for part in whole:
            left = {name: weight for name, weight in whole.items() if name != part}
            ranking.WEIGHTS = {**ranking.WEIGHTS, "hybrid": left}
            table[f"without {part}"] = _recall(
                await evaluate_locomo(paths, ks=KS, database=database)
            )
        ranking.WEIGHTS = {**ranking.WEIGHTS, "hybrid": whole}
        for mode in ("keyword", "semantic"):
            report = await evaluate_locomo(paths, ks=KS, database=database, mode=mode)
            table[f"{mode} mode"] = _recall(report)
    return table


def _recall(report: LocomoReport) -> dict[str, float]:
    return {f"@{k}": round(value, 4) for k, value in report.overall.recall.items()}


def main() -> None:
    table = asyncio.run(measure(sys.argv[1:]))
    for name, recall in table.items():
        print(f"{name:20}" + "".join(f"{value:8.3f}" for value in recall.values()))
    name = f"ablation-{datetime.now(UTC):%Y-%m-%d}.json"
    files = [Path(path).name for path in sys.argv[1:]]
    shown = {"files": files, "recall": table}
    (RESULTS / name).write_text(json.dumps(shown, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
