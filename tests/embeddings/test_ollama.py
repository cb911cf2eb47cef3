"""The Ollama provider, against a server that speaks Ollama's wire format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pattern_db.embeddings import create_provider
from pattern_db.errors import EmbeddingFailed

from .servers import Loopback, Request, free_port, loopback, numbered

pytest.importorskip("ollama")

TEXT = "the diary of Ada"


def answered(request: Request) -> tuple[int, Any]:
    return 200, {"model": "any", "embeddings": numbered(request.body["input"], 1024)}


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback(answered) as served:
        yield served


@pytest.fixture
async def provider(server: Loopback):
    made = create_provider("ollama", base_url=server.url, timeout_s=10)
    yield made
    await made.close()


async def test_a_question_is_asked_with_the_prefix_of_the_model(provider, server: Loopback) -> None:
    document = await provider.embed(TEXT)
    await provider.embed_query(TEXT)
    assert np.linalg.norm(document) == pytest.approx(1, abs=1e-5)
    assert {request.path for request in server.requests} == {"/api/embed"}
    assert server.requests[0].body["input"] == [TEXT]
    assert server.requests[0].body["truncate"] is False
    assert server.requests[1].body["input"] == [
        f"Represent this sentence for searching relevant passages: {TEXT}"
    ]


async def test_a_long_text_is_sent_in_pieces_with_the_prefix_each(server: Loopback) -> None:
    provider = create_provider("ollama", model="nomic-embed-text", base_url=server.url)
    server.reply = lambda request: (200, {"embeddings": numbered(request.body["input"], 768)})
    await provider.embed("A long story. " * 1000)
    pieces = server.requests[0].body["input"]
    assert len(pieces) > 1
    assert all(piece.startswith("search_document: ") for piece in pieces)
    await provider.close()


async def test_a_key_is_sent_when_there_is_one(server: Loopback) -> None:
    provider = create_provider("ollama", base_url=server.url, api_key="secret")
    await provider.embed(TEXT)
    assert server.requests[0].headers["authorization"] == "Bearer secret"
    await provider.close()


async def test_a_model_that_is_not_there_is_to_be_pulled(provider, server: Loopback) -> None:
    server.reply = lambda request: (404, {"error": f"model not found: {request.body}"})
    with pytest.raises(EmbeddingFailed, match="run `ollama pull`") as caught:
        await provider.embed(TEXT)
    assert TEXT not in str(caught.value)


@pytest.mark.parametrize("answer", [[], {}, {"embeddings": []}, {"embeddings": [[1.0]]}])
async def test_an_answer_without_vectors_is_refused(provider, server: Loopback, answer) -> None:
    server.reply = lambda _: (200, answer)
    with pytest.raises(EmbeddingFailed, match=r"check (that|embeddings)"):
        await provider.embed(TEXT)


async def test_silent_and_absent_servers_are_told_apart(server: Loopback) -> None:
    silent = create_provider("ollama", base_url=server.url, timeout_s=0.3)
    absent = create_provider("ollama", base_url=f"http://127.0.0.1:{free_port()}")
    server.reply = lambda _: (200, server.released.wait(20))
    with pytest.raises(EmbeddingFailed, match=r"no answer within 0\.3 s"):
        await silent.embed(TEXT)
    with pytest.raises(EmbeddingFailed, match="cannot be reached"):
        await absent.embed(TEXT)
    await silent.close()
    await absent.close()
