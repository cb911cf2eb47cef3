"""One builder at a time, of all processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Alone = Callable[[], bool]
_NAME = "lock"


@contextmanager
def only_builder(folder: Path) -> Iterator[Alone]:
    """Gives a function that tells whether this is the only builder in the folder, still.

    The lock goes with the process that holds it, however that ends. Raises ``OSError``.
    """
    with open(folder / _NAME, "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield lambda: False
            return
        try:
            yield lambda: os.fstat(file.fileno()).st_nlink > 0
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # a forked child may hold the file open for long


def dismiss_builder(folder: Path) -> None:
    """Whoever builds now is no longer alone, so that it gives up what it has made."""
    with suppress(OSError):
        (folder / _NAME).unlink(missing_ok=True)
