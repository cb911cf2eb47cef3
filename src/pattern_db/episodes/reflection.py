"""What can be said of an episode that has ended, by rules that can be named.

Rules and thresholds: reference/episodic-memory.md §2.3. Each finding holds the id of its rule, so
that it can be asked for and explained; at most five of a kind, in the order of the rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta

import msgspec

from ..models import Complexity, Episode, Failure, Finding, Outcome, Partial, Step, Success
from .reward import recovered, success_rate

MOST_OF_A_KIND = 5
_EXPECTED = {Complexity.SIMPLE: 5, Complexity.MODERATE: 15, Complexity.COMPLEX: 30}
_SLOW_MS, _VERY_SLOW_MS = 1000, 5000


class Ended(msgspec.Struct, frozen=True):
    """What the rules look at."""

    episode: Episode
    steps: Sequence[Step]
    outcome: Outcome
    duration: timedelta | None

    @property
    def failed(self) -> list[Step]:
        """The steps that failed."""
        return [step for step in self.steps if step.success is False]

    @property
    def tools(self) -> list[str]:
        """The tool of each step that used one."""
        return [step.tool_name for step in self.steps if step.tool_name]


Said = tuple[str, Sequence[Step]] | None
Rule = Callable[[Ended], Said]


def reflect(ended: Ended) -> list[Finding]:
    """What the rules find."""
    found = []
    for kind, rules in RULES.items():
        said = [(rule, told) for rule, find in rules.items() if (told := find(ended))]
        for rule, (text, steps) in said[:MOST_OF_A_KIND]:
            numbers = [step.step_number for step in steps if step.step_number is not None]
            found.append(Finding(rule, kind, text, numbers))
    return found


# what went well


def _verdict(ended: Ended) -> Said:
    if isinstance(ended.outcome, Success) and ended.outcome.verdict:
        return f"The task was done: {ended.outcome.verdict}", ()
    return None


def _artifacts(ended: Ended) -> Said:
    made = ended.outcome.artifacts if isinstance(ended.outcome, Success) else []
    return (f"Produced {len(made)} artifacts.", ()) if made else None


def _completed_items(ended: Ended) -> Said:
    done = ended.outcome.completed if isinstance(ended.outcome, Partial) else []
    return (f"Completed {len(done)} items: {', '.join(done[:5])}", ()) if done else None


def _most_steps_succeeded(ended: Ended) -> Said:
    rate = success_rate(ended.steps)
    return (f"{rate:.0%} of the steps succeeded.", ()) if rate is not None and rate >= 0.8 else None


def _working_sequence(ended: Ended) -> Said:
    used = [step for step in ended.steps if step.success and step.tool_name][:3]
    names = " -> ".join(step.tool_name or "" for step in used)
    return (f"This sequence worked: {names}", used) if len(used) == 3 else None


def _fast(ended: Ended) -> Said:
    if ended.duration and ended.duration < timedelta(seconds=30) and ended.steps:
        return f"Done in {ended.duration.total_seconds():.1f} s.", ()
    return None


# what could go better


def _failure_reason(ended: Ended) -> Said:
    if isinstance(ended.outcome, Failure) and ended.outcome.reason:
        return f"It failed: {ended.outcome.reason}", ()
    return None


def _failed_items(ended: Ended) -> Said:
    left = ended.outcome.failed if isinstance(ended.outcome, Partial) else []
    return (f"Not done: {', '.join(left[:5])}", ()) if left else None


def _failed_steps(ended: Ended) -> Said:
    numbers = ", ".join(str(step.step_number) for step in ended.failed[:5])
    return (f"{len(ended.failed)} steps failed: {numbers}", ended.failed) if ended.failed else None


def _tool_failing(ended: Ended) -> Said:
    for tool, times in Counter(step.tool_name for step in ended.failed).most_common(1):
        if tool and times >= 2:
            return f"{tool} failed {times} times.", [s for s in ended.failed if s.tool_name == tool]
    return None


def _same_error(ended: Ended) -> Said:
    for signature, times in Counter(s.error_signature for s in ended.failed).most_common(1):
        if signature and times >= 2:
            same = [step for step in ended.failed if step.error_signature == signature]
            return f"The same error came {times} times: {signature}", same
    return None


def _root_cause(ended: Ended) -> Said:
    if len(ended.failed) >= 3:
        return f"{len(ended.failed)} failures: look for what they have in common.", ended.failed
    return None


def _slow(ended: Ended) -> Said:
    if ended.duration is not None and ended.duration > timedelta(seconds=300):
        return f"It took {ended.duration.total_seconds():.0f} s; look for what took long.", ()
    return None


def _many_steps(ended: Ended) -> Said:
    return (f"It took {len(ended.steps)} steps.", ()) if len(ended.steps) > 50 else None


def _bottleneck(ended: Ended) -> Said:
    timed = [(step.duration_ms, step) for step in ended.steps if step.duration_ms is not None]
    if not timed:
        return None
    longest, step = max(timed, key=lambda pair: pair[0])
    mean = sum(duration for duration, _ in timed) / len(timed)
    if longest > 3 * mean and longest > _SLOW_MS:
        return f"Step {step.step_number} took {longest:.0f} ms, the mean is {mean:.0f} ms.", [step]
    return None


def _one_tool_often(ended: Ended) -> Said:
    for tool, times in Counter(ended.tools).most_common(1):
        if times >= 5:
            return f"{tool} was used {times} times; do several at once if it can.", ()
    return None


def _in_a_row(ended: Ended) -> Said:
    pairs = zip(ended.steps, ended.steps[1:], strict=False)
    same = [b for a, b in pairs if a.tool_name and a.tool_name == b.tool_name]
    if len(ended.steps) >= 4 and len(same) >= 2:
        return f"{len(same)} steps repeat the tool before them; they may go side by side.", same
    return None


def _tokens(ended: Ended) -> Said:
    used = sum(step.tokens_used or 0 for step in ended.steps)
    return (f"It used {used:,} tokens.", ()) if used > 10_000 else None


# what is to be seen in it


def _rate_band(ended: Ended) -> Said:
    rate = success_rate(ended.steps)
    if rate is None:
        return None
    band = "all" if rate == 1 else "most" if rate >= 0.8 else "some" if rate >= 0.5 else "few"
    return f"{band.capitalize()} of the steps succeeded ({rate:.0%}).", ()


def _recovered(ended: Ended) -> Said:
    return ("It recovered from an error.", ended.failed) if recovered(ended.steps) else None


def _variety(ended: Ended) -> Said:
    different = len(set(ended.tools))
    if different > 5:
        return f"It took {different} different tools.", ()
    if different == 1 and len(ended.steps) > 3:
        return f"One tool did it all: {ended.tools[0]}.", ()
    return None


def _latency(ended: Ended) -> Said:
    timed = [step.duration_ms for step in ended.steps if step.duration_ms is not None]
    mean = sum(timed) / len(timed) if timed else 0.0
    return (f"A step took {mean:.0f} ms on average.", ()) if mean > _VERY_SLOW_MS else None


def _against_expected(ended: Ended) -> Said:
    expected, took = _EXPECTED[ended.episode.complexity], len(ended.steps)
    told = f"{took} steps, where a {ended.episode.complexity.value} task usually takes {expected}."
    return (told, ()) if took * 2 <= expected or took >= 2 * expected else None


def _useful_tools(ended: Ended) -> Said:
    best = Counter(step.tool_name for step in ended.steps if step.success and step.tool_name)
    names = ", ".join(tool for tool, _ in best.most_common(3))
    worked = isinstance(ended.outcome, Success) and bool(names)
    return (f"Tools that worked: {names}", ()) if worked else None


def _seen_in_steps(rule: Rule) -> Rule:
    """Only with two steps or more is there anything to see."""
    return lambda ended: rule(ended) if len(ended.steps) >= 2 else None


RULES: dict[str, dict[str, Rule]] = {
    "success": {
        "verdict": _verdict,
        "artifacts": _artifacts,
        "completed_items": _completed_items,
        "most_steps_succeeded": _most_steps_succeeded,
        "working_sequence": _working_sequence,
        "fast": _fast,
    },
    "improvement": {
        "failure_reason": _failure_reason,
        "failed_items": _failed_items,
        "failed_steps": _failed_steps,
        "tool_failing": _tool_failing,
        "same_error": _same_error,
        "root_cause": _root_cause,
        "slow": _slow,
        "many_steps": _many_steps,
        "bottleneck": _bottleneck,
        "one_tool_often": _one_tool_often,
        "in_a_row": _in_a_row,
        "tokens": _tokens,
    },
    "insight": {
        "success_rate": _seen_in_steps(_rate_band),
        "recovered": _seen_in_steps(_recovered),
        "variety": _seen_in_steps(_variety),
        "latency": _seen_in_steps(_latency),
        "against_expected": _seen_in_steps(_against_expected),
        "useful_tools": _seen_in_steps(_useful_tools),
    },
}
"""Every rule by its id, in order, under the kind of finding it makes."""
