"""What is known of a model before it is asked: dimensions, window, prefixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pattern_db.embeddings.pieces import Purpose
from pattern_db.embeddings.split import Splitter, by_bytes
from pattern_db.errors import ConfigError

SEARCH_PREFIX = "Represent this sentence for searching relevant passages: "
"""What the BGE and mxbai models were trained to read before a question."""

_UNKNOWN_WINDOW = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """One model of a provider."""

    dimensions: int
    window: int
    """Tokens of one text, those that the model adds itself included."""

    tokens: Callable[[int], Splitter] = by_bytes
    """How a text is split to fit: by its tokenizer, if that is here, else by the safe bound."""

    document_prefix: str = ""
    query_prefix: str = ""
    can_shorten: bool = False
    """Whether the model gives fewer dimensions when asked to."""

    shortened_to: int | None = None
    """The fewer dimensions that it must be asked for."""

    @property
    def prefixes(self) -> dict[Purpose, str]:
        """What is put before each text."""
        return {"document": self.document_prefix, "query": self.query_prefix}

    @property
    def splitter(self) -> Splitter:
        """Pieces that fit the window together with either prefix."""
        return self.tokens(self.window - max(map(len, self.prefixes.values())))


def chosen(
    provider: str, models: Mapping[str, KnownModel], model: str, dimensions: int | None
) -> KnownModel:
    """The model with the dimensions asked for; ``ConfigError`` if unknown or impossible."""
    known = models.get(model)
    if known is None:
        return _unknown(provider, model, dimensions)
    if dimensions is None or dimensions == known.dimensions:
        return known
    if known.can_shorten and 0 < dimensions < known.dimensions:
        return replace(known, dimensions=dimensions, shortened_to=dimensions)
    raise ConfigError(
        f"The {provider} model {model!r} has {known.dimensions} dimensions, not {dimensions}; "
        "remove embeddings.dimensions."
    )


def _unknown(provider: str, model: str, dimensions: int | None) -> KnownModel:
    if dimensions is None:
        raise ConfigError(
            f"How many dimensions the {provider} model {model!r} has is not known; set "
            "embeddings.dimensions, or correct embeddings.model."
        )
    return KnownModel(dimensions=dimensions, window=_UNKNOWN_WINDOW)
