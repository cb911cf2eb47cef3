"""Where Turso's dialect differs from SQLite's."""

from __future__ import annotations

from typing import Any

from ..sql import Statement, encode_json


class TursoStatement(Statement):
    """See ``Statement``."""

    def key(self, key: Any) -> str:
        """Turso gives keys as they stand in the JSON text, except that quotes lose their escape."""
        return self.value(key, lambda name: encode_json(name)[1:-1].replace('\\"', '"'))
