"""How layers become one Config: what replaces what, and which settings go together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pattern_db.config import urls
from pattern_db.config.settings import (
    DEFAULT_PATH,
    KEYS,
    SECTIONS,
    Config,
    DatabaseConfig,
    EmbeddingConfig,
    Kind,
    Secret,
)
from pattern_db.config.tenants import impossible
from pattern_db.config.values import DEFAULT, RANKS, Layer, Setting
from pattern_db.errors import ConfigError


class _Family(NamedTuple):
    """Settings that belong to one database or one provider, and go when another one is named."""

    anchors: tuple[str, ...]
    """Naming one of these names another one."""
    bound: tuple[str, ...]
    """What is said of the one that was named, and is not passed on to another."""


_FAMILIES = (
    _Family(
        ("database.path", "database.url"),
        ("database.type", "database.username", "database.password", "database.auth"),
    ),
    _Family(
        ("embeddings.provider",),
        ("embeddings.model", "embeddings.api_key", "embeddings.base_url", "embeddings.dimensions"),
    ),
)


class _Use(NamedTuple):
    """Who has a use for a setting, and what to do when it is given to somebody else."""

    users: frozenset[str]
    otherwise: str


_SERVERS = frozenset({"surreal", "postgres"})
_CLOUD = frozenset({"openai", "cohere", "ollama"})
_MODELS = frozenset({"local", "fastembed", "candle"}) | _CLOUD
_NO_LOGIN = "is not for a database in a file; remove it, or give the URL of a server."
_NO_REQUESTS = "is for openai, cohere and ollama; remove it, or choose one of them as provider."
_NO_MODEL = "has no use with provider none; remove it, or choose a provider."
_POOLED = _Use(
    frozenset({"postgres"}), "is for a PostgreSQL server; remove it, or give the URL of one."
)
_SURREAL = _Use(
    frozenset({"surreal"}), "is for a SurrealDB server; remove it, or give the URL of one."
)
_USES = {
    "database.connections": _POOLED,
    "database.statement_timeout_s": _Use(
        _SERVERS, "is for a database on a server; remove it, or give the URL of one."
    ),
    "database.auth": _SURREAL,
    "database.access": _SURREAL,
    "database.key": _Use(
        frozenset({"sqlite"}), "encrypts a SQLite file only; remove it, or use a SQLite file."
    ),
    "database.namespace": _Use(_SERVERS, _NO_LOGIN),
    "database.database": _Use(_SERVERS, _NO_LOGIN),
    "database.username": _Use(_SERVERS, _NO_LOGIN),
    "database.password": _Use(_SERVERS | {"turso"}, _NO_LOGIN),
    "embeddings.api_key": _Use(_CLOUD, _NO_REQUESTS),
    "embeddings.base_url": _Use(_CLOUD, _NO_REQUESTS),
    "embeddings.model": _Use(_MODELS, _NO_MODEL),
    "embeddings.dimensions": _Use(_MODELS, _NO_MODEL),
}

API_KEY_VARIABLES = {
    "openai": ("OPENAI_API_KEY",),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
}


def merged(layers: Sequence[Layer]) -> Layer:
    """The layers, lowest first, as one."""
    settings: Layer = {}
    for layer in layers:
        for family in _FAMILIES:
            for key in _replaced(family, settings, layer):
                del settings[key]
        settings |= layer
    return settings


def settled(settings: Layer, environ: Mapping[str, str]) -> Config:
    """The Config that ``settings`` describe; ``ConfigError`` when they cannot be together."""
    settings = _with_type(_with_api_key(_with_path(_of_use(settings)), environ))
    config = _built(settings)
    for rule in _RULES:
        if rule.broken(config.database):
            raise ConfigError(rule.sentence)
    if config.database.tenant is not None and (problem := impossible(config.database)):
        raise ConfigError(problem)
    return config


def _replaced(family: _Family, settings: Layer, layer: Layer) -> list[str]:
    """The keys of ``settings`` that end with what ``layer`` replaces.

    What a lower layer said without naming a database or provider holds for every one. ``type`` only
    describes a location, and ends whenever another one is named.
    """
    now = {key: layer[key].value for key in family.anchors if key in layer}
    before = {key: settings[key] for key in family.anchors if key in settings}
    if not now or now == {key: setting.value for key, setting in before.items()}:
        return []
    since = min((setting.rank for setting in before.values()), default=RANKS["argument"] + 1)
    bound = [
        key
        for key in family.bound
        if key in settings and (settings[key].rank >= since or key == "database.type")
    ]
    return [*before, *bound]


def _of_use(settings: Layer) -> Layer:
    """``settings`` without those that a higher layer's database or provider has no use for."""
    url = settings.get("database.url")
    provider = settings.get("embeddings.provider", Setting("local", DEFAULT, RANKS["default"]))
    path = settings.get("database.path", Setting(None, DEFAULT, RANKS["default"]))
    users = {
        "database": (url or path, urls.scheme_named(url.value).engine if url else "sqlite"),
        "embeddings": (provider, provider.value),
    }

    def kept(key: str, setting: Setting) -> bool:
        anchor, user = users[key.partition(".")[0]]
        if key not in _USES or user in _USES[key].users:
            return True
        if setting.rank < anchor.rank:
            return False
        raise ConfigError(f"{key} ({setting.origin}) {_USES[key].otherwise}")

    return {key: setting for key, setting in settings.items() if kept(key, setting)}


