"""Search by words and by vectors: what ``TextStore`` and ``VectorStore`` promise."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from ..engines.base import Store
from ..filters import JsonIn, param
from ..models import Embedding, Episode, MemoryBlock, Message, Role
from ..query import Count
from ..schema import columns_of, table_of
from .entities import NASTY_TEXTS
from .rows import (
    BLOCKS,
    DIMENSIONS,
    MESSAGES,
    SPACE,
    add,
    agent,
    block,
    change,
    embedding,
    episode,
    message,
    remove,
    shared,
    space,
    vector,
)

pytestmark = pytest.mark.asyncio
_M, _B = columns_of(Message), columns_of(MemoryBlock)
_EMBEDDINGS = Count(table_of(Embedding))


async def _said(store: Store, **texts: str) -> None:
    """Messages of the agent flux, by id."""
    await add(store, agent("flux"), agent("sol"))
    await add(store, *(message(id, content=text) for id, text in texts.items()))


async def _found(store: Store, *terms: str, **options: Any) -> list[str]:
    asked: dict[str, Any] = {"agent_ids": ["flux"], "limit": 10, **options}
    hits = await store.text_search(MESSAGES, terms, **asked)
    scores = [score for _, score in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(score > 0 for score in scores)
    return [id for id, _ in hits]


async def test_rows_with_one_of_the_terms_are_found(store: Store) -> None:
    await _said(store, m1="the red house", m2="a blue car", m3="green")
    assert set(await _found(store, "house", "car")) == {"m1", "m2"}
    assert await _found(store, "yellow") == []
    assert await _found(store) == []
    assert await _found(store, "", " ", "?!") == []


async def test_a_term_of_several_words_is_a_phrase(store: Store) -> None:
    await _said(store, m1="the old red house", m2="the house is red", m3="red, house!")
    assert set(await _found(store, "red house")) == {"m1", "m3"}
    assert set(await _found(store, "red-house")) == {"m1", "m3"}


async def test_a_phrase_does_not_run_from_one_column_into_the_next(store: Store) -> None:
    await add(store, agent("flux"), message("m1", speaker="Ada Red", content="house on a hill"))
    assert await _found(store, "red house") == []
    assert await _found(store, "ada red") == await _found(store, "house on") == ["m1"]


async def test_words_are_found_in_any_form_case_and_with_any_accent(store: Store) -> None:
    await _said(store, m1="She was Running to the École", m2="zażółć", m3="日本語 テスト")
    for term in ("run", "RUNS", "ecole", "école", "E\u0301COLE"):
        assert await _found(store, term) == ["m1"], term
    assert await _found(store, "ZAŻÓŁĆ") == ["m2"]
    assert await _found(store, "日本語") == ["m3"]


async def test_every_column_of_the_index_is_searched(store: Store) -> None:
    await add(store, agent("flux"), message("m1", speaker="Ada", tool_text="weather", content="x"))
    assert await _found(store, "ada") == await _found(store, "weather") == ["m1"]
    await add(store, block("b1", label="garden", description="plants", content="tomato"))
    for term in ("garden", "plants", "tomatoes"):
        hits = await store.text_search(BLOCKS, [term], agent_ids=["flux"], limit=1)
        assert [id for id, _ in hits] == ["b1"]


async def test_a_term_is_text_and_never_syntax(store: Store) -> None:
    await _said(store, m1="before and after", m2="nothing of it")
    for text in [*NASTY_TEXTS, "a & b | !c:*", "a NEAR b", 'x"y', "<-> (", "a:b"]:
        await change(store, message("m1"), content=f"before {text} after")
        assert await _found(store, text) in ([], ["m1"]), text
        assert set(await _found(store, text, "after", "nothing")) == {"m1", "m2"}, text


async def test_a_rare_word_counts_for_more_and_more_often_is_better(store: Store) -> None:
    texts = {f"m{n:02}": "the meeting of the day" for n in range(20)}
    await _said(store, **texts, rare="a zebra of the day", twice="meeting after meeting of the day")
    assert (await _found(store, "meeting", "zebra", limit=3))[:2] == ["rare", "twice"]


async def test_what_is_hidden_changed_or_gone_is_not_found(store: Store) -> None:
    await _said(store, m1="apple", m2="apple", m3="apple")
    await change(store, message("m1"), is_deleted=True)
    await change(store, message("m2"), content="pear")
    await remove(store, message("m3"))
    assert await _found(store, "apple") == []
    assert await _found(store, "pear") == ["m2"]
    await change(store, message("m1"), is_deleted=False)
    assert await _found(store, "apple") == ["m1"]


@pytest.mark.parametrize("asking", [["flux"], ["flux", "sol"], ["flux", "sol", "luna"]])
async def test_a_domain_is_searched_for_its_agents_only(store: Store, asking: list[str]) -> None:
    await add(store, *(agent(name) for name in ("flux", "sol", "luna")))
    rows = [
        episode(f"{owner}-{domain}-{n}", owner, task="repair the boat", domain=domain)
        for owner in ("flux", "sol", "luna")
        for domain in ("sea", "land")
        for n in range(3)
    ]
    await add(store, *rows)
    hits = await store.text_search(
        table_of(Episode),
        ["boat"],
        agent_ids=asking,
        limit=50,
        condition=columns_of(Episode).domain == param("domain"),
        params={"domain": "sea"},
    )
    assert sorted(id for id, _ in hits) == sorted(
        row.id for row in rows if row.agent_id in asking and row.domain == "sea"
    )


async def test_filters_come_before_the_limit(store: Store) -> None:
    await _said(store, **{f"m{n:02}": "common common" for n in range(30)})
    await add(store, message("far", content="common", role=Role.TOOL, metadata={"k": 1}))
    condition = (_M.role == param("role")) & JsonIn("metadata", param("key"), param("values"))
    params = {"role": Role.TOOL, "key": "k", "values": [1]}
    assert await _found(store, "common", condition=condition, params=params, limit=1) == ["far"]
    shown = [f"m{n:02}" for n in range(30)]
    assert await _found(store, "common", exclude=shown, limit=1) == ["far"]
    assert len(await _found(store, "common", limit=5)) == 5


async def test_a_condition_can_ask_for_what_is_absent(store: Store) -> None:
    await _said(store, m1="apple")
    await add(store, message("m2", content="apple", speaker="Ada"))
    condition = _M.speaker == param("speaker")
    for speaker, expected in ((None, ["m1"]), ("Ada", ["m2"])):
        params = {"speaker": speaker}
        assert await _found(store, "apple", condition=condition, params=params) == expected


async def test_agents_find_what_is_theirs(store: Store) -> None:
    await _said(store, m1="apple")
    await add(store, message("m2", "sol", content="apple"))
    assert await _found(store, "apple") == ["m1"]
    assert await _found(store, "apple", agent_ids=["sol"]) == ["m2"]
    assert set(await _found(store, "apple", agent_ids=["sol", "flux"])) == {"m1", "m2"}
    assert await _found(store, "apple", agent_ids=["nobody"]) == []
    assert await _found(store, "sol") == await _found(store, "flux") == []


async def test_shared_blocks_are_found_while_they_are_shared(store: Store) -> None:
    await space(store)
    await add(store, agent("flux"), agent("sol"), block("b1", content="apple"))
    await add(store, embedding(block("b1"), vector(1)), shared(block("b1"), "sol"))
    scope: dict[str, Any] = {"agent_ids": ["sol"], "limit": 5}

    async def found() -> list[list[str]]:
        words = await store.text_search(BLOCKS, ["apple"], **scope)
        near = await store.vector_search(BLOCKS, vector(1), space=SPACE, **scope)
        labelled: dict[str, Any] = {"condition": _B.label == "b1", "params": {}}
        narrowed = await store.vector_search(BLOCKS, vector(1), space=SPACE, **scope, **labelled)
        return [[id for id, _ in hits] for hits in (words, near, narrowed)]

    assert await found() == [["b1"]] * 3
    await remove(store, shared(block("b1"), "sol"))
    assert await found() == [[]] * 3


async def _embedded(store: Store, **vectors: Any) -> None:
    """Messages of flux with a vector each."""
    await space(store)
    await add(store, agent("flux"), agent("sol"))
    rows = [message(id) for id in vectors]
    made = [embedding(row, found) for row, found in zip(rows, vectors.values(), strict=True)]
    await add(store, *rows, *made)


async def _near(store: Store, asked: Any, **options: Any) -> list[tuple[str, float]]:
    given: dict[str, Any] = {"space": SPACE, "agent_ids": ["flux"], "limit": 10, **options}
    return await store.vector_search(MESSAGES, asked, **given)


async def test_the_nearest_come_first_with_their_cosine(store: Store) -> None:
    await _embedded(store, m1=vector(1), m2=vector(1, 1), m3=vector(0, 1), m4=vector(-1))
    hits = await _near(store, vector(1))
    assert [id for id, _ in hits] == ["m1", "m2", "m3", "m4"]
    assert np.allclose([score for _, score in hits], [1, 0.5**0.5, 0, -1], atol=1e-5)
    assert [id for id, _ in await _near(store, vector(1), limit=2)] == ["m1", "m2"]
    assert await _near(store, vector(1), space=SPACE + 1) == []


async def test_an_item_counts_once_with_its_best_chunk(store: Store) -> None:
    await _embedded(store, m1=vector(0, 1), m2=vector(1, 1))
    await add(store, *(embedding(message("m1"), vector(1, n / 9), chunk=n) for n in range(1, 6)))
    hits = await _near(store, vector(1), limit=2)
    assert [id for id, _ in hits] == ["m1", "m2"]
    assert hits[0][1] == pytest.approx(float(vector(1, 1 / 9)[0]), abs=1e-5)


async def test_no_vector_outlives_its_item(store: Store) -> None:
    await _embedded(store, m1=vector(1), m2=vector(1), m3=vector(1))
    assert await store.execute(_EMBEDDINGS) == 3
    await change(store, message("m1"), is_deleted=True)
    await remove(store, message("m2"))
    assert await store.execute(_EMBEDDINGS) == 1
    assert [id for id, _ in await _near(store, vector(1))] == ["m3"]
    await remove(store, agent("flux"))
    assert await store.execute(_EMBEDDINGS) == 0


async def test_no_vector_is_added_for_what_is_gone(store: Store) -> None:
    await _embedded(store, m1=vector(1))
    await add(store, message("hidden", is_deleted=True))
    await add(store, embedding(message("hidden"), vector(1)))
    await add(store, embedding(message("nothing"), vector(1)))
    assert [id for id, _ in await _near(store, vector(1))] == ["m1"]
    assert await store.execute(_EMBEDDINGS) == 1


async def test_no_vector_slips_in_while_its_item_is_hidden(store: Store) -> None:
    await _embedded(store)
    await add(store, message("m1"))
    added = asyncio.Event()

    async def hide() -> None:
        await added.wait()
        await change(store, message("m1"), is_deleted=True)

    hiding = asyncio.create_task(hide())
    async with store.transaction():
        await add(store, embedding(message("m1"), vector(1)))
        added.set()
        for _ in range(300):
            await store.execute(_EMBEDDINGS)
            if hiding.done():
                break
    await hiding
    assert await store.execute(_EMBEDDINGS) == 0


async def test_a_filter_finds_what_exists_however_far(store: Store) -> None:
    near = {f"m{n:03}": vector(1, n / 1000) for n in range(300)}
    await _embedded(store, **near, far=vector(-1, 0.1))
    await change(store, message("far"), role=Role.TOOL)
    params = {"role": Role.TOOL}
    hits = await _near(store, vector(1), condition=_M.role == param("role"), params=params, limit=3)
    assert [id for id, _ in hits] == ["far"]
    assert [id for id, _ in await _near(store, vector(1), exclude=list(near))] == ["far"]


async def test_vectors_of_other_agents_are_not_in_the_way(store: Store) -> None:
    await _embedded(store, m1=vector(-1))
    others = [message(f"o{n:03}", "sol") for n in range(200)]
    await add(store, *others, *(embedding(row, vector(1)) for row in others))
    assert [id for id, _ in await _near(store, vector(1))] == ["m1"]
    both = await _near(store, vector(1), agent_ids=["flux", "sol"], limit=201)
    assert len(both) == 201
    assert await _near(store, vector(1), agent_ids=["nobody"]) == []


async def test_scores_are_the_cosines_of_these_items(store: Store) -> None:
    await _embedded(store, m1=vector(1), m2=vector(0, 1))
    await add(store, embedding(message("m2"), vector(1, 1), chunk=1), message("bare"))
    scores = await store.vector_scores(
        MESSAGES, vector(1), space=SPACE, agent_ids=["flux"], ids=["m1", "m2", "bare", "nothing"]
    )
    assert {id: round(score, 4) for id, score in scores.items()} == {"m1": 1.0, "m2": 0.7071}
    others: dict[str, Any] = {"space": SPACE, "ids": ["m1"]}
    assert await store.vector_scores(MESSAGES, vector(1), agent_ids=["sol"], **others) == {}


async def test_scores_are_those_of_the_vector_given_whatever_was_searched_before(
    store: Store,
) -> None:
    await _embedded(store, m1=vector(1), m2=vector(0, 1))
    asked: dict[str, Any] = {"space": SPACE, "agent_ids": ["flux"], "ids": ["m1", "m2"]}
    for given, expected in ((vector(1), [1.0, 0.0]), (vector(0, 1), [0.0, 1.0])):
        await _near(store, vector(1))
        scores = await store.vector_scores(MESSAGES, given, **asked)
        assert [round(scores[id], 4) for id in ("m1", "m2")] == expected
    await add(store, message("m3"), embedding(message("m3"), vector(1)))  # more than were compared
    scores = await store.vector_scores(MESSAGES, vector(1), **{**asked, "ids": ["m1", "m3"]})
    assert {id: round(score, 4) for id, score in scores.items()} == {"m1": 1.0, "m3": 1.0}


async def test_searches_inside_a_transaction_see_its_writes(store: Store) -> None:
    await _embedded(store, m1=vector(1))
    with pytest.raises(KeyError):
        async with store.transaction():
            await add(store, message("m2", content="apple"))
            await add(store, embedding(message("m2"), vector(1)))
            assert await _found(store, "apple") == ["m2"]
            assert {id for id, _ in await _near(store, vector(1))} == {"m1", "m2"}
            raise KeyError
    assert await _found(store, "apple") == []
    assert [id for id, _ in await _near(store, vector(1))] == ["m1"]


async def test_a_vector_comes_back_as_it_was_stored(store: Store) -> None:
    await space(store)
    await add(store, agent("flux"), message("m1"))
    values = np.random.default_rng(1).normal(size=DIMENSIONS).astype(np.float32)
    row = embedding(message("m1"), values / np.linalg.norm(values))
    assert await add(store, row) == [row]
    hits = await _near(store, np.frombuffer(row.vector, "<f4"))
    assert hits[0][1] == pytest.approx(1, abs=1e-5)
