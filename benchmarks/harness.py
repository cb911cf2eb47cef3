"""Measuring two ways of doing the same work side by side.

A ``Row`` names a piece of work, does it once by hand on the driver (the floor) and once through
pattern-db, and gives both times. Rounds alternate between the two, so that a slow minute of the
disk hits both; the medians are compared.
"""

from __future__ import annotations

import gc
import platform
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

SEED = 20261121
PACKAGES = ("apsw-sqlite3mc", "msgspec", "numpy", "onnxruntime", "tokenizers", "usearch")


@dataclass
class Result:
    """One row: seconds a unit of work for the floor and for us, median over the rounds."""

    name: str
    unit: str
    target: str
    floor_s: float
    ours_s: float
    met: bool
    rounds: int
    floor_rounds: list[float] = field(default_factory=list)
    ours_rounds: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def ratio(self) -> float:
        """Our time over the floor's: smaller is better."""
        return self.ours_s / self.floor_s


Work = Callable[[], Awaitable[float]]
"""Does the work once and gives seconds a unit."""


async def compare(
    name: str,
    *,
    unit: str,
    floor: Work,
    ours: Work,
    at_most: float,
    rounds: int,
    note: str = "",
) -> Result:
    """Run both in turn; ``at_most`` is the largest good ratio of our time to the floor's."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for work, taken in zip((floor, ours), times, strict=True):
            gc.collect()
            taken.append(await work())
    floor_s, ours_s = (statistics.median(taken) for taken in times)
    return Result(
        name=name,
        unit=unit,
        target=f"≤ {at_most:.2f} ×",
        floor_s=floor_s,
        ours_s=ours_s,
        met=ours_s <= at_most * floor_s,
        rounds=rounds,
        floor_rounds=times[0],
        ours_rounds=times[1],
        note=note,
    )


class Stopwatch:
    """Seconds inside a ``with`` block."""

    def __enter__(self) -> Stopwatch:
        self._start = perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = perf_counter() - self._start


def render(results: list[Result]) -> str:
    """A table: ratios first."""
    lines = [f"{'ratio':>7}  {'target':>9}  {'ours':>12}  {'floor':>12}  work"]
    for r in results:
        mark = " " if r.met else "!"
        ours, floor = _time(r.ours_s), _time(r.floor_s)
        lines.append(
            f"{r.ratio:7.2f}{mark} {r.target:>9}  {ours:>12}  {floor:>12}  {r.name} ({r.unit})"
        )
    return "\n".join(lines)


def _time(seconds: float) -> str:
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.2f} {unit}"
    return f"{seconds:.2f} s"


def document(results: list[Result], *, quick: bool) -> dict[str, Any]:
    """Everything a reader needs to judge the numbers."""
    return {
        **machine(),
        "quick": quick,
        "results": [{**asdict(result), "ratio": round(result.ratio, 3)} for result in results],
    }


def machine() -> dict[str, Any]:
    """When and on what something was measured."""
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": SEED,
        "machine": {
            "cpu": _cpu(),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()}",
        },
        "packages": {name: version(name) for name in PACKAGES},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.processor()
