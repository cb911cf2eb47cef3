"""``pattern config``: the settings, where they come from, and whether they are good."""

from __future__ import annotations

from cyclopts import App

from . import output
from .options import DEFAULTS, Options
from .output import Column
from .session import settings

app = App("config", help="Settings, and where they come from.")

_TABLE = output.table(
    [
        Column("setting", lambda shown: shown.key),
        Column("value", lambda shown: shown.value),
        Column("from", lambda shown: shown.origin),
    ]
)


@app.command
def show(*, options: Options = DEFAULTS) -> None:
    """Show every setting and where it comes from. Secrets are not shown."""
    from pattern_db.config import describe

    shown = describe(settings(options))
    if options.json:
        output.document([setting._asdict() for setting in shown])
    else:
        _TABLE(shown)


@app.command
def check(*, options: Options = DEFAULTS) -> None:
    """Say what would go wrong or is unsafe; exits with 1 if anything is."""
    from pattern_db.config import check as problems_of

    problems = problems_of(settings(options))
    if options.json:
        output.document(problems)
    else:
        for sentence in problems or ["The settings are good."]:
            output.line(sentence)
    if problems:
        raise SystemExit(1)
