"""Tool calls and their responses in a stream of messages.

Messages with calls are shown once all calls are answered, so a file whose calls were not would come
to lie hidden. Here calls wait for their responses; one that gets none, and a response to nothing,
becomes text of its message, and its structure is kept in the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from pattern_db.ids import derived_id
from pattern_db.models import Role, ToolCall, ToolResponse
from pattern_db.service import PatternDB

from .run import Entry

_CLOSING = (Role.ASSISTANT, Role.TOOL)
_LARGEST = 200
"""How many messages may wait for the answers to one call."""


class ToolGroup:
    """The messages of one conversation that wait for responses to their calls."""

    def __init__(self) -> None:
        self._held: list[Entry] = []
        self._pending: set[str] = set()

    def feed(self, entry: Entry) -> list[list[Entry]]:
        """The next message of the conversation; gives the groups that are complete now."""
        asked, answered = _asked(entry), _answered(entry)
        if self._held and answered and answered <= self._pending:
            return self._hold(entry, asked, answered)
        settled = self.settle()
        entry = with_responses_only_to(entry, ())
        return settled + (self._hold(entry, asked, set()) if asked else [[entry]])

    def _hold(self, entry: Entry, asked: set[str], answered: set[str]) -> list[list[Entry]]:
        self._held.append(entry)
        self._pending = (self._pending - answered) | asked
        complete = not self._pending or len(self._held) >= _LARGEST
        return self.settle() if complete else []

    def settle(self) -> list[list[Entry]]:
        """What waits, with the calls as text that were not answered."""
        held, pending = self._held, self._pending
        self._held, self._pending = [], set()
        if not held:
            return []
        kept = {call for entry in held for call in _asked(entry)} - pending
        if held[-1].fields["role"] not in _CLOSING:
            kept = set()
        group = [with_responses_only_to(with_calls_only(entry, kept), kept) for entry in held]
        return [_as_batch(group) if kept else group]


async def matched_with_stored(db: PatternDB, group: list[Entry]) -> list[Entry]:
    """The group as it fits to what an earlier import left of it.

    When its call was imported before it was answered, the call is text already, and the answer
    becomes text too.
    """
    batch_id = group[0].fields.get("batch_id")
    if batch_id is None:
        return group
    batch = await db.messages.batches.get(batch_id)
    if batch is not None:
        return [group[0], *(with_responses_only_to(entry, batch.pending) for entry in group[1:])]
    if await db.messages.get(group[0].id, include_deleted=True) is None:
        return group
    return [_as_text(entry) for entry in group]


def _as_batch(group: list[Entry]) -> list[Entry]:
    batch_id = derived_id("batch", group[0].id)
    return [entry.with_fields(batch_id=batch_id) for entry in group]


def _as_text(entry: Entry) -> Entry:
    return with_responses_only_to(with_calls_only(entry, ()), ()).with_fields(batch_id=None)


def with_calls_only(entry: Entry, kept: Iterable[str]) -> Entry:
    """The message with these calls; the others are text and metadata."""
    calls: list[ToolCall] = entry.fields["tool_calls"]
    ids = set(kept)
    other = [call for call in calls if call.call_id not in ids]
    if not other:
        return entry
    lines = [f"[tool call: {call.name} {_compact(call.arguments)}]" for call in other]
    return _told(entry, lines, "unanswered_tool_calls", other).with_fields(
        tool_calls=[call for call in calls if call.call_id in ids]
    )


def with_responses_only_to(entry: Entry, kept: Iterable[str]) -> Entry:
    """The message with the responses to these calls; the others are text and metadata."""
    answers: list[ToolResponse] = entry.fields["tool_responses"]
    ids = set(kept)
    other = [answer for answer in answers if answer.call_id not in ids]
    if not other:
        return entry
    lines = [answer.content for answer in other if answer.content]
    return _told(entry, lines, "unmatched_tool_responses", other).with_fields(
        tool_responses=[answer for answer in answers if answer.call_id in ids]
    )


def _told(entry: Entry, lines: list[str], key: str, structures: list[Any]) -> Entry:
    content = entry.fields["content"]
    if isinstance(content, list):
        told: Any = [*content, *({"type": "text", "text": line} for line in lines)]
    else:
        told = "\n".join(filter(None, [content, *lines]))
    metadata = {**entry.fields["metadata"], key: msgspec.to_builtins(structures)}
    return entry.with_fields(content=told, metadata=metadata)


def _compact(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _asked(entry: Entry) -> set[str]:
    return {call.call_id for call in entry.fields["tool_calls"]}


def _answered(entry: Entry) -> set[str]:
    return {answer.call_id for answer in entry.fields["tool_responses"]}
