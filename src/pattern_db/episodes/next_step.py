"""What comes next: a memory of longest suffixes, weighted by how alike the tasks are.

Every place in a stored run that follows the same tool speaks for the tool that came next there,
with the weight

    2^L · exp(8 · likeness of the tasks) · exp(2 · J) · 5 [the same agent] · 4 [new as before]

where L ≤ 6 is how many of the last tools agree (one more where both runs began there), J the share
(Jaccard) of the tools used before that both runs have, and the last factor counts where the next
tool had been used before in both runs or in neither. The vote makes up 0.8 of the score, 0.2 is how
often the tool followed these last tools in these runs at all, from five of them back to none
(interpolated with κ = 2), so that a tool no similar run used is still ranked.

The suffix memory and the back-off are those of docs/explanation/learning.md, which says what each
factor is worth.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from .runs import SHARPNESS, Floats, Run, path_of

LONGEST = 6
LONGER = math.log(2.0)
"""What one more tool in common is worth."""
SHARED = 2.0
"""What the same tools before are worth."""
OWN = math.log(5.0)
"""What the agent's own runs are worth over another's: an agent repeats its habits."""
AS_NEW = math.log(4.0)
"""What it is worth that the next tool was new there as it is here."""
VOTED = 0.8
ORDER, KAPPA = 5, 2.0
_START = ""


class Next(msgspec.Struct, frozen=True):
    """A tool that may come next; ``probability`` is among all that may.

    ``times`` counts the places of stored runs that say so, ``episodes`` are those runs, the ones
    that say most first, ``patterns`` the known sequences that the tool would complete.
    """

    tool: str
    probability: float
    times: int = 0
    episodes: list[str] = []
    patterns: list[str] = []


class _Place(msgspec.Struct, gc=False):
    """A place in a stored run: what came there and how many tools before it agree."""

    run: int
    tool: str
    is_new: bool
    before: frozenset[str]
    agreed: int
    began: bool


def rank_next(
    now: Run,
    runs: Sequence[Run],
    likeness: Floats,
    *,
    limit: int | None = None,
    evidence: int = 5,
) -> list[Next]:
    """The tools that may come next other than the last one, the likeliest first, ties by name.

    ``likeness`` is that of each run's task to this one's. Of no runs nothing is said.
    """
    path = path_of(now.tools)
    last = path[-1] if path else None
    paths = [path_of(run.tools) for run in runs]
    places = list(_places(path, paths))
    votes, voters = _votes(now, path, runs, places, likeness)
    rest = _back_off(path, paths, places)
    for counts in (votes, rest):
        counts.pop(last or _START, None)
    voted, spread = sum(votes.values()), sum(rest.values())
    share = VOTED if voted else 0.0
    scores = {
        tool: share * votes.get(tool, 0.0) / (voted or 1.0) + (1 - share) * chance / spread
        for tool, chance in rest.items()
    }
    ranked = sorted(scores, key=lambda tool: (-round(scores[tool], 12), tool))
    return [
        _next(tool, scores[tool], runs, voters.get(tool, {}), evidence) for tool in ranked[:limit]
    ]


def _next(
    tool: str, score: float, runs: Sequence[Run], voters: Mapping[int, list[float]], most: int
) -> Next:
    best = sorted(voters, key=lambda run: (-sum(voters[run]), runs[run].id))
    times = sum(map(len, voters.values()))
    return Next(tool, score, times, [runs[run].id for run in best[:most]])


def _places(path: Sequence[str], paths: Sequence[tuple[str, ...]]) -> list[_Place]:
    """The places that follow the same tool, or begin a run as this one begins."""
    last = path[-1] if path else None
    found = []
    for number, other in enumerate(paths):
        places = [0] if last is None else [n for n, tool in enumerate(other, 1) if tool == last]
        for place in places:
            if place == len(other):
                continue
            tool, before = other[place], frozenset(other[:place])
            agreed, began = _agreed(path, other[:place])
            found.append(_Place(number, tool, tool not in before, before, agreed, began))
    return found


def _agreed(a: Sequence[str], b: Sequence[str]) -> tuple[int, bool]:
    """How many of the last tools agree, and whether both runs began with them."""
    shorter = min(len(a), len(b), LONGEST)
    agreed = next((n for n in range(shorter) if a[-1 - n] != b[-1 - n]), shorter)
    return agreed, agreed == len(a) == len(b)


def _votes(
    now: Run,
    path: Sequence[str],
    runs: Sequence[Run],
    places: Sequence[_Place],
    likeness: Floats,
) -> tuple[dict[str, float], dict[str, dict[int, list[float]]]]:
    """The weight behind each tool, and of which runs it is."""
    used = frozenset(path)
    near = (SHARPNESS * (likeness - likeness.max(initial=0.0))).tolist()
    votes: dict[str, float] = {}
    voters: dict[str, dict[int, list[float]]] = {}
    for place in places:
        run = runs[place.run]
        either = len(used | place.before)
        log = near[place.run] + LONGER * min(place.agreed + place.began, LONGEST)
        log += SHARED * (len(used & place.before) / either if either else 1.0)
        log += OWN * (run.agent_id is not None and run.agent_id == now.agent_id)
        log += AS_NEW * (place.is_new == (place.tool not in used))
        weight = math.exp(log)
        votes[place.tool] = votes.get(place.tool, 0.0) + weight
        voters.setdefault(place.tool, {}).setdefault(place.run, []).append(weight)
    return votes, voters


def _back_off(
    path: Sequence[str], paths: Sequence[tuple[str, ...]], places: Sequence[_Place]
) -> dict[str, float]:
    """How often each tool followed: P_k = (c_k + κ P_{k-1}) / (C_k + κ), P_{-1} uniform.

    c_k counts what followed the last k tools; where a run began, the beginning is all there was.
    """
    counts = Counter(tool for other in paths for tool in other)
    chance = dict.fromkeys(counts, 1 / max(len(counts), 1))
    for k in range(ORDER + 1):
        if k:
            counts = Counter(
                p.tool for p in places if (p.agreed >= k if k <= len(path) else p.began)
            )
        of = counts.total() + KAPPA
        chance = {tool: (counts[tool] + KAPPA * p) / of for tool, p in chance.items()}
    return chance
