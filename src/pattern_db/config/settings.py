"""The settings themselves: what there is, of which type, with which default.

The Structs are the only declaration; ``KEYS`` is read off them. The description of a field's
``Meta`` completes the sentence "… must be ⟨description⟩" in errors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta, Struct

from pattern_db.config import tenants, urls
from pattern_db.config.urls import Engine
from pattern_db.errors import ConfigError

Kind = Literal["embedded", "remote"]
Durability = Literal["full", "relaxed"]
Auth = Literal["root", "namespace", "database", "record", "token"]
Mode = Literal["inline", "queued"]
Provider = Literal["local", "none", "fastembed", "candle", "openai", "cohere", "ollama"]

DEFAULT_PATH = "pattern.db"
SECRETS = frozenset({"database.password", "database.key", "embeddings.api_key"})
PATHS = frozenset({"database.path", "embeddings.cache_dir"})
URLS = frozenset({"database.url", "embeddings.base_url"})

_READERS = max(2, min(4, os.cpu_count() or 2))


class Secret:
    """A string that does not show itself: ``repr``, ``str`` and formatting say only that it is set.

    It is no ``str``, so that no driver, log or encoder takes it by accident; ``reveal`` gives it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str):
        self._value = value

    def reveal(self) -> str:
        """The string itself, for the driver that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


class _Section(Struct, frozen=True, kw_only=True):
    """What both sections share: secrets given as plain strings are wrapped, and never shown."""

    section: ClassVar[str]

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if f"{self.section}.{name}" in SECRETS and isinstance(value, str):
                msgspec.structs.force_setattr(self, name, Secret(value))

    def __rich_repr__(self) -> Iterator[tuple[str, object]]:  # type: ignore[override]
        for name in self.__struct_fields__:
            value = getattr(self, name)
            hidden = f"{self.section}.{name}" in URLS and isinstance(value, str)
            yield name, urls.redacted(value) if hidden else value

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({fields})"


class DatabaseConfig(_Section, frozen=True, kw_only=True):
    """``[database]``: which database, and how it is used.

    As ``load`` returns it, a SQLite database has ``path`` (absolute, or ``:memory:``) and no
    ``url``; every other one has ``url`` and no ``path``, with paths of files in it absolute.
    ``None`` means not given.
    """

    section = "database"

    type: Annotated[Kind, Meta(description='"embedded" or "remote"')] = "embedded"
    path: Annotated[str, Meta(description="the path of a file")] | None = None
    url: Annotated[str, Meta(description="a URL or a path")] | None = None
    namespace: Annotated[str, Meta(description="a name")] | None = None
    database: Annotated[str, Meta(description="a name")] | None = None
    tenant: (
        Annotated[
            str,
            Meta(
                pattern=tenants.NAME,
                max_length=tenants.MOST_NAME_CHARS,
                description=tenants.ALLOWED,
            ),
        ]
        | None
    ) = None
    """Whose data of this database: each tenant has a file, a schema or a database of its own."""
    username: Annotated[str, Meta(description="a name")] | None = None
    password: Annotated[Secret, Meta(description="a string")] | None = None
    """The password of ``username``; with Turso, and where ``auth`` is ``token``, a token."""
    auth: Annotated[
        Auth, Meta(description='"root", "namespace", "database", "record" or "token"')
    ] = "root"
    """Where the user of a SurrealDB server is defined; ``record`` signs a record in, by way of
    ``access``."""
    access: Annotated[str, Meta(description="a name")] | None = None
    """The access method of a SurrealDB database that signs a record in."""
    key: Annotated[Secret, Meta(description="a string")] | None = None
    """The key a SQLite file is encrypted with."""
    strict_mode: Annotated[bool, Meta(description="true or false")] = False
    """Refuse what is otherwise only warned about, such as a file on a network file system."""
    durability: Annotated[Durability, Meta(description='"full" or "relaxed"')] = "full"
    """``full``: an acknowledged write survives a power cut; ``relaxed``: it may not."""
    busy_timeout_s: Annotated[
        float, Meta(ge=0, le=86_400, description="a number of seconds from 0 to 86400")
    ] = 5.0
    readers: Annotated[int, Meta(ge=1, le=64, description="a whole number from 1 to 64")] = _READERS
    """Reader threads of an embedded database; by default one a processor, between 2 and 4."""
    connections: Annotated[
        int, Meta(ge=2, le=1000, description="a whole number from 2 to 1000")
    ] = 10
    """The most connections to a PostgreSQL server that are open at once."""
    statement_timeout_s: Annotated[
        float, Meta(gt=0, le=86_400, description="a number of seconds above 0, to 86400")
    ] = 60.0
    """The longest that a server may work on one statement, and that a transaction on PostgreSQL may
    wait for its next one."""
    max_episodes: (
        Annotated[int, Meta(ge=1, le=10**9, description="a whole number from 1 to 10^9")] | None
    ) = None
    """The most ended episodes that are kept; completing another one lets the least relevant go."""
    max_episode_age_days: (
        Annotated[float, Meta(gt=0, le=10**6, description="a number of days above 0, to 10^6")]
        | None
    ) = None
    """Ended episodes that are older go when another one is completed."""
    migrate: Annotated[bool, Meta(description="true or false")] = True
    """Run migrations when the database is opened."""

    @property
    def engine(self) -> Engine:
        """The engine that the location chooses; ``ConfigError`` for an unknown scheme."""
        url = self.url
        return "sqlite" if url is None or _is_path(url) else urls.scheme_named(url).engine

    @property
    def located(self) -> DatabaseConfig:
        """The database that is meant: that of the tenant, if there is one."""
        return self if self.tenant is None else tenants.located(self, self.tenant)

    @property
    def location(self) -> str:
        """The absolute path of an embedded database, or ``:memory:``; a server has none.

        Raises ``ConfigError`` for a server.
        """
        url = self.url
        if url is None or _is_path(url):
            return urls.absolute(self.path or url or DEFAULT_PATH, os.getcwd())
        scheme = urls.scheme_named(url)
        if scheme.place == "server":
            raise ConfigError("A database on a server has no path; use database.url instead.")
        if scheme.place == "memory":
            return urls.MEMORY
        return urls.absolute(urls.file_of(url), os.getcwd())


class EmbeddingConfig(_Section, frozen=True, kw_only=True):
    """``[embeddings]``: who turns text into vectors. ``None`` means the provider's own default."""

    section = "embeddings"

    provider: Annotated[
        Provider,
        Meta(description="one of local, none, fastembed, candle, openai, cohere, ollama"),
    ] = "local"
    """``none`` makes no vectors; ``candle`` is the name that Pattern 1 has for ``fastembed``."""
    model: Annotated[str, Meta(description="the name of a model")] | None = None
    api_key: Annotated[Secret, Meta(description="a string")] | None = None
    base_url: Annotated[str, Meta(description="an http:// or https:// URL")] | None = None
    dimensions: (
        Annotated[int, Meta(ge=1, le=65_536, description="a whole number from 1 to 65536")] | None
    ) = None
    cache_dir: Annotated[str, Meta(description="the path of a directory")] | None = None
    """Where downloaded models are kept."""
    timeout_s: Annotated[
        float, Meta(gt=0, le=86_400, description="a number of seconds above 0, to 86400")
    ] = 60.0
    """The longest that one request to a provider may take."""
    mode: Annotated[Mode, Meta(description='"inline" or "queued"')] = "inline"
    """``inline``: text is embedded before its write is acknowledged; ``queued``: soon after."""


