"""The content of messages: parts, tool calls and responses in the forms people have them in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..errors import InvalidValue
from ..models import Json, ToolCall, ToolResponse
from ..validation import check_json

_TEXT_KEYS = ("text", "content", "thinking")


def split_content(content: Any) -> tuple[str, list[Json] | None]:
    """Text, and the parts it came in if it came in parts."""
    if isinstance(content, str):
        return content, None
    if not isinstance(content, Sequence):
        raise InvalidValue("content", "it must be text or a list of parts.")
    parts = [_part(part) for part in content]
    return "\n".join(filter(None, map(_part_text, parts))), parts


def _part(part: Any) -> Json:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, Mapping):
        return dict(part)
    raise InvalidValue("content", "a part must be text or an object.")


def _part_text(part: Json) -> str:
    return next((part[key] for key in _TEXT_KEYS if isinstance(part.get(key), str)), "")


def listed(field: str, values: Any) -> list[Any]:
    """The items of a list; none if nothing was given."""
    if values is None:
        return []
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise InvalidValue(field, "it must be a list.")
    return list(values)


def tool_call(value: Any) -> ToolCall:
    """A tool call, also in the form of the OpenAI API."""
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        function = value["function"]
        value = {
            "call_id": value.get("id"),
            "name": function.get("name"),
            "arguments": _parsed(function.get("arguments")),
        }
    made: ToolCall = _convert(value, ToolCall, "tool_calls")
    check_json("tool_calls", made.arguments)
    return made


def tool_response(value: Any) -> ToolResponse:
    """A tool response, also in the form of the OpenAI API."""
    if isinstance(value, Mapping) and "tool_call_id" in value:
        value = {"call_id": value["tool_call_id"], "content": value.get("content") or ""}
    made: ToolResponse = _convert(value, ToolResponse, "tool_responses")
    return made


def _parsed(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        parsed = json.loads(arguments)
        check_json("tool_calls", parsed)
    except (ValueError, RecursionError):  # what cannot be stored as JSON is kept as text
        return arguments
    return parsed


def _convert(value: Any, kind: type[Any], field: str) -> Any:
    """A value or model of this kind, checked: a model's fields may hold anything."""
    if isinstance(value, kind):
        value = msgspec.structs.asdict(value)
    try:
        return msgspec.convert(value, kind)
    except UnicodeEncodeError:
        raise InvalidValue(field, "it holds half a surrogate pair.") from None
    except msgspec.ValidationError as error:
        problem = str(error).split(" - at ")[0].rstrip(".")
        raise InvalidValue(field, f"{problem}.") from None


def tool_text(calls: Sequence[ToolCall], responses: Sequence[ToolResponse]) -> str | None:
    """What a text search finds of calls and responses: names, arguments and answers, no ids."""
    lines = [f"{call.name} {' '.join(_words(call.arguments))}".strip() for call in calls]
    lines += [response.content for response in responses if response.content]
    return "\n".join(lines) or None


def _words(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [word for key, inner in value.items() for word in (str(key), *_words(inner))]
    if isinstance(value, list | tuple):
        return [word for inner in value for word in _words(inner)]
    return [] if value is None else [str(value)]
