"""What was done next after errors like this one, and how often that got further.

The chance of each next tool backs off from incidents with the same tool and signature to those of
the tool, of the domain, and all: P = (c + κ P') / (C + κ), κ = 4. "The same tool again" counts as
one answer whatever the tool is, so that it can be learned from the errors of other tools.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

KAPPA = 4.0
AGAIN = "\0again"
"""The next tool is the one that failed."""


class Incident(msgspec.Struct, frozen=True, gc=False):
    """An error in a stored run: what failed how, the tool used next (``None``: nothing was), and
    whether the tool that failed worked later in that run."""

    episode_id: str
    domain: str
    tool: str
    signature: str
    next_tool: str | None
    resolved: bool = False


class Remedy(msgspec.Struct, frozen=True):
    """What to do after an error; ``tool`` is ``None`` where runs ended there.

    ``times`` and ``resolved`` count what was done after errors of this signature: how often, and
    how often the tool that had failed worked later in the run; ``episodes`` are some of those runs,
    ``patterns`` the known resolutions that it is.
    """

    tool: str | None
    probability: float
    times: int = 0
    resolved: int = 0
    episodes: list[str] = []
    patterns: list[str] = []


def remedies(
    domain: str | None,
    tool: str,
    signature: str,
    incidents: Sequence[Incident],
    *,
    evidence: int = 5,
) -> list[Remedy]:
    """What was done after errors, the likeliest first, ties by name. Of no incident nothing."""

    def near(incident: Incident) -> bool:
        return domain is None or incident.domain == domain

    def same(incident: Incident) -> bool:
        return near(incident) and incident.tool == tool and incident.signature == signature

    levels: Sequence[Callable[[Incident], bool]] = (
        lambda _: True,
        near,
        lambda incident: near(incident) and incident.tool == tool,
        same,
    )
    answers = {_answer(incident) for incident in incidents} - {tool}
    chance = dict.fromkeys(answers, 1 / max(len(answers), 1))
    for level in levels:
        counts = Counter(_answer(incident) for incident in incidents if level(incident))
        of = counts.total() + KAPPA
        chance = {answer: (counts[answer] + KAPPA * p) / of for answer, p in chance.items()}
    ranked = sorted(chance, key=lambda answer: (-round(chance[answer], 12), answer or ""))
    alike = [incident for incident in incidents if same(incident)]
    return [_remedy(answer, tool, chance[answer], alike, evidence) for answer in ranked]


def _answer(incident: Incident) -> str | None:
    return AGAIN if incident.next_tool == incident.tool else incident.next_tool


def _remedy(
    answer: str | None, tool: str, chance: float, alike: Sequence[Incident], most: int
) -> Remedy:
    found = [incident for incident in alike if _answer(incident) == answer]
    resolved = [incident for incident in found if incident.resolved]
    first = dict.fromkeys(i.episode_id for i in [*resolved, *found])
    return Remedy(
        tool if answer == AGAIN else answer, chance, len(found), len(resolved), [*first][:most]
    )
