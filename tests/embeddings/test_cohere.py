"""The Cohere provider, against a server that speaks Cohere's v2 wire format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pattern_db.embeddings import create_provider
from pattern_db.errors import EmbeddingFailed

from .servers import Loopback, Request, free_port, loopback, numbered

pytestmark = pytest.mark.slow

pytest.importorskip("cohere")

KEY = "co-very-secret"
TEXT = "the diary of Ada"


def answered(request: Request) -> tuple[int, Any]:
    texts = request.body["texts"]
    return 200, {"id": "1", "embeddings": {"float": numbered(texts, 1024)}, "texts": texts}


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback(answered) as served:
        yield served


@pytest.fixture
async def provider(server: Loopback):
    made = create_provider("cohere", api_key=KEY, base_url=server.url, timeout_s=10)
    yield made
    await made.close()


async def test_documents_and_questions_are_asked_for_as_such(provider, server: Loopback) -> None:
    document, question = await provider.embed(TEXT), await provider.embed_query(TEXT)
    assert document.shape == question.shape == (1024,)
    assert np.linalg.norm(document) == pytest.approx(1, abs=1e-5)
    bodies = [request.body for request in server.requests]
    assert {request.path for request in server.requests} == {"/v2/embed"}
    assert [body["input_type"] for body in bodies] == ["search_document", "search_query"]
    assert bodies[0]["model"] == "embed-english-v3.0"
    assert bodies[0]["truncate"] == "NONE"
    assert bodies[0]["texts"] == [TEXT]


async def test_a_request_has_96_texts_at_most(provider, server: Loopback) -> None:
    assert (await provider.embed_batch(["x"] * 100)).shape == (100, 1024)
    assert [len(request.body["texts"]) for request in server.requests] == [96, 4]


async def test_pieces_have_512_bytes_at_most(provider, server: Loopback) -> None:
    await provider.embed("Ein längerer Text über Bären. " * 60)
    sizes = [len(text.encode()) for text in server.requests[0].body["texts"]]
    assert len(sizes) > 2
    assert max(sizes) <= 512


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "check embeddings.api_key or CO_API_KEY"), (400, "HTTP 400"), (404, "embeddings.model")],
)
async def test_a_refusal_says_what_to_check(
    provider, server: Loopback, status: int, advice: str
) -> None:
    server.reply = lambda request: (status, {"message": f"{request.headers} {request.body}"})
    with pytest.raises(EmbeddingFailed) as caught:
        await provider.embed(TEXT)
    assert advice in str(caught.value)
    assert KEY not in str(caught.value)
    assert TEXT not in str(caught.value)


async def test_what_may_pass_is_tried_three_times(provider, server: Loopback) -> None:
    server.reply = lambda _: (503, {"message": "busy"})
    with pytest.raises(EmbeddingFailed, match=r"Cohere failed \(HTTP 503\)"):
        await provider.embed(TEXT)
    assert len(server.requests) == 3


@pytest.mark.parametrize("answer", [[], {}, {"id": "1", "embeddings": {}}, {"embeddings": None}])
async def test_an_answer_without_vectors_is_refused(provider, server: Loopback, answer) -> None:
    server.reply = lambda _: (200, answer)
    with pytest.raises(EmbeddingFailed, match=r"check (that|embeddings)"):
        await provider.embed(TEXT)


async def test_silent_and_absent_servers_are_told_apart(server: Loopback) -> None:
    silent = create_provider("cohere", api_key=KEY, base_url=server.url, timeout_s=0.3)
    absent = create_provider("cohere", api_key=KEY, base_url=f"http://127.0.0.1:{free_port()}")
    server.reply = lambda _: (200, server.released.wait(20))
    with pytest.raises(EmbeddingFailed, match=r"no answer within 0\.3 s"):
        await silent.embed(TEXT)
    with pytest.raises(EmbeddingFailed, match="cannot be reached"):
        await absent.embed(TEXT)
    await silent.close()
    await absent.close()
