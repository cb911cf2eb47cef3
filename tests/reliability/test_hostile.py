"""What users, models and attackers send, through every input: it comes back exactly and means only
itself, or it is refused by the name of the field."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import apsw
import pytest

import pattern_db
from pattern_db import Agent, InvalidValue, NotFound, PatternDB, PatternError
from pattern_db.schema import all_tables
from pattern_db.search import SearchOptions
from pattern_db.validation import MAX_ID_CHARS
from tests.rigs.hostile import (
    INJECTIONS,
    NASTY_IDS,
    NASTY_JSON,
    NASTY_TEXT,
    NASTY_TIMES,
    Case,
    identical,
    storable,
)

from .tiny import TinyEmbeddings

pytestmark = pytest.mark.slow

TEXTS = tuple(dict.fromkeys((*INJECTIONS, *NASTY_TEXT)))
IDS = tuple(text for text in TEXTS if storable(text) and 0 < len(text) <= MAX_ID_CHARS)


@pytest.fixture
async def db(path: str) -> AsyncIterator[PatternDB]:
    """A database that does not wait for the disk: these tests write thousands of rows."""
    async with pattern_db.open(path, embeddings="none", durability="relaxed") as opened:
        yield opened


def schema(path: str) -> list[Any]:
    with closing(apsw.Connection(path)) as connection:
        return list(connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name"))


def counts(path: str) -> dict[str, int]:
    with closing(apsw.Connection(path)) as connection:
        return {
            table.name: connection.execute(f"SELECT count(*) FROM {table.name}").get
            for table in all_tables()
        }


def test_the_corpus_is_large() -> None:
    assert len(TEXTS) >= 400
    assert len(IDS) >= 400


# texts that are kept

Writer = Callable[[PatternDB, str, str], Awaitable[Any]]
WRITERS: dict[str, Writer] = {}
"""Ways to store a text; each gives it as it is read back."""
NEVER_BLANK = {"agent_name", "block_label", "archival_content", "summary_text"}


def writer(write: Writer) -> Writer:
    WRITERS[write.__name__] = write
    return write


@writer
async def user_name(db: PatternDB, agent_id: str, text: str) -> str:
    return (await db.users.require((await db.users.create(name=text)).id)).name


@writer
async def agent_name(db: PatternDB, agent_id: str, text: str) -> str:
    return (await db.agents.require((await db.agents.create(name=text)).id)).name


@writer
async def agent_prompt_and_tool(db: PatternDB, agent_id: str, text: str) -> str:
    made = await db.agents.update(agent_id, system_prompt=text, enabled_tools=[text])
    read = await db.agents.require(made.id)
    assert read.enabled_tools == [text]
    return read.system_prompt


@writer
async def group_name_and_domain(db: PatternDB, agent_id: str, text: str) -> str | None:
    group = await db.groups.create(name=text, description=text)
    await db.groups.add_member(
        group.id, agent_id, role="specialist", domain=text, capabilities=[text]
    )
    (member,) = await db.groups.members(group.id)
    read = await db.groups.require(group.id)
    assert (read.name, read.description, member.capabilities) == (text, text, [text])
    return member.domain


@writer
async def conversation_title(db: PatternDB, agent_id: str, text: str) -> str:
    made = await db.conversations.create(agent_id, title=text)
    return (await db.conversations.require(made.id)).title


@writer
async def block_label(db: PatternDB, agent_id: str, text: str) -> str:
    made = await db.memory.create(agent_id, label=text)
    assert (await db.memory.by_label(agent_id, text)) == made
    return (await db.memory.require(made.id)).label


@writer
async def block_content(db: PatternDB, agent_id: str, text: str) -> str:
    label = f"block {await db.memory.count()}"
    block = await db.memory.create(agent_id, label=label, description=text, char_limit=2**22)
    await db.memory.append(block.id, text)
    await db.memory.update(block.id, content="other")
    await db.memory.undo(block.id)
    read = await db.memory.require(block.id)
    versions = await db.memory.history(block.id)
    assert read.description == text
    assert text in [version.content for version in versions]
    return read.content


@writer
async def message_content(db: PatternDB, agent_id: str, text: str) -> str:
    made = await db.messages.append(agent_id, role="user", content=text)
    return (await db.messages.require(made.id)).content


@writer
async def rewritten_content(db: PatternDB, agent_id: str, text: str) -> str:
    made = await db.messages.append(agent_id, role="user", content="draft")
    await db.messages.update(made.id, content=text)
    return (await db.messages.require(made.id)).content


@writer
async def message_speaker_and_source(db: PatternDB, agent_id: str, text: str) -> str | None:
    made = await db.messages.append(agent_id, role="user", speaker=text, source=text)
    read = await db.messages.require(made.id)
    assert read.source == text
    return read.speaker


@writer
async def message_part(db: PatternDB, agent_id: str, text: str) -> Any:
    part = {"type": "text", "text": text, "cache": text}
    made = await db.messages.append(agent_id, role="user", content=[part])
    read = await db.messages.require(made.id)
    assert read.parts == [part]
    return read.content


@writer
async def metadata_key_and_value(db: PatternDB, agent_id: str, text: str) -> Any:
    metadata = {text: 1, "value": text, "inside": [{text: text}], "tags": [text]}
    made = await db.messages.append(agent_id, role="user", metadata=metadata)
    read = await db.messages.require(made.id)
    assert read.metadata == metadata
    return read.metadata["value"]


@writer
async def tool_call_and_response(db: PatternDB, agent_id: str, text: str) -> Any:
    call = {"call_id": text, "name": text, "arguments": {text: text}}
    asked = await db.messages.append(agent_id, role="assistant", tool_calls=[call])
    answer = {"call_id": text, "content": text}
    answered = await db.messages.append(agent_id, role="tool", tool_responses=[answer])
    assert answered.batch_id == asked.batch_id
    (read,) = (await db.messages.require(asked.id)).tool_calls
    assert (read.name, read.arguments) == (text, {text: text})
    (response,) = (await db.messages.require(answered.id)).tool_responses
    assert response.content == text
    return read.call_id


@writer
async def tool_record(db: PatternDB, agent_id: str, text: str) -> Any:
    made = await db.tool_calls.create(
        agent_id, tool_name=text, parameters={text: text}, result=text, error=text, call_id=text
    )
    read = await db.tool_calls.require(made.id)
    assert read == made
    assert made in await db.tool_calls.list(agent_id, tool_name=text)
    return read.tool_name


@writer
async def archival_content(db: PatternDB, agent_id: str, text: str) -> Any:
    made = await db.archival.create(agent_id, text, chunk_chars=10_000)
    return await db.archival.read(made.id)


@writer
async def summary_text(db: PatternDB, agent_id: str, text: str) -> Any:
    said = await db.messages.append(agent_id, role="user", content="said")
    made = await db.messages.summaries.create(
        agent_id, text, start_position=said.position, end_position=said.position
    )
    return (await db.messages.summaries.require(made.id)).summary


@pytest.mark.parametrize("name", WRITERS)
async def test_every_text_comes_back_exactly_or_is_refused_by_name(
    db: PatternDB, flux: Agent, path: str, name: str
) -> None:
    before = schema(path)
    refused = 0
    for text in TEXTS:
        try:
            read = await WRITERS[name](db, flux.id, text)
        except InvalidValue as error:
            refused += 1
            blank = name in NEVER_BLANK and not text.strip()
            assert blank or not storable(text), text[:80]
            assert error.field
            assert len(text) < 2 or text.isspace() or text not in str(error)
        else:
            assert storable(text)
            assert read == text
    assert refused >= sum(not storable(text) for text in TEXTS) > 0
    assert schema(path) == before


@pytest.mark.parametrize("case", NASTY_JSON, ids=lambda case: case.name)
async def test_every_json_value_comes_back_identical_or_is_refused(
    db: PatternDB, flux: Agent, case: Case
) -> None:
    metadata = case.value if isinstance(case.value, dict) else {"value": case.value}
    if case.storable:
        message = await db.messages.append(flux.id, role="user", metadata=metadata)
        assert identical((await db.messages.require(message.id)).metadata, metadata)
        await db.agents.update(flux.id, state=metadata, config=metadata)
        assert identical((await db.agents.require(flux.id)).state, metadata)
        record = await db.tool_calls.create(flux.id, tool_name="x", result=case.value)
        assert identical((await db.tool_calls.require(record.id)).result, case.value)
    else:
        with pytest.raises(InvalidValue):
            await db.messages.append(flux.id, role="user", metadata=metadata)
        with pytest.raises(InvalidValue):
            await db.agents.update(flux.id, state=metadata)
        with pytest.raises(InvalidValue):
            await db.tool_calls.create(flux.id, tool_name="x", result=case.value)
        assert await db.messages.count() == 0


@pytest.mark.parametrize("case", NASTY_TIMES, ids=lambda case: case.name)
async def test_every_time_comes_back_as_the_same_moment_or_is_refused(
    db: PatternDB, flux: Agent, case: Case
) -> None:
    if case.storable:
        moment = case.value.astimezone(UTC)
        message = await db.messages.append(
            flux.id, role="user", content="then", created_at=case.value
        )
        assert (await db.messages.require(message.id)).created_at == moment
        assert await db.messages.list(flux.id, since=case.value) == [message]
        assert await db.messages.list(flux.id, until=case.value) == []
        (hit,) = await db.search(flux.id, "then", since=case.value)
        assert hit.item == message
    elif case.name == "text":
        message = await db.messages.append(flux.id, role="user", created_at=case.value)
        assert message.created_at == datetime.fromisoformat(case.value)
    else:
        for refused in (
            db.messages.append(flux.id, role="user", created_at=case.value),
            db.messages.list(flux.id, since=case.value),
            db.search(flux.id, "then", until=case.value),
        ):
            with pytest.raises(InvalidValue):
                await refused


# ids


async def test_every_id_can_be_given_and_means_only_itself(db: PatternDB, path: str) -> None:
    before = schema(path)
    for text in IDS:
        await db.users.create(id=text, name=text)
        await db.agents.create(id=text, name="x", user_id=text)
        await db.messages.append(text, role="user", content=text, id=text)
    assert await db.users.count() == await db.agents.count() == len(IDS)
    for text in IDS:
        assert (await db.users.require(text)).name == text
        assert [agent.id for agent in await db.agents.get_by_user(text)] == [text]
        assert [message.id for message in await db.messages.list(text)] == [text]
        assert await db.users.list(after=text, limit=1) != [await db.users.get(text)]
    await db.users.purge(IDS[0])
    await db.messages.delete(IDS[1])
    assert await db.users.count() == await db.agents.count() == len(IDS) - 1
    assert await db.messages.count() == len(IDS) - 2
    assert schema(path) == before


def lookups(db: PatternDB, id: Any, agent_id: str) -> dict[str, Awaitable[Any]]:
    """Everything that takes the id of something that is not there."""
    repositories = {
        "users": db.users,
        "agents": db.agents,
        "groups": db.groups,
        "conversations": db.conversations,
        "memory": db.memory,
        "archival": db.archival,
        "messages": db.messages,
        "batches": db.messages.batches,
        "summaries": db.messages.summaries,
        "tool_calls": db.tool_calls,
    }
    asked: dict[str, Awaitable[Any]] = {}
    for name, repository in repositories.items():
        asked |= {
            f"{name}.require": repository.require(id),
            f"{name}.delete": repository.delete(id),
            f"{name}.restore": repository.restore(id),
            f"{name}.purge": repository.purge(id),
        }
    return asked | {
        "users.update": db.users.update(id, name="x"),
        "agents.update": db.agents.update(id, name="x"),
        "groups.update": db.groups.update(id, name="x"),
        "groups.members": db.groups.members(id),
        "groups.add_member": db.groups.add_member(id, agent_id),
        "conversations.update": db.conversations.update(id, title="x"),
        "memory.update": db.memory.update(id, content="x"),
        "memory.append": db.memory.append(id, "x"),
        "memory.history": db.memory.history(id),
        "memory.undo": db.memory.undo(id),
        "memory.share": db.memory.share(id, agent_id),
        "memory.unshare": db.memory.unshare(id, agent_id),
        "memory.create": db.memory.create(id, label="x"),
        "archival.create": db.archival.create(id, "x"),
        "archival.create_many": db.archival.create_many(id, [{"content": "x"}]),
        "archival.read": db.archival.read(id),
        "archival.update": db.archival.update(id, content="x"),
        "messages.append": db.messages.append(id, role="user"),
        "messages.append_many": db.messages.append_many(id, [{"role": "user"}]),
        "messages.update": db.messages.update(id, content="x"),
        "messages.complete_batch": db.messages.complete_batch(id),
        "messages.open_batch": db.messages.open_batch(id),
        "search": db.search(id, "x"),
    }


def mentions(db: PatternDB, id: str, agent_id: str) -> dict[str, Awaitable[Any]]:
    """Everything that takes an optional id beside others."""
    return {
        "users.list": db.users.list(after=id),
        "agents.create": db.agents.create(name="x", user_id=id),
        "messages.list": db.messages.list(agent_id, after=id),
        "conversations.create": db.conversations.create(agent_id, user_id=id),
        "message in a conversation": db.messages.append(agent_id, role="user", conversation_id=id),
        "archive_before": db.messages.archive_before(agent_id, id),
        "tool call of a message": db.tool_calls.create(agent_id, tool_name="x", message_id=id),
    }


async def test_an_id_of_nothing_finds_and_changes_nothing(
    db: PatternDB, flux: Agent, path: str
) -> None:
    before, rows = schema(path), counts(path)
    for case in NASTY_IDS:
        asked = lookups(db, case.value, flux.id)
        if isinstance(case.value, str):
            asked |= mentions(db, case.value, flux.id)
        for name, lookup in asked.items():
            with pytest.raises(NotFound if case.storable else (InvalidValue, NotFound)):
                await lookup
                pytest.fail(f"{name} took {case.name}")
    assert counts(path) == rows
    assert schema(path) == before


async def test_lists_and_counts_of_nothing_are_empty(db: PatternDB, flux: Agent) -> None:
    await db.messages.append(flux.id, role="user", content="x", metadata={"tags": ["x"]})
    for case in NASTY_IDS:
        if not (isinstance(case.value, str) and case.storable):
            continue
        asked: dict[str, Awaitable[Any]] = {
            "messages": db.messages.list(case.value),
            "messages of a conversation": db.messages.list(flux.id, conversation_id=case.value),
            "messages of a batch": db.messages.list(flux.id, batch_id=case.value),
            "memory": db.memory.list(case.value),
            "a block": db.memory.by_label(flux.id, case.value),
            "shared": db.memory.shared_with(case.value),
            "archival": db.archival.list(case.value),
            "agents": db.agents.list(name=case.value),
            "agents of a user": db.agents.get_by_user(case.value),
            "memberships": db.groups.memberships(case.value),
            "tool calls": db.tool_calls.list(case.value),
            "tool calls by name": db.tool_calls.list(tool_name=case.value),
            "count": db.messages.count(case.value),
            "repaired": db.messages.repair(case.value),
        }
        for name, lookup in asked.items():
            assert not await lookup, f"{name} of {case.name}"


async def test_enums_take_only_their_values(db: PatternDB, flux: Agent) -> None:
    block = await db.memory.create(flux.id, label="x")
    for text in TEXTS:
        for refused in (
            db.messages.append(flux.id, role=text),
            db.messages.list(flux.id, role=text),
            db.messages.open_batch(flux.id, batch_type=text),
            db.memory.update(block.id, block_type=text),
            db.memory.update(block.id, permission=text),
            db.memory.list(flux.id, block_type=text),
            db.agents.update(flux.id, status=text),
            db.agents.list(status=text),
            db.groups.create(name="x", pattern_type=text),
            db.search(flux.id, "x", mode=text),
            db.search(flux.id, "x", kinds=[text]),
            db.search(flux.id, "x", roles=[text]),
        ):
            with pytest.raises(InvalidValue):
                await refused
    assert await db.messages.count() == await db.groups.count() == 0


async def test_names_that_nobody_knows_are_refused(db: PatternDB, flux: Agent) -> None:
    for text in {*TEXTS} - {*SearchOptions.__struct_fields__, "self", "agent_id", "query"}:
        with pytest.raises(InvalidValue):
            await db.search(flux.id, "x", **{text: 1})
    for text in {*TEXTS} - {"role", "content", "metadata", "id"}:
        with pytest.raises(InvalidValue):
            await db.messages.append_many(flux.id, [{"role": "user", text: "x"}])
    assert await db.messages.count() == 0


@pytest.mark.parametrize("field", ["tool_calls", "tool_responses"])
@pytest.mark.parametrize(
    "value",
    [
        5, True, "x", "\ud800", {"call_id": "c"}, [5], [None], ["x"], ["\ud800"], [[]], [{}],
        [{"\ud800": 1}], [{"call_id": 5, "name": "x"}], [{"call_id": "c", "name": None}],
        [{"function": 5}], [{"function": {"name": 5}}], [{"id": "c", "function": {}}],
        [{"tool_call_id": None}], [{"call_id": "\ud800", "name": "x"}],
        [{"call_id": "c", "name": "x", "arguments": {1: 2}}],
    ],
    ids=repr,
)  # fmt: skip
async def test_what_a_model_calls_a_tool_call_may_be_anything(
    db: PatternDB, flux: Agent, field: str, value: Any
) -> None:
    with pytest.raises((InvalidValue, NotFound)):
        await db.messages.append(flux.id, role="assistant", **{field: value})
    assert await db.messages.count() == 0


@pytest.mark.parametrize("arguments", ["[NaN]", "1e999", "{broken", "", "9" * 30, "[" * 2000])
async def test_arguments_that_json_cannot_keep_are_kept_as_the_text_they_came_in(
    db: PatternDB, flux: Agent, arguments: str
) -> None:
    call = {"id": "c", "function": {"name": "x", "arguments": arguments}}
    message = await db.messages.append(flux.id, role="assistant", tool_calls=[call])
    (read,) = (await db.messages.require(message.id)).tool_calls
    assert read.arguments == arguments


# searches


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["keyword", "semantic", "hybrid"])
async def test_a_query_is_text_and_never_syntax(path: str, mode: str) -> None:
    """Nothing of another agent, nothing deleted, nothing of an open batch is ever found."""
    async with pattern_db.open(path, embeddings=TinyEmbeddings(), durability="relaxed") as db:
        flux, other = [await db.agents.create(name=name) for name in ("Flux", "Other")]
        texts = [text for text in TEXTS if storable(text) and len(text) < 1000]
        for agent in (flux, other):
            await db.messages.append_many(
                agent.id, [{"role": "user", "content": f"{text} common"} for text in texts]
            )
        secret = await db.messages.append(flux.id, role="user", content="common deleted")
        await db.messages.delete(secret.id)
        call = {"call_id": "c", "name": "common", "arguments": {}}
        await db.messages.append(flux.id, role="assistant", tool_calls=[call])
        before, rows = schema(path), counts(path)
        for text in TEXTS:
            if not storable(text):
                with pytest.raises(InvalidValue):
                    await db.search(flux.id, text, mode=mode)
                continue
            hits = await db.search(flux.id, text, mode=mode, limit=20)
            assert all(hit.item.agent_id == flux.id for hit in hits)
            assert all(hit.item.content.endswith(" common") for hit in hits)
            assert all(0 <= hit.score <= 1 for hit in hits)
        assert counts(path) == rows
        assert schema(path) == before


async def test_a_text_with_a_word_of_its_own_is_found_by_that_text(
    db: PatternDB, flux: Agent
) -> None:
    """However the text around the word looks: quotes, operators, column names, parentheses."""
    texts = [
        f"{text} unique{n}x" for n, text in enumerate(TEXTS) if storable(text) and len(text) < 99
    ]
    await db.messages.append_many(flux.id, [{"role": "user", "content": text} for text in texts])
    for text in texts:
        best, *_ = await db.search(flux.id, text, limit=1)
        assert best.item.content == text


async def test_endless_queries_and_ids_are_refused(db: PatternDB, flux: Agent) -> None:
    with pytest.raises(PatternError, match="characters"):
        await db.search(flux.id, "x" * (2**20 + 1))
    with pytest.raises(PatternError, match="characters"):
        await db.messages.get("x" * 513)
    with pytest.raises(PatternError, match="characters"):
        await db.messages.append(flux.id, role="user", content="x" * (2**24 + 1))
