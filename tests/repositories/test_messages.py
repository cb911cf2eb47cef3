"""Messages, conversations, batches, archiving, repair."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

import pattern_db
from pattern_db import (
    Agent,
    AlreadyExists,
    BatchIncomplete,
    BatchStatus,
    BatchType,
    InvalidValue,
    NotFound,
    PatternDB,
    Role,
    ToolCall,
    ToolResponse,
    Unsupported,
    ids,
)
from tests.conftest import REFUSED_UNHEARD
from tests.rigs.hostile import nested

MAY = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
CALL = {"call_id": "c1", "name": "weather", "arguments": {"city": "Bergen", "days": [1, 2]}}
ANSWER = {"call_id": "c1", "content": "rain all week"}


async def say(db: PatternDB, agent: Agent, text: str, **fields: Any) -> Any:
    return await db.messages.append(agent.id, **{"role": "user", "content": text, **fields})


async def texts(db: PatternDB, agent: Agent, **options: Any) -> list[str]:
    return [message.content for message in await db.messages.list(agent.id, **options)]


async def test_a_message_is_read_back_as_it_was_written(db: PatternDB, flux: Agent) -> None:
    talk = await db.conversations.create(flux.id, title="Moving")
    message = await db.messages.append(
        flux.id,
        conversation_id=talk.id,
        role=Role.USER,
        speaker="Ada",
        content="I moved to Oslo in May.",
        created_at=MAY,
        source="cli",
        metadata={"tags": ["home"], "n": 1},
    )
    assert await db.messages.get(message.id) == message
    assert (message.created_at, message.ordinal, message.speaker) == (MAY, 0, "Ada")


async def test_parts_and_tool_calls_come_back_in_their_form(db: PatternDB, flux: Agent) -> None:
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image", "source": {"url": "x"}},
        "plain",
    ]
    message = await db.messages.append(flux.id, role="user", content=parts)
    assert message.content == "look\nplain"
    assert message.parts == [*parts[:2], {"type": "text", "text": "plain"}]
    call = await db.messages.append(flux.id, role="assistant", tool_calls=[CALL])
    assert (await db.messages.require(message.id)).parts == message.parts
    assert (await db.messages.require(call.id)).tool_calls == [ToolCall(**CALL)]


async def test_openai_style_calls_and_responses_are_understood(db: PatternDB, flux: Agent) -> None:
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Bergen"}'},
    }
    message = await db.messages.append(flux.id, role="assistant", tool_calls=[call])
    assert message.tool_calls == [
        ToolCall(call_id="c1", name="weather", arguments={"city": "Bergen"})
    ]
    answer = await db.messages.append(
        flux.id, role="tool", tool_responses=[{"tool_call_id": "c1", "content": "rain"}]
    )
    assert answer.batch_id == message.batch_id


async def test_messages_are_ordered_by_time_then_by_arrival(db: PatternDB, flux: Agent) -> None:
    await say(db, flux, "second", created_at=MAY)
    await say(db, flux, "third", created_at=MAY)
    await say(db, flux, "first", created_at=MAY - timedelta(days=1))
    await say(db, flux, "now")
    assert await texts(db, flux) == ["first", "second", "third", "now"]
    assert [m.content for m in await db.messages.recent(flux.id, limit=2)] == ["third", "now"]
    assert await texts(db, flux, newest_first=True, limit=2) == ["now", "third"]
    assert await texts(db, flux, since=MAY, until=MAY + timedelta(seconds=1)) == ["second", "third"]


async def test_order_at_equal_times_survives_a_new_process(path: str) -> None:
    for start in (0, 3):
        async with pattern_db.open(path, embeddings="none") as db:
            flux = (await db.agents.list() or [await db.agents.create(name="Flux")])[0]
            for n in range(start, start + 3):
                await say(db, flux, str(n), created_at=MAY)
    async with pattern_db.open(path, embeddings="none") as db:
        assert await texts(db, flux) == list("012345")


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2024, 2, 29, 12, tzinfo=timezone(timedelta(hours=14))),
    ],
)
async def test_any_time_comes_back_in_utc(db: PatternDB, flux: Agent, moment: datetime) -> None:
    message = await say(db, flux, "x", created_at=moment)
    found = await db.messages.require(message.id)
    assert found.created_at == moment
    assert found.created_at.utcoffset() == timedelta(0)


async def test_times_order_across_the_ages(db: PatternDB, flux: Agent) -> None:
    years = [2024, 1, 1970, 9998, 2009, 2011]
    for year in years:
        await say(db, flux, str(year), created_at=datetime(year, 6, 1, tzinfo=UTC))
    assert await texts(db, flux) == [str(year) for year in sorted(years)]


async def test_appending_many_is_all_or_none(db: PatternDB, flux: Agent) -> None:
    many = [{"role": "user", "content": str(n)} for n in range(500)]
    stored = await db.messages.append_many(flux.id, many)
    assert [m.content for m in stored] == [str(n) for n in range(500)]
    assert [m.ordinal for m in stored] == list(range(500))
    with pytest.raises(AlreadyExists):
        await db.messages.append_many(
            flux.id, [{"role": "user", "content": "new"}, {"role": "user", "id": stored[0].id}]
        )
    assert await db.messages.count(flux.id) == 500
    assert await db.messages.append_many(flux.id, []) == []


async def test_skip_existing_writes_only_what_is_new(db: PatternDB, flux: Agent) -> None:
    def turns(count: int) -> list[dict[str, Any]]:
        return [
            {"id": f"m{n}", "role": "user", "content": str(n), "created_at": MAY}
            for n in range(count)
        ]

    await db.messages.append_many(flux.id, turns(3), skip_existing=True)
    added = await db.messages.append_many(flux.id, turns(5), skip_existing=True)
    assert [m.id for m in added] == ["m3", "m4"]
    assert await texts(db, flux) == list("01234")


async def test_models_can_be_appended_to_another_agent(db: PatternDB, flux: Agent) -> None:
    await db.messages.append_many(
        flux.id, [{"role": "user", "content": ["a", "b"], "speaker": "Ada", "created_at": MAY}]
    )
    other = await db.agents.create(name="Other")
    (message,) = await db.messages.list(flux.id)
    with pytest.raises(AlreadyExists):
        await db.messages.append_many(other.id, [message])
    (copied,) = await db.messages.append_many(
        other.id, [{"role": "user", "content": message.parts, "speaker": "Ada"}]
    )
    assert (copied.content, copied.parts) == (message.content, message.parts)


@REFUSED_UNHEARD
@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"content": "x"}, "role"),
        ({"role": "robot"}, "role"),
        ({"role": "user", "contents": "x"}, "messages"),
        ({"role": "user", "content": 5}, "content"),
        ({"role": "user", "content": [5]}, "content"),
        ({"role": "user", "content": "x\0"}, "content"),
        ({"role": "user", "created_at": datetime(2020, 1, 1)}, "created_at"),
        ({"role": "user", "created_at": "yesterday"}, "created_at"),
        ({"role": "user", "tool_calls": [{"name": "x"}]}, "tool_calls"),
        ({"role": "user", "tool_responses": [7]}, "tool_responses"),
        ({"role": "user", "metadata": [1]}, "metadata"),
        ({"role": "user", "batch_type": "odd"}, "batch_type"),
        ("text", "messages"),
    ],
)
async def test_bad_fields_are_named_and_nothing_is_kept(
    db: PatternDB, flux: Agent, entry: Any, named: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        await db.messages.append_many(flux.id, [{"role": "user", "content": "good"}, entry])
    assert refused.value.field == named
    assert await db.messages.count(flux.id) == 0


async def test_an_unknown_agent_or_conversation_is_named(db: PatternDB, flux: Agent) -> None:
    with pytest.raises(NotFound, match="no agent 'agent_nobody'"):
        await db.messages.append("agent_nobody", role="user", content="x")
    with pytest.raises(NotFound, match="no conversation 'conv_none'"):
        await say(db, flux, "x", conversation_id="conv_none")


async def test_updating_changes_the_index_too(db: PatternDB, flux: Agent) -> None:
    message = await say(db, flux, "volcano", speaker="Ada")
    changed = await db.messages.update(message.id, content="glacier", speaker="Bea")
    assert await db.messages.require(message.id) == changed
    assert await db.search(flux.id, "volcano") == []
    assert [h.item.id for h in await db.search(flux.id, "glacier")] == [message.id]
    assert [h.item.id for h in await db.search(flux.id, "Bea")] == [message.id]


async def test_a_deleted_message_is_a_tombstone(db: PatternDB, flux: Agent) -> None:
    message = await say(db, flux, "volcano")
    await db.messages.delete(message.id)
    assert await db.messages.get(message.id) is None
    assert (await db.messages.get(message.id, include_deleted=True)).is_deleted
    assert await texts(db, flux) == []
    assert await db.search(flux.id, "volcano") == []
    assert (await db.status()).counts["messages"] == 1
    await db.messages.restore(message.id)
    assert len(await db.search(flux.id, "volcano")) == 1
    await db.messages.purge(message.id)
    assert (await db.status()).counts["messages"] == 0


async def test_a_call_opens_a_batch_and_its_answer_closes_it(db: PatternDB, flux: Agent) -> None:
    call = await db.messages.append(flux.id, role="assistant", tool_calls=[CALL])
    assert await texts(db, flux) == []
    assert await db.search(flux.id, "Bergen") == []
    assert len(await db.messages.list(flux.id, include_incomplete=True)) == 1
    answer = await db.messages.append(flux.id, role="tool", tool_responses=[ANSWER])
    assert (answer.batch_id, answer.sequence_in_batch) == (call.batch_id, 1)
    assert len(await db.messages.list(flux.id)) == 2
    batch = await db.messages.batches.require(call.batch_id)
    assert (batch.status, batch.pending, batch.message_count) == (BatchStatus.COMPLETE, [], 2)


async def test_tool_names_arguments_and_answers_are_found(db: PatternDB, flux: Agent) -> None:
    call = await db.messages.append(flux.id, role="assistant", tool_calls=[CALL])
    answer = await db.messages.append(flux.id, role="tool", tool_responses=[ANSWER])
    for word, expected in (("weather", call), ("Bergen", call), ("rain", answer)):
        assert [h.item.id for h in await db.search(flux.id, word)][:1] == [expected.id], word
    assert await db.messages.search(flux.id, "c1") == []


async def test_several_calls_are_paired_by_id_in_any_order(db: PatternDB, flux: Agent) -> None:
    calls = [{"call_id": f"c{n}", "name": "t", "arguments": None} for n in range(3)]
    await db.messages.append(flux.id, role="assistant", tool_calls=calls)
    for n in (2, 0):
        await db.messages.append(
            flux.id, role="tool", tool_responses=[{"call_id": f"c{n}", "content": "ok"}]
        )
        assert await texts(db, flux) == []
    await db.messages.append(flux.id, role="tool", tool_responses=[{"call_id": "c1"}])
    assert len(await db.messages.list(flux.id)) == 4
    with pytest.raises(NotFound, match="open tool call"):
        await db.messages.append(flux.id, role="tool", tool_responses=[{"call_id": "c1"}])


async def test_an_opened_batch_stays_hidden_until_completed(db: PatternDB, flux: Agent) -> None:
    batch = await db.messages.open_batch(flux.id, batch_type=BatchType.SYSTEM_TRIGGER)
    await say(db, flux, "volcano", batch_id=batch.id)
    await db.messages.append(flux.id, role="assistant", tool_calls=[CALL], batch_id=batch.id)
    with pytest.raises(BatchIncomplete, match="1 tool calls"):
        await db.messages.complete_batch(batch.id)
    await db.messages.append(flux.id, role="tool", tool_responses=[ANSWER])
    assert await texts(db, flux) == []
    done = await db.messages.complete_batch(batch.id)
    assert done.status is BatchStatus.COMPLETE
    assert await db.messages.complete_batch(batch.id) == done
    messages = await db.messages.list(flux.id, batch_id=batch.id)
    assert [m.sequence_in_batch for m in messages] == [0, 1, 2]
    assert {m.batch_type for m in messages} == {BatchType.SYSTEM_TRIGGER}
    with pytest.raises(InvalidValue, match="open another"):
        await say(db, flux, "late", batch_id=batch.id)


async def test_a_batch_named_by_its_messages_closes_itself(db: PatternDB, flux: Agent) -> None:
    await say(db, flux, "what's the weather?", batch_id="b1")
    assert await texts(db, flux) == []
    await say(db, flux, "sunny", role="assistant", batch_id="b1")
    assert await texts(db, flux) == ["what's the weather?", "sunny"]


async def test_a_batch_belongs_to_its_agent(db: PatternDB, flux: Agent) -> None:
    other = await db.agents.create(name="Other")
    batch = await db.messages.open_batch(other.id)
    with pytest.raises(NotFound):
        await say(db, flux, "x", batch_id=batch.id)


async def test_concurrent_answers_all_find_their_calls(db: PatternDB, flux: Agent) -> None:
    calls = [{"call_id": f"c{n}", "name": "t"} for n in range(8)]
    call = await db.messages.append(flux.id, role="assistant", tool_calls=calls)
    await asyncio.gather(
        *(
            db.messages.append(flux.id, role="tool", tool_responses=[{"call_id": f"c{n}"}])
            for n in range(8)
        )
    )
    messages = await db.messages.list(flux.id, batch_id=call.batch_id)
    assert sorted(m.sequence_in_batch for m in messages) == list(range(9))


async def test_archiving_stops_at_a_batch_border(db: PatternDB, flux: Agent) -> None:
    await say(db, flux, "old", created_at=MAY)
    done = await db.messages.append(
        flux.id, role="assistant", tool_calls=[CALL], created_at=MAY + timedelta(minutes=1)
    )
    await say(db, flux, "between", created_at=MAY + timedelta(minutes=2))
    answer = await db.messages.append(
        flux.id, role="tool", tool_responses=[ANSWER], created_at=MAY + timedelta(minutes=3)
    )
    await db.messages.append(
        flux.id,
        role="assistant",
        tool_calls=[{"call_id": "open", "name": "t"}],
        created_at=MAY + timedelta(minutes=4),
    )
    assert await db.messages.archive_before(flux.id, answer.id) == 2
    assert await texts(db, flux, include_archived=True) == ["old", "", "between", ""]
    assert [m.id for m in await db.messages.list(flux.id)] == [done.id, answer.id]
    assert await db.messages.archive_before(flux.id, 2**62) == 2
    assert await db.messages.list(flux.id) == []
    assert [h.item.content for h in await db.search(flux.id, "between")] == ["between"]
    assert await db.search(flux.id, "between", include_archived=False) == []


async def test_a_summary_never_cuts_a_batch(db: PatternDB, flux: Agent) -> None:
    first = await say(db, flux, "old", created_at=MAY)
    call = await db.messages.append(
        flux.id, role="assistant", tool_calls=[CALL], created_at=MAY + timedelta(minutes=1)
    )
    span = {"start_position": first.position, "end_position": call.position}
    with pytest.raises(BatchIncomplete):
        await db.messages.summaries.create(flux.id, "they talked", **span)
    answer = await db.messages.append(
        flux.id, role="tool", tool_responses=[ANSWER], created_at=MAY + timedelta(minutes=2)
    )
    with pytest.raises(BatchIncomplete, match="border"):
        await db.messages.summaries.create(flux.id, "they talked", **span)
    one = await db.messages.summaries.create(
        flux.id, "they talked", start_position=first.position, end_position=answer.position
    )
    assert one.message_count == 3
    two = await db.messages.summaries.create(
        flux.id,
        "all of it",
        start_position=first.position,
        end_position=answer.position,
        previous_summary_id=one.id,
        depth=1,
    )
    assert [s.id for s in await db.messages.summaries.chain(two.id)] == [two.id, one.id]
    assert await db.messages.summaries.list(flux.id, depth=1) == [two]
    with pytest.raises(NotFound):
        await db.messages.summaries.create(flux.id, "x", start_position=1, end_position=2)
    for wrong in ({"summary": " "}, {"depth": -1}, {"previous_summary_id": "summary_none"}):
        with pytest.raises((InvalidValue, NotFound)):
            await db.messages.summaries.create(
                flux.id,
                **{
                    "summary": "x",
                    "start_position": first.position,
                    "end_position": answer.position,
                    **wrong,
                },
            )


async def test_repair_tombstones_orphans_and_leaves_an_audit_row(
    db: PatternDB, flux: Agent
) -> None:
    batch = await db.messages.open_batch(flux.id)
    question = await say(db, flux, "weather?", batch_id=batch.id)
    lost = {"call_id": "lost", "name": "t"}
    both = await db.messages.append(
        flux.id, role="assistant", batch_id=batch.id, tool_calls=[CALL, lost]
    )
    answer = await db.messages.append(flux.id, role="tool", tool_responses=[ANSWER])
    orphan = await db.messages.append(
        flux.id, role="assistant", batch_id=batch.id, tool_calls=[{"call_id": "z", "name": "t"}]
    )
    spoken = await say(
        db,
        flux,
        "let me look",
        role="assistant",
        batch_id=batch.id,
        tool_calls=[{"call_id": "y", "name": "t"}],
    )
    (repaired,) = await db.messages.repair(flux.id)
    assert (repaired.status, repaired.pending) == (BatchStatus.REPAIRED, [])
    shown = await db.messages.list(flux.id)
    assert [m.id for m in shown] == [question.id, both.id, answer.id, spoken.id]
    assert [call.call_id for call in shown[1].tool_calls] == ["c1"]
    assert shown[3].tool_calls == []
    assert (await db.messages.get(orphan.id, include_deleted=True)).is_deleted
    (record,) = await db.audit_log()
    assert record.action == "repair_batch"
    assert record.details["unanswered_calls"] == ["lost", "y", "z"]
    assert record.details["tombstoned_messages"] == [orphan.id]
    assert await db.messages.repair() == []


async def test_conversations_are_threads(db: PatternDB, flux: Agent) -> None:
    ada = await db.users.create(name="Ada")
    talk = await db.conversations.create(flux.id, user_id=ada.id, title="a", context={"k": 1})
    other = await db.conversations.create(flux.id, title="b")
    await say(db, flux, "one", conversation_id=talk.id)
    await say(db, flux, "two", conversation_id=other.id)
    await say(db, flux, "three", conversation_id=talk.id)
    assert await texts(db, flux, conversation_id=talk.id) == ["one", "three"]
    assert await db.messages.count(flux.id, conversation_id=talk.id) == 2
    assert await db.conversations.list(flux.id, user_id=ada.id) == [talk]
    assert (await db.conversations.update(talk.id, title="c")).title == "c"
    assert (await db.conversations.end(talk.id)).ended_at is not None
    await db.conversations.purge(talk.id)
    assert await texts(db, flux) == ["two"]
    assert await db.search(flux.id, "three") == []
    await db.conversations.delete(other.id)
    assert await db.conversations.list(flux.id) == []


async def test_tool_calls_are_audited(db: PatternDB, flux: Agent) -> None:
    record = await db.tool_calls.create(
        flux.id,
        tool_name="shell",
        parameters={"cmd": "ls"},
        result=["a", 1],
        duration_ms=12.5,
        call_id="c1",
    )
    failed = await db.tool_calls.create(flux.id, tool_name="web", error="timeout")
    assert await db.tool_calls.get(record.id) == record
    assert await db.tool_calls.list(flux.id) == [record, failed]
    assert await db.tool_calls.list(flux.id, tool_name="web") == [failed]
    assert await db.tool_calls.count(flux.id) == 2


@pytest.mark.parametrize(
    "entry",
    [
        {"tool_calls": [ToolCall(call_id=5, name="t")]},
        {"tool_calls": [ToolCall(call_id="c", name="t", arguments=float("nan"))]},
        {"tool_responses": [ToolResponse(call_id="c", is_error="maybe")]},
        {"tool_calls": 5},
        {"tool_calls": [{"call_id": "c", "name": "t", "arguments": nested(5000)}]},
    ],
)
async def test_no_row_is_written_that_cannot_be_read(
    db: PatternDB, flux: Agent, entry: dict[str, Any]
) -> None:
    with pytest.raises(InvalidValue):
        await db.messages.append(flux.id, role="assistant", **entry)
    assert await db.messages.count(flux.id) == 0


async def test_appending_something_else_than_a_list_is_refused(db: PatternDB, flux: Agent) -> None:
    for wrong in (5, "text", {"role": "user"}):
        with pytest.raises(InvalidValue):
            await db.messages.append_many(flux.id, wrong)
    with pytest.raises(InvalidValue):
        await db.messages.append_many(flux.id, [{"role": "user", "id": ["x"]}], skip_existing=True)


async def test_many_taken_positions_are_passed_over(
    db: PatternDB, flux: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a process remembers: the database says which are taken."""
    monkeypatch.setattr(ids, "_REMEMBERED_MS", 50)
    turns = [
        {"role": "user", "content": str(n), "created_at": MAY + timedelta(milliseconds=n)}
        for n in range(300)
    ]
    await db.messages.append_many(flux.id, turns)
    again = await db.messages.append_many(flux.id, turns)
    assert len({message.position for message in again}) == 300
    assert await db.messages.count(flux.id) == 600


async def test_skipping_existing_takes_times_as_text_and_several_imports_at_once(
    db: PatternDB, flux: Agent
) -> None:
    turns = [
        {"id": f"m{n}", "role": "user", "content": str(n), "created_at": MAY.isoformat()}
        for n in range(50)
    ]
    await asyncio.gather(
        *(db.messages.append_many(flux.id, turns, skip_existing=True) for _ in range(4))
    )
    assert await texts(db, flux) == [str(n) for n in range(50)]


async def test_a_batch_cannot_be_deactivated(db: PatternDB, flux: Agent) -> None:
    batch = await db.messages.open_batch(flux.id)
    with pytest.raises(Unsupported, match="purge"):
        await db.messages.batches.delete(batch.id)
