"""nDCG: hand-computed values and what holds of all."""

from __future__ import annotations

from itertools import permutations
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pattern_db.evaluation.ndcg import ndcg_at

IDS = "abcdef"
GRADES = st.dictionaries(st.sampled_from(IDS), st.integers(-1, 5), min_size=1).filter(
    lambda grades: max(grades.values()) > 0
)
FOUND = st.permutations(IDS).flatmap(
    lambda order: st.integers(0, len(order)).map(lambda n: order[:n])
)
KS = range(1, 8)


@pytest.mark.parametrize(
    ("found", "ndcg"),
    [
        ("ab", {1: 1.0, 2: 1.0, 10: 1.0}),
        ("ba", {1: 1 / 3, 2: (1 + 3 / log2(3)) / (3 + 1 / log2(3))}),
        ("xa", {1: 0.0, 10: (3 / log2(3)) / (3 + 1 / log2(3))}),
        ("xxb", {2: 0.0, 3: 0.5 / (3 + 1 / log2(3))}),
        ("", {1: 0.0, 10: 0.0}),
        ("ca", {1: 0.0, 2: (3 / log2(3)) / (3 + 1 / log2(3))}),
    ],
)
def test_gains_are_grades_and_discounts_are_logarithms(found: str, ndcg: dict[int, float]) -> None:
    assert ndcg_at(ndcg, {"a": 3, "b": 1, "c": -2}, list(found)) == pytest.approx(ndcg)


@given(GRADES, FOUND)
def test_it_lies_between_nothing_and_the_best(grades: dict[str, int], found: list[str]) -> None:
    assert all(0 <= value <= 1 + 1e-12 for value in ndcg_at(KS, grades, found).values())


@given(GRADES)
def test_the_best_order_has_one(grades: dict[str, int]) -> None:
    best = sorted(grades, key=grades.__getitem__, reverse=True)
    assert ndcg_at(KS, grades, best) == pytest.approx(dict.fromkeys(KS, 1.0))


@given(GRADES, st.integers(1, 6))
def test_no_order_is_better_than_the_best(grades: dict[str, int], k: int) -> None:
    best = max(ndcg_at([k], grades, order)[k] for order in permutations(grades))
    assert best == pytest.approx(1.0)


@given(GRADES, FOUND, st.data())
def test_the_order_among_equals_does_not_matter(
    grades: dict[str, int], found: list[str], data: st.DataObject
) -> None:
    groups: dict[int, list[str]] = {}
    for id in found:
        groups.setdefault(max(grades.get(id, 0), 0), []).append(id)
    shuffled = {grade: data.draw(st.permutations(ids)) for grade, ids in groups.items()}
    swapped = [shuffled[max(grades.get(id, 0), 0)].pop() for id in found]
    assert ndcg_at(KS, grades, swapped) == pytest.approx(ndcg_at(KS, grades, found))


@given(GRADES, FOUND, st.integers(0, 4))
def test_moving_the_better_one_up_never_lowers_it(
    grades: dict[str, int], found: list[str], at: int
) -> None:
    if at + 1 >= len(found) or grades.get(found[at], 0) >= grades.get(found[at + 1], 0):
        return
    moved = [*found[:at], found[at + 1], found[at], *found[at + 2 :]]
    before, after = ndcg_at(KS, grades, found), ndcg_at(KS, grades, moved)
    assert all(after[k] >= before[k] - 1e-12 for k in KS)
