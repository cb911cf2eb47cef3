"""Turning text into vectors: the protocol, and the providers behind it."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from pattern_db.embeddings.provider import EmbeddingProvider, Matrix, Vector
from pattern_db.errors import ConfigError

__all__ = ["EmbeddingProvider", "Matrix", "Vector", "create_provider"]


class _Implementation(NamedTuple):
    module: str
    name: str
    options: tuple[str, ...]


_REQUESTS = ("model", "api_key", "base_url", "dimensions", "timeout_s")
_FASTEMBED = _Implementation(
    "fastembed", "FastEmbedEmbeddings", ("model", "dimensions", "cache_dir")
)
_PROVIDERS = {
    "local": _Implementation("local", "LocalEmbeddings", ("model", "dimensions")),
    "openai": _Implementation("openai", "OpenAIEmbeddings", _REQUESTS),
    "cohere": _Implementation("cohere", "CohereEmbeddings", _REQUESTS),
    "ollama": _Implementation("ollama", "OllamaEmbeddings", _REQUESTS),
    "fastembed": _FASTEMBED,
    "candle": _FASTEMBED,
}


def create_provider(
    provider: str,
    *,
    model: str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    dimensions: int | None = None,
    cache_dir: str | None = None,
    timeout_s: float = 60.0,
) -> EmbeddingProvider:
    """The provider of this name; ``None`` means its own default, an option it has no use for is not
    read.

    ``candle`` is the name that Pattern 1 has for ``fastembed``. No model is loaded and no server
    asked yet. Raises ``ConfigError`` for an unknown name or impossible options, ``MissingExtra`` if
    the provider's client is not installed.
    """
    try:
        implementation = _PROVIDERS[provider]
    except KeyError:
        raise ConfigError(
            f"There is no embedding provider {provider!r}; choose one of {', '.join(_PROVIDERS)}."
        ) from None
    given = {
        "model": model,
        "api_key": api_key,
        "base_url": base_url,
        "dimensions": dimensions,
        "cache_dir": cache_dir,
        "timeout_s": timeout_s,
    }
    module = import_module(f"pattern_db.embeddings.{implementation.module}")
    options = {name: given[name] for name in implementation.options if given[name] is not None}
    built: EmbeddingProvider = getattr(module, implementation.name)(**options)
    return built
