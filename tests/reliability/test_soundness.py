"""The oracle itself: it finds every disagreement that a disaster could leave in a file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw
import pytest

import pattern_db

from .load import Load, broken_promises
from .soundness import flaws
from .tiny import TinyEmbeddings

pytestmark = pytest.mark.slow

DAMAGE = {
    "a message is not indexed": (
        "DELETE FROM messages_text WHERE rowid = (SELECT min(rowid) FROM messages_text)",
        "not indexed",
    ),
    "a deleted message is indexed": (
        "INSERT INTO messages_text (rowid, scope, speaker, content, tool_text) "
        "SELECT pk, 'a1', speaker, content, tool_text FROM messages WHERE is_deleted LIMIT 1",
        "not live",
    ),
    "the index has other words than the text": (
        "DROP TRIGGER messages_text_update; UPDATE messages SET content = 'other' "
        "WHERE id = 'a-0-said'",
        "index misses",
    ),
    "an agent finds a block that is not shared": (
        "DELETE FROM memory_blocks_text; INSERT INTO memory_blocks_text "
        "(rowid, scope, label, description, content) SELECT pk, 'a1 a2 a3', label, description, "
        "content FROM memory_blocks WHERE is_active",
        "too much",
    ),
    "a vector is missing": ("DELETE FROM embeddings WHERE item_id = 'a-0-said'", "has none"),
    "a piece of a long text has no vector": (
        "DELETE FROM embeddings WHERE item_id = 'a-0-many-1' AND chunk_index = 1",
        "has none",
    ),
    "a vector is of an earlier text": (
        "UPDATE embeddings SET content_hash = x'00' WHERE item_id = 'a-0-said'",
        "another text",
    ),
    "a vector is of another model": (
        "UPDATE embeddings SET vector = zeroblob(64) WHERE item_id = 'a-0-said'",
        "another text",
    ),
    "a vector is of nothing": (
        "DROP TRIGGER messages_text_vectors_live; INSERT INTO embeddings (item_id, kind, space, chunk_index, agent_id, start_char, end_char, "
        "content_hash, vector) SELECT 'gone', kind, space, 0, agent_id, 0, 1, x'00', vector "
        "FROM embeddings WHERE kind = 'message' LIMIT 1",
        "one too many",
    ),
    "something that is gone waits for a vector": (
        "INSERT INTO embedding_queue (kind, item_id, agent_id, token, queued_at) "
        "SELECT 'message', 'gone', id, '', 0 FROM agents LIMIT 1",
        "not live",
    ),
    "a batch lacks a message": (
        "DELETE FROM messages WHERE id = 'a-0-tool'",
        "not numbered",
    ),
    "a batch counts a message too many": (
        "UPDATE message_batches SET message_count = message_count + 1",
        "not numbered",
    ),
    "a batch waits for what was answered": (
        "UPDATE message_batches SET status = 'open', pending = '[\"x\"]'",
        "pending",
    ),
    "a block lacks a version": (
        "DELETE FROM memory_block_history WHERE version = 1",
        "lacks a version",
    ),
    "a block shows a text it never had": (
        "DROP TRIGGER memory_blocks_text_update; UPDATE memory_blocks SET content = 'other'",
        "does not show",
    ),
    "a reference points nowhere": (
        "PRAGMA foreign_keys = 0; DELETE FROM conversations",
        "reference",
    ),
}


@pytest.fixture
async def acks(path: str) -> list[str]:
    """What was acknowledged while everything was written once."""
    lines: list[str] = []
    async with pattern_db.open(path, embeddings=TinyEmbeddings()) as db:
        load = Load(db, lines.append, "a")
        await load.prepare()
        await load.one_of_each(rounds=1)
        await db.embed_pending()
    return lines


async def test_a_file_that_was_closed_in_peace_is_sound(path: str, acks: list[str]) -> None:
    assert flaws(path) == []
    assert broken_promises(path, acks) == []


@pytest.mark.parametrize("case", DAMAGE)
async def test_damage_is_found(path: str, acks: list[str], case: str) -> None:
    statements, words = DAMAGE[case]
    with closing(apsw.Connection(path)) as connection:
        connection.execute(statements)
    assert any(words in flaw for flaw in flaws(path)), flaws(path)


async def test_overwritten_pages_are_found(path: str, acks: list[str]) -> None:
    content = bytearray(Path(path).read_bytes())
    content[4096 * 20 : 4096 * 21] = b"\xa5" * 4096
    Path(path).write_bytes(content)
    assert flaws(path) != []


async def test_every_kind_of_promise_can_be_broken(path: str, acks: list[str]) -> None:
    with closing(apsw.Connection(path)) as connection:
        connection.execute(
            "UPDATE messages SET id = 'a-0-purged' WHERE id = 'a-0-said'; "
            "DELETE FROM messages WHERE id <> 'a-0-purged'; "
            "DELETE FROM memory_blocks; DELETE FROM archival_entries"
        )
    assert broken_promises(path, acks) == acks


@pytest.mark.parametrize("gone", ["a-0-many-3", "a-0-nested-1", "a-0-old-0", "a-0-note_1"])
async def test_half_a_group_is_found(path: str, acks: list[str], gone: str) -> None:
    with closing(apsw.Connection(path)) as connection:
        for table in ("messages", "archival_entries"):
            connection.execute(f"DELETE FROM {table} WHERE id = ?", (gone,))
    assert any(line.startswith("half of a-0-") for line in broken_promises(path, acks))
