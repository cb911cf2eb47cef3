"""Search as users rely on it: the right thing found, nothing that must not be, any text as query."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pattern_db
from pattern_db import Agent, Hit, InvalidValue, NotFound, PatternDB, Unsupported
from pattern_db.embeddings import EmbeddingProvider
from tests.conftest import REFUSED_UNHEARD, Shared

MAY = datetime(2023, 5, 8, tzinfo=UTC)
MODES = ["hybrid", "semantic", "keyword"]


@pytest.fixture
async def sol(minded: PatternDB) -> Agent:
    """An agent with a small life, embedded by the bundled model."""
    sol = await minded.agents.create(name="Sol")
    talk = await minded.conversations.create(sol.id, title="Moving")
    said = [
        ("Ada", "I moved to Oslo in May, the flat is near the river."),
        ("Tomas", "How is the new job?"),
        ("Ada", "It starts on Monday, I build timber bridges now."),
        ("Tomas", "My dog ate a whole cake yesterday."),
        ("Ada", "Poor thing, is he all right?"),
        ("Tomas", "Yes, he slept all night."),
    ]
    await minded.messages.append_many(
        sol.id,
        [
            {
                "role": "user" if name == "Ada" else "assistant",
                "speaker": name,
                "content": text,
                "conversation_id": talk.id,
                "created_at": MAY + timedelta(days=n),
                "metadata": {"n": n, "tags": ["even"] if n % 2 == 0 else ["odd", "rare"]},
            }
            for n, (name, text) in enumerate(said)
        ],
    )
    await minded.memory.create(sol.id, label="human", content="Ada is allergic to hazelnuts.")
    await minded.archival.create(sol.id, "Tomas was born in Ghent and paints herons.")
    return sol


def texts(hits: list[Hit]) -> list[str]:
    return [hit.item.content for hit in hits]


@pytest.mark.parametrize("mode", MODES)
async def test_every_mode_finds_the_right_memory(minded: PatternDB, sol: Agent, mode: str) -> None:
    for question, word in (
        ("Where does Ada live? Oslo?", "Oslo"),
        ("What did the dog eat?", "cake"),
        ("Which nuts is Ada allergic to? hazelnuts?", "hazelnuts"),
        ("Where was Tomas born?", "Ghent"),
    ):
        hits = await minded.search(sol.id, question, mode=mode, limit=3)
        assert any(word in text for text in texts(hits)), (question, texts(hits))
        assert {hit.mode for hit in hits} == {mode}


async def test_meaning_is_found_without_a_shared_word(minded: PatternDB, sol: Agent) -> None:
    hits = await minded.search(sol.id, "which pet swallowed dessert", mode="semantic", limit=1)
    assert "cake" in hits[0].item.content
    assert await minded.search(sol.id, "canine dessert", mode="keyword") == []


@pytest.mark.parametrize("mode", MODES)
async def test_scores_are_ordered_parts_that_add_up(
    minded: PatternDB, sol: Agent, mode: str
) -> None:
    hits = await minded.search(sol.id, "Ada Oslo river dog", mode=mode, limit=50)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert all(sum(hit.why.values()) == pytest.approx(hit.score, abs=1e-6) for hit in hits)
    again = await minded.search(sol.id, "Ada Oslo river dog", mode=mode, limit=50)
    assert again == hits


async def test_kinds_say_what_is_searched(minded: PatternDB, sol: Agent) -> None:
    question = "Ada Tomas hazelnuts herons"
    assert {h.kind for h in await minded.search(sol.id, question)} == {
        "message",
        "memory",
        "archival",
    }
    for kind, repository in (
        ("message", minded.messages),
        ("memory", minded.memory),
        ("archival", minded.archival),
    ):
        hits = await minded.search(sol.id, question, kinds=[kind])
        assert {h.kind for h in hits} == {kind}
        assert await repository.search(sol.id, question) == hits
        assert await minded.search(sol.id, question, kinds=kind) == hits


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"roles": ["assistant"]}, {1, 3, 5}),
        ({"roles": "user"}, {0, 2, 4}),
        ({"speakers": ["Ada"]}, {0, 2, 4}),
        ({"speakers": "aDA"}, {0, 2, 4}),
        ({"since": MAY + timedelta(days=4)}, {4, 5}),
        ({"until": MAY + timedelta(days=2)}, {0, 1}),
        ({"since": MAY, "until": MAY + timedelta(days=1)}, {0}),
        ({"tags": ["odd", "rare"]}, {1, 3, 5}),
        ({"tags": "even"}, {0, 2, 4}),
        ({"metadata": {"n": 3}}, {3}),
        ({"metadata": {"n": 3.0}}, {3}),
        ({"metadata": {"n": 3, "tags": ["odd", "rare"]}}, {3}),
        ({"metadata": {"n": "3"}}, set()),
        ({"metadata": {"N": 3}}, set()),
        ({"metadata": {"n": True}}, set()),
        ({"include_archived": False}, {0, 1, 2, 3, 4, 5}),
    ],
)
async def test_filters_hold_on_both_sides(
    minded: PatternDB, sol: Agent, mode: str, filters: dict[str, Any], expected: set[int]
) -> None:
    question = "Ada moved Oslo job Monday dog cake poor thing slept night new right"
    hits = await minded.search(sol.id, question, mode=mode, kinds=["message"], limit=50, **filters)
    found = {hit.item.metadata["n"] for hit in hits}
    assert found <= expected
    if mode != "keyword":
        assert found == expected


async def test_a_filter_on_a_field_excludes_kinds_without_it(minded: PatternDB, sol: Agent) -> None:
    hits = await minded.search(sol.id, "Ada Tomas hazelnuts herons", roles=["user"], limit=50)
    assert {hit.kind for hit in hits} == {"message"}


async def test_other_agents_are_never_seen(minded: PatternDB, sol: Agent) -> None:
    other = await minded.agents.create(name="Other")
    await minded.messages.append(other.id, role="user", content="I moved to Oslo, too.")
    for mode in MODES:
        hits = await minded.search(other.id, "who moved to Oslo", mode=mode, limit=50)
        assert texts(hits) == ["I moved to Oslo, too."]
        assert all(
            h.item.agent_id == sol.id for h in await minded.search(sol.id, "Oslo", mode=mode)
        )


async def test_what_is_deleted_is_gone_from_both_sides(minded: PatternDB, sol: Agent) -> None:
    (hit, *_) = await minded.search(sol.id, "dog cake", kinds=["message"])
    await minded.messages.delete(hit.item.id)
    (block,) = await minded.memory.list(sol.id)
    await minded.memory.delete(block.id)
    (entry,) = await minded.archival.list(sol.id)
    await minded.archival.delete(entry.id)
    gone = {hit.item.id, block.id, entry.id}
    for mode in MODES:
        hits = await minded.search(sol.id, "dog cake hazelnuts herons Ghent", mode=mode, limit=50)
        assert not gone & {h.item.id for h in hits}


async def test_an_edit_is_found_by_its_new_meaning_at_once(minded: PatternDB, sol: Agent) -> None:
    (block,) = await minded.memory.list(sol.id)
    await minded.memory.update(block.id, content="Ada plays the cello in an orchestra.")
    hits = await minded.memory.search(sol.id, "musical instrument", mode="semantic", limit=1)
    assert hits[0].item.content.startswith("Ada plays")
    assert (await minded.status()).counts["embeddings"] == 8


async def test_a_shared_block_is_found_by_meaning_too(minded: PatternDB, sol: Agent) -> None:
    other = await minded.agents.create(name="Other")
    (block,) = await minded.memory.list(sol.id)
    assert await minded.search(other.id, "food intolerance", mode="semantic") == []
    await minded.memory.share(block.id, other.id)
    for filters in ({}, {"since": MAY}):
        hits = await minded.search(other.id, "food intolerance", mode="semantic", **filters)
        assert [h.item.id for h in hits] == [block.id]


async def test_writes_of_another_process_are_found_by_the_next_search(
    minded: PatternDB, sol: Agent, path: str
) -> None:
    await minded.search(sol.id, "warm up")
    async with pattern_db.open(path) as other:
        message = await other.messages.append(
            sol.id, role="user", speaker="Ada", content="The volcano erupted at dawn."
        )
        hits = await minded.search(sol.id, "eruption in the morning", mode="semantic", limit=1)
        assert [h.item.id for h in hits] == [message.id]
        await other.messages.delete(message.id)
    hits = await minded.search(sol.id, "eruption in the morning", mode="semantic", limit=50)
    assert message.id not in {h.item.id for h in hits}


async def test_a_search_inside_a_transaction_sees_it_and_leaves_no_trace(
    minded: PatternDB, sol: Agent
) -> None:
    question = "eruption in the morning"
    with pytest.raises(KeyError):
        async with minded.transaction():
            await minded.messages.append(sol.id, role="user", content="The volcano erupted.")
            hits = await minded.search(sol.id, question, mode="semantic", limit=1)
            assert texts(hits) == ["The volcano erupted."]
            raise KeyError
    await minded.messages.append(sol.id, role="user", content="A quiet evening at home.")
    hits = await minded.search(sol.id, question, mode="semantic", limit=50)
    assert "The volcano erupted." not in texts(hits)


AWKWARD = [
    "what's up?", "C++", "a AND", "user@example.com", '"', '""', "'", "foo-bar", "col:val",
    "NEAR(a b)", "*", "^x", "(", ")", "OR OR", "🏳️‍🌈", "日本語", "the of and", "...", "\t\n",
    "x" * 65_536, "word " * 13_000, "%_", "--", ";", "\\", "a\u0301",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
async def test_any_text_is_a_query(minded: PatternDB, sol: Agent, mode: str) -> None:
    for query in AWKWARD:
        hits = await minded.search(sol.id, query, mode=mode)
        assert all(0 <= hit.score <= 1 for hit in hits), query[:20]


@pytest.mark.parametrize("query", ["", "   ", "\n"])
async def test_a_blank_query_finds_nothing(minded: PatternDB, sol: Agent, query: str) -> None:
    assert await minded.search(sol.id, query) == []


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(query=st.text(max_size=60))
async def test_random_text_is_a_query_or_a_typed_error(
    db: PatternDB, flux: Agent, query: str
) -> None:
    if await db.messages.count(flux.id) == 0:
        await db.messages.append(flux.id, role="user", content="I moved to Oslo in May.")
    try:
        hits = await db.search(flux.id, query)
    except InvalidValue as error:
        assert error.field == "query"
    else:
        assert len(hits) <= 1


async def test_words_that_look_like_syntax_are_found_as_words(db: PatternDB, flux: Agent) -> None:
    for text in ("mail user@example.com today", "we write C++ and F#", "it's a foo-bar"):
        await db.messages.append(flux.id, role="user", content=text)
    for query, expected in (
        ("user@example.com", "mail user@example.com today"),
        ("foo-bar", "it's a foo-bar"),
    ):
        assert texts(await db.search(flux.id, query, limit=1)) == [expected]


@REFUSED_UNHEARD
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mode": "magic"}, "mode"),
        ({"kinds": ["dreams"]}, "kinds"),
        ({"kinds": []}, "kinds"),
        ({"limit": 0}, "limit"),
        ({"limit": 10_000}, "limit"),
        ({"roles": ["robot"]}, "roles"),
        ({"since": "yesterday"}, "since"),
        ({"until": datetime(2020, 1, 1)}, "until"),
        ({"tags": 5}, "tags"),
        ({"metadata": ["x"]}, "metadata"),
        ({"metadata": {"x": float("nan")}}, "metadata"),
        ({"include_archived": "no"}, "include_archived"),
        ({"speeker": "Ada"}, "option"),
    ],
)
async def test_bad_options_are_named(
    db: PatternDB, flux: Agent, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        await db.search(flux.id, "x", **options)
    assert refused.value.field == named


async def test_an_unknown_or_deleted_agent_is_an_error(db: PatternDB, flux: Agent) -> None:
    with pytest.raises(NotFound):
        await db.search("agent_nobody", "x")
    await db.agents.delete(flux.id)
    with pytest.raises(NotFound):
        await db.search(flux.id, "x")


async def test_without_a_provider_the_mode_is_said_or_refused(db: PatternDB, flux: Agent) -> None:
    await db.messages.append(flux.id, role="user", content="I moved to Oslo.")
    assert [h.mode for h in await db.search(flux.id, "Oslo")] == ["keyword"]
    with pytest.raises(Unsupported, match="embedding provider"):
        await db.search(flux.id, "Oslo", mode="semantic")


async def test_a_name_in_the_question_does_not_drown_what_is_asked(minded: PatternDB) -> None:
    agent = await minded.agents.create(name="names")
    greeting, answer = "Good morning, Andrew here.", "That terrier of yours is lovely."
    for speaker, content in (("Andrew", greeting), ("Audrey", answer)):
        await minded.messages.append(
            agent.id, role="user", speaker=speaker, content=content, embed="inline"
        )
    hits = await minded.search(agent.id, "What breed is Andrew's?", mode="semantic")
    near = {hit.item.content: hit.why["dense"] for hit in hits}
    assert near[answer] > near[greeting]


@pytest.mark.parametrize("mode", ["hybrid", "semantic"])
async def test_what_is_found_does_not_depend_on_who_spoke_at_an_earlier_search(
    path: str, provider: EmbeddingProvider, mode: str
) -> None:
    question = "What breed is the terrier Andrew told Zoe about?"

    async def found(db: PatternDB, agent_id: str) -> list[tuple[str, dict[str, float]]]:
        return [(h.item.content, h.why) for h in await db.search(agent_id, question, mode=mode)]

    async with pattern_db.open(path, embeddings=Shared(provider)) as db:
        agent = await db.agents.create(name="names")
        for speaker, said in (
            ("Andrew", "Good morning, my terrier is a Border."),
            ("Andrew", "March was foul, we stayed in."),
            ("Zoe", "What a breed! Zoe adores terriers."),
        ):
            await db.messages.append(agent.id, role="user", speaker=speaker, content=said)
            before = await found(db, agent.id)
    async with pattern_db.open(path, embeddings=Shared(provider)) as db:
        assert before == await found(db, agent.id) == await found(db, agent.id)
