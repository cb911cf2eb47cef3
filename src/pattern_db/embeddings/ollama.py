"""Ollama."""

from __future__ import annotations

from typing import Any

from pattern_db.embeddings.failures import Service
from pattern_db.embeddings.known import SEARCH_PREFIX, KnownModel, chosen
from pattern_db.embeddings.pieces import Purpose
from pattern_db.embeddings.remote import TIMEOUT_S, RemoteEmbeddings, Vectors
from pattern_db.embeddings.wordpiece import by_word_pieces
from pattern_db.errors import MissingExtra

MODELS = {
    "mxbai-embed-large": KnownModel(
        dimensions=1024, window=512, tokens=by_word_pieces, query_prefix=SEARCH_PREFIX
    ),
    "nomic-embed-text": KnownModel(
        dimensions=768,
        window=2048,
        tokens=by_word_pieces,
        document_prefix="search_document: ",
        query_prefix="search_query: ",
    ),
    "all-minilm": KnownModel(dimensions=384, window=256, tokens=by_word_pieces),
    "bge-m3": KnownModel(dimensions=1024, window=8192),
}


class OllamaEmbeddings(RemoteEmbeddings):
    """The embeddings of ``ollama``; without ``base_url``, the client reads OLLAMA_HOST."""

    def __init__(
        self,
        *,
        model: str = "mxbai-embed-large",
        api_key: str | None = None,
        base_url: str | None = None,
        dimensions: int | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        name = model.removesuffix(":latest")
        known = chosen("Ollama", MODELS, name, dimensions)
        try:
            import httpx
            import ollama
        except ImportError as error:
            raise MissingExtra("ollama", "The ollama embedding provider") from error
        service = Service(
            "Ollama",
            timeouts=(TimeoutError, httpx.TimeoutException),
            unreachable=(ConnectionError, httpx.TransportError),
            key_variable="OLLAMA_API_KEY",
            sentences={
                404: "has no such model; run `ollama pull` with the name in embeddings.model."
            },
        )
        super().__init__(
            service=service, model=name, known=known, max_batch=64, timeout_s=timeout_s
        )
        headers = {"authorization": f"Bearer {api_key}"} if api_key else None
        self._client: Any = ollama.AsyncClient(base_url, timeout=timeout_s, headers=headers)

    async def _ask(self, texts: list[str], purpose: Purpose) -> Vectors:  # noqa: ARG002
        answer = await self._client.embed(model=self._model, input=texts, truncate=False)
        vectors: Vectors = answer.embeddings
        return vectors

    async def _release(self) -> None:
        await self._client.close()
