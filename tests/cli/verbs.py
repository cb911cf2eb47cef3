"""Every verb of the command line, as the app itself knows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cyclopts import App

from pattern_db.cli.app import app


def verbs(parent: App = app, path: tuple[str, ...] = ()) -> Iterator[tuple[str, App]]:
    """The words of each verb and its app, in the order of registration."""
    for name in parent:
        if name.startswith("-"):
            continue
        child = parent[name]
        if child.default_command is not None:
            yield " ".join((*path, name)), child
        else:
            yield from verbs(child, (*path, name))


def parameters(verb: App) -> Iterator[Any]:
    """The arguments and options of a verb, those of flattened classes included."""
    for argument in verb.assemble_argument_collection(parse_docstring=True):
        if argument.parse and argument.show:
            yield argument


VERBS = dict(verbs())
