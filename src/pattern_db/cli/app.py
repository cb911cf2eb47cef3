"""All verbs in one app."""

from __future__ import annotations

from cyclopts import App, Parameter


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

VERBS = {
    "demo": "demo:demo",
    "init": "database:init",
    "status": "database:status",
    "search": "search:search",
    "import": "transfer:import_",
    "agent": "agent:app",
    "user": "user:app",
    "group": "group:app",
    "memory": "memory:app",
    "message": "message:app",
    "episode": "advice:app",
    "learn": "learn:app",
    "eval": "evaluate:app",
    "db": "database:app",
    "tenant": "tenant:app",
    "config": "config:app",
}
"""Where each verb is: its module is imported when it is called."""

for verb, place in VERBS.items():
    app.command(f"{__package__}.{place}", name=verb)


def import_all() -> None:
    """Import every verb: only then does help know what each says of itself."""
    for name in VERBS:
        _ = app[name]
