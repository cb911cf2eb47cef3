"""What a ChatGPT message says, and what is known of it besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from pattern_db.models import Json

from .times import moment

_NOT_TEXT = ("content_type", "language", "response_format_name", "asset_pointer", "format")
_KEPT_OF_METADATA = {
    "model_slug": "model",
    "citations": "citations",
    "attachments": "attachments",
    "finish_details": "finish_details",
    "gizmo_id": "gizmo_id",
}


def text_of(content: Any) -> str:
    """The text of a message, of whatever type its content is."""
    if isinstance(content, str):
        return content
    if not isinstance(content, dict):
        return ""
    kind = str(content.get("content_type"))
    read: Callable[[Json], Iterator[str]] = _READERS.get(kind, _everything)
    lines = list(read(content)) or _everything(content)
    return "\n".join(line for line in lines if line)


def asset_parts(content: Any) -> list[Json]:
    """The parts of a content that are not text: images, sound, files."""
    parts = content.get("parts") if isinstance(content, dict) else None
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def details(message: Json, created_at: datetime) -> Json:
    """Metadata: the model, the recipient, parts that are not text; the time if it was moved."""
    content, metadata = message.get("content"), message.get("metadata")
    given = metadata if isinstance(metadata, dict) else {}
    found = {
        "create_time": _unless(created_at.isoformat(), _iso(message.get("create_time"))),
        "update_time": _iso(message.get("update_time")),
        "recipient": _unless("all", message.get("recipient")),
        "channel": message.get("channel"),
        "status": _unless("finished_successfully", message.get("status")),
        **(_of_content(content) if isinstance(content, dict) else {}),
        **{name: given.get(key) for key, name in _KEPT_OF_METADATA.items()},
    }
    return {key: value for key, value in found.items() if value not in (None, "", [], {})}


def _of_content(content: Json) -> Json:
    return {
        "content_type": _unless("text", content.get("content_type")),
        "language": _unless("unknown", content.get("language")),
        "url": content.get("url"),
        "parts": asset_parts(content),
    }


def _unless(usual: str, value: Any) -> Any:
    return None if value == usual else value


def _iso(value: Any) -> str | None:
    time = moment(value)
    return None if time is None else time.isoformat()


def _parts(content: Json) -> Iterator[str]:
    parts = content.get("parts")
    for part in parts if isinstance(parts, list) else ():
        yield part if isinstance(part, str) else _part(part)


def _part(part: Any) -> str:
    if not isinstance(part, dict):
        return ""
    kind = str(part.get("content_type"))
    if kind.endswith("asset_pointer"):
        return _image(part) if kind.startswith("image") else ""
    return text_of(part)


def _image(part: Json) -> str:
    """A generated image by its prompt, another by being one."""
    metadata = part.get("metadata")
    made = metadata.get("dalle") if isinstance(metadata, dict) else None
    prompt = made.get("prompt") if isinstance(made, dict) else None
    return f"[image: {prompt}]" if isinstance(prompt, str) and prompt else "[image]"


def _thoughts(content: Json) -> Iterator[str]:
    return _everything(content.get("thoughts"))


def _fields(*names: str) -> Callable[[Json], Iterator[str]]:
    return lambda content: (
        value for name in names if isinstance(value := content.get(name), str) and value
    )


def _everything(value: Any) -> Iterator[str]:
    """Every text in a value of a form that is not known here, in its order."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case list(inner):
                waiting += reversed(inner)
            case dict(inner):
                waiting += [v for key, v in reversed(inner.items()) if key not in _NOT_TEXT]


_READERS: dict[str, Callable[[Json], Iterator[str]]] = {
    "text": _parts,
    "multimodal_text": _parts,
    "code": _fields("text"),
    "execution_output": _fields("text"),
    "tether_quote": _fields("title", "text"),
    "sonic_webpage": _fields("title", "text"),
    "tether_browsing_display": _fields("summary", "result"),
    "system_error": _fields("name", "text"),
    "thoughts": _thoughts,
    "reasoning_recap": _fields("content"),
    "audio_transcription": _fields("text"),
    "user_editable_context": _fields("user_profile", "user_instructions"),
}
