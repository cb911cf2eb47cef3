"""Which tools a task will probably need: the set that similar successful runs agree with best.

Each of the ``NEIGHBOURS`` successful runs with the nearest tasks has a set of tools: those that its
task was found to need, or else those it used. The set chosen is the one with the highest expected
F1 against them,

    argmax over S of  Σ w(r) · F1(S, tools(r)),        F1(∅, ∅) = 1,

where w is the likeness of the tasks, and ``PRIOR`` of the weight is spread evenly over all of the
runs given. S is one of their sets, or the n likeliest tools for some n, or none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import msgspec

from .runs import Floats, Run, nearness

NEIGHBOURS = 30
PRIOR = 0.2

Tools = frozenset[str]


class Planned(msgspec.Struct, frozen=True):
    """A tool: whether it belongs to the plan, and the share of similar runs that needed it.

    ``episodes`` are the nearest of them.
    """

    tool: str
    probability: float
    is_likely: bool
    episodes: list[str] = []


def plan_tools(
    runs: Sequence[Run],
    likeness: Floats,
    *,
    among: Collection[str] | None = None,
    evidence: int = 5,
) -> list[Planned]:
    """Every tool that a similar run needed, the likeliest first, ties by name.

    ``runs`` are successful ones, ``likeness`` is that of their tasks; ``among`` are the only tools
    that count, if given.
    """
    sets = [_tools(run, among) for run in runs]
    order = sorted(range(len(runs)), key=lambda i: (-round(float(likeness[i]), 12), runs[i].id))
    nearest = order[:NEIGHBOURS]
    votes: dict[Tools, float] = defaultdict(float)
    for place, weight in zip(nearest, nearness(likeness[nearest]), strict=True):
        votes[sets[place]] += (1 - PRIOR) * float(weight)
    for tools in sets:
        votes[tools] += PRIOR / len(sets)
    chances: dict[str, float] = defaultdict(float)
    for tools, weight in votes.items():
        for tool in tools:
            chances[tool] += weight
    likely = sorted(chances, key=lambda tool: (-round(chances[tool], 12), tool))
    best = _best(votes, likely)
    return [
        Planned(
            tool,
            chances[tool],
            tool in best,
            [runs[i].id for i in nearest if tool in sets[i]][:evidence],
        )
        for tool in likely
    ]


def _tools(run: Run, among: Collection[str] | None) -> Tools:
    tools = frozenset(run.tools) if run.needed is None else run.needed
    return tools if among is None else tools.intersection(among)


def _best(votes: Mapping[Tools, float], likely: Sequence[str]) -> Tools:
    """The set with the highest expected F1; of equals the smallest, then by name."""
    candidates = {*votes, *(frozenset(likely[:n]) for n in range(len(likely) + 1))}
    ordered = sorted(candidates, key=lambda tools: (len(tools), sorted(tools)))
    return max(ordered, key=lambda tools: round(_expected(tools, votes), 12))


def _expected(tools: Tools, votes: Mapping[Tools, float]) -> float:
    return sum(weight * f1(tools, other) for other, weight in votes.items())


def f1(a: Collection[str], b: Collection[str]) -> float:
    """The harmonic mean of precision and recall of one set against another."""
    return 2 * len(set(a) & set(b)) / (len(a) + len(b)) if a or b else 1.0
