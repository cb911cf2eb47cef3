"""Importing JSON Lines."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import pattern_db
from pattern_db import BatchStatus, ImportFailed, Message, PatternDB, Role
from pattern_db.transfer import ImportReport, import_file
from pattern_db.transfer.lines import MAX_LINE_BYTES

from .files import dump, tool_lines, written

BEGAN = datetime(2024, 1, 1, 10, tzinfo=UTC)


async def imported(db: PatternDB, folder: Path, lines: list[Any], **options: Any) -> ImportReport:
    return await import_file(db, "jsonl", written(folder, "log.jsonl", lines), **options)


async def told(db: PatternDB, report: ImportReport, **options: Any) -> list[Message]:
    return await db.messages.list(report.agents[0], limit=10_000, **options)


async def test_lines_of_the_openai_api_become_messages_with_tool_calls(
    db: PatternDB, tmp_path: Path
) -> None:
    report = await imported(db, tmp_path, tool_lines())
    assert (report.conversations, report.messages_written, report.skipped) == (1, 5, {})
    agent = await db.agents.require(report.agents[0])
    (talk,) = await db.conversations.list(agent.id)
    assert (agent.name, talk.title, talk.created_at) == ("log", "log", BEGAN)

    _, asked, call, answer, last = await told(db, report)
    assert (asked.speaker, asked.metadata) == ("Ada", {"mood": "curious"})
    assert (call.tool_calls[0].name, call.tool_calls[0].arguments) == ("weather", {"city": "Oslo"})
    assert (answer.role, answer.tool_responses[0].content) == (Role.TOOL, "Rain.")
    assert call.batch_id == answer.batch_id is not None
    assert (await db.messages.batches.require(call.batch_id)).status is BatchStatus.COMPLETE
    assert [m.created_at for m in (asked, call, answer)] == [BEGAN] * 3
    assert (last.created_at, last.source) == (BEGAN.replace(second=5), "jsonl")
    hits = await db.search(agent.id, "rain", mode="keyword")
    assert answer.id in {hit.item.id for hit in hits}


async def test_lines_name_their_conversation_by_id_or_title(db: PatternDB, tmp_path: Path) -> None:
    flux = await db.agents.create(name="Flux")
    known = await db.conversations.create(flux.id, title="Ours")
    lines = [
        {"role": "user", "content": "a", "conversation_id": 7, "conversation": "Seven"},
        {"role": "user", "content": "b", "conversation": "Moving"},
        {"role": "ai", "content": "c", "conversation_id": 7},
        {"role": "human", "content": "d", "conversation_id": known.id},
        {"role": "user", "content": "e", "conversation": known.id},
        {"role": "developer", "content": "f"},
    ]
    report = await imported(db, tmp_path, lines, agent_id=flux.id)
    assert report.conversations == 4
    talks = {talk.title: talk for talk in await db.conversations.list(flux.id)}
    said = {
        title: [m.content for m in await told(db, report, conversation_id=talk.id)]
        for title, talk in talks.items()
    }
    assert said == {"Seven": ["a", "c"], "Moving": ["b"], "Ours": ["d", "e"], "log": ["f"]}
    assert talks["Seven"].metadata == {"conversation_id": "7"}
    roles = {m.content: (m.role, m.metadata.get("role")) for m in await told(db, report)}
    assert roles["c"] == (Role.ASSISTANT, "ai")
    assert roles["f"] == (Role.SYSTEM, "developer")

    (tmp_path / "tomorrow").mkdir()
    more = [{"role": "user", "content": "g", "conversation_id": 7}]
    await imported(db, tmp_path / "tomorrow", more, agent_id=flux.id)
    seven = await told(db, report, conversation_id=talks["Seven"].id)
    assert [m.content for m in seven] == ["a", "c", "g"]


async def test_every_field_of_append_and_every_other_key_is_kept(
    db: PatternDB, tmp_path: Path
) -> None:
    line = {
        "role": "user",
        "speaker": "Ada",
        "name": "ada_l",
        "content": [{"type": "text", "text": "Look"}, {"type": "image", "url": "u"}],
        "created_at": 1704103200,
        "source": "matrix",
        "metadata": {"mood": "glad", "room": 1},
        "room": 2,
        "batch_id": "batch_of_another",
        "refusal": None,
    }
    report = await imported(db, tmp_path, [line])
    (message,) = await told(db, report)
    assert (message.content, message.parts) == ("Look", line["content"])
    assert (message.speaker, message.source, message.created_at) == ("Ada", "matrix", BEGAN)
    assert message.metadata == {
        "mood": "glad",
        "room": 1,
        "name": "ada_l",
        "batch_id": "batch_of_another",
        "other_keys": {"room": 2},
    }


async def test_a_file_that_has_grown_adds_what_is_new_in_its_place(
    db: PatternDB, tmp_path: Path, path: str
) -> None:
    lines = [{"role": "user", "content": f"line {n}"} for n in range(1200)]
    await imported(db, tmp_path, lines[:700])
    report = await imported(db, tmp_path, lines)
    assert (report.messages_written, report.messages_present) == (500, 700)
    assert [m.content for m in await told(db, report)] == [line["content"] for line in lines]
    assert [m.ordinal for m in await told(db, report)] == list(range(1200))


async def test_lines_without_an_id_are_told_apart_by_their_place(
    db: PatternDB, tmp_path: Path
) -> None:
    report = await imported(db, tmp_path, [{"role": "user", "content": "ok"}] * 3)
    assert report.messages_written == 3


async def test_one_id_with_two_contents_is_two_messages_and_said_twice_is_one(
    db: PatternDB, tmp_path: Path
) -> None:
    lines = [
        {"role": "user", "content": "draft", "id": 1},
        {"role": "user", "content": "final", "id": 1},
        {"role": "user", "content": "final", "id": "1"},
    ]
    report = await imported(db, tmp_path, lines)
    assert (report.messages_written, report.messages_present) == (2, 1)
    moved = await imported(db, tmp_path, [{"role": "user", "content": "new"}, *lines])
    assert (moved.messages_written, moved.messages_present) == (1, 3)


async def test_files_of_one_name_do_not_hide_each_other(db: PatternDB, tmp_path: Path) -> None:
    flux = await db.agents.create(name="Flux")
    (tmp_path / "other").mkdir()
    await imported(db, tmp_path, [{"role": "user", "content": "a"}], agent_id=flux.id)
    again = await imported(
        db, tmp_path / "other", [{"role": "user", "content": "b"}], agent_id=flux.id
    )
    assert again.messages_written == 1


class TestToolCalls:
    """Calls and responses that do not match stay to be seen."""

    CALL = tool_lines()[2]

    async def test_a_call_nobody_answered_is_told(self, db: PatternDB, tmp_path: Path) -> None:
        report = await imported(db, tmp_path, [self.CALL, {"role": "user", "content": "Well?"}])
        call, _ = await told(db, report)
        assert call.content == '[tool call: weather {"city": "Oslo"}]'
        assert call.tool_calls == []
        assert call.metadata["unanswered_tool_calls"][0]["call_id"] == "call_1"
        assert await db.search(report.agents[0], "Oslo", mode="keyword")

    async def test_a_response_to_nothing_is_told(self, db: PatternDB, tmp_path: Path) -> None:
        stray = {"role": "tool", "tool_call_id": "call_9", "content": "Sun."}
        report = await imported(db, tmp_path, [stray, self.CALL, stray])
        first, _, last = await told(db, report)
        assert first.content == last.content == "Sun."
        assert first.metadata["unmatched_tool_responses"][0]["call_id"] == "call_9"

    async def test_one_of_two_calls_answered_keeps_that_one(
        self, db: PatternDB, tmp_path: Path
    ) -> None:
        calls = [
            {"call_id": "a", "name": "sum", "arguments": [1]},
            {"call_id": "b", "name": "product"},
        ]
        lines = [
            {"role": "assistant", "content": "Wait.", "tool_calls": calls},
            {"role": "tool", "tool_responses": [{"call_id": "a", "content": "1"}]},
            {"role": "user", "content": "And?"},
        ]
        report = await imported(db, tmp_path, lines)
        call, answer, _ = await told(db, report)
        assert [c.call_id for c in call.tool_calls] == ["a"]
        assert call.content == "Wait.\n[tool call: product ]"
        assert answer.tool_responses[0].content == "1"

    async def test_equal_call_ids_in_interleaved_conversations_stay_apart(
        self, db: PatternDB, tmp_path: Path
    ) -> None:
        answer = {"role": "tool", "tool_call_id": "call_1", "content": "x"}
        lines = [
            {**line, "conversation": name} for line in (self.CALL, answer) for name in ("A", "B")
        ]
        report = await imported(db, tmp_path, lines)
        batches = {m.conversation_id: set() for m in await told(db, report)}
        for message in await told(db, report):
            batches[message.conversation_id].add(message.batch_id)
        assert [len(ids) for ids in batches.values()] == [1, 1]
        assert len(set.union(*batches.values())) == 2

    async def test_an_answer_in_the_users_name_is_told(self, db: PatternDB, tmp_path: Path) -> None:
        answer = {"role": "user", "tool_responses": [{"call_id": "call_1", "content": "Snow."}]}
        report = await imported(db, tmp_path, [self.CALL, answer])
        assert [m.content for m in await told(db, report)][1] == "Snow."

    async def test_an_answer_that_came_after_the_import_is_told(
        self, db: PatternDB, tmp_path: Path
    ) -> None:
        await imported(db, tmp_path, [self.CALL])
        last = {"role": "assistant", "content": "It rains."}
        report = await imported(db, tmp_path, [*tool_lines()[2:4], last])
        assert (report.messages_written, report.messages_present) == (2, 1)
        assert [m.content for m in await told(db, report)][1:] == ["Rain.", "It rains."]

    async def test_a_second_answer_after_the_import_is_told(
        self, db: PatternDB, tmp_path: Path
    ) -> None:
        calls = [{"call_id": id, "name": "sum"} for id in "ab"]
        lines = [
            {"role": "assistant", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "a", "content": "first"},
            {"role": "tool", "tool_call_id": "b", "content": "second"},
        ]
        await imported(db, tmp_path, lines[:2])
        report = await imported(db, tmp_path, lines)
        assert (await told(db, report))[2].content == "second"


async def test_blank_lines_line_ends_and_a_byte_order_mark_do_not_matter(
    db: PatternDB, tmp_path: Path
) -> None:
    file = tmp_path / "dos.jsonl"
    line = json.dumps({"role": "user", "content": "h\u2028é"}, ensure_ascii=False).encode()
    file.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n  \n" + line)
    report = await import_file(db, "jsonl", file)
    assert [m.content for m in await told(db, report)] == ["h\u2028é"] * 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "line 3: it is not valid JSON"),
        (b"[]", "line 3: expected an object as the message, found a list"),
        (b'{"content": "x"}', "line 3: expected text as `role`, found nothing"),
        (b'{"role": "duck"}', "line 3: expected `role` to be one of system, user"),
        (b'{"role": "user", "content": {}}', "line 3: expected text as `content`"),
        (b'{"role": "user", "content": [1]}', "line 3: Invalid value for 'content'"),
        (b'{"role": "user", "created_at": "soon"}', "line 3: expected an ISO 8601 time"),
        (b'{"role": "user", "metadata": []}', "line 3: expected an object as `metadata`"),
        (b'{"role": "user", "id": {}}', "line 3: expected text as `id`"),
        (b'{"role": "user", "tool_calls": {}}', "line 3: expected a list as `tool_calls`"),
        (b'{"role": "user", "tool_calls": [{}]}', "line 3: Invalid value for 'tool_calls'"),
        (b'{"role": "user", "conversation": []}', "line 3: expected text as `conversation`"),
        (b'{"role": "user", "x": NaN}', "line 3: it holds NaN"),
        (b'{"role": "user", "x": 1e999}', "line 3: Invalid value for 'metadata'"),
        (b'{"role": "user", "x": 99999999999999999999}', "line 3: Invalid value for 'metadata'"),
        (b'{"role": "user", "x": ' + b"9" * 5000 + b"}", "line 3: "),
        (b'{"role": "user", "x": "\xff"}', "line 3: it is not UTF-8 text"),
        (b'{"role":' + b"[" * 100_000, "line 3: it is nested too deeply"),
        (
            b'{"role": "user", "x":' + b"[" * 500 + b"]" * 500 + b"}",
            "line 3: Invalid value for 'metadata'",
        ),
    ],
)
async def test_a_malformed_line_is_named_and_those_before_it_are_kept(
    db: PatternDB, tmp_path: Path, line: bytes, problem: str
) -> None:
    file, good = tmp_path / "log.jsonl", b'{"role": "user", "content": "fine"}\n'
    file.write_bytes(good + b"\n" + line + b"\n" + good)
    with pytest.raises(ImportFailed) as failure:
        await import_file(db, "jsonl", file)
    assert str(failure.value).startswith(f"log.jsonl, {problem}")
    assert await db.messages.count() == 1

    file.write_bytes(good + b"\n" + good + good)
    report = await import_file(db, "jsonl", file)
    assert (report.messages_written, report.messages_present) == (2, 1)


@pytest.mark.slow
async def test_a_line_may_have_sixteen_mebibytes_and_no_more(db: PatternDB, tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    frame = len('{"role": "user", "content": ""}\n')
    longest = "x" * (MAX_LINE_BYTES - frame)
    file.write_text(json.dumps({"role": "user", "content": longest}) + "\n")
    assert (await import_file(db, "jsonl", file)).messages_written == 1
    with file.open("a") as more:
        more.write(json.dumps({"role": "user", "content": longest + "x"}) + "\n")
    with pytest.raises(ImportFailed, match=r"long\.jsonl, line 2: it is longer than 16 MiB"):
        await import_file(db, "jsonl", file)


async def test_an_import_hears_how_much_of_the_file_was_read(db: PatternDB, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    lines = [{"role": "user", "content": f"line {n}"} for n in range(1200)]
    file = written(tmp_path, "log.jsonl", lines)
    await import_file(db, "jsonl", file, progress=lambda *at: heard.append(at))
    assert heard == sorted(heard)
    assert (len(heard), heard[-1]) == (3, (file.stat().st_size,) * 2)


async def test_untimed_lines_follow_what_a_stopped_import_wrote(path: str, tmp_path: Path) -> None:
    file = written(
        tmp_path, "log.jsonl", [{"role": "user", "content": f"line {n}"} for n in range(1200)]
    )

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    async with pattern_db.open(path, embeddings="none") as db:
        with pytest.raises(InterruptedError):
            await import_file(db, "jsonl", file, progress=stop)
        assert await db.messages.count() == 500
    async with pattern_db.open(path, embeddings="none") as db:
        report = await import_file(db, "jsonl", file)
        stopped = await dump(db, exact=False)
        assert report.messages_written == 700
    async with pattern_db.open(tmp_path / "once.db", embeddings="none") as db:
        await import_file(db, "jsonl", file)
        assert await dump(db, exact=False) == stopped


@pytest.mark.parametrize("embed", ["inline", "queued"])
async def test_imported_messages_are_found_by_meaning(
    minded: PatternDB, tmp_path: Path, embed: Any
) -> None:
    lines = [
        {"role": "user", "speaker": "Ada", "content": "I paddle my canoe on the fjord."},
        {"role": "user", "speaker": "Ada", "content": "The tax office wrote to me."},
    ]
    report = await imported(minded, tmp_path, lines, embed=embed)
    await minded.embed_pending()
    hits = await minded.search(report.agents[0], "small boats", mode="semantic", limit=1)
    assert hits[0].item.content.startswith("I paddle")
