"""Ingesting the story, asking its questions, and how well and fast that went."""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import Any

import msgspec

from pattern_db.models import Agent, Role
from pattern_db.search import Hit
from pattern_db.service import PatternDB

from .story import Question, Story, story

CUTOFFS = (1, 10)
"""The k of the recall@k that is measured."""


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """What was stored and how fast. The model is ``None`` when nothing was embedded."""

    sessions: int
    turns: int
    seconds: float
    texts_per_s: float
    model: str | None
    dimensions: int | None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A hit: a turn of the story, and whether it is part of the evidence."""

    turn: str
    speaker: str
    date: str
    text: str
    score: float
    is_evidence: bool


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a question found, best first, and which share of its evidence is among the first k."""

    question: str
    answer: str
    about: str
    found: list[Found]
    recall: dict[int, float]
    ms: float


class DemoReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo did; ``recall`` is the mean over all questions, by k."""

    title: str
    agent_id: str
    ingested: Ingested
    answers: list[Answer]
    recall: dict[int, float]
    p50_ms: float


async def run_demo(db: PatternDB) -> DemoReport:
    """Store the bundled conversation for a new agent and ask all its questions."""
    told = story()
    agent = await db.agents.create(
        name=told.agent, description=told.title, metadata={"licence": told.licence}
    )
    ingested = await _ingest(db, agent, told)
    answers = [await _ask(db, agent, question) for question in told.questions]
    return DemoReport(
        title=told.title,
        agent_id=agent.id,
        ingested=ingested,
        answers=answers,
        recall={k: sum(answer.recall[k] for answer in answers) / len(answers) for k in CUTOFFS},
        p50_ms=median(answer.ms for answer in answers),
    )


async def _ingest(db: PatternDB, agent: Agent, told: Story) -> Ingested:
    """Each session is a conversation, each turn a message; all are embedded in one batch."""
    started = perf_counter()
    messages: list[dict[str, Any]] = []
    for session in told.sessions:
        conversation = await db.conversations.create(
            agent.id, title=session.title, created_at=session.started_at
        )
        messages += (
            {
                "role": Role.USER,
                "speaker": turn.speaker,
                "content": turn.text,
                "conversation_id": conversation.id,
                "created_at": session.started_at,
                "metadata": {"turn": turn.id},
            }
            for turn in session.turns
        )
    await db.messages.append_many(agent.id, messages)
    seconds = perf_counter() - started
    provider = db.embeddings.provider
    return Ingested(
        sessions=len(told.sessions),
        turns=len(messages),
        seconds=seconds,
        texts_per_s=len(messages) / seconds,
        model=provider.model_id if provider is not None else None,
        dimensions=provider.dimensions if provider is not None else None,
    )


async def _ask(db: PatternDB, agent: Agent, question: Question) -> Answer:
    started = perf_counter()
    hits = await db.messages.search(agent.id, question.question, limit=max(CUTOFFS))
    ms = (perf_counter() - started) * 1000
    found = [_found(hit, question) for hit in hits]
    return Answer(
        question=question.question,
        answer=question.answer,
        about=question.about,
        found=found,
        recall={
            k: sum(hit.is_evidence for hit in found[:k]) / len(question.evidence) for k in CUTOFFS
        },
        ms=ms,
    )


def _found(hit: Hit, question: Question) -> Found:
    turn = hit.item.metadata["turn"]
    return Found(
        turn=turn,
        speaker=hit.item.speaker,
        date=hit.item.created_at.date().isoformat(),
        text=hit.item.content,
        score=hit.score,
        is_evidence=turn in question.evidence,
    )
