"""JSON Lines: one message a line.

A line has the fields of ``messages.append``, or the form of the OpenAI API: ``role`` (also
``developer``, ``function``, ``human``, ``ai``), ``content`` (text or parts), ``speaker`` or
``name``, ``created_at`` (ISO 8601, or seconds or milliseconds since 1970), ``tool_calls``,
``tool_responses`` or ``tool_call_id``, ``source``, ``metadata``, ``id``. ``conversation_id`` names
a conversation in whatever file it occurs, ``conversation`` one of this file by its title, and
either one that the agent has in the database by its id; lines with neither belong to one
conversation of the file. Other keys are kept in ``metadata``.

A line without a time has that of the line before it in its conversation. A message is the same as
one imported before if conversation, ``id`` (without one: file name and line number), role and
content are. The file is streamed; memory grows with its conversations, not with its lines.
"""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

import msgspec

from pattern_db.errors import ImportFailed
from pattern_db.ids import derived_id
from pattern_db.models import Json, Role, ToolResponse
from pattern_db.repositories.content import split_content, tool_call, tool_response
from pattern_db.validation import MAX_ID_CHARS

from .lines import Line, Lines
from .run import Entry, Run
from .times import moment
from .tool_groups import ToolGroup, matched_with_stored

ROLES = {
    **{role.value: role for role in Role},
    "developer": Role.SYSTEM,
    "function": Role.TOOL,
    "human": Role.USER,
    "ai": Role.ASSISTANT,
}
_UNDERSTOOD = (
    "role",
    "content",
    "speaker",
    "created_at",
    "conversation",
    "conversation_id",
    "tool_calls",
    "tool_responses",
    "tool_call_id",
    "source",
    "metadata",
    "id",
)
_IDENTIFYING = ("role", "content", "tool_calls", "tool_responses", "tool_call_id")


class _Thread(msgspec.Struct):
    """A conversation while its lines come: when it was last spoken in, its open tool calls."""

    id: str
    last: datetime
    group: ToolGroup


async def import_jsonl(run: Run) -> None:
    """Import every line of a file."""
    lines = await asyncio.to_thread(Lines, run.source)
    try:
        await _import_lines(run, lines)
    finally:
        lines.close()


async def _import_lines(run: Run, lines: Lines) -> None:
    threads = _Threads(run)
    while chunk := await asyncio.to_thread(lines.next_chunk):
        try:
            for line in chunk.lines:
                await threads.take(line)
        except ImportFailed as error:
            chunk.failure = error
        await threads.flush()
        run.replaced(chunk.replaced)
        if chunk.failure is not None:
            raise chunk.failure
        run.advance(lines.bytes_read, lines.size)
    await threads.finish()


class _Threads:
    """The conversations of a file, and the messages that wait to be written."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._agent_id = ""
        self._threads: dict[tuple[str, ...], _Thread] = {}
        self._ready: list[list[Entry]] = []

    async def take(self, line: Line) -> None:
        """Understand a line; what it completes waits for ``flush``."""
        try:
            created_at = _time(self.run, line)
            self._agent_id = self._agent_id or await self._agent()
            thread = await self._thread(line, created_at)
            thread.last = created_at or thread.last
            with self.run.at(line.place):
                entry = _entry(self.run, line, thread, self._agent_id)
            self._ready += thread.group.feed(entry)
        except RecursionError:
            raise self.run.source.failure(line.place, "it is nested too deeply") from None

    async def _agent(self) -> str:
        return await self.run.agent(self.run.source.stem, self.run.source.name)

    async def flush(self) -> None:
        """Write what waits."""
        ready, self._ready = self._ready, []
        entries: list[Entry] = []
        for group in ready:
            entries += await matched_with_stored(self.run.db, group)
        await self.run.write(self._agent_id, entries)

    async def finish(self) -> None:
        """Write also the tool calls that nobody answered."""
        self._ready += [group for t in self._threads.values() for group in t.group.settle()]
        await self.flush()

    async def _thread(self, line: Line, created_at: datetime | None) -> _Thread:
        key = _conversation_key(self.run, line)
        if key not in self._threads:
            self._threads[key] = await self._open(line, key, created_at)
        return self._threads[key]

    async def _open(self, line: Line, key: tuple[str, ...], created_at: datetime | None) -> _Thread:
        run, agent_id = self.run, self._agent_id
        id, title = await self._stored(key), line.fields.get("conversation")
        conversation = await run.conversation(
            agent_id,
            id or derived_id("conv", run.kind, agent_id, *key),
            place=line.place,
            title=key[-1] if title is None else _name(run, line, "conversation", title),
            created_at=created_at,
            metadata={"conversation_id": key[-1]} if key[0] == "id" else None,
        )
        newest = await run.db.messages.list(
            agent_id,
            conversation_id=conversation.id,
            limit=1,
            newest_first=True,
            include_archived=True,
            include_incomplete=True,
            include_deleted=True,
        )
        last = newest[0].created_at if newest else conversation.created_at
        return _Thread(conversation.id, last, ToolGroup())

    async def _stored(self, key: tuple[str, ...]) -> str | None:
        """The agent's own conversation of this id, if that is what the file means."""
        if key[0] == "file" or not 1 <= len(key[-1]) <= MAX_ID_CHARS:
            return None
        found = await self.run.db.conversations.get(key[-1])
        return found.id if found is not None and found.agent_id == self._agent_id else None


