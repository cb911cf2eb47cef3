"""The lessons in an episode: six types of patterns, by rules.

An episode that went well may found a pattern; whether others hold to it later is counted from every
episode that shows it, however that went. Thresholds: reference/episodic-memory.md §2.5, §8.2.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from ..models import (
    ContextPattern,
    DecisionPoint,
    Episode,
    ErrorResolution,
    Optimization,
    Outcome,
    Partial,
    PatternData,
    Step,
    Success,
    TestingStrategy,
    ToolSequence,
)
from .reward import success_rate
from .wording import error_signature, generalized, says

FOUNDS_FROM = 0.7
"""The share of steps that must have succeeded for an episode to found a pattern."""
RESOLVES_FROM = 0.3
"""The same for the resolution of an error, which cannot be without one."""
MUCH_LESS = 0.8
"""An optimization takes at most this share of what is usual."""
WINDOW, LONGEST = 3, 5
MOST_OF_A_TYPE = 12
MOST_DECISIONS = 5
_TEXT_CHARS = 200
_SAID = ("condition", "error")
DECIDING = (
    *"check checks verify verifies validate validates ensure ensures decide decides".split(),  # noqa: SIM905
    *"determine determines choose chooses select selects if when whether".split(),  # noqa: SIM905
)
TESTING = (
    *"test tests testing pytest unittest jest mocha vitest rspec junit tox nox".split(),  # noqa: SIM905
    *"lint mypy ruff eslint coverage benchmark".split(),  # noqa: SIM905
)


class Usual(msgspec.Struct, frozen=True):
    """What earlier successes of this kind of task took, at the median; ``None`` if unknown."""

    steps: float | None = None
    duration_ms: float | None = None


class Lesson(msgspec.Struct, frozen=True):
    """A pattern that an episode shows, the mean latency of its steps, and whether the episode went
    well enough to found it if nobody knows it yet."""

    data: PatternData
    latency_ms: float | None
    founds: bool


def lessons_of(
    episode: Episode, steps: Sequence[Step], outcome: Outcome, usual: Usual
) -> list[Lesson]:
    """Every pattern in an episode that ends so, each once, the same for the same episode."""
    rate = success_rate(steps)
    well = isinstance(outcome, Success | Partial)
    founds = well and (rate is None or rate >= FOUNDS_FROM)
    resolves = rate is not None and rate >= RESOLVES_FROM
    found: list[Lesson] = []
    found += _limited(_sequences(steps, founds=founds), MOST_OF_A_TYPE)
    found += _limited(_resolutions(steps, founds=resolves), MOST_OF_A_TYPE)
    found += _optimizations(episode, steps, usual) if isinstance(outcome, Success) else []
    found += _strategies(steps, founds=founds)
    found += _limited(_decisions(steps, founds=founds), MOST_DECISIONS)
    found.append(_context(episode, steps, founds=founds))
    return list({content_key(lesson.data, episode.domain): lesson for lesson in found}.values())


def content_key(data: PatternData, domain: str) -> str:
    """``type:sha256`` of what a pattern says and its domain.

    Case does not matter, nor the order of features; in what was said freely neither do numbers, ids
    and quoted texts. Names of tools stay as they are.
    """
    content = msgspec.to_builtins(data)
    kind = content.pop("type")
    normal = {
        name: generalized(value) if name in _SAID else _folded(value)
        for name, value in content.items()
    }
    if isinstance(data, ContextPattern):
        normal["features"] = sorted(normal["features"])
    digest = hashlib.sha256(msgspec.json.encode([domain.lower(), normal], order="sorted"))
    return f"{kind}:{digest.hexdigest()}"


def _folded(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(value.lower().split())
    return [_folded(each) for each in value] if isinstance(value, list) else value


def _took_ms(episode: Episode) -> float | None:
    """From start to end; ``None`` if that is nothing, because nobody took the time."""
    if episode.completed_at is None or episode.completed_at <= episode.created_at:
        return None
    return (episode.completed_at - episode.created_at) / timedelta(milliseconds=1)


def tools_of(steps: Sequence[Step]) -> list[str]:
    """The tools that were used, in order of first use."""
    return list(dict.fromkeys(step.tool_name for step in steps if step.tool_name))


def _limited(lessons: Iterator[Lesson], most: int) -> list[Lesson]:
    return [lesson for lesson, _ in zip(lessons, range(most), strict=False)]


def _lesson(data: PatternData, steps: Sequence[Step], *, founds: bool) -> Lesson:
    told = [step.duration_ms for step in steps if step.duration_ms is not None]
    return Lesson(data, sum(told) / len(told) if told else None, founds)


def runs_of(steps: Sequence[Step]) -> list[list[Step]]:
    """The steps that used a tool, those one after the other with the same tool together."""
    runs: list[list[Step]] = []
    for step in steps:
        if not step.tool_name:
            continue
        if runs and runs[-1][0].tool_name == step.tool_name:
            runs[-1].append(step)
        else:
            runs.append([step])
    return runs


def _sequences(steps: Sequence[Step], *, founds: bool) -> Iterator[Lesson]:
    """How the episode began, and every three tools in a row that did not fail."""
    runs = runs_of(steps)
    names = [run[0].tool_name or "" for run in runs]
    if len(runs) >= 2:
        begun = [step for run in runs[:LONGEST] for step in run]
        yield _lesson(ToolSequence(names[:LONGEST], opening=True), begun, founds=founds)
    seen = set()
    for start in range(len(runs) - WINDOW + 1):
        window = tuple(names[start : start + WINDOW])
        used = [step for run in runs[start : start + WINDOW] for step in run]
        if window not in seen and not any(step.success is False for step in used):
            seen.add(window)
            yield _lesson(ToolSequence(list(window)), used, founds=founds)


def _resolutions(steps: Sequence[Step], *, founds: bool) -> Iterator[Lesson]:
    """A step that failed, and the one right after it that did not."""
    for failed, after in itertools.pairwise(steps):
        if failed.success is False and after.success is True:
            error = failed.error_signature or error_signature(failed.error_message or "")
            done = after.tool_name or generalized(after.action)[:_TEXT_CHARS]
            data = ErrorResolution(error or "unknown error", failed.tool_name, [done])
            yield _lesson(data, [after], founds=founds)


def _optimizations(episode: Episode, steps: Sequence[Step], usual: Usual) -> list[Lesson]:
    tools, took = tools_of(steps)[:LONGEST], _took_ms(episode)
    measured = {"steps": (float(len(steps)), usual.steps), "duration_ms": (took, usual.duration_ms)}
    return [
        _lesson(Optimization(name, episode.task_type.value, tools), steps, founds=True)
        for name, (mine, theirs) in measured.items()
        if tools and mine is not None and theirs is not None and mine <= MUCH_LESS * theirs
    ]


def _strategies(steps: Sequence[Step], *, founds: bool) -> list[Lesson]:
    places = [n for n, step in enumerate(steps) if _tests(step)]
    if not places:
        return []
    others = [n for n in range(len(steps)) if n not in set(places)]
    testing = [steps[n] for n in places]
    tools = [step.tool_name or generalized(step.action)[:_TEXT_CHARS] for step in testing]
    data = TestingStrategy(list(dict.fromkeys(tools)), _placement(places, others))
    return [_lesson(data, testing, founds=founds)]


def _tests(step: Step) -> bool:
    return says(step.tool_name or "", TESTING) or says(step.action, TESTING)


def _placement(tests: Sequence[int], others: Sequence[int]) -> str:
    if not others:
        return "only"
    if tests[-1] < others[0]:
        return "before"
    return "after" if tests[0] > others[-1] else "throughout"


def _decisions(steps: Sequence[Step], *, founds: bool) -> Iterator[Lesson]:
    """A step whose action says, in whole words, that something is checked or decided."""
    for step, after in zip(steps, [*steps[1:], None], strict=False):
        if not says(step.action, DECIDING):
            continue
        done = "finish" if after is None else after.tool_name or generalized(after.action)
        data = DecisionPoint(step.action[:_TEXT_CHARS], done[:_TEXT_CHARS])
        yield _lesson(data, [step], founds=founds)


def _context(episode: Episode, steps: Sequence[Step], *, founds: bool) -> Lesson:
    told = {
        "domain": episode.domain,
        "task_type": episode.task_type.value,
        "language": episode.language,
        "framework": episode.framework,
    }
    features = [f"{name}:{value}" for name, value in told.items() if value]
    features += [f"tag:{tag}" for tag in episode.tags[:LONGEST]]
    data = ContextPattern(sorted(features), tools_of(steps)[:LONGEST])
    return _lesson(data, steps, founds=founds)
