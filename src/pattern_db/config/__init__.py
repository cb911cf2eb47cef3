"""Settings: which database, and who embeds its text.

From the lowest precedence to the highest:

1. The defaults: ``pattern.db`` in the current directory, the ``local`` embedding provider.
2. A TOML file: the ``config_file`` argument, else the one that ``PATTERN_CONFIG`` names, else
   ``./pattern.toml``, else ``~/.config/pattern/config.toml``. ``${VAR}`` and ``${VAR:-default}`` in
   its strings are replaced by environment variables; ``$${`` is a literal ``${``. Its relative
   paths start from its directory.
3. Environment variables: ``PATTERN_``, the section, ``__``, the key: ``PATTERN_DATABASE__PATH``.
   Letter case does not matter, in names and in ``true``, ``FULL`` and the like. A variable without
   ``__`` is not a setting. Their relative paths, like those of arguments, start from the current
   directory.
4. Arguments of ``load``, and so of ``pattern_db.open`` and the command line.

``~`` is the home directory everywhere.

*What goes together is replaced together.* A path or URL from a higher source replaces the whole
location, with the username and password that were given for the one it replaces, so that they are
never sent to another server; a provider likewise replaces model, key, address and dimensions.
The encryption key, the namespace and the database's name stay. What a lower source says and the
chosen engine or provider has no use for is left out; from the same source it is an error.

The forms that Pattern's earlier versions read work too: ``[database.embedded]`` and
``[database.remote]`` tables chosen by ``type``, ``backend`` for ``type``, and the provider
``candle``.

An unknown name, a wrong value or an impossible combination is a ``ConfigError`` that says where it
was written and what to change. No error, ``repr`` or description holds a secret.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pattern_db.config.report import Shown, check, describe
from pattern_db.config.rules import merged, settled
from pattern_db.config.settings import Config, DatabaseConfig, EmbeddingConfig, Secret
from pattern_db.config.sources import (
    argument_layer,
    config_layer,
    config_path,
    environment_layer,
    file_layer,
)
from pattern_db.config.urls import Engine
from pattern_db.config.values import Layer
from pattern_db.errors import ConfigError

__all__ = [
    "Config",
    "DatabaseConfig",
    "EmbeddingConfig",
    "Engine",
    "Secret",
    "Shown",
    "check",
    "describe",
    "load",
]


def load(
    source: str | os.PathLike[str] | Config | None = None,
    *,
    config_file: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    **overrides: object,
) -> Config:
    """The settings that hold for opening ``source``.

    ``source`` is a path, a URL or ``:memory:``, and wins over the location in file and environment.
    A Config is complete by itself: no file or variable is read (but for a provider's own, such as
    ``OPENAI_API_KEY``), it is checked, and ``overrides`` come on top.

    ``overrides`` are the fields of ``DatabaseConfig`` by name, and ``embeddings``: the name of a
    provider, a dict of fields of ``EmbeddingConfig``, or an ``EmbeddingConfig``, which replaces the
    whole section. None means not given. ``environ`` stands in for ``os.environ``.

    Loading what ``load`` returned gives an equal Config. Raises ``ConfigError``.
    """
    environ = os.environ if environ is None else environ
    if isinstance(source, Config):
        if config_file is not None:
            raise ConfigError("A Config and a config_file were both given; give one of them.")
        given, below = argument_layer(None, overrides), [config_layer(source)]
    else:
        given = argument_layer(source, overrides)
        below = _surroundings(config_file, environ, given)
    if isinstance(overrides.get("embeddings"), EmbeddingConfig):
        below = [_without(layer, "embeddings.") for layer in below]
    return settled(merged([*below, given]), environ)


def _surroundings(
    config_file: str | os.PathLike[str] | None, environ: Mapping[str, str], given: Layer
) -> list[Layer]:
    """The layers of file and environment, lowest first."""
    variables = environment_layer(environ)
    path = config_path(config_file, environ)
    if path is None:
        return [variables]
    kind = (variables | given).get("database.type")
    return [file_layer(path, environ, kind=kind.value if kind else None), variables]


def _without(layer: Layer, prefix: str) -> Layer:
    return {key: setting for key, setting in layer.items() if not key.startswith(prefix)}
