"""What whoever goes on with an episode has to know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..models import Abstained, Episode, Failure, Handoff, Partial, Step
from .summary import outcome_text, step_text
from .wording import says

MOST_STEPS, MOST_FACTS, MOST_NEXT = 50, 15, 5
_CHARS = 300
_TELLING = "found finds shows because must needs cause caused requires required".split()  # noqa: SIM905


def handoff_of(
    episode: Episode,
    steps: Sequence[Step],
    *,
    patterns: Sequence[str],
    before: Handoff | None = None,
) -> Handoff:
    """The handoff of an episode as it stands, after one it began with; the latest of each kept."""
    worked = [step_text(step) for step in steps if step.success is True]
    failed = [
        f"{step_text(step)} ({step.error_message})" if step.error_message else step_text(step)
        for step in steps
        if step.success is False
    ]
    earlier = before or Handoff(episode.task)
    return Handoff(
        goal=episode.task,
        steps_completed=_latest(earlier.steps_completed, map(step_text, steps)),
        what_worked=_latest(earlier.what_worked, worked),
        what_failed=_latest(earlier.what_failed, failed),
        facts=_latest(earlier.facts, _facts(episode, steps))[-MOST_FACTS:],
        next_steps=_next(episode, steps) or earlier.next_steps,
        patterns=list(patterns),
    )


def _latest(before: Iterable[str], now: Iterable[str]) -> list[str]:
    return [*before, *(text[:_CHARS] for text in now)][-MOST_STEPS:]


def _facts(episode: Episode, steps: Sequence[Step]) -> list[str]:
    """How it went, and results that say why."""
    facts = [step.result for step in steps if step.result and says(step.result, _TELLING)]
    ended = [] if episode.outcome is None else [outcome_text(episode.outcome)]
    return [*facts, *ended]


def _next(episode: Episode, steps: Sequence[Step]) -> list[str]:
    """What is left, as far as the episode itself says."""
    left: list[str] = []
    if isinstance(episode.outcome, Partial):
        left += episode.outcome.failed
    if isinstance(episode.outcome, Failure | Abstained):
        left.append(f"resolve first: {outcome_text(episode.outcome)}")
    if steps and steps[-1].success is False:
        left.append(f"try again or otherwise: {step_text(steps[-1])}")
    return [text[:_CHARS] for text in left[:MOST_NEXT]]
