"""What an evaluation found."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

import msgspec
import numpy as np

from pattern_db import __version__


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """Means over some questions, for each k.

    ``recall`` and ``ndcg`` are of what was to be found, ``session_recall`` of the sessions it was
    said in, ``None`` where there are no sessions.
    """

    name: str
    questions: int
    recall: dict[int, float]
    ndcg: dict[int, float]
    session_recall: dict[int, float] | None = None


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long something took, in milliseconds."""

    p50_ms: float
    p95_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """The percentiles of some durations."""
        p50, p95 = np.percentile(np.asarray(seconds) * 1000, [50, 95])
        return cls(p50_ms=float(p50), p95_ms=float(p95))


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """How one way of ranking did.

    ``name`` is "hybrid", "keyword", "semantic", or "without …" for hybrid search without a part of
    its score; ``mode`` is what ran. ``search`` is a whole search, ``query_embedding`` its embedding
    alone, ``search_without_embedding`` the difference, question by question; the latter two are
    ``None`` when no embedding took part.
    """

    name: str
    mode: str
    overall: Scores
    categories: list[Scores]
    search: Latency
    query_embedding: Latency | None
    search_without_embedding: Latency | None


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What the figures were taken with."""

    pattern_db: str
    python: str
    system: str
    cpus: int

    @classmethod
    def here(cls) -> Environment:
        """That of this process."""
        return cls(
            pattern_db=__version__,
            python=platform.python_version(),
            system=f"{platform.system()} {platform.machine()}",
            cpus=os.cpu_count() or 1,
        )


class Report(Ranking, frozen=True, kw_only=True):
    """The ranking that was asked for, those compared with it (``others``), and over what.

    ``files`` are names without folders. ``skipped`` counts questions that were not asked, by
    reason.
    """

    others: list[Ranking]
    files: list[str]
    embedding_model: str | None
    ks: list[int]
    skipped: dict[str, int]
    ingest_seconds: float
    environment: Environment

    @property
    def rankings(self) -> list[Ranking]:
        """All rankings, the one that was asked for first."""
        return [self, *self.others]


class LocomoReport(Report, frozen=True, kw_only=True):
    """Evidence recall@k on LoCoMo.

    ``messages_per_s`` is the rate of ingestion with embedding, ``None`` if all was in the database
    before.
    """

    samples: int
    messages: int
    messages_per_s: float | None


class DocumentReport(Report, frozen=True, kw_only=True):
    """nDCG@k and recall@k over a collection of documents.

    ``documents`` are those with a text, ``blank_documents`` those without, which no search finds.
    ``documents_per_s`` is the rate of ingestion with embedding, ``None`` if all was in the database
    before.
    """

    collection: str
    documents: int
    blank_documents: int
    documents_per_s: float | None
