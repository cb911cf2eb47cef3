"""Vectors stay in step with texts: inline, queued, after edits, after a change of model."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import pattern_db
from pattern_db import EmbeddingFailed, EmbeddingModelMismatch, NotFound, PatternDB
from pattern_db.embeddings.provider import Matrix, Vector


class Hashing:
    """A real, tiny embedding model: words hashed into a few dimensions."""

    max_batch = 100

    def __init__(self, model_id: str = "hashing", dimensions: int = 4096, *, window: int = 60):
        self.model_id, self.dimensions, self.window = model_id, dimensions, window
        self.embedded = 0
        self.broken = False

    async def embed(self, text: str) -> Vector:
        return (await self.embed_batch([text]))[0]

    async def embed_query(self, text: str) -> Vector:
        return self._vector(text)

    async def embed_batch(self, texts: Sequence[str]) -> Matrix:
        if self.broken:
            raise EmbeddingFailed("The model is out of order.")
        self.embedded += len(texts)
        return np.array([self._vector(text) for text in texts], np.float32)

    def _vector(self, text: str) -> Vector:
        vector = np.full(self.dimensions, 1e-3, np.float32)
        for word in text.lower().split():
            digest = hashlib.blake2b(f"{self.model_id} {word}".encode(), digest_size=4).digest()
            vector[int.from_bytes(digest, "big") % self.dimensions] += 1
        return vector / np.linalg.norm(vector)

    def split(self, text: str) -> list[tuple[int, int]]:
        starts = range(0, max(len(text), 1), self.window)
        return [(start, min(start + self.window, len(text))) for start in starts]

    async def close(self) -> None:
        pass


async def vectors_agree(db: PatternDB) -> None:
    """Every live text has exactly its current vectors, and nothing else has any."""
    before = await db.embeddings.pending()
    assert before == 0
    assert await db.reembed() == 0


async def test_every_kind_is_embedded_in_the_same_write(path: str) -> None:
    async with pattern_db.open(path, embeddings=Hashing()) as db:
        flux = await db.agents.create(name="Flux")
        await db.messages.append(flux.id, role="user", content="one two")
        await db.messages.append_many(
            flux.id, [{"role": "user", "content": str(n)} for n in range(9)]
        )
        await db.memory.create(flux.id, label="human", content="three")
        await db.archival.create(flux.id, "four five", chunk_chars=5)
        assert (await db.status()).counts["embeddings"] == 13
        await vectors_agree(db)


async def test_a_blank_text_has_no_vector(path: str) -> None:
    async with pattern_db.open(path, embeddings=Hashing()) as db:
        flux = await db.agents.create(name="Flux")
        await db.messages.append(flux.id, role="user", content="  ", speaker="Ada")
        await db.messages.append(flux.id, role="user", content="")
        assert (await db.status()).counts["embeddings"] <= 1


async def test_long_text_is_chunked_and_its_end_is_found(path: str) -> None:
    async with pattern_db.open(path, embeddings=Hashing(dimensions=256)) as db:
        flux = await db.agents.create(name="Flux")
        filler = "nothing of note happened " * 40
        await db.messages.append(flux.id, role="user", content=filler + "volcano volcano erupts")
        await db.messages.append(flux.id, role="user", content=filler)
        assert (await db.status()).counts["embeddings"] > 20
        hits = await db.search(flux.id, "volcano volcano", mode="semantic", limit=10)
        assert len(hits) == 2
        assert "volcano" in hits[0].item.content


async def test_a_failing_provider_keeps_nothing_and_says_so(path: str) -> None:
    provider = Hashing()
    async with pattern_db.open(path, embeddings=provider) as db:
        flux = await db.agents.create(name="Flux")
        provider.broken = True
        with pytest.raises(EmbeddingFailed):
            await db.messages.append(flux.id, role="user", content="lost")
        assert await db.messages.count(flux.id) == 0
        provider.broken = False
        await db.messages.append(flux.id, role="user", content="kept")
        await vectors_agree(db)


async def test_queued_items_are_embedded_later_and_never_lost(path: str) -> None:
    provider = Hashing()
    provider.broken = True
    async with pattern_db.open(path, embeddings=provider) as db:
        flux = await db.agents.create(name="Flux")
        await db.messages.append(flux.id, role="user", content="the volcano", embed="queued")
        await db.memory.create(flux.id, label="human", content="glacier", embed="queued")
        await db.archival.create(flux.id, "a river", embed="queued")
        assert [h.item.content for h in await db.search(flux.id, "volcano", mode="keyword")] == [
            "the volcano"
        ]
        with pytest.raises(EmbeddingFailed):
            await db.embed_pending()
        assert await db.embeddings.pending() == 3
    async with pattern_db.open(path, embeddings=Hashing()) as db:
        await db.embed_pending()
        assert await db.embeddings.pending() == 0
        hits = await db.search(flux.id, "the volcano", mode="semantic", limit=1)
        assert hits[0].item.content == "the volcano"
        await vectors_agree(db)


class Choosy(Hashing):
    """Refuses a whole batch for one text in it, as providers do."""

    async def embed_batch(self, texts: Sequence[str]) -> Matrix:
        if any("refused" in text for text in texts):
            raise EmbeddingFailed("The text is not allowed.")
        return await super().embed_batch(texts)


async def test_a_refused_text_holds_up_no_other(path: str) -> None:
    async with pattern_db.open(path, embeddings=Choosy()) as db:
        flux = await db.agents.create(name="Flux")
        for n in range(20):
            said = "refused" if n in {0, 13} else f"the volcano {n}"
            await db.messages.append(flux.id, role="user", content=said, embed="queued")
        with pytest.raises(EmbeddingFailed, match=r"^2 of the queued texts were refused: The text"):
            await db.embed_pending()
        assert await db.embeddings.pending() == 2
        hits = await db.search(flux.id, "the volcano 19", mode="semantic", limit=1)
        assert hits[0].item.content == "the volcano 19"


async def test_queued_mode_is_a_setting(path: str) -> None:
    settings = {"provider": "local", "mode": "queued"}
    async with pattern_db.open(path, embeddings=settings) as db:
        assert db.embeddings.mode == "queued"


async def test_a_later_edit_beats_an_earlier_queued_text(path: str) -> None:
    provider = Hashing()
    async with pattern_db.open(path, embeddings=provider) as db:
        flux = await db.agents.create(name="Flux")
        block = await db.memory.create(flux.id, label="human", content="old", embed="queued")
        await db.memory.update(block.id, content="new")
        await db.embed_pending()
        await vectors_agree(db)
        await db.memory.update(block.id, content="newer", embed="queued")
        await db.memory.delete(block.id)
        await db.embed_pending()
        assert (await db.status()).counts["embeddings"] == 0


async def test_another_model_is_refused_with_both_names(path: str) -> None:
    async with pattern_db.open(path, embeddings=Hashing("first")) as db:
        flux = await db.agents.create(name="Flux")
        await db.messages.append(flux.id, role="user", content="hello")
    for other in (Hashing("second"), Hashing("first", 64)):
        with pytest.raises(EmbeddingModelMismatch, match="pattern db reembed") as refused:
            await pattern_db.open(path, embeddings=other)
        assert refused.value.db_model == "first"
        assert refused.value.config_model == other.model_id
    async with pattern_db.open(path, embeddings="none") as db:
        assert await db.messages.count(flux.id) == 1


@pytest.mark.slow
async def test_reembedding_switches_the_model(path: str) -> None:
    async with pattern_db.open(path, embeddings=Hashing("first")) as db:
        flux = await db.agents.create(name="Flux")
        for n in range(600):
            await db.messages.append(flux.id, role="user", content=f"number {n}", embed="inline")
    second = Hashing("second", 2048)
    seen: list[tuple[int, int]] = []
    async with pattern_db.open(path, embeddings=second, allow_other_model=True) as db:
        done = await db.reembed(progress=lambda at, of: seen.append((at, of)))
        assert done == 600
        assert seen[-1] == (600, 600)
    async with pattern_db.open(path, embeddings=second) as db:
        assert (await db.status()).embedding_model == "second"
        assert (await db.status()).counts["embedding_spaces"] == 1
        assert (await db.status()).counts["embeddings"] == 600
        hits = await db.search(flux.id, "number 77", mode="semantic", limit=1)
        assert hits[0].item.content == "number 77"


@pytest.mark.slow
async def test_reembedding_goes_on_where_it_was_stopped(path: str) -> None:
    async with pattern_db.open(path, embeddings=Hashing("first")) as db:
        flux = await db.agents.create(name="Flux")
        await db.messages.append_many(
            flux.id, [{"role": "user", "content": f"number {n}"} for n in range(600)]
        )
    second = Hashing("second")

    def stop(at: int, _of: int) -> None:
        if at > 300:
            raise KeyboardInterrupt

    async with pattern_db.open(path, embeddings=second, allow_other_model=True) as db:
        with pytest.raises(KeyboardInterrupt):
            await db.reembed(progress=stop)
    async with pattern_db.open(path, embeddings=Hashing("first")) as db:
        hits = await db.search(flux.id, "number 77", mode="semantic", limit=1)
        assert hits[0].item.content == "number 77"
        await db.messages.append(flux.id, role="user", content="written meanwhile")
    before = second.embedded
    async with pattern_db.open(path, embeddings=second, allow_other_model=True) as db:
        await db.reembed()
        assert second.embedded - before < 300
        assert (await db.status()).counts["embeddings"] == 601


async def test_a_process_with_the_old_model_cannot_write_after_the_switch(path: str) -> None:
    async with pattern_db.open(path, embeddings=Hashing("first")) as old:
        flux = await old.agents.create(name="Flux")
        await old.messages.append(flux.id, role="user", content="hello")
        async with pattern_db.open(path, embeddings=Hashing("2"), allow_other_model=True) as new:
            await new.reembed()
        with pytest.raises(NotFound, match="embedding space"):
            await old.messages.append(flux.id, role="user", content="too late")
        assert await old.messages.count(flux.id) == 1


async def test_what_was_written_without_a_provider_is_embedded_later(path: str) -> None:
    async with pattern_db.open(path, embeddings="none") as db:
        flux = await db.agents.create(name="Flux")
        await db.messages.append(flux.id, role="user", content="before any model")
    async with pattern_db.open(path, embeddings=Hashing()) as db:
        assert await db.reembed() == 1
    async with pattern_db.open(path, embeddings="none") as db:
        await db.messages.append(flux.id, role="user", content="while it was away")
        assert await db.embeddings.pending() == 1
    async with pattern_db.open(path, embeddings=Hashing()) as db:
        await db.embed_pending()
        await vectors_agree(db)


async def test_everything_can_be_embedded_anew(path: str) -> None:
    provider = Hashing()
    async with pattern_db.open(path, embeddings=provider) as db:
        flux = await db.agents.create(name="Flux")
        await db.messages.append_many(
            flux.id, [{"role": "user", "content": str(n)} for n in range(9)]
        )
        before = provider.embedded
        assert await db.reembed(everything=True) == 9
        assert provider.embedded == before + 9
        await vectors_agree(db)


async def test_purging_leaves_no_vector(path: str) -> None:
    async with pattern_db.open(path, embeddings=Hashing()) as db:
        flux = await db.agents.create(name="Flux")
        message = await db.messages.append(flux.id, role="user", content="secret")
        block = await db.memory.create(flux.id, label="a", content="secret")
        entry = await db.archival.create(flux.id, "secret text in chunks", chunk_chars=8)
        await db.messages.purge(message.id)
        await db.memory.purge(block.id)
        await db.archival.purge(entry.id)
        assert (await db.status()).counts["embeddings"] == 0
        await db.messages.append(flux.id, role="user", content="secret")
        await db.agents.purge(flux.id)
        assert (await db.status()).counts["embeddings"] == 0
        await db.vacuum()
    assert all(b"secret" not in file.read_bytes() for file in Path(path).parent.iterdir())


async def test_tasks_inside_the_first_transaction_embed_and_can_be_undone(path: str) -> None:
    async with pattern_db.open(path, embeddings=Hashing()) as db:
        flux = await db.agents.create(name="Flux")

        async def say(n: int, embed: str) -> None:
            await db.messages.append(flux.id, role="user", content=f"number {n}", embed=embed)

        for embed in ("inline", "queued"):
            with pytest.raises(KeyError):
                async with db.transaction():
                    await asyncio.gather(*(say(n, embed) for n in range(5)))
                    raise KeyError
            async with db.transaction():
                await asyncio.gather(*(say(n, embed) for n in range(5)))
        await db.embed_pending()
        assert (await db.status()).counts["embeddings"] == 10
        await vectors_agree(db)


async def test_an_empty_database_takes_any_model(path: str) -> None:
    for model in ("first", "second"):
        async with pattern_db.open(path, embeddings=Hashing(model)) as db:
            assert (await db.status()).embedding_model == model
    async with pattern_db.open(path, embeddings=Hashing("second")) as db:
        flux = await db.agents.create(name="Flux")
        await db.messages.append(flux.id, role="user", content="hello")
    with pytest.raises(EmbeddingModelMismatch):
        await pattern_db.open(path, embeddings=Hashing("first"))


class Paused(Hashing):
    """Waits inside ``embed_batch`` until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.go = asyncio.Event(), asyncio.Event()

    async def embed_batch(self, texts: Sequence[str]) -> Matrix:
        vectors = await super().embed_batch(texts)
        self.inside.set()
        await self.go.wait()
        return vectors


