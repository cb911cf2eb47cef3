"""What may be stored of episodes and steps; each refusal names the field.

Limits: reference/episodic-memory.md §1.5, §5.1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ..episodes.wording import error_signature
from ..errors import InvalidValue, LimitExceeded
from ..models import (
    Abstained,
    Failure,
    Outcome,
    OutcomeKind,
    Partial,
    ResultKind,
    Step,
    Success,
)
from ..validation import build, check_enum, check_json, check_text

N = TypeVar("N", int, float)

MAX_TASK_CHARS = 10_000
MAX_RESULT_CHARS = 10_000
MAX_STEPS = 1_000
MAX_PARAMETERS_BYTES = 1_000_000
MAX_ARTIFACTS_BYTES = 1_000_000
MAX_EPISODE_BYTES = 10_000_000
MAX_NAME_CHARS = 200
MAX_TAGS = 100
_TAG = re.compile(r"[^\W_]([\w-]*)", re.UNICODE)
_TAG_CHARS = (2, 100)
_OUTCOMES: dict[OutcomeKind, type[Outcome]] = {
    OutcomeKind.SUCCESS: Success,
    OutcomeKind.PARTIAL: Partial,
    OutcomeKind.FAILURE: Failure,
    OutcomeKind.ABSTAINED: Abstained,
}


def task_of(value: Any) -> str:
    """What is to be done, in 1 to 10,000 characters."""
    text = check_text("task", value, at_most=MAX_TASK_CHARS)
    if not text.strip():
        raise InvalidValue("task", "an episode needs to say what is to be done.")
    return text


def name_of(field: str, value: Any) -> str:
    """A short name, such as that of a domain or a tool."""
    text = check_text(field, value, at_most=MAX_NAME_CHARS).strip()
    if not text:
        raise InvalidValue(field, "it cannot be empty.")
    return text


def context_of(value: Any) -> Any:
    """A text, a JSON object, or nothing."""
    if value is not None and not isinstance(value, str | Mapping):
        raise InvalidValue("context", "it must be text or a JSON object.")
    check_json("context", value)
    size = len(msgspec.json.encode(value))
    if size > MAX_PARAMETERS_BYTES:
        raise LimitExceeded("context", f"it has {size} bytes, at most {MAX_PARAMETERS_BYTES} fit.")
    return value


def tags_of(values: Any) -> list[str]:
    """Tags in lower case, each once: 2 to 100 letters, digits, ``-`` and ``_``."""
    if values is None:
        return []
    if isinstance(values, str | Mapping) or not isinstance(values, Sequence | set | frozenset):
        raise InvalidValue("tags", "it must be a list of texts.")
    tags = list(dict.fromkeys(check_text("tags", value).strip().lower() for value in values))
    least, most = _TAG_CHARS
    for tag in tags:
        if not least <= len(tag) <= most:
            raise InvalidValue("tags", f"a tag has {least} to {most} characters.")
        if not _TAG.fullmatch(tag):
            raise InvalidValue("tags", "a tag is made of letters, digits, - and _.")
    if len(tags) > MAX_TAGS:
        raise LimitExceeded("tags", f"there are {len(tags)}, at most {MAX_TAGS} fit.")
    return tags


def outcome_of(value: Any) -> Outcome:
    """An outcome, given as such, as a dict with its ``kind``, or as its kind alone."""
    if isinstance(value, Success | Partial | Failure | Abstained):
        value = msgspec.to_builtins(value)
    elif isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, Mapping):
        raise InvalidValue("outcome", "it must be Success, Partial, Failure or Abstained.")
    kind = check_enum("outcome", OutcomeKind, value.get("kind"))
    try:
        made: Outcome = msgspec.convert({**value, "kind": kind.value}, _OUTCOMES[kind])
    except UnicodeEncodeError:
        raise InvalidValue("outcome", "it holds half a surrogate pair.") from None
    except msgspec.ValidationError as error:
        problem = str(error).split(" - at ")[0].rstrip(".")
        raise InvalidValue("outcome", f"{problem}.") from None
    _check_outcome(made)
    return made


def _check_outcome(outcome: Outcome) -> None:
    for name in outcome.__struct_fields__:
        value = getattr(outcome, name)
        check_json(name, value)
        if isinstance(value, str) and len(value) > MAX_RESULT_CHARS:
            raise LimitExceeded(name, f"it has {len(value)} characters, {MAX_RESULT_CHARS} fit.")
        if isinstance(value, list) and sum(map(len, value)) > MAX_ARTIFACTS_BYTES:
            raise LimitExceeded(name, f"it is too long; {MAX_ARTIFACTS_BYTES} characters fit.")
    if isinstance(outcome, Abstained) and outcome.stopped_at_step is not None:
        at_least("stopped_at_step", outcome.stopped_at_step, 0)


def kind_of_outcome(outcome: Outcome) -> OutcomeKind:
    """Its kind, as a value to filter by."""
    return next(kind for kind, made in _OUTCOMES.items() if isinstance(outcome, made))


def at_least(field: str, value: N, least: N) -> N:
    """A number that is not too small."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidValue(field, "it must be a number.")
    if value < least:
        raise InvalidValue(field, f"it must be at least {least}.")
    return value


