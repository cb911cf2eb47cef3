"""An episode in a few words, taken from its own: nothing is invented.

Reference/episodic-memory.md §2.11: at most 200 words, 20 concepts and 5 key steps (the first, the
errors, the decisions, the last).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..models import Episode, Failure, Outcome, Partial, Step, Success
from .extraction import DECIDING, tools_of
from .wording import says

MOST_WORDS, MOST_CONCEPTS, MOST_STEPS = 200, 20, 5
SEARCHABLE_CHARS = 6000
_RESULT_CHARS = 200


def outcome_text(outcome: Outcome) -> str:
    """How it went, as a sentence of its own words."""
    if isinstance(outcome, Success):
        return "; ".join(filter(None, [outcome.verdict or "done", *outcome.artifacts]))
    if isinstance(outcome, Partial):
        done = [f"done: {each}" for each in outcome.completed]
        left = [f"failed: {each}" for each in outcome.failed]
        return "; ".join(filter(None, [outcome.verdict or "done in part", *done, *left]))
    if isinstance(outcome, Failure):
        return ": ".join(filter(None, [outcome.reason or "failed", outcome.error]))
    signals = [f"signal: {each}" for each in outcome.signals]
    return "; ".join(filter(None, [outcome.reason or "abstained", *signals]))


def step_text(step: Step) -> str:
    """A step as ``tool: action``."""
    return f"{step.tool_name}: {step.action}" if step.tool_name else step.action


def summary_of(episode: Episode, steps: Sequence[Step], outcome: Outcome) -> str:
    """What was to be done, how it went, and by which steps."""
    verb = {Success: "succeeded", Partial: "succeeded in part", Failure: "failed"}
    went = verb.get(type(outcome), "was given up")
    ended = f"This {went} after {len(steps)} steps: {outcome_text(outcome)}."
    told = f"{episode.task.rstrip(' .')}. {ended}"
    key = key_steps(steps)
    if key:
        told += " Key steps: " + "; ".join(key) + "."
    words = told.split()
    return " ".join(words[:MOST_WORDS]) + ("…" if len(words) > MOST_WORDS else "")


def key_steps(steps: Sequence[Step]) -> list[str]:
    """The first, those that failed, those that decide, the last; in their order, five at most."""
    chosen: dict[int, None] = {}
    ranked = [
        *steps[:1],
        *steps[-1:],
        *(step for step in steps if step.success is False),
        *(step for step in steps if says(step.action, DECIDING)),
    ]
    places = {step.id: place for place, step in enumerate(steps)}
    for step in ranked:
        chosen.setdefault(places[step.id])
    return [step_text(steps[n])[:_RESULT_CHARS] for n in sorted(list(chosen)[:MOST_STEPS])]


def key_concepts(episode: Episode, steps: Sequence[Step]) -> list[str]:
    """What it is about, the most telling first: tags, language, framework, domain, tools."""
    told = [*episode.tags, episode.language, episode.framework, episode.domain]
    concepts = [each for each in [*told, episode.task_type.value, *tools_of(steps)] if each]
    return list(dict.fromkeys(concepts))[:MOST_CONCEPTS]


def searchable_text(episode: Episode, steps: Sequence[Step]) -> str:
    """What a text search finds of an episode beside its task, the most telling first."""
    parts = [episode.domain, episode.task_type.value, episode.language, episode.framework]
    parts += [*episode.tags, *_texts(episode.context)]
    if episode.outcome is not None:
        parts.append(outcome_text(episode.outcome))
    parts += list(dict.fromkeys(step.error_message for step in steps if step.error_message))
    parts += list(dict.fromkeys(map(step_text, steps)))
    parts += [finding.text for finding in episode.reflection]
    parts += [step.result[:_RESULT_CHARS] for step in steps if step.result]
    return "\n".join(part for part in parts if part)[:SEARCHABLE_CHARS]


def _texts(value: object) -> list[str]:
    """Every text in a JSON value, keys included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (key, *_texts(inner))]
    return [text for each in value for text in _texts(each)] if isinstance(value, list) else []
