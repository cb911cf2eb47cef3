"""Measure pattern-db against the driver doing the same work by hand.

make bench                     # every row, results into benchmarks/results/
make bench ARGS="--quick"      # under a minute, prints only
make bench ARGS="--only store"
"""

from __future__ import annotations

import argparse
import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import searching
import starting
import store
from harness import Result, document, render

RESULTS = Path(__file__).parent / "results"


async def measure(only: str | None, *, quick: bool) -> list[Result]:
    rounds, count = (3, 300) if quick else (9, 2000)
    parts = {
        "store": lambda: _all(store.read_rows(rounds, count), store.write_rows(rounds, count)),
        "ingest": lambda: searching.ingest(min(rounds, 5), 200 if quick else 600),
        "search": lambda: _all(*searching.parts(rounds, quick=quick)),
        "start": lambda: _all(starting.rows(rounds)),
    }
    chosen = [only] if only else list(parts)
    return [result for name in chosen for result in await parts[name]()]


async def _all(*groups) -> list[Result]:
    return [result for group in groups for result in await group]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller data, no file")
    parser.add_argument("--only", choices=["store", "ingest", "search", "start"])
    arguments = parser.parse_args()
    results = asyncio.run(measure(arguments.only, quick=arguments.quick))
    print(render(results))
    if not arguments.quick:
        RESULTS.mkdir(exist_ok=True)
        name = f"floor-{arguments.only or 'all'}-{datetime.now(UTC):%Y-%m-%d}.json"
        text = json.dumps(document(results, quick=False), indent=1, ensure_ascii=False)
        (RESULTS / name).write_text(text + "\n", "utf-8")
        print(f"\nwritten to benchmarks/results/{name}")


if __name__ == "__main__":
    main()
