"""The same questions on every engine: recall of LoCoMo must not depend on where the rows are.

python benchmarks/engines.py locomo-dev.json                          # sqlite and postgres
python benchmarks/engines.py locomo-dev.json turso=turso:///tmp/t.db  # and others: empty databases
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from harness import machine
from pattern_db.evaluation import evaluate_locomo
from rigs import Server

RESULTS = Path(__file__).parent / "results"


async def measured(file: str, database: str) -> dict[str, Any]:
    report = await evaluate_locomo([file], database=database)
    return msgspec.to_builtins(report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("engine", nargs="*", help="NAME=URL")
    arguments = parser.parse_args()
    server, found = Server(), {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            places = {"sqlite": f"{folder}/mind.db", "postgres": server.database()}
            places |= dict(each.split("=", 1) for each in arguments.engine)
            for engine, place in places.items():
                found[engine] = asyncio.run(measured(arguments.file, place))
                print(engine, json.dumps(found[engine], ensure_ascii=False)[:600], flush=True)
        finally:
            server.stop()
    name = f"engines-{datetime.now(UTC):%Y-%m-%d}.json"
    text = json.dumps({**machine(), "engines": found}, indent=1, ensure_ascii=False)
    (RESULTS / name).write_text(text + "\n", "utf-8")
    print(f"written to benchmarks/results/{name}")


if __name__ == "__main__":
    main()
