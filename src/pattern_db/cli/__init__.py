"""The command line: ``pattern``. One module a noun; each verb is a documented function.

Exit codes: 0 for done, 1 for an error (one sentence on stderr, none if nobody reads the output any
more), 2 for wrong usage, 130 for Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command line (that of the process by default). Raises ``SystemExit`` if it fails."""
    from .failures import exit_code

    tokens = list(sys.argv[1:] if argv is None else argv)
    code = exit_code(tokens)
    if code:
        sys.exit(code)
