"""All verbs in one app."""

from __future__ import annotations

from cyclopts import App, Parameter

from . import (
    advice,
    agent,
    config,
    copying,
    database,
    demo,
    evaluate,
    group,
    learn,
    memory,
    message,
    search,
    tenant,
    transfer,
    user,
)


def _version() -> str:
    from pattern_db import __version__

    return f"pattern-db {__version__}"


app = App(
    "pattern",
    help="The database of an AI agent's life. Begin with `pattern demo`.\n\n"
    "Every verb takes --db, --embeddings, --json and --debug; most take --tenant.",
    help_format="plaintext",
    version=_version,
    default_parameter=Parameter(
        negative_bool=(), negative_iterable=(), show_default=lambda value: value or None
    ),
    result_action="return_value",
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
)
"""Its errors and interrupts are for ``failures`` to put into words."""

database.app.command(copying.copy)
database.app.command(copying.compare)
app.command(demo.demo)
app.command(database.init)
app.command(database.status)
app.command(search.search)
app.command(transfer.import_, name="import")
for noun in (
    agent.app,
    user.app,
    group.app,
    memory.app,
    message.app,
    advice.app,
    learn.app,
    evaluate.app,
    database.app,
    tenant.app,
    config.app,
):
    app.command(noun)
