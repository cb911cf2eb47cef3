"""How a report on advice looks in plain text."""

from __future__ import annotations

from collections.abc import Iterator

from .episode_measures import Measure
from .episodes import EpisodesReport

_NAME_WIDTH = 44


def render_episodes(report: EpisodesReport) -> str:
    """The report as plain text: what must hold, what is hoped for, then by domain."""
    lines = [*_head(report), "", *_table(report), "", *_domains(report), *_guards(report)]
    return "\n".join([*lines, "", *_tail(report), ""])


def _head(report: EpisodesReport) -> Iterator[str]:
    yield f"Advice from past episodes, {report.embedding_model or 'no model'}"
    seeds = ", ".join(map(str, report.seeds))
    yield f"{report.runs} runs of {report.families} families; five folds by family, seeds {seeds}"


def _table(report: EpisodesReport) -> Iterator[str]:
    yield f"{'':{_NAME_WIDTH}}{'value':>8}  {'95 %':^14}{'must':>6}{'goal':>6}"
    for measure in report.measures:
        yield _row(
            f"{measure.name} {measure.what}",
            measure.value,
            (measure.low, measure.high),
            f"{_said(measure.must):>6}{_said(measure.goal):>6}",
        )
        for against in measure.against:
            name = f"   over {against.name} ({against.baseline:.3f})"
            yield _row(name, against.difference, (against.low, against.high), "", sign="+")
        for name, value in measure.extra.items():
            yield f"{f'   {name}':{_NAME_WIDTH}}{value:>8.3f}"
        yield f"   must: {measure.asked}; goal: {measure.hoped}"


def _row(
    name: str, value: float, bounds: tuple[float, float], judged: str, *, sign: str = "-"
) -> str:
    low, high = bounds
    between = f"[{low:{sign}.3f}, {high:{sign}.3f}]"
    return f"{name:{_NAME_WIDTH}}{value:>{sign}8.3f}  {between:^16}{judged}".rstrip()


def _said(reached: bool) -> str:
    return "yes" if reached else "no"


def _domains(report: EpisodesReport) -> Iterator[str]:
    for measure in report.measures:
        yield from _domains_of(measure)


def _domains_of(measure: Measure) -> Iterator[str]:
    heads = list(next(iter(measure.domains.values()), {}))
    if heads:
        yield f"{measure.name} by domain: {', '.join(heads)}"
    for domain, values in measure.domains.items():
        yield f"   {domain:16}" + "".join(f"{values[head]:>8.3f}" for head in heads)


def _guards(report: EpisodesReport) -> Iterator[str]:
    for guard in report.guards:
        holds = "holds" if guard.holds else "BROKEN"
        yield f"{guard.name} {holds}: {guard.what}: {guard.found}"


def _tail(report: EpisodesReport) -> Iterator[str]:
    for share, ours, simple in report.curve:
        yield f"{share:>5.0%} of the families: {ours:.3f} (Markov-2 {simple:.3f})"
    judged = "every must is met" if report.passes else "NOT every must is met"
    yield f"{judged}; {report.seconds:.0f} s"
