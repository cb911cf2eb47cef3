"""What ``pattern config show`` and ``pattern config check`` say. Neither opens the database."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pattern_db.config import urls
from pattern_db.config.names import variable_of
from pattern_db.config.rules import merged, settled
from pattern_db.config.settings import KEYS, SECRETS, URLS, Config, value_of
from pattern_db.config.sources import config_layer
from pattern_db.config.values import ARGUMENT, DEFAULT
from pattern_db.errors import ConfigError, MissingExtra


class Shown(NamedTuple):
    """One setting, fit to be shown to anyone."""

    key: str
    value: str
    origin: str


_EXTRAS = {  # engine or provider: the module it imports, and the extra that brings it
    "turso": ("turso", "turso"),
    "postgres": ("psycopg", "postgres"),
    "surreal": ("surrealdb_embedded", "surreal"),
    "fastembed": ("fastembed", "fastembed"),
    "candle": ("fastembed", "fastembed"),
    "openai": ("openai", "openai"),
    "cohere": ("cohere", "cohere"),
    "ollama": ("ollama", "ollama"),
}
_LOCAL_HOSTS = {None, "localhost", "127.0.0.1", "::1"}
_BOOLEANS = {True: "true", False: "false"}


def describe(config: Config) -> list[Shown]:
    """Every setting with its value and where it came from, in the order of the sections.

    Secrets are ``set`` or ``not set``; logins and parameters in URLs are hidden.
    """
    return [Shown(key, _shown(key, config), _origin(key, config)) for key in KEYS]


def check(config: Config, *, environ: Mapping[str, str] | None = None) -> list[str]:
    """What would go wrong, or is unsafe: one sentence each; an empty list is a good configuration.

    Looks at the settings, the file system, the installed packages and the names of variables; it
    connects to nothing.
    """
    environ = os.environ if environ is None else environ
    try:
        config = settled(merged([config_layer(config)]), environ)
    except ConfigError as error:
        return [str(error)]
    return [
        *_missing_extras(config),
        *_unusable_file(config),
        *_unprotected_secrets(config),
        *_unread_variables(environ),
    ]


def _shown(key: str, config: Config) -> str:
    value = value_of(config, key)
    if key in SECRETS:
        return "not set" if value is None else "set"
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return _BOOLEANS[value]
    return urls.redacted(str(value)) if key in URLS else str(value)


def _origin(key: str, config: Config) -> str:
    changed = value_of(config, key) != KEYS[key].default
    return config.origins.get(key, ARGUMENT if changed else DEFAULT)


def _missing_extras(config: Config) -> Iterator[str]:
    from importlib.util import find_spec

    for user in (config.database.engine, config.embeddings.provider):
        module, extra = _EXTRAS.get(user, (None, ""))
        if module and find_spec(module) is None:
            yield str(MissingExtra(extra, f"The configured {user}"))


def _unusable_file(config: Config) -> Iterator[str]:
    database = config.database.located
    if database.type == "remote" or database.location == urls.MEMORY:
        return
    path = database.location
    directory = os.path.dirname(path)
    if config.database.engine == "sqlite" and os.path.isdir(path):
        yield (
            "database.path is a directory; name a file in it, or write "
            "database.url = surrealkv://… if it is a database of SurrealDB."
        )
    if not os.path.isdir(directory):
        yield f"The directory {directory} of the database does not exist; create it."
    elif not os.access(directory, os.W_OK):
        yield f"The directory {directory} of the database cannot be written to; change its rights."


def _unprotected_secrets(config: Config) -> Iterator[str]:
    sent = {
        "database.url": config.database.password is not None
        or urls.login_of(config.database.url or "")[1],
        "embeddings.base_url": config.embeddings.api_key is not None,
    }
    for key, secret in sent.items():
        url = str(value_of(config, key) or "")
        plain = urls.scheme_of(url) in ("ws", "http")
        if secret and plain and urls.host_of(url) not in _LOCAL_HOSTS:
            yield f"{key} sends a secret over an unencrypted connection; use wss:// or https://."


def _unread_variables(environ: Mapping[str, str]) -> Iterator[str]:
    meant = {variable_of(key).replace("__", "_"): variable_of(key) for key in KEYS}
    for variable in sorted(environ):
        intended = meant.get(variable.upper())
        if intended:
            yield f"The variable {variable} is not read; write {intended}, with two underscores."
