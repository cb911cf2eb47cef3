"""Identifiers made without coordination: prefixed entity ids and 64-bit message positions."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from datetime import datetime
from hashlib import blake2b

from .clock import to_micros

_POSITION_EPOCH_MS = 1_288_834_974_657
_SEQUENCE_BITS = 16
_SEQUENCES = 1 << _SEQUENCE_BITS
_LARGEST_MS = (1 << 47) - 1
_REMEMBERED_MS = 4096


_RANDOM_CHARS = 20
_tails: list[str] = []
"""Random hex strings made in advance: asking the kernel for each gives the interpreter lock away,
which costs an id forty microseconds while another thread writes."""

os.register_at_fork(after_in_child=_tails.clear)


def _random_tail() -> str:
    """80 random bits, never given out twice."""
    try:
        return _tails.pop()
    except IndexError:
        block = os.urandom(_RANDOM_CHARS // 2 * 512).hex()
        ends = range(_RANDOM_CHARS, len(block), _RANDOM_CHARS)
        _tails.extend(block[end - _RANDOM_CHARS : end] for end in ends)
        return block[-_RANDOM_CHARS:]


def new_id(prefix: str, now: datetime) -> str:
    """``prefix_`` and 32 hex digits: 48 bits of milliseconds, then 80 random bits.

    The time part keeps index pages warm (as UUIDv7 does); the random part makes ids unguessable.
    """
    ms = to_micros(now) // 1000 & 0xFFFFFFFFFFFF
    return f"{prefix}_{ms:012x}{_random_tail()}"


def derived_id(prefix: str, *parts: str) -> str:
    """An id that depends only on its parts, so that importing twice writes once."""
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return f"{prefix}_{digest.hexdigest()}"


class Positions:
    """Issues message positions that ascend with time.

    A position is a snowflake in the layout of Pattern's earlier databases: milliseconds since
    1288834974657 shifted left by 16, plus a sequence within the millisecond. Positions asked for at
    equal times ascend in the order of asking. Times before 2010 give negative positions, times
    after the year 6469 share the last millisecond. Thread-safe; uniqueness between processes is
    the database's to check.
    """

    def __init__(self) -> None:
        self._next: OrderedDict[int, int] = OrderedDict()
        self._lock = threading.Lock()
        self._start = int.from_bytes(os.urandom(2), "big") // 2

    def at(self, moment: datetime, *, now: bool = False) -> int:
        """The next position at this time; spills into later milliseconds when one is used up.

        For the present moment (``now``) each process counts from a start of its own, so that
        processes that write at once rarely ask for the same position.
        """
        ms = min(to_micros(moment) // 1000 - _POSITION_EPOCH_MS, _LARGEST_MS)
        with self._lock:
            sequence = self._next.pop(ms, self._start if now else 0)
            while sequence >= _SEQUENCES and ms < _LARGEST_MS:
                self._next[ms] = sequence
                ms += 1
                sequence = self._next.pop(ms, 0)
            self._next[ms] = sequence + 1
            if len(self._next) > _REMEMBERED_MS:
                self._next.popitem(last=False)
        return (ms << _SEQUENCE_BITS) | sequence

    def skip_past(self, position: int) -> None:
        """Continue after a position that is already taken in the database."""
        ms, sequence = position >> _SEQUENCE_BITS, position & (_SEQUENCES - 1)
        with self._lock:
            self._next[ms] = max(self._next.pop(ms, 0), sequence + 1)


def last_position_within(position: int) -> int:
    """The largest position in the same millisecond."""
    return position | (_SEQUENCES - 1)
