"""Rates that few observations do not mislead."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from ..models import Pattern

PRIOR_WEIGHT = 10
"""How many episodes of the domain's base rate each pattern begins with (learning study, §6)."""
Z = 1.96
BOOST = 0.25
HALF_LIFE = timedelta(days=30)
SURE = 20


def shrunk_rate(successes: int, known: int, base_rate: float) -> float:
    """The share of successes, drawn toward a base rate: it predicts."""
    return (successes + PRIOR_WEIGHT * base_rate) / (known + PRIOR_WEIGHT)


def wilson_lower(successes: int, known: int, z: float = Z) -> float:
    """The lower bound of Wilson's score interval; 0 for nothing known: it ranks, never predicts."""
    if known == 0:
        return 0.0
    share, square = successes / known, z * z
    spread = z * math.sqrt(share * (1 - share) / known + square / (4 * known * known))
    return max(0.0, (share + square / (2 * known) - spread) / (1 + square / known))


def boost(helped: int, applied: int) -> float:
    """What feedback adds to a recommendation: 0.25 · Wilson's lower bound of its successes."""
    return BOOST * wilson_lower(helped, applied)


def recency(then: datetime, now: datetime) -> float:
    """1 now, a half after thirty days, and so on."""
    age = max(now - then, timedelta(0))
    return float(0.5 ** (age / HALF_LIFE))


def effectiveness(pattern: Pattern, now: datetime) -> float:
    """How well a pattern serves, in 0…1.

    0.4 · success + 0.3 · share applied of those recommended + 0.2 · recency + 0.1 · min(n, 20)/20
    (reference/episodic-memory.md §2.7); success is that of its applications, or else of its
    episodes; what was never recommended counts a half as applied. It decays with disuse.
    """
    used = pattern.usage_count
    success = pattern.helped / used if used else pattern.success_rate
    applied = min(1.0, used / pattern.retrieved) if pattern.retrieved else 0.5
    latest = max(pattern.updated_at, pattern.last_used or pattern.updated_at)
    evidence = min(pattern.occurrences, SURE) / SURE
    return 0.4 * success + 0.3 * applied + 0.2 * recency(latest, now) + 0.1 * evidence
