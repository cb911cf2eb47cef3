"""OpenAI, and every server that speaks its embeddings API."""

from __future__ import annotations

from typing import Any

from pattern_db.embeddings.failures import Service
from pattern_db.embeddings.known import KnownModel, chosen
from pattern_db.embeddings.pieces import Purpose
from pattern_db.embeddings.remote import MAX_RETRIES, TIMEOUT_S, RemoteEmbeddings, Vectors
from pattern_db.errors import MissingExtra

MODELS = {
    "text-embedding-3-small": KnownModel(dimensions=1536, window=8191, can_shorten=True),
    "text-embedding-3-large": KnownModel(dimensions=3072, window=8191, can_shorten=True),
    "text-embedding-ada-002": KnownModel(dimensions=1536, window=8191),
}


class OpenAIEmbeddings(RemoteEmbeddings):
    """The embeddings of ``openai``; without ``api_key``, the client reads OPENAI_API_KEY."""

    def __init__(
        self,
        *,
        model: str = "text-embedding-3-small",
        api_key: str | None = None,
        base_url: str | None = None,
        dimensions: int | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        known = chosen("OpenAI", MODELS, model, dimensions)
        try:
            import openai
        except ImportError as error:
            raise MissingExtra("openai", "The openai embedding provider") from error
        service = Service(
            "OpenAI",
            timeouts=(TimeoutError, openai.APITimeoutError),
            unreachable=(openai.APIConnectionError,),
            key_variable="OPENAI_API_KEY",
        )
        super().__init__(
            service=service, model=model, known=known, max_batch=256, timeout_s=timeout_s
        )
        self._options: dict[str, Any] = (
            {} if known.shortened_to is None else {"dimensions": known.shortened_to}
        )
        try:
            self._client = openai.AsyncOpenAI(
                api_key=api_key, base_url=base_url, timeout=timeout_s, max_retries=MAX_RETRIES
            )
        except openai.OpenAIError as error:
            service.needs_key(error)

    async def _ask(self, texts: list[str], purpose: Purpose) -> Vectors:  # noqa: ARG002
        answer = await self._client.embeddings.create(
            model=self._model, input=texts, **self._options
        )
        return [row.embedding for row in sorted(answer.data, key=lambda row: row.index)]

    async def _release(self) -> None:
        await self._client.close()
