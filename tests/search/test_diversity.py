"""``diversity``: hits that differ from each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pattern_db import Agent, Hit, PatternDB
from pattern_db.search import diversity

MODES = ["hybrid", "semantic", "keyword"]


def texts(hits: list[Hit]) -> list[str]:
    return [hit.item.content for hit in hits]


def unit(*numbers: float) -> np.ndarray:
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


SAME = ["Ada lives in Oslo near the river.", "Ada lives in Oslo by the river."]
OTHER = "Since May the address of Ada is in Oslo, in a street full of lime trees."


@pytest.fixture
async def homes(minded: PatternDB) -> Agent:
    flux = await minded.agents.create(name="Flux")
    for text in (*SAME, OTHER):
        await minded.archival.create(flux.id, text)
    return flux


@pytest.mark.parametrize("mode", MODES)
async def test_the_second_hit_says_something_else(
    minded: PatternDB, homes: Agent, mode: str
) -> None:
    question = "Where in Oslo by the river does Ada live?"
    plain = await minded.search(homes.id, question, mode=mode)
    assert set(texts(plain)[:2]) == set(SAME)
    diverse = await minded.search(homes.id, question, mode=mode, diversity=0.9)
    assert diverse[0] == plain[0]
    assert texts(diverse)[1] == OTHER
    assert {hit.item.id: hit for hit in diverse} == {hit.item.id: hit for hit in plain}
    assert all(sum(hit.why.values()) == pytest.approx(hit.score, abs=1e-6) for hit in diverse)


@pytest.mark.parametrize("mode", MODES)
async def test_no_diversity_is_the_order_of_scores(
    minded: PatternDB, homes: Agent, mode: str
) -> None:
    plain = await minded.search(homes.id, "Oslo river", mode=mode, limit=2)
    for none in (0, 0.0, None):
        assert await minded.search(homes.id, "Oslo river", mode=mode, limit=2, diversity=none) == (
            plain
        )
    assert len(await minded.search(homes.id, "Oslo river", mode=mode, limit=2, diversity=1)) == 2


async def test_without_vectors_words_say_what_is_alike(db: PatternDB, flux: Agent) -> None:
    for text in (*SAME, OTHER):
        await db.messages.append(flux.id, role="user", content=text)
    hits = await db.search(flux.id, "Ada Oslo river", diversity=0.9)
    assert texts(hits)[1] == OTHER


async def test_long_texts_and_empty_results_are_no_matter(minded: PatternDB, homes: Agent) -> None:
    await minded.memory.create(homes.id, label="long", content="Oslo has a river. " * 200)
    hits = await minded.search(homes.id, "Oslo river", diversity=0.5, limit=50)
    assert len(hits) == len({hit.item.id for hit in hits}) == 4
    assert await minded.search(homes.id, "zzz", mode="keyword", diversity=0.5) == []


def test_the_next_one_is_the_one_with_the_largest_marginal_relevance() -> None:
    vectors = [unit(1, 0), unit(1, 0.1), unit(0, 1), unit(1, 1)]
    scores = [0.9, 0.8, 0.3, 0.5]
    words = [["a"]] * 4

    def order(diversity_: float, limit: int = 9) -> list[int]:
        return diversity.select(scores, vectors, words, diversity=diversity_, limit=limit)

    assert order(0.0) == [0, 1, 3, 2]
    assert order(1.0) == [0, 2, 3, 1]
    # .7: of 1 it is .3·.8 - .7·.995, of 2 .3·.3 - 0, of 3 .3·.5 - .7·.707
    assert order(0.7, limit=2) == [0, 2]
    assert diversity.select([], [], [], diversity=0.5, limit=3) == []


def test_words_count_where_one_of_two_has_no_vector() -> None:
    words = [{"oslo", "river"}, {"oslo", "river"}, {"cake"}, set()]
    chosen = diversity.select(
        [0.9, 0.8, 0.7, 0.6], [unit(1, 0), None, None, None], words, diversity=0.6, limit=4
    )
    assert chosen == [0, 2, 3, 1]


ITEMS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.none() | st.integers(0, 7),
        st.frozensets(st.sampled_from("abcd")),
    ),
    max_size=12,
)


@given(items=ITEMS, strength=st.floats(0, 1), limit=st.integers(1, 15))
def test_any_choice_is_the_greedy_one(
    items: list[tuple[float, int | None, frozenset[str]]], strength: float, limit: int
) -> None:
    """Compared with the formula written out, pair by pair."""
    vectors = [None if a is None else unit(np.cos(a), np.sin(a)) for _, a, _ in items]
    scores, words = [score for score, _, _ in items], [each for _, _, each in items]
    chosen = diversity.select(scores, vectors, words, diversity=strength, limit=limit)
    assert len(chosen) == len(set(chosen)) == min(limit, len(items))

    def alike(i: int, j: int) -> float:
        one, other = vectors[i], vectors[j]
        if one is not None and other is not None:
            return max(float(one @ other), 0.0)
        return len(words[i] & words[j]) / max(len(words[i] | words[j]), 1)

    def value(i: int, before: list[int]) -> float:
        nearest = max((alike(i, j) for j in before), default=0.0)
        return (1 - strength) * scores[i] - strength * nearest

    for place, pick in enumerate(chosen[1:], 1):
        before = chosen[:place]
        rest = [i for i in range(len(items)) if i not in before]
        assert value(pick, before) == pytest.approx(max(value(i, before) for i in rest), abs=1e-5)
    if chosen:
        assert scores[chosen[0]] == max(scores)
