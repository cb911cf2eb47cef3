"""Asking the same questions in several ways."""

from __future__ import annotations

from collections.abc import Sequence

from pattern_db import Hit, PatternDB
from pattern_db.evaluation.asking import Inquiries, Inquiry, Judgement, ask, ways_of
from pattern_db.search.ranking import WEIGHTS


async def test_each_way_ranks_by_its_own_parts(minded: PatternDB) -> None:
    agent = await minded.agents.create(name="Flux")
    talk = await minded.conversations.create(agent.id)
    for text in ("When did you move to Oslo?", "I moved there in May last year, on a rainy day."):
        await minded.messages.append(
            agent.id, role="user", speaker="Ada", content=text, conversation_id=talk.id
        )
    used: list[set[str]] = []

    def judge(hits: Sequence[Hit]) -> Judgement:
        used.append({part for hit in hits for part in hit.why})
        return Judgement({1: 1.0}, {1: 1.0})

    question = "When in May did Ada move to Oslo?"
    inquiries = Inquiries("message", 10, [Inquiry(agent.id, question, judge)])
    ways = ways_of("hybrid", ablate=True)
    rankings = await ask(minded, inquiries, ways, lambda *_: None)

    whole = set(WEIGHTS["hybrid"])
    hybrid, *without, keyword, semantic = used
    assert hybrid == whole
    assert without == [whole - {part} for part in WEIGHTS["hybrid"]]
    assert keyword <= set(WEIGHTS["keyword"])
    assert semantic <= set(WEIGHTS["semantic"])
    assert [ranking.name for ranking in rankings] == [way.name for way in ways]