def _with_path(settings: Layer) -> Layer:
    if "database.url" in settings or "database.path" in settings:
        return settings
    kind = settings.get("database.type")
    if kind and kind.value == "remote":
        raise ConfigError(
            f'database.type ({kind.origin}) is "remote" but there is no database.url; set it, for '
            "example to ws://localhost:8000."
        )
    path = urls.absolute(DEFAULT_PATH, os.getcwd())
    return settings | {"database.path": Setting(path, DEFAULT, RANKS["default"])}


def _with_type(settings: Layer) -> Layer:
    location = settings.get("database.url") or settings["database.path"]
    server = "database.url" in settings and urls.scheme_named(location.value).place == "server"
    actual: Kind = "remote" if server else "embedded"
    said = settings.get("database.type")
    if said is None:
        return settings | {"database.type": location._replace(value=actual)}
    if said.value == actual:
        return settings
    change = (
        'write "remote", or give a path'
        if server
        else 'write "embedded", or give the URL of a server (ws://, wss://, http://, https://, '
        "postgresql://)"
    )
    where = "on a server" if server else "in this process"
    raise ConfigError(
        f'database.type ({said.origin}) is "{said.value}" but the database ({location.origin}) is '
        f"{where}; {change}."
    )


def _with_api_key(settings: Layer, environ: Mapping[str, str]) -> Layer:
    provider = settings.get("embeddings.provider")
    variables = API_KEY_VARIABLES.get(provider.value, ()) if provider else ()
    if not provider or not variables or "embeddings.api_key" in settings:
        return settings
    variable = next((name for name in variables if environ.get(name)), None)
    if variable is None:
        raise ConfigError(
            f"The embedding provider {provider.value} ({provider.origin}) needs a key; set "
            f"embeddings.api_key or the environment variable {' or '.join(variables)}."
        )
    key = Setting(Secret(environ[variable]), variable, RANKS["default"])
    return settings | {"embeddings.api_key": key}


def _built(settings: Layer) -> Config:
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key, setting in settings.items():
        section, _, name = key.partition(".")
        values[section][name] = setting.value
    origins = {key: settings[key].origin if key in settings else DEFAULT for key in KEYS}
    return Config(
        DatabaseConfig(**values["database"]), EmbeddingConfig(**values["embeddings"]), origins
    )


class _Rule(NamedTuple):
    """A combination of database settings that cannot be."""

    broken: Callable[[DatabaseConfig], bool]
    sentence: str


def _logs_in_twice(database: DatabaseConfig) -> bool:
    if database.type == "embedded":
        return False
    user, password = urls.login_of(database.url or "")
    return (user and database.username is not None) or (password and database.password is not None)


def _login_in_surreal_url(database: DatabaseConfig) -> bool:
    remote_surreal = database.engine == "surreal" and database.type == "remote"
    return remote_surreal and any(urls.login_of(database.url or ""))


def _half_a_login(database: DatabaseConfig) -> bool:
    half = (database.username is None) != (database.password is None)
    return half and database.engine == "surreal" and database.auth != "token"


_RULES = (
    _Rule(
        _logs_in_twice,
        "database.url holds a login and database.username or database.password is set too; "
        "remove one of the two.",
    ),
    _Rule(
        _login_in_surreal_url,
        "SurrealDB takes no login in database.url; set database.username and database.password "
        "instead.",
    ),
    _Rule(
        _half_a_login,
        "database.username and database.password go together for SurrealDB, but only one is set; "
        "set the other one too.",
    ),
)