def step_of(values: Mapping[str, Any]) -> Step:
    """A step of these fields, with what follows from them. Raises ``InvalidValue``.

    ``action`` or ``tool_name`` must be there. A step failed if it says so, or has an error and does
    not say; the error of a failed one is its result, if it names none.
    """
    given = dict(values)
    tool, action = given.get("tool_name"), given.get("action")
    if tool is not None:
        given["tool_name"] = tool = name_of("tool_name", tool)
    given["action"] = check_text("action", action or tool or "", at_most=MAX_RESULT_CHARS)
    if not given["action"].strip():
        raise InvalidValue("action", "a step needs an action or a tool.")
    given["result"] = _result(given.get("result"))
    given |= _verdict(given)
    for field, least in (("duration_ms", 0.0), ("tokens_used", 0)):
        if given.get(field) is not None:
            at_least(field, given[field], least)
            given[field] += 0  # -0.0 comes back as 0.0
    for field in ("parameters", "metadata"):
        check_json(field, given.get(field))
        size = len(msgspec.json.encode(given.get(field)))
        if size > MAX_PARAMETERS_BYTES:
            raise LimitExceeded(field, f"it has {size} bytes, at most {MAX_PARAMETERS_BYTES} fit.")
    return build(Step, given)


def _result(value: Any) -> str | None:
    """The text of a result; what is no text becomes JSON."""
    if value is None:
        return None
    if not isinstance(value, str):
        check_json("result", value)
        value = msgspec.json.encode(value).decode()
    return check_text("result", value, at_most=MAX_RESULT_CHARS)


def _verdict(given: Mapping[str, Any]) -> dict[str, Any]:
    kind, success, error = (given.get(n) for n in ("result_kind", "success", "error_message"))
    if kind is not None:
        kind = check_enum("result_kind", ResultKind, kind)
        if success is None:
            success = kind is ResultKind.SUCCESS
        elif success is not (kind is ResultKind.SUCCESS):
            raise InvalidValue("success", f"it contradicts the result kind {kind.value}.")
    elif success is None and error is not None:
        success = False
    if kind is None and success is not None:
        kind = ResultKind.SUCCESS if success else ResultKind.ERROR
    if success is False and error is None:
        error = given.get("result")
    if error is not None:
        check_text("error_message", error, at_most=MAX_RESULT_CHARS)
    signature = error_signature(error) if error and success is False else None
    return {
        "result_kind": kind,
        "success": success,
        "error_message": error,
        "error_signature": signature or None,
    }


def size_of(step: Step) -> int:
    """How many bytes a step counts toward what an episode may hold."""
    texts = (step.action, step.result, step.error_message)
    sizes = sum(len(text.encode()) for text in texts if text)
    return sizes + sum(
        len(msgspec.json.encode(value)) for value in (step.parameters, step.metadata) if value
    )
