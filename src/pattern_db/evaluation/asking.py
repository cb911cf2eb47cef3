"""Asking all questions in one or several ways of ranking, over one database."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

import pattern_db
from pattern_db.clock import monotonic
from pattern_db.embeddings import EmbeddingProvider
from pattern_db.errors import InvalidValue, Unsupported
from pattern_db.search import Hit, Searcher, SearchOptions
from pattern_db.search.options import Mode
from pattern_db.search.ranking import WEIGHTS
from pattern_db.service import PatternDB
from pattern_db.validation import check_known

from .recall import mean
from .report import Latency, Ranking, Scores

ModeChoice = Literal["hybrid", "semantic", "keyword", "all"]
"""How to search; "all" compares the three."""

FilePath = str | os.PathLike[str]

Progress = Callable[[str, int, int], None]
"""Hears the step ("ingest" or "ask"), how much of it is done, and how much there is."""


class Way(msgspec.Struct, frozen=True):
    """A way of ranking; ``weights`` replace those of its mode."""

    name: str
    mode: Mode
    weights: Mapping[str, float] | None = None


class Judgement(msgspec.Struct, frozen=True):
    """How good the hits of one question are, for each k."""

    recall: dict[int, float]
    ndcg: dict[int, float]
    session_recall: dict[int, float] | None = None


class Inquiry(msgspec.Struct, frozen=True):
    """A question to an agent, and what judges the hits."""

    agent_id: str
    text: str
    judge: Callable[[Sequence[Hit]], Judgement]
    category: str = ""


class Inquiries(msgspec.Struct, frozen=True):
    """All questions of an evaluation. ``categories`` are the names by which to divide them."""

    kind: str
    limit: int
    questions: Sequence[Inquiry]
    categories: Sequence[str] = ()


class _Outcome(msgspec.Struct, frozen=True):
    """What came of one question; durations in seconds."""

    category: str
    judgement: Judgement
    search_s: float
    embedding_s: float


def ways_of(mode: ModeChoice, *, ablate: bool) -> list[Way]:
    """What to measure: one mode, all three, or (``ablate``) also hybrid search without each part.

    The one that was asked for comes first. Raises ``InvalidValue``.
    """
    check_known("mode", [mode], get_args(ModeChoice))
    if ablate and mode not in ("hybrid", "all"):
        raise InvalidValue("mode", "parts are left out of hybrid search only; leave out the mode.")
    if mode != "all" and not ablate:
        return [Way(mode, mode)]
    return [
        Way("hybrid", "hybrid"),
        *(_without_each_part() if ablate else ()),
        Way("keyword", "keyword"),
        Way("semantic", "semantic"),
    ]


def _without_each_part() -> list[Way]:
    whole = WEIGHTS["hybrid"]
    return [
        Way(
            f"without {part}",
            "hybrid",
            {name: weight for name, weight in whole.items() if name != part},
        )
        for part in whole
    ]


def checked_ks(ks: Sequence[int], *, at_most: int) -> list[int]:
    """The ks in ascending order, each once. Raises ``InvalidValue``."""
    if not ks or any(isinstance(k, bool) or not isinstance(k, int) for k in ks):
        raise InvalidValue("ks", "give at least one whole number.")
    if not all(1 <= k <= at_most for k in ks):
        raise InvalidValue("ks", f"each k must be between 1 and {at_most}.")
    return sorted(set(ks))


@asynccontextmanager
async def opened(
    database: FilePath | None,
    embeddings: str | EmbeddingProvider | None,
    ways: Sequence[Way],
) -> AsyncIterator[PatternDB]:
    """A database to measure in, its model loaded; a temporary one if none is named.

    Raises ``Unsupported`` if the ways need vectors and there is no embedding provider.
    """
    with tempfile.TemporaryDirectory(prefix="pattern-eval-") as folder:
        path = Path(folder) / "evaluation.db" if database is None else database
        async with pattern_db.open(path, embeddings=embeddings) as db:
            if db.embeddings.provider is None and (len(ways) > 1 or ways[0].mode == "semantic"):
                raise Unsupported(
                    "Semantic search and comparisons need an embedding provider; set "
                    "embeddings.provider, or use only keyword mode."
                )
            await db.embeddings.embed_query("The model is loaded before anything is measured.")
            yield db


async def complete_vectors(db: PatternDB) -> None:
    """Embed what an earlier evaluation in this database left without a vector."""
    if db.embeddings.provider is not None:
        await db.reembed()


async def ask(
    db: PatternDB, inquiries: Inquiries, ways: Sequence[Way], tell: Progress
) -> list[Ranking]:
    """Ask every question in every way, one at a time."""
    rankings = []
    asked, total = 0, len(inquiries.questions) * len(ways)
    for way in ways:
        outcomes = []
        for inquiry in inquiries.questions:
            outcomes.append(await _ask_one(db, inquiries, inquiry, way))
            asked += 1
            tell("ask", asked, total)
        rankings.append(_ranking(db, inquiries, way, outcomes))
    return rankings


async def _ask_one(db: PatternDB, inquiries: Inquiries, inquiry: Inquiry, way: Way) -> _Outcome:
    started = monotonic()
    hits = await _search(db, inquiries, inquiry, way)
    searched = monotonic()
    await db.embeddings.embed_query(inquiry.text)
    embedded = monotonic()
    return _Outcome(inquiry.category, inquiry.judge(hits), searched - started, embedded - searched)


async def _search(db: PatternDB, inquiries: Inquiries, inquiry: Inquiry, way: Way) -> list[Hit]:
    asked: dict[str, Any] = {"kinds": [inquiries.kind], "limit": inquiries.limit, "mode": way.mode}
    if way.weights is None:
        return await db.search(inquiry.agent_id, inquiry.text, **asked)
    options = SearchOptions.of(asked)
    searcher = Searcher(db.store, db.embeddings)
    return await searcher.search(inquiry.agent_id, inquiry.text, options, weights=way.weights)


def _ranking(
    db: PatternDB, inquiries: Inquiries, way: Way, outcomes: Sequence[_Outcome]
) -> Ranking:
    has_provider = db.embeddings.provider is not None
    embeds = has_provider and way.mode != "keyword"
    rest = [max(outcome.search_s - outcome.embedding_s, 0.0) for outcome in outcomes]
    return Ranking(
        name=way.name,
        mode=way.mode if has_provider else "keyword",
        overall=_scores("all", outcomes),
        categories=[
            _scores(name, [outcome for outcome in outcomes if outcome.category == name])
            for name in inquiries.categories
        ],
        search=Latency.of([outcome.search_s for outcome in outcomes]),
        query_embedding=Latency.of([o.embedding_s for o in outcomes]) if embeds else None,
        search_without_embedding=Latency.of(rest) if embeds else None,
    )


def _scores(name: str, outcomes: Sequence[_Outcome]) -> Scores:
    judgements = [outcome.judgement for outcome in outcomes]
    ks = judgements[0].recall
    sessions = [j.session_recall for j in judgements if j.session_recall is not None]
    return Scores(
        name=name,
        questions=len(judgements),
        recall=mean([j.recall for j in judgements], ks),
        ndcg=mean([j.ndcg for j in judgements], ks),
        session_recall=mean(sessions, ks) if sessions else None,
    )
