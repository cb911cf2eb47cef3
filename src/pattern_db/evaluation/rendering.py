"""How a report looks in plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from .report import DocumentReport, Latency, LocomoReport, Ranking, Report

_NAME_WIDTH = 24
_Format = Callable[[float], str]


def render(report: LocomoReport | DocumentReport) -> str:
    """The report as a table of plain text, ending in a line break.

    Of one ranking it shows the categories, of several each as a whole.
    """
    return "\n".join([*_head(report), "", *_table(report), "", *_speed(report), ""])


def _head(report: LocomoReport | DocumentReport) -> Iterator[str]:
    searched = f"{len(report.rankings)} rankings" if report.others else f"{report.mode} search"
    asked = f"{report.overall.questions} questions"
    if isinstance(report, LocomoReport):
        title = "LoCoMo evidence recall@k"
        held = f"{report.samples} samples, {report.messages} messages"
    else:
        title = f"{report.collection} nDCG@k and recall@k"
        held = f"{report.documents} documents ({report.blank_documents} more without a text)"
    skipped = ", ".join(f"{count} {reason}" for reason, count in report.skipped.items())
    yield f"{title}, {searched}, {report.embedding_model or 'no model'}"
    yield f"{held}, {asked} (not asked: {skipped or 'none'})"


def _table(report: LocomoReport | DocumentReport) -> list[str]:
    rows = [("", "", [f"@{k}" for k in report.ks])]
    for title, field, shown in _MEASURES[type(report)]:
        for name, questions, values in _scored(report, field):
            cells = [shown(values[k]) for k in report.ks]
            rows.append((f"{title}, {name}", str(questions), cells))
    width = max(_NAME_WIDTH, *(len(name) for name, _, _ in rows))
    return [_row(name.ljust(width), questions, cells) for name, questions, cells in rows]


def _scored(report: Report, field: str) -> Iterator[tuple[str, int, Mapping[int, float]]]:
    """The name, number of questions and values of each row of a measure."""
    if report.others:
        scores = [(ranking.name, ranking.overall) for ranking in report.rankings]
    else:
        scores = [(scores.name, scores) for scores in (report.overall, *report.categories)]
    for name, of in scores:
        yield name, of.questions, getattr(of, field)


def _row(name: str, questions: str, values: Sequence[str]) -> str:
    return f"{name}{questions:>6}" + "".join(f"{value:>9}" for value in values)


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _thousandths(value: float) -> str:
    return f"{value:.3f}"


_MEASURES: Mapping[type[Report], Sequence[tuple[str, str, _Format]]] = {
    LocomoReport: (
        ("turns", "recall", _percent),
        ("sessions", "session_recall", _percent),
        ("nDCG", "ndcg", _thousandths),
    ),
    DocumentReport: (("nDCG", "ndcg", _thousandths), ("recall", "recall", _percent)),
}


def _speed(report: LocomoReport | DocumentReport) -> Iterator[str]:
    if isinstance(report, LocomoReport):
        what, rate = "messages", report.messages_per_s
    else:
        what, rate = "documents", report.documents_per_s
    if rate is not None:
        yield f"ingest: {rate:.0f} {what}/s ({report.ingest_seconds:.1f} s, vectors included)"
    for ranking in report.rankings:
        if not ranking.name.startswith("without "):
            yield from _latencies(ranking, of=f", {ranking.name}" if report.others else "")


def _latencies(ranking: Ranking, *, of: str) -> Iterator[str]:
    latencies = {
        "search": ranking.search,
        "query embedding": ranking.query_embedding,
        "search without it": ranking.search_without_embedding,
    }
    for name, latency in latencies.items():
        if latency is not None:
            yield f"{name}{of}: {_shown(latency)}"


def _shown(latency: Latency) -> str:
    return f"p50 {latency.p50_ms:.1f} ms, p95 {latency.p95_ms:.1f} ms"
