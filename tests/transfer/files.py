"""Small files in the forms other programs write them, and what a database holds after an import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from pattern_db import PatternDB

WHEN_WE_WROTE = ("created_at", "updated_at", "completed_at")


def written(folder: Path, name: str, value: Any) -> Path:
    """A file with a JSON value, or with the lines of a list if it is called .jsonl."""
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(line) + "\n" for line in value), encoding="utf-8")
    else:
        path.write_text(json.dumps(value), encoding="utf-8")
    return path


def locomo_sample(sample_id: str = "conv-1", *, turns: int = 4) -> dict[str, Any]:
    """A sample of two sessions, with an image, and questions."""

    def turn(session: int, number: int) -> dict[str, Any]:
        speaker = ("Ada", "Grace")[number % 2]
        text = f"In session {session} I tell you thing number {number}."
        return {"speaker": speaker, "dia_id": f"D{session}:{number}", "text": text}

    shown = {
        "speaker": "Ada",
        "dia_id": "D2:9",
        "text": "Look at my canoe!",
        "blip_caption": "a photo of a red canoe",
        "img_url": ["https://example.org/canoe.jpg"],
    }
    return {
        "sample_id": sample_id,
        "conversation": {
            "speaker_a": "Ada",
            "speaker_b": "Grace",
            "session_10_date_time": "12:09 am on 13 September, 2023",
            "session_10": [turn(10, n) for n in range(1, turns + 1)],
            "session_2_date_time": "1:56 pm on 8 May, 2023",
            "session_2": [*(turn(2, n) for n in range(1, turns + 1)), shown],
            "session_11_date_time": "4:10 pm on 26 October, 2023",
        },
        "qa": [
            {"question": "Which canoe does Ada have?", "category": 4, "evidence": ["D2:9"]},
            {
                "question": "What is thing number 2 of session 10?",
                "category": 2,
                "evidence": ["D10:2; D2:2", "D:1:2", "D99:1"],
            },
            {"question": "What did nobody say?", "category": 5, "evidence": ["D2:1"]},
            {"question": "What is open?", "category": 3, "evidence": []},
            {"question": "What is wrong?", "category": 1, "evidence": ["D"]},
        ],
    }


def chat_message(
    key: str, role: str, *parts: Any, time: float | None = 1704067200.0, **fields: Any
) -> dict[str, Any]:
    """The message of a ChatGPT node."""
    return {
        "id": key,
        "author": {"role": role, "name": None, "metadata": {}},
        "create_time": time,
        "update_time": None,
        "content": {"content_type": "text", "parts": list(parts)},
        "status": "finished_successfully",
        "weight": 1.0,
        "metadata": {},
        "recipient": "all",
        **fields,
    }


def chat(
    *branches: list[dict[str, Any]], current: str | None = None, **fields: Any
) -> dict[str, Any]:
    """A ChatGPT conversation. Each branch is a path of messages whose first may be known already."""
    mapping: dict[str, Any] = {
        "root": {"id": "root", "message": None, "parent": None, "children": []}
    }
    for branch in branches:
        parent = "root"
        for message in branch:
            key = message["id"]
            node = {"id": key, "message": message, "parent": parent, "children": []}
            if mapping.setdefault(key, node) is node:
                mapping[parent]["children"].append(key)
            parent = key
    return {
        "title": "Canoes",
        "create_time": 1704067200.0,
        "update_time": 1704067500.0,
        "conversation_id": "chat-1",
        "current_node": branches[0][-1]["id"] if current is None and branches else current,
        "mapping": mapping,
        **fields,
    }


def branched_chat(*, current: str = "a2") -> dict[str, Any]:
    """A question that was answered, then asked in another way and answered again."""
    return chat(
        [
            chat_message("s", "system", ""),
            chat_message("q1", "user", "What floats?", time=1704067210.0),
            chat_message("a1", "assistant", "A canoe floats.", time=1704067220.0),
            chat_message("q2", "user", "Which colour?", time=1704067230.0),
            chat_message("a2", "assistant", "A red one.", time=1704067240.0),
        ],
        [
            chat_message("s", "system", ""),
            chat_message("q1", "user", "What floats?"),
            chat_message("a1b", "assistant", "Ducks float.", time=1704067225.0),
            chat_message("q2b", "user", "Why do ducks?", time=1704067226.0),
        ],
        current=current,
    )


def tool_lines() -> list[dict[str, Any]]:
    """An exchange with a tool, in the form of the OpenAI API."""
    return [
        {"role": "system", "content": "You help.", "created_at": "2024-01-01T10:00:00Z"},
        {"role": "user", "content": "Weather?", "name": "Ada", "mood": "curious"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
        {"role": "assistant", "content": "It rains.", "created_at": "2024-01-01T10:00:05+00:00"},
    ]


async def dump(db: PatternDB, *, exact: bool = True) -> dict[str, Any]:
    """Everything an import writes, but for the times at which it did; ``exact`` with positions."""
    agents = await db.agents.list(limit=1000)
    conversations = await db.conversations.list(limit=1000)
    messages = [
        message
        for agent in agents
        for message in await db.messages.list(
            agent.id, limit=100_000, include_archived=True, include_incomplete=True
        )
    ]
    batches = [
        batch for agent in agents for batch in await db.messages.batches.list(agent.id, limit=1000)
    ]
    volatile = {"updated_at"} if exact else {"updated_at", "created_at", "position"}
    when = set(WHEN_WE_WROTE)
    return {
        "agents": [_plain(agent, when) for agent in agents],
        "conversations": sorted((_plain(c, volatile) for c in conversations), key=_id),
        "messages": [_plain(message, volatile) for message in messages],
        "batches": sorted((_plain(b, {*when, "version"}) for b in batches), key=_id),
        "episodes": [msgspec.to_builtins(e) for e in await db.episodes.list(limit=1000)],
        "patterns": [msgspec.to_builtins(p) for p in await db.patterns.list(limit=1000)],
    }


def _plain(model: Any, without: set[str]) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(model)
    return {key: value for key, value in values.items() if key not in without}


def _id(row: dict[str, Any]) -> str:
    return str(row["id"])