async def test_a_text_queued_again_while_it_is_embedded_is_embedded_again(path: str) -> None:
    provider = Paused()
    async with pattern_db.open(path, embeddings=provider) as db:
        flux = await db.agents.create(name="Flux")
        said = await db.messages.append(flux.id, role="user", content="old", embed="queued")
        await provider.inside.wait()
        await db.messages.update(said.id, content="new", embed="queued")
        provider.go.set()
        await db.embed_pending()
        await vectors_agree(db)


@pytest.mark.parametrize("verb", ["delete", "purge"])
async def test_what_goes_while_it_is_embedded_anew_stays_gone(path: str, verb: str) -> None:
    async with pattern_db.open(path, embeddings=Hashing()) as db:
        flux = await db.agents.create(name="Flux")
        said = await db.messages.append(flux.id, role="user", content="secret")
    provider = Paused()
    async with pattern_db.open(path, embeddings=provider) as db:
        work = asyncio.create_task(db.reembed(everything=True))
        await provider.inside.wait()
        await getattr(db.messages, verb)(said.id)
        provider.go.set()
        await work
        assert (await db.status()).counts["embeddings"] == 0


async def test_a_keyword_handle_notices_vectors_that_came_later(path: str) -> None:
    async with pattern_db.open(path, embeddings="none") as plain:
        flux = await plain.agents.create(name="Flux")
        async with pattern_db.open(path, embeddings=Hashing()) as db:
            said = await db.messages.append(flux.id, role="user", content="one")
        await plain.messages.update(said.id, content="two")
        await plain.messages.append(flux.id, role="user", content="three")
    async with pattern_db.open(path, embeddings=Hashing()) as db:
        await db.embed_pending()
        await vectors_agree(db)


async def test_purging_a_batch_leaves_no_vector(path: str) -> None:
    async with pattern_db.open(path, embeddings=Hashing()) as db:
        flux = await db.agents.create(name="Flux")
        talk = await db.conversations.create(flux.id)
        batch = await db.messages.open_batch(flux.id, conversation_id=talk.id)
        await db.messages.append(flux.id, id="m", role="user", content="x", batch_id=batch.id)
        await db.conversations.purge(talk.id)
        assert (await db.status()).counts["embeddings"] == 0


async def test_models_tried_on_an_empty_database_leave_no_trace(path: str) -> None:
    for model in ("first", "second", "first"):
        async with pattern_db.open(path, embeddings=Hashing(model)) as db:
            flux = await db.agents.create(name="Flux")
    async with pattern_db.open(path, embeddings=Hashing("first")) as db:
        await db.messages.append(flux.id, role="user", content="x")
    with pytest.raises(EmbeddingModelMismatch):
        await pattern_db.open(path, embeddings=Hashing("second"))
    async with pattern_db.open(path, embeddings=Hashing("first")) as db:
        assert (await db.status()).counts["embedding_spaces"] == 1
