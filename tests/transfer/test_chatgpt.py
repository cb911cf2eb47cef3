"""Importing ChatGPT exports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pattern_db import ImportFailed, Message, PatternDB, Role
from pattern_db.transfer import ImportReport, import_file

from .files import branched_chat, chat, chat_message, dump, written


async def imported(db: PatternDB, folder: Path, *chats: dict[str, Any]) -> ImportReport:
    return await import_file(db, "chatgpt", written(folder, "conversations.json", list(chats)))


async def told(db: PatternDB, report: ImportReport, **options: Any) -> list[Message]:
    return await db.messages.list(report.agents[0], **options)


async def test_the_shown_branch_is_the_conversation_and_the_other_is_still_found(
    db: PatternDB, tmp_path: Path
) -> None:
    report = await imported(db, tmp_path, branched_chat())

    assert (report.conversations, report.messages_written) == (1, 6)
    assert report.skipped == {"empty message": 1}
    assert [m.content for m in await told(db, report)] == [
        "What floats?",
        "A canoe floats.",
        "Which colour?",
        "A red one.",
    ]
    aside = [m for m in await told(db, report, include_archived=True) if m.is_archived]
    assert [(m.content, m.metadata["branch"], m.metadata["parent_id"]) for m in aside] == [
        ("Ducks float.", "side", "q1"),
        ("Why do ducks?", "side", "a1b"),
    ]
    hits = await db.search(report.agents[0], "ducks", mode="keyword")
    assert {hit.item.content for hit in hits} >= {"Ducks float.", "Why do ducks?"}
    only = await db.search(
        report.agents[0], "float", mode="keyword", metadata={"branch": "side"}, kinds=["message"]
    )
    assert {hit.item.metadata["branch"] for hit in only} == {"side"}


async def test_a_later_export_with_another_branch_shown_moves_the_marks(
    db: PatternDB, tmp_path: Path
) -> None:
    await imported(db, tmp_path, branched_chat())
    report = await imported(db, tmp_path, branched_chat(current="q2b"))

    assert (report.messages_written, report.messages_present) == (0, 6)
    assert [m.content for m in await told(db, report)] == [
        "What floats?",
        "Ducks float.",
        "Why do ducks?",
    ]
    shown = {m.metadata["message_id"]: m for m in await told(db, report, include_archived=True)}
    assert "branch" not in shown["q2b"].metadata
    assert shown["a2"].metadata["branch"] == "side"


async def test_what_its_owner_archived_stays_archived(db: PatternDB, tmp_path: Path) -> None:
    report = await imported(db, tmp_path, branched_chat())
    last = (await told(db, report))[-1]
    await db.messages.archive_before(report.agents[0], last.id)
    await imported(db, tmp_path, branched_chat())
    assert [m.id for m in await told(db, report)] == [last.id]


async def test_conversation_and_message_keep_what_the_export_says(
    db: PatternDB, tmp_path: Path
) -> None:
    said = chat_message(
        "a", "assistant", "Yes.", metadata={"model_slug": "gpt-4"}, recipient="python"
    )
    report = await imported(db, tmp_path, chat([said]))
    agent = await db.agents.require(report.agents[0])
    (talk,) = await db.conversations.list(agent.id)
    assert (agent.name, talk.title) == ("ChatGPT", "Canoes")
    assert talk.created_at == datetime(2024, 1, 1, tzinfo=UTC)
    assert talk.metadata["conversation_id"] == "chat-1"
    assert talk.metadata["update_time"] == "2024-01-01T00:05:00+00:00"
    (message,) = await told(db, report)
    assert (message.role, message.source) == (Role.ASSISTANT, "chatgpt")
    assert message.created_at == talk.created_at
    assert message.metadata == {"message_id": "a", "model": "gpt-4", "recipient": "python"}


async def test_a_branch_keeps_its_order_when_its_times_do_not(
    db: PatternDB, tmp_path: Path
) -> None:
    branch = [
        chat_message("a", "user", "first", time=1704067300.0),
        chat_message("b", "assistant", "second", time=1704067100.0),
        chat_message("c", "user", "third", time=None),
        chat_message("d", "assistant", "fourth", time=1704067400.0),
    ]
    report = await imported(db, tmp_path, chat(branch))
    messages = await told(db, report)
    assert [m.content for m in messages] == ["first", "second", "third", "fourth"]
    assert messages[1].metadata["create_time"] == "2023-12-31T23:58:20+00:00"
    assert "create_time" not in messages[0].metadata


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"content_type": "text", "parts": ["one", "", "two"]}, "one\ntwo"),
        ({"content_type": "code", "language": "python", "text": "1 + 1"}, "1 + 1"),
        ({"content_type": "execution_output", "text": "2"}, "2"),
        (
            {"content_type": "tether_quote", "url": "u", "title": "Canoe", "text": "A boat."},
            "Canoe\nA boat.",
        ),
        ({"content_type": "tether_browsing_display", "result": "r", "summary": None}, "r"),
        ({"content_type": "system_error", "name": "Timeout", "text": "slow"}, "Timeout\nslow"),
        (
            {"content_type": "thoughts", "thoughts": [{"summary": "Plan", "content": "Paddle"}]},
            "Plan\nPaddle",
        ),
        (
            {
                "content_type": "multimodal_text",
                "parts": [
                    {
                        "content_type": "image_asset_pointer",
                        "asset_pointer": "file-service://x",
                        "metadata": {"dalle": {"prompt": "a canoe"}},
                    },
                    {"content_type": "audio_transcription", "text": "I said it"},
                    "What is it?",
                ],
            },
            "[image: a canoe]\nI said it\nWhat is it?",
        ),
        (
            {"content_type": "brand_new", "inner": {"deep": ["kept", {"n": 1, "t": "too"}]}},
            "kept\ntoo",
        ),
        ({"content_type": "text", "text": "no parts"}, "no parts"),
        ("plain", "plain"),
    ],
)
async def test_text_is_kept_of_every_type_of_content(
    db: PatternDB, tmp_path: Path, content: Any, text: str
) -> None:
    said = chat_message("a", "assistant", content=content)
    report = await imported(db, tmp_path, chat([said]))
    assert [m.content for m in await told(db, report)] == [text]


async def test_a_picture_without_words_is_a_message_and_its_pointer_is_kept(
    db: PatternDB, tmp_path: Path
) -> None:
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}
    sound = {"content_type": "audio_asset_pointer", "asset_pointer": "file-service://y"}
    chats = chat([chat_message("a", "user", picture), chat_message("b", "user", sound)])
    report = await imported(db, tmp_path, chats)
    shown, heard = await told(db, report)
    assert (shown.content, shown.metadata["parts"]) == ("[image]", [picture])
    assert (heard.content, heard.metadata["parts"]) == ("", [sound])


async def test_what_nobody_saw_is_skipped_and_counted(db: PatternDB, tmp_path: Path) -> None:
    hidden = {"is_visually_hidden_from_conversation": True}
    report = await imported(
        db,
        tmp_path,
        chat(
            [
                chat_message("a", "system", "Be nice.", metadata=hidden),
                chat_message("b", "user", "", "  "),
                chat_message("c", "tool", "hidden but said", metadata=hidden),
                chat_message("d", "system", "shown rules"),
            ]
        ),
    )
    assert report.skipped == {"hidden system message": 1, "empty message": 1}
    assert [m.content for m in await told(db, report)] == ["hidden but said", "shown rules"]


async def test_characters_that_cannot_be_stored_are_replaced_and_counted(
    db: PatternDB, tmp_path: Path
) -> None:
    report = await imported(db, tmp_path, chat([chat_message("a", "user", "x\0y\ud83dz 😀")]))
    assert report.skipped == {"unstorable characters replaced": 1}
    assert [m.content for m in await told(db, report)] == ["x\ufffdy\ufffdz 😀"]


async def test_one_conversation_without_names_and_times_is_enough(
    db: PatternDB, tmp_path: Path
) -> None:
    bare = chat([chat_message("a", "user", "hi", time=None)], current="gone", title=None)
    bare = {key: bare[key] for key in ("mapping", "current_node", "title")}
    file = written(tmp_path, "one.json", bare)
    first = await import_file(db, "chatgpt", file)
    second = await import_file(db, "chatgpt", file)
    assert (first.messages_written, second.messages_written) == (1, 0)
    assert [m.content for m in await told(db, first)] == ["hi"]


async def test_trees_that_are_none_lose_nothing(db: PatternDB, tmp_path: Path) -> None:
    ring = branched_chat()
    ring["mapping"]["q1"]["parent"] = "a2"
    ring["mapping"]["a1b"]["parent"] = "q2b"
    report = await imported(db, tmp_path, ring)
    assert report.messages_written == 6
    lost = branched_chat()
    lost["conversation_id"] = "chat-2"
    del lost["mapping"]["a1"]
    assert (await imported(db, tmp_path, lost)).messages_written == 5


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda c: c.update(mapping=[]), "conversation 2: expected an object as `mapping`"),
        (lambda c: c["mapping"].update(q1=3), "conversation 2, node 3: expected an object"),
        (
            lambda c: c["mapping"]["q1"].update(message="hi"),
            "conversation 2, node 3: expected an object as the message",
        ),
        (
            lambda c: c["mapping"]["q1"]["message"].update(author=None),
            "conversation 2, node 3: expected an object as `author`",
        ),
        (
            lambda c: c["mapping"]["q1"]["message"]["author"].update(role="duck"),
            "conversation 2, node 3: expected `author.role` to be one of",
        ),
        (
            lambda c: c["mapping"]["q1"]["message"].update(metadata={"citations": [10**30]}),
            "conversation 2, node 3: Invalid value for 'metadata'",
        ),
    ],
)
async def test_a_malformed_conversation_is_named_and_those_before_it_are_kept(
    db: PatternDB, tmp_path: Path, change: Callable[[dict], None], place: str
) -> None:
    broken = branched_chat() | {"conversation_id": "chat-2"}
    change(broken)
    with pytest.raises(ImportFailed) as failure:
        await imported(db, tmp_path, branched_chat(), broken)
    assert str(failure.value).startswith(f"conversations.json, {place}")
    repaired = branched_chat() | {"conversation_id": "chat-2"}
    report = await imported(db, tmp_path, branched_chat(), repaired)
    assert (report.messages_written, report.messages_present) == (6, 6)


@pytest.mark.parametrize(
    ("name", "messages"),
    [("chatgpt2graph_conversations.json", 42), ("mitkury_example-conversation.json", 5)],
)
async def test_the_real_exports_twice_are_the_real_exports_once(
    db: PatternDB, real_data: Callable[[str], Path], name: str, messages: int
) -> None:
    file = real_data(f"chatgpt-export/{name}")
    first = await import_file(db, "chatgpt", file)
    before = await dump(db)
    second = await import_file(db, "chatgpt", file)
    assert (first.messages_written, second.messages_written) == (messages, 0)
    assert second.messages_present == messages
    assert await dump(db) == before
