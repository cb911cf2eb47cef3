"""How much advice depends on its constants: M1–M4 with each of them changed, one at a time.

    .venv/bin/python benchmarks/advice.py FILE [--seeds 0,1,2] [--out RESULTS.json]

On the functions of ``pattern_db.episodes`` alone, with all runs of the domain in the store, so that
a variant takes seconds; `pattern eval episodes` measures the same through the public API.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from harness import machine
from pattern_db.embeddings import create_provider
from pattern_db.episodes import next_step, outlook, planning, recall, runs
from pattern_db.episodes.planning import f1
from pattern_db.episodes.runs import Likeness, Run, overlap
from pattern_db.evaluation.episode_trials import (
    CALLS,
    Trial,
    changing_tools,
    folds,
    read_trials,
)
from pattern_db.models import OutcomeKind
from pattern_db.transfer.reading import Source

VARIANTS: list[tuple[str, ModuleType, float]] = [
    *(("SHARPNESS", runs, value) for value in (4.0, 6.0, 10.0, 12.0, 16.0)),
    *(("LONGER", next_step, math.log(value)) for value in (1.0, 3.0, 4.0)),
    *(("SHARED", next_step, value) for value in (0.0, 1.0, 4.0)),
    *(("OWN", next_step, math.log(value)) for value in (1.0, 2.5, 10.0)),
    *(("AS_NEW", next_step, math.log(value)) for value in (1.0, 2.0, 8.0)),
    *(("VOTED", next_step, value) for value in (0.6, 0.9)),
    *(("NEIGHBOURS", planning, value) for value in (15, 60)),
    *(("PRIOR", planning, value) for value in (0.1, 0.4)),
    *(("REFERENCES", recall, value) for value in (30, 120)),
    *(("CANDIDATES", recall, value) for value in (20, 60)),
    *(("OF_FAILED", recall, value) for value in (0.0, 0.1, 0.5, 1.0)),
    *(("TYPICAL", recall, value) for value in (0.0, 0.2, 0.4)),
    *(("RIDGE", outlook, value) for value in (1.5, 6.0)),
]
USED_BY = {runs: "M1 M2 M3", next_step: "M1", planning: "M2", recall: "M3", outlook: "M4"}


class Query(msgspec.Struct):
    """A run that is asked about, the stored ones of its domain and how alike their tasks are."""

    trial: Trial
    now: Run
    stored: list[Run]
    likeness: Any
    group: tuple[str, int, int]


async def queries_of(trials: Sequence[Trial], seeds: Sequence[int]) -> list[Query]:
    provider = create_provider("local")
    vectors = await provider.embed_batch([trial.task for trial in trials])
    made = [
        Run(
            id=f"{number:05d}",
            task=trial.task,
            tools=tuple(tool for tool, _, _ in trial.calls),
            outcome=OutcomeKind.SUCCESS if trial.succeeded else OutcomeKind.FAILURE,
            agent_id=trial.agent,
            needed=trial.needed,
            vector=vectors[number],
        )
        for number, trial in enumerate(trials)
    ]
    found = []
    for seed in seeds:
        for number, (there, asked) in enumerate(folds(trials, seed)):
            for i in asked:
                stored = [made[j] for j in there if trials[j].domain == trials[i].domain]
                alike = Likeness([made[i], *stored]).to(0)[1:]
                group = (trials[i].file, seed, number)
                found.append(Query(trials[i], made[i], stored, alike, group))
    return found


def m1(queries: Sequence[Query]) -> float:
    hits = []
    for query in queries:
        path = query.trial.path
        for place, tool in enumerate(path):
            now = msgspec.structs.replace(query.now, tools=path[:place])
            ranked = next_step.rank_next(now, query.stored, query.likeness, limit=1)
            hits.append(bool(ranked) and ranked[0].tool == tool)
    return float(np.mean(hits))


def m2(queries: Sequence[Query], changing: dict[str, frozenset[str]]) -> float:
    by_domain = defaultdict(list)
    for query in queries:
        well = [place for place, run in enumerate(query.stored) if run.succeeded]
        if not (query.trial.succeeded and well):
            continue
        among = changing[query.trial.domain]
        stored = [query.stored[place] for place in well]
        planned = planning.plan_tools(stored, query.likeness[well], among=among)
        chosen = {tool.tool for tool in planned if tool.is_likely}
        by_domain[query.trial.domain].append(f1(chosen, query.trial.needed & among))
    return float(np.mean([np.mean(own) for own in by_domain.values()]))


def m3(queries: Sequence[Query]) -> float:
    best = []
    for query in queries:
        if query.trial.succeeded:
            eligible = [bool(run.succeeded) for run in query.stored]
            chosen = recall.consensus(query.stored, query.likeness, eligible, limit=3)
            shown = (runs.path_of(query.stored[place].tools[:CALLS]) for place, _ in chosen)
            best.append(max((overlap(path, query.trial.path) for path in shown), default=0.0))
    return float(np.mean(best))


def m4(queries: Sequence[Query]) -> float:
    groups = defaultdict(list)
    for query in queries:
        estimated = outlook.estimate(query.now, query.stored).probability
        groups[query.group].append((estimated, query.trial.succeeded))
    won = pairs = 0.0
    for group in groups.values():
        good = np.array([p for p, well in group if well])
        apart = good[:, None] - np.array([p for p, well in group if not well])
        won, pairs = won + (apart > 0).sum() + (apart == 0).sum() / 2, pairs + apart.size
    return won / pairs


def measured(
    queries: Sequence[Query], changing: dict[str, frozenset[str]], which: str
) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, metric in (("M1", m1), ("M3", m3), ("M4", m4)):
        if name in which:
            found[name] = round(metric(queries), 4)
    if "M2" in which:
        found["M2"] = round(m2(queries, changing), 4)
    return dict(sorted(found.items()))


def changed(name: str, module: ModuleType, value: float) -> list[tuple[ModuleType, Any]]:
    """Set a constant wherever it was imported; gives what to set back."""
    places = [m for m in (runs, next_step, planning, recall, outlook) if hasattr(m, name)]
    before = [(place, getattr(place, name)) for place in places]
    for place in places if module is runs else [module]:
        setattr(place, name, value)
    return before


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    source, seeds = Source(arguments.file), [int(seed) for seed in arguments.seeds.split(",")]
    trials = read_trials([source])
    changing = changing_tools([source], trials)
    queries = await queries_of(trials, seeds)
    rows = [{"constant": "as it is", **measured(queries, changing, "M1 M2 M3 M4")}]
    done = [msgspec.structs.replace(q, now=q.now, stored=_as_done(q.stored)) for q in queries]
    rows.append({"constant": "needed tools unknown", **measured(done, changing, "M2")})
    equal = [msgspec.structs.replace(q, likeness=np.zeros(len(q.stored))) for q in queries]
    rows.append({"constant": "no texts", **measured(equal, changing, "M1 M2 M3")})
    for name, module, value in VARIANTS:
        before = changed(name, module, value)
        row = {"constant": f"{name} {value:.3g}", **measured(queries, changing, USED_BY[module])}
        for place, old in before:
            setattr(place, name, old)
        rows.append(row)
        print(row, flush=True)
    result = {"file": source.name, "seeds": seeds, "machine": machine(), "rows": rows}
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    else:
        print(json.dumps(result, indent=1))


def _as_done(stored: Sequence[Run]) -> list[Run]:
    return [msgspec.structs.replace(run, needed=None) for run in stored]


if __name__ == "__main__":
    asyncio.run(main())
