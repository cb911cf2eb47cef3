"""From the forms in which other programs keep an agent's runs to episodes.

A converter takes one JSON object and gives a ``Trajectory``: the name of the agent, and the fields
of ``episodes.import_many``. What a form has beyond them is kept in ``metadata``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import PurePath
from typing import Any

import msgspec

from pattern_db.models import Json
from pattern_db.repositories.episode_values import MAX_NAME_CHARS, MAX_RESULT_CHARS, MAX_TASK_CHARS

from .reading import Source
from .times import moment

NEEDED = "needed_tools"
"""The tools that a task was found to need, in the metadata of an episode: ``plan`` reads them."""
_UNCHECKED = "nobody checked how it went"


class Trajectory(msgspec.Struct, frozen=True):
    """A run that ended: where it stands, whose it is, and what it becomes.

    ``cut`` counts the texts that were longer than what is stored of one.
    """

    place: str
    agent: str
    fields: Json
    cut: int = 0


class Found(msgspec.Struct, frozen=True):
    """An object of a file and what the file says of all of its objects."""

    source: Source
    place: str
    value: Json
    shared: Json = {}

    def want(self, kind: type[Any], value: Any, what: str) -> Any:
        """The value, if it is of this type; else ``ImportFailed`` with the place."""
        return self.source.expect(kind, value, self.place, what)

    def objects(self, values: Any, what: str) -> Iterator[Json]:
        """The objects of a list."""
        for number, value in enumerate(self.want(list, values, what), 1):
            yield self.source.expect(dict, value, f"{self.place}, {what} {number}", "an object")


# our own JSON Lines


_OURS = ("task", "domain", "task_type", "language", "framework", "complexity", "context", "tags")
_STEP_NAMES = {"args": "parameters", "arguments": "parameters", "name": "tool"}
_STEP_FIELDS = (
    *("action", "tool", "parameters", "result", "success", "error", "result_kind", "duration_ms"),
    *("tokens", "metadata", "timestamp"),
)


def from_episode(found: Found) -> Trajectory:
    """A line with ``task``, ``steps`` and ``outcome`` or ``reward``.

    ``args`` of a step are its parameters, a true ``error`` says that its result is one;
    ``agent_model`` names the agent and ``gold_tools`` what the task needs.
    """
    value = dict(found.value)
    agent = value.pop("agent_model", None) or value.pop("agent", None) or found.source.stem
    fields: Json = {name: value.pop(name) for name in _OURS if value.get(name) is not None}
    fields["task"] = found.want(str, fields.get("task"), "`task`")
    for name in ("created_at", "completed_at"):
        if value.get(name) is not None:
            fields[name] = moment(told := value.pop(name))
            if fields[name] is None:
                raise found.source.failure(found.place, f"`{name}` is no time ({told!r:.40})")
    fields["key"] = str(value.pop("id", None) or value.pop("key", None) or _position(found))
    fields["steps"] = [_step(step) for step in found.objects(value.pop("steps", None), "`steps`")]
    outcome, reward = value.pop("outcome", None), value.get("reward")
    fields["outcome"] = outcome if outcome is not None else outcome_of_reward(found, reward)
    metadata = found.want(dict, value.pop("metadata", None) or {}, "`metadata`")
    if isinstance(value.get("gold_tools"), list):
        metadata = {NEEDED: _names(value.pop("gold_tools")), **metadata}
    return _made(found, agent, fields, {**value, **metadata})


def _step(given: Json) -> Json:
    named = {_STEP_NAMES.get(name, name): value for name, value in given.items()}
    step = {name: named[name] for name in _STEP_FIELDS if named.get(name) is not None}
    failed = step.get("error")
    if isinstance(failed, bool):
        del step["error"]
        step.setdefault("success", not failed)
    rest = {name: value for name, value in named.items() if name not in _STEP_FIELDS}
    return {**step, "metadata": {**rest, **(step.get("metadata") or {})}} if rest else step


# τ-bench and τ²-bench


def from_tau(found: Found) -> Trajectory:
    """A result of sierra-research/tau-bench: ``task_id``, ``trial``, ``reward``, ``info``,
    ``traj``.

    The file does not say its domain; its name may (``gpt-4o-airline.json``).
    """
    value = found.value
    messages = [*found.objects(value.get("traj"), "`traj`")]
    task = object_in(value, "info", "task")
    names: tuple[str, ...] = ("task_id", "trial", "reward")
    metadata = {name: value[name] for name in names if name in value}
    metadata |= {name: task[name] for name in ("user_id", "instruction") if task.get(name)}
    if isinstance(task.get("actions"), list):
        metadata[NEEDED] = _names(task["actions"])
    fields = {
        "task": _first_words(messages) or task.get("instruction"),
        "domain": _domain_in(found.source),
        "key": f"{found.source.stem}:{value.get('task_id')}:{value.get('trial', 0)}",
        "steps": _calls(found, messages, fails=_looks_failed),
        "outcome": outcome_of_reward(found, value.get("reward")),
    }
    return _made(found, found.source.stem, fields, metadata)


def from_tau2(found: Found) -> Trajectory:
    """A simulation of a result file of sierra-research/tau2-bench; the file's tasks are shared.

    Only the agent's own calls are steps, not those of the simulated user.
    """
    value, tasks = found.value, found.shared.get("tasks", {})
    messages = [*found.objects(value.get("messages"), "`messages`")]
    task = tasks.get(str(value.get("task_id")), {})
    judged = object_in(value, "reward_info")
    names = ("task_id", "trial", "seed", "termination_reason", "agent_cost", "user_cost")
    metadata = {name: value[name] for name in names if value.get(name) is not None}
    actions = object_in(task, "evaluation_criteria").get("actions")
    if isinstance(actions, list):
        own = [a for a in actions if not (isinstance(a, dict) and a.get("requestor") == "user")]
        metadata[NEEDED] = _names(own if _first_words(messages) else actions)
    if judged:
        metadata["reward"] = judged.get("reward")
    fields = {
        "task": _first_words(messages) or task.get("ticket") or str(value.get("task_id")),
        "domain": found.shared.get("domain"),
        "key": str(value.get("id") or _position(found)),
        "steps": _calls(found, messages, fails=None),
        "outcome": outcome_of_reward(found, judged.get("reward")),
        "created_at": moment(value.get("start_time")),
        "completed_at": moment(value.get("end_time")),
    }
    return _made(found, found.shared.get("agent") or found.source.stem, fields, metadata)


def _domain_in(source: Source) -> str | None:
    known = ("airline", "retail", "telecom")
    return next((name for name in known if name in source.name.lower()), None)


# SWE-agent


def from_swe_agent(found: Found) -> Trajectory:
    """A ``.traj`` file of SWE-agent: ``environment``, ``trajectory``, ``history``, ``info``.

    The tool of a step is the command that its action begins with. The outcome is no more than what
    ``info.exit_status`` says: a submission that nobody checked is done in part.
    """
    value = found.value
    history = [*found.objects(value.get("history") or [], "`history`")]
    steps = [_command(each) for each in found.objects(value.get("trajectory"), "`trajectory`")]
    info = object_in(value, "info")
    status = info.get("exit_status")
    submitted = isinstance(status, str) and status.startswith("submitted")
    how = f"exit status: {status}" if status else _UNCHECKED
    fields = {
        "task": _first_words([m for m in history if not m.get("is_demo")]) or found.source.stem,
        "domain": "software",
        "task_type": "debugging",
        "key": f"{found.source.stem}:{value.get('environment')}",
        "steps": [step for step in steps if step is not None],
        "outcome": {"kind": "partial", "verdict": how}
        if submitted or not status
        else {"kind": "failure", "reason": how},
    }
    metadata = {
        name: info[name] for name in ("exit_status", "submission", "model_stats") if info.get(name)
    }
    if value.get("environment"):
        metadata["environment"] = value["environment"]
    return _made(found, "SWE-agent", fields, metadata)


def _command(given: Json) -> Json | None:
    action = given.get("action")
    if not isinstance(action, str) or not action.strip():
        return None
    step: Json = {
        "action": action.strip(),
        "tool": PurePath(action.split()[0]).name[:MAX_NAME_CHARS] or "sh",
    }
    if isinstance(given.get("observation"), str):
        step["result"] = given["observation"]
    if isinstance(given.get("execution_time"), int | float):
        step["duration_ms"] = given["execution_time"] * 1000
    kept = {name: given[name] for name in ("thought", "state") if given.get(name)}
    return {**step, "metadata": kept} if kept else step


# logs of chat messages with tool calls


def from_messages(found: Found) -> Trajectory:
    """An object with ``messages`` in the form of the OpenAI API, one run each.

    Beside them it may have what a line of ours has: ``id``, ``task``, ``domain``, ``outcome`` or
    ``reward``, ``model``. Without either of the last two nobody knows how it went, and it counts as
    done in part.
    """
    value = dict(found.value)
    messages = [*found.objects(value.pop("messages", None), "`messages`")]
    agent = value.pop("model", None) or value.pop("agent", None) or found.source.stem
    outcome, reward = value.pop("outcome", None), value.get("reward")
    if outcome is None and reward is None:
        outcome = {"kind": "partial", "verdict": _UNCHECKED}
    fields = {name: value.pop(name) for name in _OURS if value.get(name) is not None}
    fields["task"] = fields.get("task") or _first_words(messages)
    fields["key"] = str(value.pop("id", None) or _position(found))
    fields["steps"] = _calls(found, messages, fails=None)
    fields["outcome"] = outcome if outcome is not None else outcome_of_reward(found, reward)
    value.pop("tools", None)  # what could have been called, not what was
    metadata = found.want(dict, value.pop("metadata", None) or {}, "`metadata`")
    return _made(found, agent, fields, {**value, **metadata})


# what they share


def outcome_of_reward(found: Found, reward: Any) -> Json:
    """1 or more is a success, 0 or less a failure, what is between a part."""
    number = isinstance(reward, int | float) and not isinstance(reward, bool)
    if not number or not abs(reward) <= sys.float_info.max:
        raise found.source.failure(
            found.place, "there is neither an outcome nor a `reward` that is a number"
        )
    if reward >= 1:
        return {"kind": "success", "verdict": f"reward {reward:g}"}
    if reward <= 0:
        return {"kind": "failure", "reason": f"reward {reward:g}"}
    return {"kind": "partial", "verdict": f"reward {reward:g}"}


def _made(found: Found, agent: Any, fields: Json, metadata: Json) -> Trajectory:
    """The trajectory, its texts as long as what is stored; a long task is kept whole in its
    context."""
    task = fields["task"]
    if not isinstance(task, str) or not task.strip():
        raise found.source.failure(found.place, "it does not say what was to be done")
    cut = 0
    if len(task) > MAX_TASK_CHARS:
        fields = {**fields, "task": task[:MAX_TASK_CHARS]}
        if fields.get("context") is None:
            fields["context"] = task
        else:
            cut += 1
    steps = []
    for step in fields["steps"]:
        kept = dict(step)
        for name in ("action", "result", "error"):
            text = kept.get(name)
            if name == "result" and text is not None and not isinstance(text, str):
                text = kept[name] = json.dumps(text, ensure_ascii=False)
            if isinstance(text, str) and len(text) > MAX_RESULT_CHARS:
                kept[name] = text[:MAX_RESULT_CHARS]
                cut += 1
        steps.append(kept)
    given = {name: value for name, value in fields.items() if value is not None}
    given |= {"key": f"{fields['key']}:{_digest(task, steps)}", "steps": steps}
    name = agent if isinstance(agent, str) and agent.strip() else found.source.stem
    return Trajectory(found.place, name, {**given, "metadata": metadata}, cut)


def _digest(task: str, steps: Sequence[Json]) -> str:
    """What tells two runs apart to which a file gives the same id."""
    content = msgspec.json.encode([task, steps], order="sorted")
    return blake2b(content, digest_size=8).hexdigest()


def object_in(value: Json, *keys: str) -> Json:
    """The object under these keys, one in the other; an empty one if there is none."""
    for key in keys:
        inner = value.get(key)
        value = inner if isinstance(inner, dict) else {}
    return value


def _position(found: Found) -> str:
    return f"{found.source.name}:{found.place}"


def _names(calls: Sequence[Any]) -> list[str]:
    """The tools that are named, each once, in their order."""
    named = (call.get("name") if isinstance(call, Mapping) else call for call in calls)
    return list(dict.fromkeys(name for name in named if isinstance(name, str)))


def _first_words(messages: Sequence[Json]) -> str | None:
    """What the user said first."""
    for message in messages:
        text = _text(message.get("content"))
        if message.get("role") == "user" and text:
            return text
    return None


def _text(content: Any) -> str:
    """The text of a message's content, which may be in parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "\n".join(part for part in parts if isinstance(part, str))
    return content.strip() if isinstance(content, str) else ""


