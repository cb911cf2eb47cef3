"""Where a database is: the forms a location can have, and what each one means.

======================================  ========  =========================================
form                                    engine    meaning
======================================  ========  =========================================
``mind.db``, ``~/mind.db``              sqlite    a file
``sqlite:///abs``, ``sqlite://rel``     sqlite    a file; percent-escapes are decoded
``:memory:``, ``sqlite://:memory:``     sqlite    nothing outlives the handle
``turso:///abs``, ``turso://rel``       turso     a file; what follows ``?`` is the engine's
``postgresql://``, ``postgres://``      postgres  a server
``surrealkv:///abs``                    surreal   a directory; ``surrealkv://rel`` too
``mem://``                              surreal   nothing outlives the handle
``ws[s]://``, ``http[s]://``            surreal   a server
======================================  ========  =========================================

As in sqlx, three slashes are an absolute path and two are a relative one. Nothing raised here
holds any part of a URL.
"""

from __future__ import annotations

import os
import re
from typing import Literal, NamedTuple

from pattern_db.errors import ConfigError

Engine = Literal["sqlite", "turso", "postgres", "surreal"]

MEMORY = ":memory:"


class Scheme(NamedTuple):
    """What a URL scheme stands for."""

    engine: Engine
    place: Literal["file", "memory", "server"]
    escaped: bool = True
    """Whether percent-escapes in the path are ours to decode; SurrealDB takes them as they are."""


SCHEMES = {
    "sqlite": Scheme("sqlite", "file"),
    "turso": Scheme("turso", "file"),
    "postgresql": Scheme("postgres", "server"),
    "postgres": Scheme("postgres", "server"),
    "surrealkv": Scheme("surreal", "file", escaped=False),
    "mem": Scheme("surreal", "memory"),
    "ws": Scheme("surreal", "server"),
    "wss": Scheme("surreal", "server"),
    "http": Scheme("surreal", "server"),
    "https": Scheme("surreal", "server"),
}

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?(.*)", re.DOTALL)
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d{1,5}")
_QUERY_VALUE = re.compile(r"([?&]([^=&#]*)=)[^&#]*")
_SHOWN_PARAMETERS = {"application_name", "connect_timeout", "sslmode"}
_HOSTLESS = {
    "postgresql",
    "postgres",
}  # libpq: a missing host is the local socket, several are a list


def scheme_of(text: str) -> str | None:
    """The scheme of a URL in lower case; None for a path, which ``C:\\x`` and ``:memory:`` are."""
    match = _URL.fullmatch(text)
    if match is None:
        return None
    scheme = match[1].lower()
    return scheme if match[2] or scheme in SCHEMES or scheme == "file" else None


def scheme_named(url: str, *, subject: str = "database.url") -> Scheme:
    """The meaning of a URL's scheme; ``ConfigError`` with the known ones when it has none."""
    found = SCHEMES.get(scheme_of(url) or "")
    if found is None:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ConfigError(
            f"{subject} has an unknown scheme; write a path, or a URL with one of {known}."
        )
    return found


def absolute(path: str, base: str) -> str:
    """``path`` with ``~`` expanded and taken from the directory ``base``; ``:memory:`` stays."""
    if path == MEMORY:
        return path
    return os.path.abspath(os.path.join(base, os.path.expanduser(path)))


def file_of(url: str, *, subject: str = "database.url") -> str:
    """The path that a ``file`` URL names, still relative when the URL is.

    Raises ``ConfigError`` when it names none, or when a ``sqlite`` URL has parameters.
    """
    scheme = scheme_named(url, subject=subject)
    path, question, _ = _after_scheme(url).partition("?")
    if question and scheme.engine == "sqlite":
        raise ConfigError(
            f"{subject} has parameters after `?`, which a sqlite URL does not take; make them "
            "settings, or write %3F for a question mark in the file's name."
        )
    if scheme.escaped:
        path = _unquoted(path)
    if path.lstrip("/") == MEMORY:
        return MEMORY
    path = re.sub("^//+", "/", path)
    if not path.strip("/"):
        raise ConfigError(f"{subject} names no file; write its path after the `://`.")
    return path


