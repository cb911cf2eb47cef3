"""A small file of runs that can be learned from, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.transfer.files import written

BOOK = ("find_user", "search_flight", "book_flight")
CANCEL = ("find_user", "get_booking", "cancel_booking")
LOST = ("find_user", "think", "get_booking")


def runs_of(family: int) -> list[dict[str, Any]]:
    """Three runs for one customer: booked, cancelled, and one that failed after an error."""
    place = ("Oslo", "Rome", "Lima", "Bonn")[family % 4]

    def run(task: str, tools: tuple[str, ...], *, well: bool, fails: str = "") -> dict[str, Any]:
        steps: list[dict[str, Any]] = [{"tool": tool, "args": {}, "result": "ok"} for tool in tools]
        if fails:
            steps[0] |= {"result": f"Error: {fails} {family}", "error": True}
        return {
            "id": f"{family}:{task}",
            "source": f"file {family % 2}",
            "agent_model": ("a", "b")[family % 2],
            "domain": "travel",
            "family": f"customer {family}",
            "task": f"{task} {place}",
            "steps": steps,
            "reward": float(well),
            "gold_tools": [tools[-1]],
        }

    return [
        run("I would like to book a flight to", BOOK, well=True),
        run("Please cancel my booking for", CANCEL, well=True),
        run("Please cancel that trip to", LOST, well=False, fails="no such user"),
    ]


def trajectories(folder: Path, *, families: int = 10) -> Path:
    """The file, with the list of tools that change something beside it."""
    written(folder, "write-tools.json", {"travel": ["book_flight", "cancel_booking"]})
    lines = [line for family in range(families) for line in runs_of(family)]
    return written(folder, "runs.jsonl", lines)
