"""The options that verbs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

EVERYWHERE = Group("Everywhere", sort_key=100)


@Parameter(name="*", group=EVERYWHERE)
@dataclass(frozen=True, kw_only=True)
class Output:
    """How a verb answers."""

    json: bool = False
    """Print one JSON document, for machines."""
    debug: bool = False
    """Show the traceback of an error."""


@Parameter(name="*", group=EVERYWHERE)
@dataclass(frozen=True, kw_only=True)
class Options(Output):
    """Which database a verb works on, and how it answers."""

    db: Annotated[str | None, Parameter(metavar="URL")] = None
    """The database: a path, a URL, or a .toml file of settings. [default: PATTERN_DATABASE__PATH,
    pattern.toml, pattern.db]"""
    tenant: Annotated[str | None, Parameter(metavar="NAME")] = None
    """Whose data of the database, if it has tenants (`pattern tenant`)."""
    embeddings: Annotated[str | None, Parameter(metavar="NAME")] = None
    """The embedding provider, such as local, none or openai."""


DEFAULTS = Options()
PLAIN = Output()