def absolute_url(url: str, base: str, *, subject: str = "database.url") -> str:
    """``url`` with its scheme in lower case and a file's path taken from the directory ``base``.

    Raises ``ConfigError`` when it names no file, or no server.
    """
    name, scheme = scheme_of(url), scheme_named(url, subject=subject)
    if scheme.place == "memory":
        return f"{name}://"
    if scheme.place == "server":
        require_host(url, subject=subject)
        return f"{name}://{_after_scheme(url)}"
    path = absolute(file_of(url, subject=subject), base)
    _, question, query = url.partition("?")
    return f"{name}://{_quoted(path) if scheme.escaped else path}{question}{query}"


def file_url(url: str, path: str) -> str:
    """The URL of another file, of the same scheme."""
    name, scheme = scheme_of(url), scheme_named(url)
    return f"{name}://{_quoted(path) if scheme.escaped else path}"


def require_host(url: str, *, subject: str) -> None:
    """Raise ``ConfigError`` when a server's URL has no host, or a port that is none."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        lenient = scheme_of(url) in _HOSTLESS
        named = lenient or (bool(parts.hostname) and parts.port != 0)
    except ValueError:  # its message quotes the URL
        named = False
    if not named or "://" not in url:
        raise ConfigError(f"{subject} names no server; write scheme://host or scheme://host:port.")


def require_path(text: str, *, subject: str) -> None:
    """Raise ``ConfigError`` when ``text`` is a server's address that lacks its scheme."""
    if _HOST_AND_PORT.fullmatch(text):
        raise ConfigError(
            f"{subject} is a host and a port without a scheme; put ws:// or postgresql:// before "
            "it, or ./ if it is the name of a file."
        )


def parameters_of(url: str, *, known: frozenset[str], subject: str) -> dict[str, str]:
    """What follows the ``?`` of a URL. Raises ``ConfigError`` for a name that is not ``known``."""
    from urllib.parse import parse_qsl

    found = parse_qsl(url.partition("?")[2], keep_blank_values=True)
    if any(name not in known for name, _ in found) or len(dict(found)) < len(found):
        raise ConfigError(
            f"{subject} has a parameter that is not known, or one twice; there are "
            f"{', '.join(sorted(known))}, and a token belongs into database.password."
        )
    return dict(found)


def login_of(url: str) -> tuple[bool, bool]:
    """Whether a server's URL holds a user name, and whether it holds a password."""
    login, at, _ = _after_scheme(url).partition("?")[0].rpartition("@")
    user, _, password = login.partition(":")
    return bool(at and user), bool(password)


def host_of(url: str) -> str | None:
    """The host of a URL that ``require_host`` accepts, in lower case."""
    from urllib.parse import urlsplit

    return urlsplit(url).hostname


def redacted(url: str) -> str:
    """``url`` without what may be secret: all before the last ``@``, and values of parameters.

    A password may hold an unescaped ``/`` or ``?``, so that the last ``@`` decides, not the first.
    """
    found = SCHEMES.get(scheme_of(url) or "")
    if (found is None or found.place == "server") and "@" in url:
        head, colon, _ = url.partition("://")
        url = f"{head if colon else ''}{colon}***@{url.rpartition('@')[2]}"
    return _QUERY_VALUE.sub(_redacted_parameter, url)


def _redacted_parameter(match: re.Match[str]) -> str:
    return match[0] if match[2] in _SHOWN_PARAMETERS else f"{match[1]}***"


def _after_scheme(url: str) -> str:
    match = _URL.fullmatch(url)
    return match[3] if match else url


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return path if path == MEMORY else quote(path)


def _unquoted(path: str) -> str:
    from urllib.parse import unquote

    return unquote(path)
