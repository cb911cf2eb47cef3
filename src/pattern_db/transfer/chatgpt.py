"""ChatGPT exports: ``conversations.json``, or one conversation of it.

A conversation is a tree, because prompts are edited and answers made again. The branch that was
shown last is the conversation as its owner knows it; what other branches hold is kept beside it as
archived messages with ``metadata["branch"] == "side"``: found by search, left out of lists and
contexts. An export made later may have another branch shown; importing it moves the marks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from pattern_db.clock import utc_now
from pattern_db.ids import derived_id
from pattern_db.models import Conversation, Json, Message, Role
from pattern_db.query import param, select, update
from pattern_db.schema import columns_of

from .chatgpt_content import asset_parts, details, text_of
from .chatgpt_tree import Place, nodes_in_order
from .run import CHUNK, Entry, Run
from .times import moment

AGENT_NAME = "ChatGPT"
_ROLES = {
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_KEPT_OF_CONVERSATIONS = (
    "conversation_id",
    "id",
    "update_time",
    "is_archived",
    "is_starred",
    "default_model_slug",
    "gizmo_id",
    "conversation_template_id",
    "conversation_origin",
    "voice",
)
_M = columns_of(Message)
_BY_IDS = select(Message).where(_M.id.in_(param("ids")))
_MARK = update(Message, "is_archived", "metadata", "updated_at").where(_M.id == param("id"))


class _Chat(msgspec.Struct, frozen=True):
    """A conversation of the file."""

    raw: Json
    identity: tuple[str, ...]
    agent_id: str
    place: str
    tree: Json


async def import_chatgpt(run: Run) -> None:
    """Import every conversation of a file."""
    parsed = await asyncio.to_thread(run.source.read_json)
    run.replaced(parsed.replaced)
    chats = [parsed.value] if isinstance(parsed.value, dict) else parsed.value
    chats = run.source.expect(list, chats, "the whole", "the conversations")
    agent_id = await run.agent(AGENT_NAME)
    done, total = 0, sum(_size(raw) for raw in chats)
    for number, raw in enumerate(chats, 1):
        await _import_chat(run, _chat(run, agent_id, raw, number))
        done += _size(raw)
        run.advance(done, total)


def _size(raw: Any) -> int:
    tree = raw.get("mapping") if isinstance(raw, dict) else None
    return len(tree) if isinstance(tree, dict) else 0


def _chat(run: Run, agent_id: str, raw: Any, number: int) -> _Chat:
    place = f"conversation {number}"
    raw = run.source.expect(dict, raw, place, "the conversation")
    given = raw.get("conversation_id") or raw.get("id")
    known = (given,) if isinstance(given, str) else ("unnamed", run.source.name, str(number))
    return _Chat(
        raw,
        (run.kind, agent_id, *known),
        agent_id,
        place,
        run.source.expect(dict, raw.get("mapping"), place, "`mapping`"),
    )


async def _import_chat(run: Run, chat: _Chat) -> None:
    places = nodes_in_order(run.source, chat.tree, chat.raw.get("current_node"), chat.place)
    conversation = await _conversation(run, chat)
    entries = list(_entries(run, chat, conversation, places))
    written = await run.write(chat.agent_id, entries)
    if written < len(entries) or any(_is_side(entry.fields["metadata"]) for entry in entries):
        await _mark_branches(run, entries)


async def _conversation(run: Run, chat: _Chat) -> Conversation:
    title = chat.raw.get("title")
    kept = {key: chat.raw[key] for key in _KEPT_OF_CONVERSATIONS if chat.raw.get(key)}
    if (updated := moment(chat.raw.get("update_time"))) is not None:
        kept["update_time"] = updated.isoformat()
    return await run.conversation(
        chat.agent_id,
        derived_id("conv", *chat.identity),
        place=chat.place,
        title=title if isinstance(title, str) else "",
        created_at=_begin(chat),
        metadata=kept,
    )


def _begin(chat: _Chat) -> datetime | None:
    """When it began: as it says, else the earliest time in it."""
    said = [node.get("message") for node in chat.tree.values() if isinstance(node, dict)]
    times = [moment(message.get("create_time")) for message in said if isinstance(message, dict)]
    return moment(chat.raw.get("create_time")) or min(filter(None, times), default=None)


def _entries(
    run: Run, chat: _Chat, conversation: Conversation, places: Sequence[Place]
) -> Iterator[Entry]:
    """The messages worth keeping. None is older than what it answers, so that their order holds."""
    times: dict[str | None, datetime] = {None: conversation.created_at}
    for place in places:
        times[place.key] = before = times.get(place.parent, conversation.created_at)
        message = place.message
        if message is None:
            continue
        content = text_of(message.get("content"))
        if reason := _reason_to_skip(message, content):
            run.skip(reason)
            continue
        times[place.key] = max(before, moment(message.get("create_time")) or before)
        yield _entry(run, chat, conversation, place, content, times[place.key])


def _entry(
    run: Run,
    chat: _Chat,
    conversation: Conversation,
    place: Place,
    content: str,
    created_at: datetime,
) -> Entry:
    message = place.message or {}
    author = run.source.expect(dict, message.get("author"), place.name, "`author`")
    role = _ROLES.get(run.source.expect(str, author.get("role"), place.name, "`author.role`"))
    if role is None:
        raise run.source.failure(
            place.name, f"expected `author.role` to be one of {', '.join(_ROLES)}"
        )
    name = author.get("name")
    branch = {} if place.active else {"branch": "side", "parent_id": place.parent}
    return Entry(
        place.name,
        {
            "id": derived_id("msg", *chat.identity, place.key),
            "conversation_id": conversation.id,
            "role": role,
            "speaker": name if isinstance(name, str) and name else None,
            "content": content,
            "created_at": created_at,
            "source": run.kind,
            "metadata": {"message_id": place.key, **details(message, created_at), **branch},
        },
    )


def _reason_to_skip(message: Json, content: str) -> str | None:
    """What the owner of a chat never saw: nothing, or what was set up for the model."""
    metadata, author = message.get("metadata"), message.get("author")
    flags = metadata if isinstance(metadata, dict) else {}
    is_system = isinstance(author, dict) and author.get("role") == "system"
    hidden = flags.get("is_visually_hidden_from_conversation") is True
    if not content.strip() and not asset_parts(message.get("content")):
        return "empty message"
    if hidden and (is_system or flags.get("is_user_system_message") is True):
        return "hidden system message"
    return None


def _is_side(metadata: Json) -> bool:
    return metadata.get("branch") == "side"


async def _mark_branches(run: Run, entries: Sequence[Entry]) -> None:
    """Archive the messages of side branches, and bring back those that are shown again."""
    for start in range(0, len(entries), CHUNK):
        wanted = {entry.id: entry.fields["metadata"] for entry in entries[start : start + CHUNK]}
        stored: list[Message] = await run.db.store.execute(_BY_IDS, ids=list(wanted))
        marks = [
            _MARK(
                id=message.id,
                is_archived=_is_side(wanted[message.id]),
                metadata=_marked(message.metadata, wanted[message.id]),
                updated_at=utc_now(),
            )
            for message in stored
            if _is_misplaced(message, _is_side(wanted[message.id]))
        ]
        if marks:
            await run.db.store.write(marks)


def _is_misplaced(message: Message, side: bool) -> bool:
    """Whether the marks are wrong; what its owner archived is no side branch and stays archived."""
    return _is_side(message.metadata) is not side or (side and not message.is_archived)


def _marked(metadata: Json, wanted: Json) -> Json:
    kept = {key: value for key, value in metadata.items() if key not in ("branch", "parent_id")}
    return kept | {key: wanted[key] for key in ("branch", "parent_id") if key in wanted}
