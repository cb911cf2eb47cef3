"""Memory blocks and archival entries."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from pattern_db import (
    Agent,
    AlreadyExists,
    BlockType,
    InvalidValue,
    LimitExceeded,
    NotFound,
    PatternDB,
    Permission,
    PermissionDenied,
)
from tests.conftest import REFUSED_UNHEARD


async def test_a_block_keeps_every_version_of_its_text(db: PatternDB, flux: Agent) -> None:
    block = await db.memory.create(
        flux.id, label="human", content="Ada climbs.", block_type=BlockType.CORE, pinned=True
    )
    assert await db.memory.get(block.id) == block
    block = await db.memory.update(block.id, content="Ada climbs and paints.")
    block = await db.memory.append(block.id, "She moved.")
    assert block.content == "Ada climbs and paints.\nShe moved."
    assert await db.memory.require(block.id) == block
    history = await db.memory.history(block.id)
    assert [(v.version, v.content.split()[-1]) for v in history] == [
        (1, "climbs."),
        (2, "paints."),
        (3, "moved."),
    ]
    assert await db.memory.history(block.id, after=2) == history[2:]


async def test_a_change_without_a_new_text_is_no_version(db: PatternDB, flux: Agent) -> None:
    block = await db.memory.create(flux.id, label="human", content="x")
    await db.memory.update(block.id, pinned=True, metadata={"k": 1}, content="x")
    assert len(await db.memory.history(block.id)) == 1


async def test_undo_is_a_stack_and_a_new_text_cuts_redo(db: PatternDB, flux: Agent) -> None:
    block = await db.memory.create(flux.id, label="human", content="one")
    for text in ("two", "three"):
        await db.memory.update(block.id, content=text)
    assert (await db.memory.undo(block.id)).content == "two"
    assert (await db.memory.undo(block.id)).content == "one"
    with pytest.raises(InvalidValue, match="nothing to undo"):
        await db.memory.undo(block.id)
    assert (await db.memory.redo(block.id)).content == "two"
    await db.memory.update(block.id, content="other")
    with pytest.raises(InvalidValue, match="nothing to redo"):
        await db.memory.redo(block.id)
    assert (await db.memory.undo(block.id)).content == "two"
    assert (await db.memory.redo(block.id)).content == "other"
    assert [v.content for v in await db.memory.history(block.id)] == [
        "one",
        "two",
        "three",
        "other",
    ]


async def test_undo_refreshes_the_text_index(db: PatternDB, flux: Agent) -> None:
    block = await db.memory.create(flux.id, label="human", content="volcano")
    await db.memory.update(block.id, content="glacier")
    await db.memory.undo(block.id)
    assert [hit.item.id for hit in await db.memory.search(flux.id, "volcano")] == [block.id]
    assert await db.memory.search(flux.id, "glacier") == []


async def test_a_label_is_unique_among_live_blocks(db: PatternDB, flux: Agent) -> None:
    block = await db.memory.create(flux.id, label="human")
    with pytest.raises(AlreadyExists, match="label"):
        await db.memory.create(flux.id, label="human")
    other = await db.memory.create(flux.id, label="persona")
    with pytest.raises(AlreadyExists):
        await db.memory.update(other.id, label="human")
    await db.memory.delete(block.id)
    again = await db.memory.create(flux.id, label="human")
    assert await db.memory.by_label(flux.id, "human") == again
    with pytest.raises(AlreadyExists):
        await db.memory.restore(block.id)
    await db.memory.delete(again.id)
    assert (await db.memory.restore(block.id)).id == block.id


async def test_the_character_limit_is_enforced(db: PatternDB, flux: Agent) -> None:
    with pytest.raises(LimitExceeded, match="holds 5"):
        await db.memory.create(flux.id, label="human", content="123456", char_limit=5)
    block = await db.memory.create(flux.id, label="human", content="12345", char_limit=5)
    with pytest.raises(LimitExceeded):
        await db.memory.append(block.id, "6")
    with pytest.raises(LimitExceeded):
        await db.memory.update(block.id, char_limit=4)
    assert (await db.memory.require(block.id)).content == "12345"
    assert len(await db.memory.history(block.id)) == 1


@pytest.mark.parametrize(
    ("permission", "append", "overwrite"),
    [
        (Permission.READ_ONLY, False, False),
        (Permission.PARTNER, False, False),
        (Permission.HUMAN, False, False),
        (Permission.APPEND, True, False),
        (Permission.READ_WRITE, True, True),
        (Permission.ADMIN, True, True),
    ],
)
async def test_the_permission_of_a_block_counts(
    db: PatternDB, flux: Agent, permission: Permission, append: bool, overwrite: bool
) -> None:
    block = await db.memory.create(flux.id, label="human", content="x", permission=permission)
    await _allowed(db.memory.append(block.id, "y"), append)
    await _allowed(db.memory.update(block.id, content="z"), overwrite)
    assert (await db.memory.update(block.id, pinned=True)).pinned


async def _allowed(action, expected: bool) -> None:
    if expected:
        await action
        return
    with pytest.raises(PermissionDenied, match="change the permission"):
        await action


async def test_consent_opens_partner_and_human_blocks(db: PatternDB, flux: Agent) -> None:
    for permission in (Permission.PARTNER, Permission.HUMAN):
        block = await db.memory.create(flux.id, label=permission, permission=permission)
        assert (await db.memory.update(block.id, content="ok", consent=True)).content == "ok"
    locked = await db.memory.create(flux.id, label="locked", permission=Permission.READ_ONLY)
    with pytest.raises(PermissionDenied):
        await db.memory.update(locked.id, content="no", consent=True)


async def test_the_stricter_of_block_and_attachment_counts(db: PatternDB, flux: Agent) -> None:
    other = await db.agents.create(name="Other")
    for of_block in Permission:
        for of_attachment in Permission:
            block = await db.memory.create(
                flux.id, label=f"{of_block} {of_attachment}", permission=of_block
            )
            await db.memory.share(block.id, other.id, permission=of_attachment)
            weaker = min(of_block, of_attachment, key=lambda p: p.rank)
            assert await db.memory.permission(block.id, other.id) is weaker
            may_write = weaker.rank >= Permission.READ_WRITE.rank
            await _allowed(db.memory.update(block.id, content="new", as_agent=other.id), may_write)


async def test_shared_blocks_are_listed_found_and_taken_back(db: PatternDB, flux: Agent) -> None:
    other = await db.agents.create(name="Other")
    stranger = await db.agents.create(name="Stranger")
    block = await db.memory.create(flux.id, label="plan", content="meet at the lighthouse")
    assert await db.memory.search(other.id, "lighthouse") == []
    await db.memory.share(block.id, other.id, permission="append")
    (shared,) = await db.memory.shared_with(other.id)
    assert (shared.block.id, shared.permission) == (block.id, Permission.APPEND)
    assert [h.item.id for h in await db.search(other.id, "lighthouse")] == [block.id]
    assert await db.search(stranger.id, "lighthouse") == []
    edited = await db.memory.append(block.id, "bring a lamp", as_agent=other.id)
    assert (await db.memory.history(block.id))[-1].written_by == other.id
    assert [h.item for h in await db.search(other.id, "lamp")] == [edited]
    with pytest.raises(PermissionDenied):
        await db.memory.update(block.id, content="mine", as_agent=other.id)
    with pytest.raises(PermissionDenied):
        await db.memory.delete(block.id, as_agent=other.id)
    with pytest.raises(PermissionDenied, match="not shared"):
        await db.memory.append(block.id, "x", as_agent=stranger.id)
    assert [a.agent_id for a in await db.memory.attachments(block.id)] == [other.id]
    await db.memory.unshare(block.id, other.id)
    assert await db.search(other.id, "lighthouse") == []
    with pytest.raises(NotFound):
        await db.memory.unshare(block.id, other.id)
    with pytest.raises(InvalidValue):
        await db.memory.share(block.id, flux.id)


async def test_a_deleted_block_is_not_found_by_anybody(db: PatternDB, flux: Agent) -> None:
    other = await db.agents.create(name="Other")
    block = await db.memory.create(flux.id, label="plan", content="lighthouse")
    await db.memory.share(block.id, other.id)
    await db.memory.delete(block.id)
    assert await db.memory.get(block.id) is None
    assert await db.memory.list(flux.id) == []
    assert await db.search(flux.id, "lighthouse") == []
    assert await db.search(other.id, "lighthouse") == []
    assert await db.memory.shared_with(other.id) == []
    with pytest.raises(NotFound):
        await db.memory.update(block.id, content="x")


async def test_concurrent_appends_all_arrive(db: PatternDB, flux: Agent) -> None:
    block = await db.memory.create(flux.id, label="log", block_type="log")
    await asyncio.gather(*(db.memory.append(block.id, f"line {n}") for n in range(10)))
    lines = (await db.memory.require(block.id)).content.splitlines()
    assert sorted(lines) == sorted(f"line {n}" for n in range(10))
    assert len(await db.memory.history(block.id)) == 11


async def test_blocks_are_listed_by_type(db: PatternDB, flux: Agent) -> None:
    core = await db.memory.create(flux.id, label="a", block_type="core")
    await db.memory.create(flux.id, label="b", block_type="working", pinned=True)
    assert await db.memory.list(flux.id, block_type=BlockType.CORE) == [core]
    assert [b.label for b in await db.memory.list(flux.id, pinned=True)] == ["b"]
    assert await db.memory.count(flux.id) == 2


async def test_purging_a_block_erases_its_versions_and_attachments(
    db: PatternDB, flux: Agent
) -> None:
    other = await db.agents.create(name="Other")
    block = await db.memory.create(flux.id, label="a", content="x")
    await db.memory.share(block.id, other.id)
    await db.memory.purge(block.id)
    counts = (await db.status()).counts
    assert counts["memory_blocks"] == 0
    assert counts["memory_block_history"] == 0
    assert counts["shared_block_agents"] == 0


@pytest.mark.parametrize("fields", [{"label": ""}, {"label": " "}, {"label": "x", "char_limit": 0}])
async def test_a_block_needs_a_label_and_room(db: PatternDB, flux: Agent, fields: dict) -> None:
    with pytest.raises(InvalidValue):
        await db.memory.create(flux.id, **fields)


async def test_an_archival_entry_in_chunks_is_exactly_its_text(db: PatternDB, flux: Agent) -> None:
    text = "The lighthouse keeper wrote a line each day. " * 50
    entry = await db.archival.create(flux.id, text, chunk_chars=200, metadata={"tags": ["log"]})
    chunks = await db.archival.chunks(entry.id)
    assert len(chunks) > 10
    assert all(len(chunk.content) <= 200 for chunk in chunks)
    assert [chunk.chunk_index for chunk in chunks] == list(range(len(chunks)))
    assert await db.archival.read(entry.id) == text
    await db.archival.delete(entry.id)
    assert await db.archival.count(flux.id) == 0
    assert await db.search(flux.id, "lighthouse") == []
    await db.archival.restore(entry.id)
    assert await db.archival.read(entry.id) == text
    await db.archival.purge(entry.id)
    assert await db.archival.count(flux.id, include_deleted=True) == 0


async def test_archival_entries_change_and_page(db: PatternDB, flux: Agent) -> None:
    entries = [await db.archival.create(flux.id, f"note {n}") for n in range(5)]
    assert await db.archival.list(flux.id, limit=2, after=entries[1].id) == entries[2:4]
    assert await db.archival.list(flux.id, newest_first=True) == entries[::-1]
    changed = await db.archival.update(entries[0].id, content="a glacier", metadata={"k": 1})
    assert await db.archival.require(entries[0].id) == changed
    assert [h.item.id for h in await db.archival.search(flux.id, "glacier")] == [entries[0].id]
    for blank in ("", "  "):
        with pytest.raises(InvalidValue):
            await db.archival.create(flux.id, blank)
        with pytest.raises(InvalidValue):
            await db.archival.update(entries[0].id, content=blank)


async def test_many_archival_entries_are_kept_at_once_or_not_at_all(
    db: PatternDB, flux: Agent
) -> None:
    moment = datetime(2020, 5, 1, tzinfo=UTC)
    notes = [{"id": f"n{n}", "content": f"note {n}", "created_at": moment} for n in range(300)]
    kept = await db.archival.create_many(flux.id, notes)
    assert await db.archival.list(flux.id, limit=1000) == sorted(kept, key=lambda e: e.id)
    assert {entry.created_at for entry in kept} == {moment}
    for refused in ([{"content": "new"}, notes[0]], [{"content": "new"}, {"content": " "}]):
        with pytest.raises((AlreadyExists, InvalidValue)):
            await db.archival.create_many(flux.id, refused)
    assert await db.archival.count(flux.id) == 300
    assert await db.archival.create_many(flux.id, []) == []


async def test_entries_that_are_there_can_be_skipped(db: PatternDB, flux: Agent) -> None:
    first = await db.archival.create(flux.id, "one", id="n1", metadata={"k": 1})
    added = await db.archival.create_many(
        flux.id, [first, {"id": "n2", "content": "two"}], skip_existing=True
    )
    assert [entry.id for entry in added] == ["n2"]
    assert [e.content for e in await db.archival.list(flux.id)] == ["one", "two"]
    with pytest.raises(AlreadyExists):
        await db.archival.create_many(flux.id, [first])
    with pytest.raises(AlreadyExists):
        twice = [{"id": "n3", "content": "three"}] * 2
        await db.archival.create_many(flux.id, twice, skip_existing=True)


async def test_imports_of_the_same_entries_at_once_write_each_once(
    db: PatternDB, flux: Agent
) -> None:
    notes = [{"id": f"n{n}", "content": f"note {n}"} for n in range(50)]
    written = await asyncio.gather(
        *(db.archival.create_many(flux.id, notes, skip_existing=True) for _ in range(8))
    )
    assert sum(map(len, written)) == await db.archival.count(flux.id) == 50


@REFUSED_UNHEARD
@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ("text", "a list of dicts"),
        ({"content": "x"}, "a list of dicts"),
        (7, "a list of dicts"),
        (["text"], "entry 0 must be a dict"),
        ([{"content": "x", "chunk_chars": 5}], "there is no 'chunk_chars'"),
        ([{"text": "x"}], "there is no 'text'"),
        ([{"id": "n"}], "an archival entry needs a text"),
        ([{"content": None}], "content"),
        ([{"content": "x", "id": ""}], "an id cannot be empty"),
    ],
)
async def test_entries_that_cannot_be_kept_are_named(
    db: PatternDB, flux: Agent, entries: Any, problem: str
) -> None:
    with pytest.raises(InvalidValue, match=problem):
        await db.archival.create_many(flux.id, entries)


async def test_many_entries_are_found_by_meaning(minded: PatternDB) -> None:
    agent = await minded.agents.create(name="Flux")
    await minded.archival.create_many(
        agent.id, [{"content": "The cat sleeps on the sofa."}, {"content": "Taxes are due in May."}]
    )
    (hit, _) = await minded.archival.search(agent.id, "where is the kitten?", mode="semantic")
    assert hit.item.content == "The cat sleeps on the sofa."
    with pytest.raises(NotFound):
        await minded.archival.create_many("agent_0", [{"content": "x"}])


async def test_consent_to_one_permission_does_not_loosen_the_other(
    db: PatternDB, flux: Agent
) -> None:
    other = await db.agents.create(name="Other")
    for of_block, of_attachment in (("append", "partner"), ("partner", "append")):
        block = await db.memory.create(flux.id, label=of_block, permission=of_block)
        await db.memory.share(block.id, other.id, permission=of_attachment)
        with pytest.raises(PermissionDenied):
            await db.memory.update(block.id, content="mine", as_agent=other.id, consent=True)
        appended = await db.memory.append(block.id, "ours", as_agent=other.id, consent=True)
        assert appended.content == "ours"


async def test_the_author_of_a_version_is_kept(db: PatternDB, flux: Agent) -> None:
    block = await db.memory.create(flux.id, label="human")
    await db.memory.update(block.id, content="x", as_agent=flux.id)
    assert (await db.memory.history(block.id))[-1].written_by == flux.id
