"""Who may write, among the handles of one database on a server.

SurrealDB notices when two transactions write the same record, not when one reads what the other
writes. So each script writes one record, ``pattern_turn:writes``: of two at once the second is
undone and done again, on what the first left. ``alone`` leaves a name there that others respect; it
runs out, so that a process that died with it keeps nobody out for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from uuid import uuid4

from ...errors import PatternError
from .failures import HELD
from .names import TURN

_TURN = f"{TURN}:writes"
_LEASE = "60s"

Run = Callable[[str], Awaitable[None]]


class Lock:
    """One handle's part in it."""

    def __init__(self) -> None:
        self._me = uuid4().hex

    def guard(self, *, alone: bool) -> Sequence[str]:
        """What every script begins with."""
        held = f"(SELECT VALUE by FROM ONLY {_TURN} WHERE until > time::now())"
        mine = f"['{self._me}']" if alone else f"[NONE, '{self._me}']"
        return (
            f"IF {held} NOT IN {mine} {{ THROW '{HELD}' }}",
            f"UPSERT {_TURN} SET n = (n ?? 0) + 1 RETURN NONE",
        )

    async def take(self, run: Run) -> None:
        """Wait until nobody writes alone, then be the one. Raises ``DatabaseBusy``."""
        free = "; ".join(("BEGIN", *self.guard(alone=False)))
        text = (
            f"{free}; UPSERT {_TURN} SET by = '{self._me}', until = time::now() + {_LEASE}; COMMIT"
        )
        try:
            await run(text)
        except BaseException:
            with suppress(PatternError):
                await asyncio.shield(asyncio.ensure_future(self.give_back(run)))
            raise

    async def give_back(self, run: Run) -> None:
        """Let others write again."""
        await run(
            f"UPSERT {_TURN} SET n = (n ?? 0) + 1, until = NONE, by = NONE "
            f"WHERE by = '{self._me}' RETURN NONE"
        )
