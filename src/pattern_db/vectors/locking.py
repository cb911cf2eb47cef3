"""One builder at a time, of all processes."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def only_builder(folder: Path) -> Iterator[bool]:
    """Gives whether nobody else builds in this folder; nobody else does until the end then.

    The lock goes with the process that holds it, however that ends.
    """
    with open(folder / "lock", "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
