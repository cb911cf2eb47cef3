"""The errors of the official clients, as sentences that say what to check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Never

from pattern_db.errors import ConfigError, EmbeddingFailed

_KEY = "refused the key; check embeddings.api_key{variable}."
_REQUEST = "refused the request (HTTP {status}); check embeddings.model and embeddings.dimensions."
_BY_STATUS = {
    400: _REQUEST,
    401: _KEY,
    403: _KEY,
    404: "does not know the model or the address (HTTP 404); check embeddings.model and "
    "embeddings.base_url.",
    413: _REQUEST,
    422: _REQUEST,
    429: "refused the request because a rate or quota is used up; try again later, or raise it.",
}
_STATUS = "failed (HTTP {status}); try again later."
_TIMEOUT = (
    "gave no answer within {timeout_s:g} s; check embeddings.base_url, or raise "
    "embeddings.timeout_s."
)
_UNREACHABLE = "cannot be reached; check embeddings.base_url, and that the network and it are up."
_UNCLEAR = "gave an answer that is not one; check embeddings.base_url and embeddings.model."


@dataclass(frozen=True, slots=True)
class Service:
    """A service, and the errors that its client raises when no answer came."""

    name: str
    timeouts: tuple[type[Exception], ...]
    unreachable: tuple[type[Exception], ...]
    key_variable: str = ""
    sentences: Mapping[int, str] = field(default_factory=dict)
    """What this service means by an HTTP status, where it is not the usual."""

    def needs_key(self, cause: Exception) -> Never:
        """Raise the ``ConfigError`` for a client that was given no key and found none."""
        raise ConfigError(
            f"{self.name} needs a key; set embeddings.api_key or {self.key_variable}."
        ) from cause

    def failure(self, error: Exception, timeout_s: float) -> EmbeddingFailed:
        """The error in our words: without the client's, which may quote a key or a text."""
        status = getattr(error, "status_code", None)
        variable = f" or {self.key_variable}" if self.key_variable else ""
        sentence = self._sentence(error, status)
        return EmbeddingFailed(
            f"{self.name} " + sentence.format(status=status, timeout_s=timeout_s, variable=variable)
        )

    def _sentence(self, error: Exception, status: int | None) -> str:
        if isinstance(error, self.timeouts):
            return _TIMEOUT
        if isinstance(error, self.unreachable):
            return _UNREACHABLE
        if status is None or status < 300:
            return _UNCLEAR
        return self.sentences.get(status) or _BY_STATUS.get(status, _STATUS)
