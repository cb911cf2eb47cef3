"""What may be the answer, as ranking reads it."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime

import msgspec


class Candidate(msgspec.Struct, gc=False):
    """What an engine offers.

    ``text_score`` is the engine's own, larger is better, 0 for what its text search did not find.
    ``dense_score`` is the exact cosine, ``None`` for what has no vector. ``conversation`` is
    ``None`` for what stands alone; in one, adjacent turns have adjacent ``ordinal``s.
    """

    item_id: str
    kind: str
    text: str
    created_at: datetime
    conversation: Hashable | None = None
    ordinal: int = 0
    speaker: str | None = None
    text_score: float = 0.0
    dense_score: float | None = None
