"""Where settings are read from: a file, the environment, the arguments of ``load``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pattern_db.config.expansion import expand
from pattern_db.config.names import key_of_argument, key_of_variable, known_key, unknown_section
from pattern_db.config.settings import KEYS, SECTIONS, Config, EmbeddingConfig, value_of
from pattern_db.config.values import (
    ARGUMENT,
    RANKS,
    Given,
    Layer,
    Source,
    add,
    layer_of,
    located,
    typed,
)
from pattern_db.errors import ConfigError

FILE_VARIABLE = "PATTERN_CONFIG"

_VARIANTS = ("embedded", "remote")


# --- the file


def config_path(
    config_file: str | os.PathLike[str] | None, environ: Mapping[str, str]
) -> str | None:
    """The file to read, absolute: the argument, else ``PATTERN_CONFIG``, else the first there is.

    None when nothing was named and there is none where it is searched for.
    """
    chosen = environ.get(FILE_VARIABLE) if config_file is None else os.fspath(config_file)
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    searched = ("pattern.toml", os.path.expanduser("~/.config/pattern/config.toml"))
    return next((os.path.abspath(path) for path in searched if os.path.isfile(path)), None)


def file_layer(path: str, environ: Mapping[str, str], *, kind: str | None = None) -> Layer:
    """The settings of one file. ``kind`` chooses between its variants, before its own ``type``."""
    source = Source(path, RANKS["file"], os.path.dirname(path))
    written = list(_settings_of(_parsed(path), source))
    expanded = [_expanded(given, environ, source) for given in written]
    return layer_of(_chosen_variant(expanded, kind, source), source)


def _parsed(path: str) -> dict[str, Any]:
    import tomllib

    text = _text_of(path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        place = re.search(r"\(at line (\d+)", str(error))
        line = place[1] if place else text.count("\n") + 1
        reason = re.sub(r" \(at .*\)$", "", str(error))
        raise ConfigError(f"{path}, line {line}, is not TOML ({reason}); correct it.") from error


def _text_of(path: str) -> str:
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise ConfigError(
            f"The configuration file {path!r} cannot be read ({reason}); "
            f"check the path that was given, or {FILE_VARIABLE}."
        ) from error
    try:
        return content.decode("utf-8-sig")  # Windows editors begin a file with the mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}, is not UTF-8; save the file as UTF-8.") from None


def _settings_of(document: Mapping[str, Any], source: Source) -> Iterator[Given]:
    for section, table in document.items():
        if section not in SECTIONS:
            raise unknown_section(section, source.subject(section))
        if not isinstance(table, dict):
            raise ConfigError(
                f"{source.subject(section)} must be a table of settings; write [{section}] above "
                "them."
            )
        for name, value in table.items():
            yield from _settings_at(f"{section}.{name}", value, source)


def _settings_at(written: str, value: object, source: Source) -> Iterator[Given]:
    """The one setting at ``written``, or those of a ``[database.embedded]`` table."""
    section, _, name = written.partition(".")
    if section != "database" or name not in _VARIANTS or not isinstance(value, dict):
        yield Given(known_key(written, source.subject(written)), value, written)
        return
    for inner, inner_value in value.items():
        place = f"{written}.{inner}"
        key = known_key(place, source.subject(place), key=f"database.{inner}")
        yield Given(key, inner_value, place)


def _expanded(given: Given, environ: Mapping[str, str], source: Source) -> Given:
    if not isinstance(given.value, str):
        return given
    value = expand(given.value, environ, subject=source.subject(given.written))
    return given._replace(value=value, text=value != given.value)


def _chosen_variant(settings: list[Given], kind: str | None, source: Source) -> list[Given]:
    """``settings`` without the ``[database.…]`` table that is not in use."""
    variants = {variant for given in settings if (variant := _variant_of(given))}
    if not variants:
        return settings
    own = next((given for given in settings if given.written in _TYPES), None)
    chosen = kind or (typed(own, source) if own else _only(variants, source))
    kept = [given for given in settings if _variant_of(given) in (None, chosen)]
    return kept if own else [*kept, Given("database.type", chosen, "database.type")]


_TYPES = ("database.type", "database.backend")


def _variant_of(given: Given) -> str | None:
    parts = given.written.split(".")
    return parts[1] if len(parts) == 3 else None


def _only(variants: set[str], source: Source) -> str:
    if len(variants) > 1:
        raise ConfigError(
            f"{source.origin} has both [database.embedded] and [database.remote]; "
            "choose one with `type` in [database]."
        )
    return next(iter(variants))


# --- the environment


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """The settings among the variables; ``ConfigError`` for one that only looks like a setting."""
    layer: Layer = {}
    for variable, value in sorted(environ.items()):
        key = key_of_variable(variable)
        if key is not None:
            source = Source(variable, RANKS["environment"], os.getcwd())
            add(layer, Given(key, value, key, text=True), source)
    return located(layer, os.getcwd())


# --- the arguments


def argument_layer(source: object, overrides: Mapping[str, object]) -> Layer:
    """The settings given to ``load``: a path or URL, fields of the database, and ``embeddings``.

    An override of None is not given.
    """
    here = Source(ARGUMENT, RANKS["argument"], os.getcwd())
    layer = layer_of(_overridden(overrides), here)
    if source is None:
        return layer
    if "database.path" in layer or "database.url" in layer:
        raise ConfigError(
            "The database is given twice, as the first argument and as path or url; give it once."
        )
    return layer | layer_of([_place_of(source)], here)


def config_layer(config: Config) -> Layer:
    """What a Config says that the defaults don't, each with the origin that it has there."""
    layer: Layer = {}
    for key, spec in KEYS.items():
        value = value_of(config, key)
        if value != spec.default:
            source = Source(config.origins.get(key, ARGUMENT), RANKS["file"], os.getcwd())
            add(layer, Given(key, value, key), source)
    return located(layer, os.getcwd())


def _place_of(source: object) -> Given:
    if isinstance(source, str):
        return Given("database.url", source, "database.url")
    if isinstance(source, os.PathLike):
        return Given("database.path", source, "database.path")
    raise ConfigError("The database to open must be a path, a URL or a Config; give one of them.")


def _overridden(overrides: Mapping[str, object]) -> Iterator[Given]:
    for name, value in overrides.items():
        if name == "embeddings":
            yield from _embedding_settings(value)
        else:
            key = key_of_argument(name)
            if value is not None:
                yield Given(key, value, name)


def _embedding_settings(value: object) -> Iterator[Given]:
    for name, found in _embedding_fields(value):
        written = f"embeddings.{name}"
        key = known_key(written, f"{written} ({ARGUMENT})")
        if found is not None:
            yield Given(key, found, written)


def _embedding_fields(value: object) -> Iterable[tuple[str, object]]:
    if value is None:
        return ()
    if isinstance(value, str):
        return [("provider", value)]
    if isinstance(value, EmbeddingConfig):
        fields = [(name, getattr(value, name)) for name in value.__struct_fields__]
        return [pair for pair in fields if pair[1] != KEYS[f"embeddings.{pair[0]}"].default]
    if isinstance(value, Mapping):
        return value.items()
    raise ConfigError(
        f"embeddings ({ARGUMENT}) must be the name of a provider, a dict or an EmbeddingConfig; "
        "give one of them."
    )
