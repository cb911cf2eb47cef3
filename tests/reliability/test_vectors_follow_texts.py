"""Text, text index and vectors agree whatever happens at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

import pattern_db
from pattern_db import Agent, Conflict, NotFound, PatternDB
from pattern_db.embeddings import Matrix

from .soundness import flaws
from .tiny import TinyEmbeddings

pytestmark = pytest.mark.slow


class Slow(TinyEmbeddings):
    """Embeds when it is told to; until then other tasks go on."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    def pause(self) -> None:
        self.asked.clear()
        self.go_on.clear()

    async def embed_batch(self, texts: Sequence[str]) -> Matrix:
        self.asked.set()
        await self.go_on.wait()
        return await super().embed_batch(texts)


@pytest.fixture
async def slow() -> Slow:
    return Slow()


@pytest.fixture
async def db(path: str, slow: Slow) -> AsyncIterator[PatternDB]:
    async with pattern_db.open(path, embeddings=slow) as opened:
        yield opened


async def test_two_changes_of_a_message_at_once_leave_the_vector_of_what_it_says_then(
    db: PatternDB, flux: Agent, path: str, slow: Slow
) -> None:
    message = await db.messages.append(flux.id, role="user", speaker="Ada", content="first")
    slow.pause()
    rewriting = asyncio.create_task(db.messages.update(message.id, content="second"))
    renaming = asyncio.create_task(db.messages.update(message.id, speaker="Bob"))
    await slow.asked.wait()
    slow.go_on.set()
    await asyncio.gather(rewriting, renaming)
    now = await db.messages.require(message.id)
    assert (now.content, now.speaker) == ("second", "Bob")
    assert flaws(path) == []


async def test_a_message_deleted_while_it_is_rewritten_stays_deleted(
    db: PatternDB, flux: Agent, path: str, slow: Slow
) -> None:
    message = await db.messages.append(flux.id, role="user", content="first")
    slow.pause()
    rewriting = asyncio.create_task(db.messages.update(message.id, content="second"))
    await slow.asked.wait()
    await db.messages.delete(message.id)
    slow.go_on.set()
    with pytest.raises(NotFound):
        await rewriting
    assert flaws(path) == []


async def test_a_note_deleted_while_it_is_rewritten_stays_deleted(
    db: PatternDB, flux: Agent, path: str, slow: Slow
) -> None:
    note = await db.archival.create(flux.id, "first")
    slow.pause()
    rewriting = asyncio.create_task(db.archival.update(note.id, content="second"))
    await slow.asked.wait()
    await db.archival.delete(note.id)
    slow.go_on.set()
    with pytest.raises(NotFound):
        await rewriting
    assert flaws(path) == []
    assert await db.search(flux.id, "second") == []


async def test_a_block_deleted_while_it_is_rewritten_stays_deleted(
    db: PatternDB, flux: Agent, path: str, slow: Slow
) -> None:
    block = await db.memory.create(flux.id, label="log", content="first")
    slow.pause()
    rewriting = asyncio.create_task(db.memory.append(block.id, "second"))
    await slow.asked.wait()
    await db.memory.delete(block.id)
    slow.go_on.set()
    with pytest.raises(NotFound):
        await rewriting
    assert flaws(path) == []


async def test_a_second_restore_does_not_bring_back_an_earlier_vector(
    db: PatternDB, flux: Agent, path: str, slow: Slow
) -> None:
    message = await db.messages.append(flux.id, role="user", content="first")
    block = await db.memory.create(flux.id, label="log", content="first")
    async with pattern_db.open(path, embeddings=TinyEmbeddings()) as quick:
        for mine, other, id in (
            (db.messages, quick.messages, message.id),
            (db.memory, quick.memory, block.id),
        ):
            await mine.delete(id)
            slow.pause()
            late = asyncio.create_task(mine.restore(id))
            await slow.asked.wait()
            await other.restore(id)
            await other.update(id, content="second")  # type: ignore[attr-defined]
            slow.go_on.set()
            with pytest.raises(Conflict):
                await late
    assert flaws(path) == []


async def test_a_purged_conversation_takes_along_what_is_said_in_it_meanwhile(
    db: PatternDB, flux: Agent, path: str
) -> None:
    talk = await db.conversations.create(flux.id)
    said = (
        db.messages.append(flux.id, role="user", content=f"{n}", conversation_id=talk.id)
        for n in range(20)
    )
    await asyncio.gather(*said, db.conversations.purge(talk.id), return_exceptions=True)
    assert await db.conversations.get(talk.id, include_deleted=True) is None
    assert flaws(path) == []


async def test_purging_everyone_leaves_no_vector_and_no_word(
    db: PatternDB, flux: Agent, path: str
) -> None:
    ada = await db.users.create(name="Ada")
    own = await db.agents.create(name="Own", user_id=ada.id)
    for agent, other in ((flux, own), (own, flux)):
        block = await db.memory.create(agent.id, label="plans", content="go to Oslo")
        await db.memory.share(block.id, other.id)
        await db.messages.append(agent.id, role="user", content="hello")
        await db.archival.create(agent.id, "a long note " * 20, chunk_chars=50)
    await db.users.purge(ada.id)
    assert flaws(path) == []
    await db.agents.purge(flux.id)
    assert flaws(path) == []
    counts = (await db.status()).counts
    kept = {"system_metadata", "schema_migrations", "embedding_spaces", "audit_log"}
    assert {name for name, count in counts.items() if count} == kept


async def test_the_first_vector_may_be_undone(db: PatternDB, flux: Agent, path: str) -> None:
    with pytest.raises(KeyError):
        async with db.transaction():
            await db.messages.append(flux.id, role="user", content="undone")
            raise KeyError
    await db.messages.append(flux.id, role="user", content="kept")
    assert flaws(path) == []


async def test_the_first_vectors_may_be_written_by_tasks_of_a_transaction(
    db: PatternDB, flux: Agent, path: str
) -> None:
    async with db.transaction():
        await asyncio.gather(
            *(db.messages.append(flux.id, role="user", content=f"{n}") for n in range(3))
        )
    assert flaws(path) == []


async def test_embedding_everything_again_does_not_bring_back_what_was_deleted(
    db: PatternDB, flux: Agent, path: str
) -> None:
    secret = await db.messages.append(flux.id, role="user", content="the secret is blue")
    await db.messages.delete(secret.id)
    await db.reembed(everything=True)
    assert await db.search(flux.id, "the secret is blue") == []
    assert flaws(path) == []


async def test_a_handle_finds_the_first_vectors_that_another_one_writes(
    db: PatternDB, flux: Agent, path: str
) -> None:
    async with pattern_db.open(path, embeddings=TinyEmbeddings()) as other:
        await db.messages.append(flux.id, role="user", content="apples")
        assert await other.search(flux.id, "apples", mode="semantic") != []
