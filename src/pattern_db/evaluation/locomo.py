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
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

import pattern_db
from pattern_db.clock import monotonic
from pattern_db.embeddings import EmbeddingProvider
from pattern_db.errors import ImportFailed, InvalidValue
from pattern_db.search.options import Mode
from pattern_db.service import PatternDB
from pattern_db.transfer import import_file
from pattern_db.transfer.locomo import samples
from pattern_db.transfer.reading import Source

from .questions import CATEGORIES, Asked, Question, questions_of
from .recall import distinct, mean, recall_at
from .report import Latency, LocomoReport, Scores

LIMIT = 50
"""How many hits every question may have; the largest k."""

Progress = Callable[[str, int, int], None]
"""Hears the step ("ingest" or "ask"), how much of it is done, and how much there is."""

FilePath = str | os.PathLike[str]


class _Subject(msgspec.Struct, frozen=True):
    """A sample: who remembers it, and what is asked about it."""

    agent_id: str
    asked: Asked


class _Ingested(msgspec.Struct):
    subjects: list[_Subject] = []
    written: int = 0
    messages: int = 0
    seconds: float = 0.0


class _Outcome(msgspec.Struct, frozen=True):
    """What came of one question; durations in seconds."""

    category: int
    recall: dict[int, float]
    session_recall: dict[int, float]
    search_s: float
    embedding_s: float


async def evaluate_locomo(
    paths: FilePath | Iterable[FilePath],
    *,
    ks: Sequence[int] = (1, 5, 10, 20, 50),
    embeddings: str | EmbeddingProvider | None = None,
    mode: Mode = "hybrid",
    database: FilePath | None = None,
    progress: Progress | None = None,
) -> LocomoReport:
    """Import LoCoMo files and ask their questions; all files make one report.

    ``ks`` are 1 to 50. Without ``database`` a temporary one is used; in one that is given, what was
    imported before is not imported again. Raises ``ImportFailed`` for a malformed file or one
    without questions, and what ``pattern_db.open`` and ``search`` raise.
    """
    wanted_ks = _checked_ks(ks)
    sources = [Source(Path(p)) for p in _listed(paths)]
    tell = progress or (lambda _step, _done, _total: None)
    async with _opened(database, embeddings) as db:
        await db.embeddings.embed_query("The model is loaded before anything is measured.")
        ingested = await _ingest(db, sources, tell)
        outcomes = await _ask(db, ingested.subjects, wanted_ks, mode, tell)
        return _report(db, sources, ingested, outcomes, wanted_ks, mode)


def _checked_ks(ks: Sequence[int]) -> list[int]:
    if not ks or any(isinstance(k, bool) or not isinstance(k, int) for k in ks):
        raise InvalidValue("ks", "give at least one whole number.")
    if not all(1 <= k <= LIMIT for k in ks):
        raise InvalidValue("ks", f"each k must be between 1 and {LIMIT}.")
    return sorted(set(ks))


def _listed(paths: FilePath | Iterable[FilePath]) -> list[FilePath]:
    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not listed:
        raise InvalidValue("paths", "name at least one file.")
    return listed


@asynccontextmanager
async def _opened(
    database: FilePath | None, embeddings: str | EmbeddingProvider | None
) -> AsyncIterator[PatternDB]:
    if database is not None:
        async with pattern_db.open(database, embeddings=embeddings) as db:
            yield db
        return
    with tempfile.TemporaryDirectory(prefix="pattern-eval-") as folder:
        path = Path(folder) / "locomo.db"
        async with pattern_db.open(path, embeddings=embeddings) as db:
            yield db


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
    await db.embed_pending()
    return ingested


def _read_questions(source: Source) -> list[Asked]:
    return [questions_of(source, s) for s in samples(source, source.read_json().value)]


async def _ask(
    db: PatternDB, subjects: Sequence[_Subject], ks: Sequence[int], mode: Mode, tell: Progress
) -> list[_Outcome]:
    outcomes: list[_Outcome] = []
    total = sum(len(subject.asked.questions) for subject in subjects)
    for subject in subjects:
        for question in subject.asked.questions:
            outcomes.append(await _ask_one(db, subject, question, ks, mode))
            tell("ask", len(outcomes), total)
    return outcomes


async def _ask_one(
    db: PatternDB, subject: _Subject, question: Question, ks: Sequence[int], mode: Mode
) -> _Outcome:
    started = monotonic()
    hits = await db.search(
        subject.agent_id, question.text, kinds=["message"], limit=LIMIT, mode=mode
    )
    searched = monotonic()
    await db.embeddings.embed_query(question.text)
    embedded = monotonic()
    sessions = subject.asked.sessions
    turns = [str(hit.item.metadata.get("dia_id")) for hit in hits]
    wanted_sessions = {sessions[turn] for turn in question.evidence}
    return _Outcome(
        question.category,
        recall_at(ks, question.evidence, turns),
        recall_at(ks, wanted_sessions, distinct(sessions[t] for t in turns if t in sessions)),
        searched - started,
        embedded - searched,
    )


def _report(
    db: PatternDB,
    sources: Sequence[Source],
    ingested: _Ingested,
    outcomes: Sequence[_Outcome],
    ks: list[int],
    mode: Mode,
) -> LocomoReport:
    if not outcomes:
        names = ", ".join(source.name for source in sources)
        raise ImportFailed(f"{names}: no question has evidence; name files with questions.")
    provider = db.embeddings.provider
    embeds = provider is not None and mode != "keyword"
    skipped = sum((s.asked.skipped for s in ingested.subjects), Counter[str]())
    rest = [max(outcome.search_s - outcome.embedding_s, 0.0) for outcome in outcomes]
    return LocomoReport(
        files=[source.name for source in sources],
        mode=mode if provider is not None else "keyword",
        embedding_model=provider.model_id if provider is not None else None,
        samples=len(ingested.subjects),
        messages=ingested.messages,
        ks=ks,
        overall=_scores("all", outcomes, ks),
        categories=_by_category(outcomes, ks),
        skipped=dict(skipped),
        ingest_seconds=ingested.seconds,
        messages_per_s=ingested.written / ingested.seconds if ingested.written else None,
        search=Latency.of([outcome.search_s for outcome in outcomes]),
        query_embedding=Latency.of([o.embedding_s for o in outcomes]) if embeds else None,
        search_without_embedding=Latency.of(rest) if embeds else None,
    )


def _by_category(outcomes: Sequence[_Outcome], ks: Sequence[int]) -> list[Scores]:
    return [
        _scores(
            CATEGORIES.get(category, f"category {category}"),
            [outcome for outcome in outcomes if outcome.category == category],
            ks,
        )
        for category in sorted({outcome.category for outcome in outcomes})
    ]


def _scores(name: str, outcomes: Sequence[_Outcome], ks: Sequence[int]) -> Scores:
    return Scores(
        name=name,
        questions=len(outcomes),
        recall=mean([outcome.recall for outcome in outcomes], ks),
        session_recall=mean([outcome.session_recall for outcome in outcomes], ks),
    )
