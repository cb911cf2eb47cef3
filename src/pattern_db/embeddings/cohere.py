"""Cohere."""

from __future__ import annotations

from pattern_db.embeddings.failures import Service
from pattern_db.embeddings.known import KnownModel, chosen
from pattern_db.embeddings.pieces import Purpose
from pattern_db.embeddings.remote import MAX_RETRIES, TIMEOUT_S, RemoteEmbeddings, Vectors
from pattern_db.errors import MissingExtra

MODELS = {
    "embed-english-v3.0": KnownModel(dimensions=1024, window=512),
    "embed-multilingual-v3.0": KnownModel(dimensions=1024, window=512),
    "embed-english-light-v3.0": KnownModel(dimensions=384, window=512),
    "embed-multilingual-light-v3.0": KnownModel(dimensions=384, window=512),
}

_INPUT_TYPES: dict[Purpose, str] = {"document": "search_document", "query": "search_query"}


class CohereEmbeddings(RemoteEmbeddings):
    """The embeddings of ``cohere``; without ``api_key``, the client reads CO_API_KEY."""

    def __init__(
        self,
        *,
        model: str = "embed-english-v3.0",
        api_key: str | None = None,
        base_url: str | None = None,
        dimensions: int | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        known = chosen("Cohere", MODELS, model, dimensions)
        try:
            import cohere
            import httpx
        except ImportError as error:
            raise MissingExtra("cohere", "The cohere embedding provider") from error
        service = Service(
            "Cohere",
            timeouts=(TimeoutError, httpx.TimeoutException),
            unreachable=(httpx.TransportError,),
            key_variable="CO_API_KEY",
        )
        super().__init__(
            service=service, model=model, known=known, max_batch=96, timeout_s=timeout_s
        )
        self._connections = httpx.AsyncClient(timeout=timeout_s)
        try:
            self._client = cohere.AsyncClientV2(
                api_key, base_url=base_url, httpx_client=self._connections
            )
        except cohere.core.ApiError as error:
            service.needs_key(error)

    async def _ask(self, texts: list[str], purpose: Purpose) -> Vectors:
        answer = await self._client.embed(
            model=self._model,
            input_type=_INPUT_TYPES[purpose],
            texts=texts,
            embedding_types=["float"],
            truncate="NONE",
            request_options={"max_retries": MAX_RETRIES},
        )
        vectors: Vectors = answer.embeddings.float_ or []
        return vectors

    async def _release(self) -> None:
        await self._connections.aclose()