def _conversation_key(run: Run, line: Line) -> tuple[str, ...]:
    for field, scope in (
        ("conversation_id", ("id",)),
        ("conversation", ("title", run.source.name)),
    ):
        if (named := line.fields.get(field)) is not None:
            return (*scope, _name(run, line, field, named))
    return ("file", run.source.stem)


def _name(run: Run, line: Line, field: str, value: Any) -> str:
    """Text, or a number as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return run.source.expect(str, value, line.place, f"`{field}`")


def _time(run: Run, line: Line) -> datetime | None:
    value = line.fields.get("created_at")
    if value is None:
        return None
    time = moment(value)
    if time is None:
        raise run.source.failure(line.place, "expected an ISO 8601 time as `created_at`")
    return time


def _entry(run: Run, line: Line, thread: _Thread, agent_id: str) -> Entry:
    fields = line.fields
    source, speaker = fields.get("source"), _speaker(run, line)
    answers = _answers(run, line)
    return Entry(
        line.place,
        {
            "id": _id(run, line, thread, agent_id),
            "conversation_id": thread.id,
            "role": _role(run, line),
            "speaker": speaker,
            "content": _content(run, line) if fields.get("tool_call_id") is None else "",
            "created_at": thread.last,
            "tool_calls": [tool_call(call) for call in _listed(run, line, "tool_calls")],
            "tool_responses": answers,
            "source": run.kind if source is None else source,
            "metadata": _metadata(run, line, speaker),
        },
    )


def _id(run: Run, line: Line, thread: _Thread, agent_id: str) -> str:
    said = json.dumps([line.fields.get(field) for field in _IDENTIFYING], sort_keys=True)
    given = line.fields.get("id")
    if given is None:
        own: tuple[str, ...] = ("line", run.source.name, str(line.number))
    else:
        own = ("id", _name(run, line, "id", given))
    return derived_id("msg", run.kind, agent_id, thread.id, *own, said)


def _role(run: Run, line: Line) -> Role:
    given = run.source.expect(str, line.fields.get("role"), line.place, "`role`")
    role = ROLES.get(given)
    if role is None:
        raise run.source.failure(line.place, f"expected `role` to be one of {', '.join(ROLES)}")
    return role


def _content(run: Run, line: Line) -> Any:
    content = line.fields.get("content")
    if content is None:
        return ""
    return (
        content
        if isinstance(content, list)
        else run.source.expect(str, content, line.place, "`content`")
    )


def _speaker(run: Run, line: Line) -> str | None:
    """``speaker``; in the form of the OpenAI API ``name``, if it is one."""
    given = line.fields.get("speaker")
    if given is not None:
        return run.source.expect(str, given, line.place, "`speaker`")
    name = line.fields.get("name")
    return name if isinstance(name, str) and name else None


def _answers(run: Run, line: Line) -> list[ToolResponse]:
    answers = [tool_response(answer) for answer in _listed(run, line, "tool_responses")]
    if line.fields.get("tool_call_id") is None:
        return answers
    call_id = _name(run, line, "tool_call_id", line.fields["tool_call_id"])
    text, _ = split_content(_content(run, line))
    return [*answers, ToolResponse(call_id, text, line.fields.get("is_error") is True)]


def _listed(run: Run, line: Line, field: str) -> list[Any]:
    value = line.fields.get(field)
    return [] if value is None else run.source.expect(list, value, line.place, f"`{field}`")


def _metadata(run: Run, line: Line, speaker: str | None) -> Json:
    """The line's metadata and every key that means nothing to us."""
    given = line.fields.get("metadata")
    own = {} if given is None else run.source.expect(dict, given, line.place, "`metadata`")
    other = {
        key: value
        for key, value in line.fields.items()
        if key not in _UNDERSTOOD and value is not None and (key, value) != ("name", speaker)
    }
    if line.fields["role"] not in set(Role):
        other["role"] = line.fields["role"]
    if isinstance(line.fields.get("content"), list) and line.fields.get("tool_call_id") is not None:
        other["content"] = line.fields["content"]
    clashing = {key: other.pop(key) for key in own if key in other}
    return own | other | ({"other_keys": clashing} if clashing else {})
