"""What is proven."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from ..engines.base import Store


def _nothing(_store: Store) -> Sequence[str]:
    return ()


class Subject(msgspec.Struct, frozen=True):
    """An engine with a database of its own for one test.

    ``open`` opens the database, which is empty at first; further calls open it again, beside what
    is open. ``leaks`` names what a store still holds after a test and should not: transactions,
    connections, locks.
    """

    open: Callable[[], Awaitable[Store]]
    leaks: Callable[[Store], Sequence[str]] = _nothing
