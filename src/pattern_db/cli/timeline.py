"""An episode on the terminal: its facts, and its steps in the order and length they took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import output

if TYPE_CHECKING:
    from pattern_db.models import Episode, EpisodeSummary, Step

_BAR = 24
_MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("·", "")}
_HIDDEN = (
    *("is_active", "version", "searchable", "reward", "reflection", "tools", "outcome"),
    *("outcome_kind", "task", "size_bytes", "updated_at"),
)


def show_episode(episode: Episode, steps: Sequence[Step], summary: EpisodeSummary | None) -> None:
    """All there is to say of an episode."""
    output.line(output.shorten(episode.task, 500), "bold")
    output.record(output.facts_of(episode, without=_HIDDEN))
    if steps:
        output.line()
        _timeline(steps)
    if episode.outcome is not None:
        from pattern_db.episodes.summary import outcome_text

        output.line()
        output.line(f"{episode.outcome_kind}: {outcome_text(episode.outcome)}", "bold")
    for finding in episode.reflection:
        output.line(f"    {finding.kind}  {finding.text}  ({finding.rule})")
    if summary is not None:
        output.line()
        output.block(summary.summary_text)


def _timeline(steps: Sequence[Step]) -> None:
    """A line a step, its bar where it ran within the time that all took; below it an error."""
    total = sum(step.duration_ms or 0.0 for step in steps)
    tools = max(len(step.tool_name or "") for step in steps)
    before = 0.0
    for step in steps:
        took = step.duration_ms or 0.0
        bar = _bar(before, took, total)
        before += took
        mark, style = _MARKS[step.success]
        number, tool = f"{step.step_number:>4}", f"{step.tool_name or '':<{min(tools, 24)}}"
        timed = _duration(step.duration_ms)
        action = output.shorten(step.action, output.room(_BAR + min(tools, 24) + 22))
        output.line(f"{number} {mark} {bar} {timed:>9}  {tool}  {action}", style)
        if step.error_message:
            output.line(f"{'':>7}{'':>{_BAR}}{'':>12}{output.shorten(step.error_message)}", style)


def _bar(before: float, took: float, total: float) -> str:
    """Where a step ran: at least a mark for what took any time."""
    if not total:
        return " " * _BAR
    start = min(round(_BAR * before / total), _BAR - 1)
    length = min(max(round(_BAR * took / total), 1), _BAR - start) if took else 0
    return f"{' ' * start}{'━' * length}".ljust(_BAR)


def _duration(took_ms: float | None) -> str:
    if took_ms is None:
        return ""
    return f"{took_ms:,.0f} ms" if took_ms < 10_000 else f"{took_ms / 1000:,.1f} s"
