"""Which text of an item is embedded."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from ..models import ArchivalEntry, Episode, MemoryBlock, Message


def said_text(message: Message) -> str:
    """What was said and what tools were asked and answered."""
    return "\n".join(part for part in (message.content, message.tool_text) if part)


def message_text(message: Message) -> str:
    """``Speaker: text``: who says a thing is part of what it means."""
    said = said_text(message)
    return f"{message.speaker}: {said}" if message.speaker and said else said


def block_text(block: MemoryBlock) -> str:
    """The block's text, introduced by what it is for."""
    title = f"{block.label}: {block.description}" if block.description else block.label
    return f"{title}\n{block.content}" if block.content.strip() else title


def entry_text(entry: ArchivalEntry) -> str:
    """The entry as it is."""
    return entry.content


def task_text(episode: Episode) -> str:
    """What was to be done: similar tasks are near each other, however they went."""
    return episode.task


EMBEDDED_TEXT: dict[type, Callable[[Any], str]] = {
    Message: message_text,
    MemoryBlock: block_text,
    ArchivalEntry: entry_text,
    Episode: task_text,
}


def shown_text(item: Any) -> str:
    """The text of an item by which it is ranked: a speaker is known apart."""
    return said_text(item) if isinstance(item, Message) else EMBEDDED_TEXT[type(item)](item)


def content_hash(text: str) -> bytes:
    """BLAKE2b of 128 bits: says whether a vector still belongs to its text."""
    return blake2b(text.encode(), digest_size=16).digest()