class Config(Struct, frozen=True, eq=False):
    """All settings. Equality ignores ``origins``, which says where each one came from."""

    database: DatabaseConfig = msgspec.field(default_factory=DatabaseConfig)
    embeddings: EmbeddingConfig = msgspec.field(default_factory=EmbeddingConfig)
    origins: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Full key to ``default``, a file, a variable's name or ``argument``; filled in by ``load``."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Config):
            return NotImplemented
        return (self.database, self.embeddings) == (other.database, other.embeddings)

    def __hash__(self) -> int:
        return hash((self.database, self.embeddings))

    def __repr__(self) -> str:
        return f"Config(database={self.database!r}, embeddings={self.embeddings!r})"

    def __rich_repr__(self) -> Iterator[tuple[str, object]]:  # type: ignore[override]
        yield "database", self.database
        yield "embeddings", self.embeddings


SECTIONS: dict[str, type[DatabaseConfig | EmbeddingConfig]] = {
    "database": DatabaseConfig,
    "embeddings": EmbeddingConfig,
}


class Key(NamedTuple):
    """One setting, by its full name (``database.path``)."""

    name: str
    hint: Any
    """The type a value given for it has; strings for secrets, and never None."""
    kind: Any
    """``hint`` without its limits."""
    allowed: str
    default: object


def _keys() -> Iterator[Key]:
    for section, struct in SECTIONS.items():
        for field in msgspec.structs.fields(struct):
            name, hint = f"{section}.{field.name}", _given(field.type)
            kind, meta = get_args(hint)
            if kind is Secret:
                kind = hint = str
            yield Key(name, hint, kind, meta.description, field.default)


def _given(hint: Any) -> Any:
    """``X | None`` as ``X``: nothing is given by giving None."""
    return get_args(hint)[0] if type(None) in get_args(hint) else hint


KEYS = {key.name: key for key in _keys()}


def value_of(config: Config, key: str) -> object:
    """The value of a full key."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def _is_path(text: str) -> bool:
    """Whether a ``url`` of a Config made by hand is a path; ``load`` makes it ``path``."""
    return urls.scheme_of(text) is None
