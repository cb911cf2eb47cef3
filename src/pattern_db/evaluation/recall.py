"""Recall: the share of what should be found that is among what was found first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set


def recall_at(ks: Iterable[int], wanted: Set[str], found: Sequence[str]) -> dict[int, float]:
    """For each k, the share of ``wanted`` among the first k of ``found``."""
    return {k: len(wanted & {*found[:k]}) / len(wanted) for k in ks}


def distinct(found: Iterable[str]) -> list[str]:
    """Each once, in the order of its first occurrence."""
    return list(dict.fromkeys(found))


def mean(recalls: Sequence[Mapping[int, float]], ks: Iterable[int]) -> dict[int, float]:
    """The mean over questions, for each k; there is at least one."""
    return {k: sum(recall[k] for recall in recalls) / len(recalls) for k in ks}
