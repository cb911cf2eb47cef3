"""The real Turso sync server, from the npm package ``turso``, for one test at a time.

The package is installed once, into ``.venv/turso-server`` of the repository.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import pytest

PACKAGE = "turso@0.6.0"
HOME = Path(__file__).parents[2] / ".venv" / "turso-server"
_START_S = 30.0


def program() -> Path:
    """Where ``tursodb`` is, installed if need be; where it cannot be had a test skips, CI fails."""
    found = _installed() or _install()
    if isinstance(found, str):
        if os.environ.get("CI"):
            pytest.fail(found)
        pytest.skip(found)
    return found


@cache
def _install() -> Path | str:
    """The program, or why there is none; asked once."""
    if shutil.which("npm") is None:
        return f"npm is not there to install {PACKAGE}"
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the tests run in several processes
        if _installed() is None:
            waits = ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"]
            quiet = ["--no-audit", "--no-fund"]
            command = ["npm", "install", "--prefix", str(HOME), *waits, *quiet, PACKAGE]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                return f"npm cannot install {PACKAGE}: {done.stderr.strip()}"
    return _installed() or f"{PACKAGE} has no program for this machine"


def _installed() -> Path | None:
    return next(HOME.glob("node_modules/@tursodatabase/cli-*/tursodb"), None)


class Server:
    """Starts with the first use of ``url``; ``stop`` and ``start`` take it away and bring it back,
    at the same address and with its data."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pattern-db-turso-"))
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Begin to answer."""
        address = f"127.0.0.1:{self._port}"
        command = [str(program()), str(self._folder / "main.db"), "--sync-server", address]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _START_S
        while not _answers(self._port):
            assert self._process.poll() is None, "the Turso server ended"
            assert time.monotonic() < deadline, "the Turso server does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        """Answer nobody any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """Stop, and forget the data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
