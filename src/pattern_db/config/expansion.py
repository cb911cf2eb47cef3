"""``${VAR}`` in the strings of a configuration file.

``${VAR}`` is the variable's value, ``${VAR:-default}`` is the default when the variable is unset or
empty, and ``$${`` is a literal ``${``. Every other ``$`` stands for itself. A value is put in as it
is and never expanded again; a default is literal and ends at the first ``}``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pattern_db.errors import ConfigError

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")


def expand(text: str, environ: Mapping[str, str], *, subject: str) -> str:
    """``text`` with its references replaced by values of ``environ``.

    ``subject`` names the setting in errors. Raises ``ConfigError`` for a variable that is not set
    and has no default, and for a ``${`` that is not a reference; neither error holds any part of
    ``text`` but the variable's name.
    """

    def value(reference: re.Match[str]) -> str:
        if reference[0] == "$${":
            return "${"
        name, default = reference[1], reference[2]
        if name is None:
            raise ConfigError(
                f"{subject} has a `${{` that is not `${{VARIABLE}}` or `${{VARIABLE:-default}}`; "
                "complete it, or write `$${` for the characters themselves."
            )
        found = environ.get(name)
        if found or (found is not None and default is None):
            return found
        if default is None:
            raise ConfigError(
                f"{subject} needs the environment variable {name}, which is not set; set it, or "
                f"write ${{{name}:-default}}."
            )
        return default

    return _REFERENCE.sub(value, text)
