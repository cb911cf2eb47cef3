"""The runs of a file as an evaluation of advice needs them, and how they are divided.

The definitions D1–D8 are those of docs/explanation/learning.md.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from pattern_db.episodes.runs import path_of
from pattern_db.episodes.wording import error_signature
from pattern_db.errors import ImportFailed
from pattern_db.transfer.reading import Source
from pattern_db.transfer.trajectories import pieces
from pattern_db.transfer.trajectory_formats import NEEDED, Trajectory

CALLS = 30
"""How many calls of a run are looked at (D1)."""
FOLDS = 5
DRAWS = 400
CHANGING_FILE = "write-tools.json"
HANDING_OVER = "transfer_to_human_agents"
"""What the benchmark counts neither as needed nor as done (D4)."""
_READING = ("get", "find", "search", "list", "check", "calculate", "think", "run", "can", "read")

Rows = TypeVar("Rows")


class Trial(msgspec.Struct, frozen=True):
    """One run of the file.

    ``family`` is whom it was for: runs of one family are never divided. ``file`` is the result file
    it came from. ``calls`` are (tool, failed, result), ``needed`` what the benchmark's own solution
    calls.
    """

    place: str
    agent: str
    domain: str
    family: str
    file: str
    task: str
    calls: list[tuple[str, bool, str]]
    succeeded: bool
    needed: frozenset[str]
    fields: dict[str, Any]

    @property
    def path(self) -> tuple[str, ...]:
        """Its distinct tools in order, of the first ``CALLS`` calls."""
        return path_of(tuple(tool for tool, _, _ in self.calls[:CALLS]))

    @property
    def incidents(self) -> list[tuple[str, str, str | None]]:
        """Its errors, each kind of each tool once, with what came next (D7).

        (tool, message, next tool or ``None``).
        """
        calls = self.calls[:CALLS]
        following = [tool for tool, _, _ in calls[1:]]
        first: dict[tuple[str, str], tuple[str, str, str | None]] = {}
        for (tool, failed, message), after in zip_longest(calls, following):
            if failed:
                first.setdefault((tool, error_signature(message)), (tool, message, after))
        return list(first.values())


def read_trials(sources: Iterable[Source]) -> list[Trial]:
    """The runs of some files. Raises ``ImportFailed`` for one that cannot be measured."""
    trials = []
    for source in sources:
        for piece in pieces(source):
            trials += [_trial(source, run) for run in piece.runs]
            if piece.failure is not None:
                raise piece.failure
    if not trials:
        raise ImportFailed("There are no runs in these files; name others.")
    return [
        msgspec.structs.replace(trial, fields={**trial.fields, "key": f"run {number}"})
        for number, trial in enumerate(trials)
    ]


def _trial(source: Source, run: Trajectory) -> Trial:
    told, domain = run.fields["metadata"], run.fields.get("domain") or "general"
    family = next((told[key] for key in ("family", "user_id", "task_id") if key in told), None)
    if family is None:
        raise source.failure(run.place, "it does not say whom it is of (`family`)")
    return Trial(
        place=run.place,
        agent=run.agent,
        domain=domain,
        family=str(family),
        file=str(told.get("source", source.name)),
        task=run.fields["task"],
        calls=[
            (step["tool"], step.get("success") is False, str(step.get("result", "")))
            for step in run.fields["steps"]
            if step.get("tool")
        ],
        succeeded=run.fields["outcome"]["kind"] == "success",
        needed=frozenset(told.get(NEEDED, ())),
        fields=run.fields,
    )


def changing_tools(sources: Sequence[Source], trials: Sequence[Trial]) -> dict[str, frozenset[str]]:
    """By domain the tools that change something, handing over apart.

    They are read from ``write-tools.json`` beside the first file; without it, it is every tool
    whose name does not begin with a verb of reading.
    """
    beside = sources[0].path.parent / CHANGING_FILE
    used: dict[str, set[str]] = defaultdict(set)
    for trial in trials:
        used[trial.domain] |= {tool for tool, _, _ in trial.calls} | trial.needed
    told: Any = Source(Path(beside)).read_json().value if beside.is_file() else {}
    return {
        domain: frozenset(told.get(domain) or filter(_changes, tools)) - {HANDING_OVER}
        for domain, tools in used.items()
    }


def _changes(tool: str) -> bool:
    return tool.split("_")[0] not in _READING


def folds(trials: Sequence[Trial], seed: int) -> list[tuple[list[int], list[int]]]:
    """(stored, asked) places of the runs, ``FOLDS`` times; a family is on one side only.

    Families are dealt out in a random order, the larger first, each to the smallest fold.
    """
    sizes = Counter(trial.family for trial in trials)
    families = sorted(sizes)
    random.Random(seed).shuffle(families)
    families.sort(key=lambda family: -sizes[family])
    load, fold = [0] * FOLDS, {}
    for family in families:
        fold[family] = min(range(FOLDS), key=load.__getitem__)
        load[fold[family]] += sizes[family]
    places = range(len(trials))
    return [
        (
            [i for i in places if fold[trials[i].family] != number],
            [i for i in places if fold[trials[i].family] == number],
        )
        for number in range(FOLDS)
    ]


def interval(
    rows: Mapping[str, list[Rows]], statistic: Callable[[list[Rows]], float]
) -> tuple[float, float]:
    """The 95 % interval of a statistic when whole families (the keys) are drawn again (D8)."""
    families, chosen = sorted(rows), random.Random(0)
    values = []
    for _ in range(DRAWS):
        drawn = [row for _ in families for row in rows[chosen.choice(families)]]
        values.append(statistic(drawn))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
