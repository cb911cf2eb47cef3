"""From what was written to a value: its type, its limits, and absolute paths.

A source becomes a ``Layer``: full key to a value of its final type, with paths made absolute, and
with a SQLite location always under ``database.path``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, get_origin

import msgspec

from pattern_db.config import urls
from pattern_db.config.settings import KEYS, PATHS, SECRETS, Secret
from pattern_db.errors import ConfigError

ARGUMENT = "argument"
DEFAULT = "default"
RANKS = {"default": 0, "file": 1, "environment": 2, "argument": 3}


class Setting(NamedTuple):
    """A value, where it came from, and the rank of its source: higher ones win."""

    value: Any
    origin: str
    rank: int


Layer = dict[str, Setting]


class Given(NamedTuple):
    """A value as its source has it."""

    key: str
    value: object
    written: str
    """The key as the source writes it."""
    text: bool = False
    """Whether numbers and truth values come as text, from a variable."""


class Source(NamedTuple):
    """What a value needs to know of where it was written."""

    origin: str
    rank: int
    base: str
    """The directory that relative paths start from."""

    def subject(self, written: str) -> str:
        """How an error names a setting of this source."""
        return f"{written} ({self.origin})"


def layer_of(settings: Iterable[Given], source: Source) -> Layer:
    """The layer of one source; ``ConfigError`` for a value that cannot be, or given twice."""
    layer: Layer = {}
    for given in settings:
        add(layer, given, source)
    return located(layer, source.base)


def add(layer: Layer, given: Given, source: Source) -> None:
    """Put a setting into ``layer``, where it must not be yet."""
    if given.key in layer:
        first = layer[given.key].origin
        raise ConfigError(
            f"{source.subject(given.written)} was given before ({first}); give it once."
        )
    layer[given.key] = Setting(typed(given, source), source.origin, source.rank)


def typed(given: Given, source: Source) -> Any:
    """The value with its final type; ``ConfigError`` says what is allowed, never what was given."""
    spec, subject = KEYS[given.key], source.subject(given.written)
    try:
        plain = _plain(given.value, spec.kind, text=given.text)
        value = msgspec.convert(plain, spec.hint)
    except ValueError:  # msgspec's own is one; its message quotes the value
        raise ConfigError(f"{subject} must be {spec.allowed}; correct it.") from None
    if isinstance(value, str):
        _require_usable(given.key, value, subject)
    if given.key in PATHS:
        return urls.absolute(value, source.base)
    return Secret(value) if given.key in SECRETS else value


def located(layer: Layer, base: str) -> Layer:
    """``layer`` with a location that is absolute, and under ``database.path`` if it is SQLite's."""
    url = layer.get("database.url")
    if url is None:
        return layer
    key, value = _location(url.value, base, f"database.url ({url.origin})")
    path = layer.get("database.path")
    if path is not None and (key, value) != ("database.path", path.value):
        raise ConfigError(
            f"database.path ({path.origin}) and database.url ({url.origin}) name different "
            "databases; remove one of them."
        )
    rest = {name: setting for name, setting in layer.items() if name != "database.url"}
    return rest | {key: url._replace(value=value)}


def _location(text: str, base: str, subject: str) -> tuple[str, str]:
    if urls.scheme_of(text) is None:
        urls.require_path(text, subject=subject)
        return "database.path", urls.absolute(text, base)
    if urls.scheme_named(text, subject=subject).engine == "sqlite":
        return "database.path", urls.absolute(urls.file_of(text, subject=subject), base)
    return "database.url", urls.absolute_url(text, base, subject=subject)


def _plain(value: object, kind: Any, *, text: bool) -> object:
    """``value`` as plain data: secrets opened, paths as strings, text parsed, choices lowered."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if not isinstance(value, str):
        return value
    if get_origin(kind) is Literal:
        return value.strip().lower()
    return _PARSERS.get(kind, str)(value) if text else value


_TRUTH = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def _truth(text: str) -> bool:
    found = _TRUTH.get(text.strip().lower())
    if found is None:
        raise ValueError
    return found


_PARSERS: dict[Any, Callable[[str], object]] = {bool: _truth, int: int, float: float}


def _require_usable(key: str, value: str, subject: str) -> None:
    if not value.strip():
        raise ConfigError(f"{subject} is empty; give it a value, or remove it.")
    if "\0" in value:
        raise ConfigError(f"{subject} has a NUL character in it; remove that.")
    if key == "database.path" and urls.scheme_of(value) is not None:
        raise ConfigError(f"{subject} is a URL; name it database.url instead.")
    if key == "embeddings.base_url":
        if urls.scheme_of(value) not in ("http", "https"):
            raise ConfigError(f"{subject} must be {KEYS[key].allowed}; correct it.")
        urls.require_host(value, subject=subject)
