"""Evidence recall@k on LoCoMo: does a search find the turns that hold the answer?

Every turn is one message, every session a conversation, every sample an agent's. For each question
with evidence and of another category than 5, recall@k is the share of its evidence turns among the
first k hits of ``db.search(agent, question, kinds=["message"], limit=50)``; session recall is the
same over the sessions of the first k distinct sessions among these hits. Evidence that names no
turn is skipped. Figures are means over questions.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from pattern_db.embeddings import EmbeddingProvider
from pattern_db.errors import ImportFailed, InvalidValue
from pattern_db.search import Hit
from pattern_db.service import PatternDB
from pattern_db.transfer import import_file
from pattern_db.transfer.locomo import samples
from pattern_db.transfer.reading import Source

from .asking import (
    FilePath,
    Inquiries,
    Inquiry,
    Judgement,
    ModeChoice,
    Progress,
    ask,
    checked_ks,
    complete_vectors,
    opened,
    ways_of,
)
from .ndcg import ndcg_at
from .questions import CATEGORIES, Asked, Question, questions_of
from .recall import distinct, recall_at
from .report import Environment, LocomoReport

LIMIT = 50
"""How many hits every question may have; the largest k."""


class _Subject(msgspec.Struct, frozen=True):
    """A sample: who remembers it, and what is asked about it."""

    agent_id: str
    asked: Asked


class _Ingested(msgspec.Struct):
    subjects: list[_Subject] = []
    written: int = 0
    messages: int = 0
    seconds: float = 0.0


async def evaluate_locomo(
    paths: FilePath | Iterable[FilePath],
    *,
    ks: Sequence[int] = (1, 5, 10, 20, 50),
    embeddings: str | EmbeddingProvider | None = None,
    mode: ModeChoice = "hybrid",
    ablate: bool = False,
    database: FilePath | None = None,
    progress: Progress | None = None,
) -> LocomoReport:
    """Import LoCoMo files and ask their questions; all files make one report.

    ``ks`` are 1 to 50. ``mode="all"`` also asks them in keyword and in semantic mode, ``ablate`` in
    these and in hybrid mode without each part of its score. Without ``database`` a temporary one is
    used; in one that is given, what was imported before is not imported again. Raises
    ``ImportFailed`` for a malformed file or one without questions, ``InvalidValue``, and what
    ``pattern_db.open`` and ``search`` raise.
    """
    wanted_ks, ways = checked_ks(ks, at_most=LIMIT), ways_of(mode, ablate=ablate)
    sources = [Source(Path(p)) for p in _listed(paths)]
    tell = progress or (lambda _step, _done, _total: None)
    async with opened(database, embeddings, ways) as db:
        ingested = await _ingest(db, sources, tell)
        first, *others = await ask(db, _inquiries(sources, ingested, wanted_ks), ways, tell)
        skipped = sum((s.asked.skipped for s in ingested.subjects), Counter[str]())
        provider = db.embeddings.provider
        return LocomoReport(
            **msgspec.structs.asdict(first),
            others=others,
            files=[source.name for source in sources],
            embedding_model=provider.model_id if provider is not None else None,
            ks=wanted_ks,
            skipped=dict(skipped),
            ingest_seconds=ingested.seconds,
            environment=Environment.here(),
            samples=len(ingested.subjects),
            messages=ingested.messages,
            messages_per_s=ingested.written / ingested.seconds if ingested.written else None,
        )


def _listed(paths: FilePath | Iterable[FilePath]) -> list[FilePath]:
    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not listed:
        raise InvalidValue("paths", "name at least one file.")
    return listed


async def _ingest(db: PatternDB, sources: Sequence[Source], tell: Progress) -> _Ingested:
    ingested = _Ingested()
    for source in sources:
        report = await import_file(
            db,
            "locomo",
            source.path,
            embed="inline",
            progress=lambda done, total: tell("ingest", done, total),
        )
        asked = await asyncio.to_thread(_read_questions, source)
        subjects = map(_Subject, report.agents, asked)
        ingested.subjects += subjects
        ingested.written += report.messages_written
        ingested.messages += report.messages_written + report.messages_present
        ingested.seconds += report.seconds
    if ingested.written < ingested.messages:
        await complete_vectors(db)
    return ingested


def _read_questions(source: Source) -> list[Asked]:
    return [questions_of(source, s) for s in samples(source, source.read_json().value)]


def _inquiries(sources: Sequence[Source], ingested: _Ingested, ks: Sequence[int]) -> Inquiries:
    asked = [
        (question.category, _inquiry(subject, question, ks))
        for subject in ingested.subjects
        for question in subject.asked.questions
    ]
    if not asked:
        names = ", ".join(source.name for source in sources)
        raise ImportFailed(f"{names}: no question has evidence; name files with questions.")
    return Inquiries(
        kind="message",
        limit=LIMIT,
        questions=[inquiry for _, inquiry in asked],
        categories=[_name(category) for category in sorted({category for category, _ in asked})],
    )


def _inquiry(subject: _Subject, question: Question, ks: Sequence[int]) -> Inquiry:
    return Inquiry(
        subject.agent_id,
        question.text,
        partial(_judged, ks=ks, question=question, sessions=subject.asked.sessions),
        _name(question.category),
    )


def _name(category: int) -> str:
    return CATEGORIES.get(category, f"category {category}")


def _judged(
    hits: Sequence[Hit], *, ks: Sequence[int], question: Question, sessions: dict[str, str]
) -> Judgement:
    turns = [str(hit.item.metadata.get("dia_id")) for hit in hits]
    wanted_sessions = {sessions[turn] for turn in question.evidence}
    found_sessions = distinct(sessions[turn] for turn in turns if turn in sessions)
    return Judgement(
        recall=recall_at(ks, question.evidence, turns),
        ndcg=ndcg_at(ks, dict.fromkeys(question.evidence, 1), distinct(turns)),
        session_recall=recall_at(ks, wanted_sessions, found_sessions),
    )
