"""What an evaluation found, and how it looks in plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """Mean recall over some questions: of evidence turns and of their sessions, for each k."""

    name: str
    questions: int
    recall: dict[int, float]
    session_recall: dict[int, float]


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long something took, in milliseconds."""

    p50_ms: float
    p95_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """The percentiles of some durations."""
        p50, p95 = np.percentile(np.asarray(seconds) * 1000, [50, 95])
        return cls(p50_ms=float(p50), p95_ms=float(p95))


class LocomoReport(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence recall@k on LoCoMo.

    ``skipped`` counts questions that were not asked, by reason. ``messages_per_s`` is the rate of
    ingestion with embedding, ``None`` if all was in the database before. ``search`` is a whole
    search, ``query_embedding`` its embedding alone, ``search_without_embedding`` the difference,
    question by question; the latter two are ``None`` when no embedding took part.
    """

    files: list[str]
    mode: str
    embedding_model: str | None
    samples: int
    messages: int
    ks: list[int]
    overall: Scores
    categories: list[Scores]
    skipped: dict[str, int]
    ingest_seconds: float
    messages_per_s: float | None
    search: Latency
    query_embedding: Latency | None
    search_without_embedding: Latency | None


def render(report: LocomoReport) -> str:
    """The report as a table of plain text, ending in a line break."""
    return "\n".join([*_head(report), "", *_table(report), "", *_speed(report), ""])


def _head(report: LocomoReport) -> Iterator[str]:
    skipped = ", ".join(f"{count} {reason}" for reason, count in report.skipped.items())
    yield f"LoCoMo evidence recall@k, {report.mode} search, {report.embedding_model or 'no model'}"
    yield (
        f"{report.samples} samples, {report.messages} messages, {report.overall.questions} "
        f"questions (not asked: {skipped or 'none'})"
    )


def _table(report: LocomoReport) -> Iterator[str]:
    yield _row("", "", [f"@{k}" for k in report.ks])
    for title, field in (("turns", "recall"), ("sessions", "session_recall")):
        for scores in (report.overall, *report.categories):
            values = [f"{getattr(scores, field)[k]:.1%}" for k in report.ks]
            yield _row(f"{title}, {scores.name}", str(scores.questions), values)


def _row(name: str, questions: str, values: Sequence[str]) -> str:
    return f"{name:<24}{questions:>6}" + "".join(f"{value:>9}" for value in values)


def _speed(report: LocomoReport) -> Iterator[str]:
    if report.messages_per_s is not None:
        yield (
            f"ingest: {report.messages_per_s:.0f} messages/s ({report.ingest_seconds:.1f} s, "
            "vectors included)"
        )
    latencies = {
        "search": report.search,
        "query embedding": report.query_embedding,
        "search without it": report.search_without_embedding,
    }
    for name, latency in latencies.items():
        if latency is not None:
            yield f"{name}: p50 {latency.p50_ms:.1f} ms, p95 {latency.p95_ms:.1f} ms"
