"""The names of settings as files, variables and arguments write them, and what was meant."""

from __future__ import annotations

from collections.abc import Iterable

from pattern_db.config.settings import KEYS, SECTIONS
from pattern_db.errors import ConfigError

PREFIX = "PATTERN_"

_ALIASES = {"database.backend": "database.type"}  # its name in the first plan of Pattern
_DATABASE_KEYS = [key.removeprefix("database.") for key in KEYS if key.startswith("database.")]


def known_key(written: str, subject: str, *, key: str | None = None) -> str:
    """The full key that ``written`` names, or ``key`` when it stands in another place there.

    Raises ``ConfigError``, about ``subject``, when there is none.
    """
    key = written if key is None else key
    key = _ALIASES.get(key, key)
    if key in KEYS:
        return key
    section, _, name = key.partition(".")
    names = [known.partition(".")[2] for known in KEYS if known.startswith(f"{section}.")]
    near = _nearest(name, names)
    hint = f"did you mean {section}.{near}?" if near else f"[{section}] has {listed(names)}."
    raise ConfigError(f"{subject} is not a setting; {hint}")


def variable_of(key: str) -> str:
    """The environment variable of a full key."""
    return PREFIX + key.replace(".", "__").upper()


def key_of_variable(variable: str) -> str | None:
    """The full key of an environment variable; None when it is not a setting's.

    Those that begin with ``PATTERN_`` and have a ``__`` after it are settings, in any letter case;
    ``ConfigError`` when one of them names none.
    """
    name = variable.upper()
    if not name.startswith(PREFIX) or "__" not in name.removeprefix(PREFIX):
        return None
    written = name.removeprefix(PREFIX).replace("__", ".", 1).lower()
    key = _ALIASES.get(written, written)
    if key in KEYS:
        return key
    near = _nearest(written, list(KEYS))
    hint = (
        f"did you mean {variable_of(near)}?" if near else "unset it, or see `pattern config show`."
    )
    raise ConfigError(f"The variable {variable} is not a setting; {hint}")


def unknown_section(section: str, subject: str) -> ConfigError:
    """The error about a table, or a setting above all tables, that there is not."""
    tails = {key.partition(".")[2]: key for key in KEYS}
    near = _nearest(section, [*SECTIONS, *tails])
    hint = f"did you mean {tails.get(near, near)}?" if near else f"there are {listed(SECTIONS)}."
    return ConfigError(f"{subject} is not a section of settings; {hint}")


def key_of_argument(name: str) -> str:
    """The full key of an argument of ``load``; ``ConfigError`` when there is none."""
    if name in _DATABASE_KEYS:
        return f"database.{name}"
    arguments = [*_DATABASE_KEYS, "embeddings"]
    near = "embeddings" if name.startswith("embedding") else _nearest(name, arguments)
    hint = f"did you mean {near}?" if near else f"there are {listed(arguments)}."
    raise ConfigError(f"{name} is not an argument for opening a database; {hint}")


def listed(names: Iterable[str]) -> str:
    """``names`` in order, with commas between."""
    return ", ".join(sorted(names))


def _nearest(name: str, known: list[str]) -> str | None:
    import difflib

    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.6)), None)
