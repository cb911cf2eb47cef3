"""How many candidates a question needs: LoCoMo recall with fewer and more, ten hits asked for.

    .venv/bin/python benchmarks/candidates.py locomo.json

Each question is asked of its own conversation, and of all of them at once: a larger scope.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pattern_db
from harness import machine
from pattern_db import PatternDB
from pattern_db.evaluation.locomo import _ingest
from pattern_db.search import gathering
from pattern_db.transfer.reading import Source

SIZES = [(100, 40), (80, 40), (60, 40), (60, 30), (50, 20)]
KS = (1, 5, 10)


async def measure(files: list[Path]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        async with pattern_db.open(Path(folder) / "mind.db", embeddings="local") as db:
            found = await _ingest(db, [Source(file) for file in files], lambda *_: None)
            rows = []
            for candidates, neighbours in SIZES:
                gathering.CANDIDATES, gathering.NEIGHBOURS_OF = candidates, neighbours
                row = {"candidates": candidates, "neighbours_of": neighbours}
                for name, whole in (("own", False), ("all", True)):
                    row[name] = await recall(db, found.subjects, whole=whole)
                rows.append(row)
                print(row, flush=True)
            return rows


async def recall(db: PatternDB, subjects: list[Any], *, whole: bool) -> dict[int, float]:
    everyone = [subject.agent_id for subject in subjects]
    shares: dict[int, list[float]] = {k: [] for k in KS}
    for subject in subjects:
        asked = everyone if whole else subject.agent_id
        for question in subject.asked.questions:
            hits = await db.search(asked, question.text, kinds=["message"], limit=max(KS))
            turns = [(hit.item.agent_id, str(hit.item.metadata.get("dia_id"))) for hit in hits]
            wanted = {(subject.agent_id, turn) for turn in question.evidence}
            for k in KS:
                shares[k].append(len(wanted & {*turns[:k]}) / len(wanted))
    return {k: round(sum(each) / len(each), 4) for k, each in shares.items()}


def main() -> None:
    rows = asyncio.run(measure([Path(each) for each in sys.argv[1:]]))
    path = Path(__file__).parent / "results" / f"candidates-{datetime.now(UTC):%Y-%m-%d}.json"
    path.write_text(json.dumps({**machine(), "rows": rows}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