Fails = Callable[[str], bool]


def _looks_failed(result: str) -> bool:
    return result.lstrip().lower().startswith("error")


def _calls(found: Found, messages: Sequence[Json], *, fails: Fails | None) -> list[Json]:
    """The agent's tool calls in order, each with the answer that it got.

    A message may say by ``error`` whether its call failed; else ``fails`` judges the answer, or (if
    nobody does) an answer that begins with "error" failed and of others nothing is known.
    """
    steps: list[Json] = []
    waiting: dict[str, Json] = {}
    for message in messages:
        role = message.get("role")
        if role == "assistant":
            for call in _called(found, message):
                steps.append(call)
                waiting[str(call.pop("id"))] = call
        elif role in ("tool", "function"):
            answered = _answered(message, waiting, steps)
            if answered is not None:
                answered |= _answer(message, fails)
    return steps


def _called(found: Found, message: Json) -> Iterator[Json]:
    calls = message.get("tool_calls") or []
    if message.get("function_call"):
        calls = [{"id": "", "function": message["function_call"]}]
    for call in found.objects(calls, "`tool_calls`"):
        function = call["function"] if isinstance(call.get("function"), dict) else call
        name = found.want(str, function.get("name"), "the name of a tool")
        given = function.get("arguments")
        step = {"id": call.get("id"), "tool": name, "parameters": _parameters(given)}
        when = moment(message.get("timestamp"))
        yield {**step, "timestamp": when} if when is not None else step


def _parameters(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except ValueError:
        return given


def _answered(message: Json, waiting: dict[str, Json], steps: Sequence[Json]) -> Json | None:
    """The call that a message answers; one without an id answers the last."""
    id = message.get("tool_call_id") or message.get("id")
    if id is not None:
        return waiting.pop(str(id), None)
    if message.get("requestor") == "user":
        return None
    return steps[-1] if steps and "result" not in steps[-1] else None


def _answer(message: Json, fails: Fails | None) -> Json:
    result = _text(message.get("content"))
    told = message.get("error")
    if isinstance(told, bool):
        return {"result": result, "success": not told}
    if fails is not None:
        return {"result": result, "success": not fails(result)}
    return {"result": result, "success": False} if _looks_failed(result) else {"result": result}
