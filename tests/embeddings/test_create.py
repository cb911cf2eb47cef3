from __future__ import annotations

import sys

import pytest

from pattern_db.embeddings import EmbeddingProvider, create_provider
from pattern_db.errors import ConfigError, MissingExtra


def test_an_unknown_provider_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'hal'; choose one of local, openai, cohere, ollama"):
        create_provider("hal")


@pytest.mark.parametrize("name", ["openai", "cohere", "ollama", "fastembed"])
def test_a_missing_client_is_named_with_its_pip_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra) as caught:
        create_provider(name, api_key="secret")
    assert f"The {name} embedding provider" in str(caught.value)
    assert f"pip install 'pattern-db[{name}]'" in str(caught.value)


@pytest.mark.parametrize("name", ["openai", "cohere"])
def test_a_missing_key_is_named_with_its_variable(name: str) -> None:
    pytest.importorskip(name)
    with pytest.raises(ConfigError, match=r"set embeddings.api_key or (OPENAI|CO)_API_KEY"):
        create_provider(name)


@pytest.mark.parametrize("name", ["openai", "cohere", "ollama"])
def test_an_unknown_model_needs_its_dimensions(name: str) -> None:
    with pytest.raises(ConfigError, match=r"'my-own' has is not known; set embeddings.dimensions"):
        create_provider(name, model="my-own", api_key="secret")


@pytest.mark.parametrize(
    ("name", "model", "dimensions"),
    [
        ("openai", None, 1536),
        ("openai", "text-embedding-3-large", 3072),
        ("openai", "text-embedding-ada-002", 1536),
        ("cohere", None, 1024),
        ("cohere", "embed-multilingual-v3.0", 1024),
        ("cohere", "embed-english-light-v3.0", 384),
        ("cohere", "embed-multilingual-light-v3.0", 384),
        ("ollama", None, 1024),
        ("ollama", "nomic-embed-text", 768),
        ("ollama", "all-minilm:latest", 384),
        ("fastembed", None, 384),
        ("candle", None, 384),
        ("candle", "BAAI/bge-base-en-v1.5", 768),
    ],
)
async def test_known_models_know_their_dimensions(
    name: str, model: str | None, dimensions: int
) -> None:
    pytest.importorskip("fastembed" if name == "candle" else name)
    provider = create_provider(name, model=model, api_key="secret")
    assert isinstance(provider, EmbeddingProvider)
    assert provider.dimensions == dimensions
    assert ":" not in provider.model_id
    await provider.close()


@pytest.mark.parametrize(
    ("name", "model", "dimensions"),
    [
        ("openai", "text-embedding-ada-002", 512),
        ("openai", "text-embedding-3-small", 2000),
        ("cohere", None, 512),
        ("ollama", None, 768),
        ("fastembed", None, 768),
    ],
)
def test_dimensions_that_a_model_cannot_have_are_refused(
    name: str, model: str | None, dimensions: int
) -> None:
    pytest.importorskip(name)
    with pytest.raises(ConfigError, match=rf"not {dimensions}; remove embeddings.dimensions"):
        create_provider(name, model=model, api_key="secret", dimensions=dimensions)
