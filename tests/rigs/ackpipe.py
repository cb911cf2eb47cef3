"""``kill -9``: a child program that acknowledges each operation, killed at random times.

The child prints one line per operation after the operation has returned. Whatever line the parent
has read was acknowledged, and must be found in the files that the child left behind:

    command = script(SOURCE, str(path))
    for cycle in kills(command, 30, seed=7):
        assert set(cycle.acks) <= keys_in(path)

The same files may go through all cycles: the environment variables ``ACKPIPE_CYCLE`` and
``ACKPIPE_CHILD`` (both from 0) let a child choose keys of its own.

At most the operations in flight may be there in addition. A kill shows torn transactions and failed
recoveries; it loses nothing that the kernel holds, so it proves nothing about power: see
``powervfs``.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple


class Cycle(NamedTuple):
    """What one child acknowledged before it ended, in order, and how it ended.

    ``returncode`` is -9 for a killed child and 0 for one that was done before.
    """

    acks: tuple[str, ...]
    returncode: int
    number: int
    child: int


class ChildError(AssertionError):
    """A child ended by itself with an error, or never acknowledged anything; with its stderr."""


def script(source: str, *arguments: str) -> list[str]:
    """The command that runs this Python source; it finds ``arguments`` in ``sys.argv[1:]``."""
    return [sys.executable, "-u", "-c", source, *arguments]


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs this importable module, or this file if it ends in ``.py``."""
    flag = [] if name.endswith(".py") else ["-m"]
    return [sys.executable, "-u", *flag, name, *arguments]


def kill_cycles(
    command: Sequence[str],
    cycles: int,
    seed: int,
    max_delay_s: float = 0.2,
    *,
    processes: int = 1,
    start_timeout_s: float = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
) -> list[Cycle]:
    """Everything that ``kills`` yields, one entry per child and cycle."""
    return list(
        kills(
            command,
            cycles,
            seed,
            max_delay_s,
            processes=processes,
            start_timeout_s=start_timeout_s,
            env=env,
            cwd=cwd,
        )
    )


def kills(
    command: Sequence[str],
    cycles: int,
    seed: int,
    max_delay_s: float = 0.2,
    *,
    processes: int = 1,
    start_timeout_s: float = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
) -> Iterator[Cycle]:
    """Run the command ``cycles`` times and kill it each time; yields when all children are dead.

    A cycle starts ``processes`` children at once, waits until each has acknowledged something, and
    kills each at its own time, drawn evenly from 0 to ``max_delay_s`` later: while the first dies
    the others work on. A child inherits the environment, plus ``env``. Raises ``ChildError``.
    """
    rng = random.Random(seed)
    for number in range(cycles):
        children = [_Child(command, number, child, env, cwd) for child in range(processes)]
        try:
            for started in children:
                started.wait_for_ack(start_timeout_s)
            begin = time.monotonic()
            delays = [(rng.uniform(0, max_delay_s), child) for child in range(processes)]
            for delay_s, child in sorted(delays):
                children[child].wait(begin + delay_s - time.monotonic())
                children[child].kill()
        finally:
            for left in children:
                left.kill()
        yield from [child.result() for child in children]


class _Child:
    """A running child: a thread reads its acknowledgements, a file takes its stderr."""

    def __init__(
        self,
        command: Sequence[str],
        number: int,
        child: int,
        env: Mapping[str, str] | None,
        cwd: str | Path | None,
    ) -> None:
        names = {"PYTHONUNBUFFERED": "1", "ACKPIPE_CYCLE": f"{number}", "ACKPIPE_CHILD": f"{child}"}
        self._number, self._child = number, child
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in ``result``
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **names, **(env or {})},
            cwd=cwd,
        )
        self._lines: list[str] = []
        self._first = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    def _read(self, stdout: IO[bytes]) -> None:
        for line in stdout:
            if line.endswith(b"\n"):
                self._lines.append(line[:-1].decode())
                self._first.set()
        self._first.set()

    def wait_for_ack(self, timeout_s: float) -> None:
        if not self._first.wait(timeout_s) or not self._lines:
            self.kill()
            self._fail("acknowledged nothing")

    def wait(self, timeout_s: float) -> None:
        """Until it has ended by itself, at most this long."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, timeout_s))

    def kill(self) -> None:
        self._process.kill()

    def result(self) -> Cycle:
        self._reader.join()
        returncode = self._process.wait()
        if returncode not in (0, -9):
            self._fail(f"ended with {returncode}")
        self._close()
        return Cycle(tuple(self._lines), returncode, self._number, self._child)

    def _fail(self, what: str) -> None:
        self._process.wait()
        self._reader.join()
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace")
        self._close()
        raise ChildError(f"Child {self._child} of cycle {self._number} {what}: {errors}")

    def _close(self) -> None:
        self._errors.close()
        if self._process.stdout:
            self._process.stdout.close()
