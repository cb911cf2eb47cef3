"""Time as this package uses it: aware UTC in Python, integer microseconds in storage."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Anything that tells the present time as an aware datetime; tests inject their own."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EXACT_MICROS = 2**51
"""Below this, the nearest float number of seconds is less than a quarter of a microsecond off."""


def utc_now() -> datetime:
    """The present time, aware, in UTC."""
    return datetime.now(UTC)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970; exact for every datetime. A naive one is a programming error."""
    return (moment - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The inverse of ``to_micros``, in UTC."""
    if 0 <= micros < _EXACT_MICROS:
        return datetime.fromtimestamp(micros / 1e6, UTC)
    return EPOCH + timedelta(microseconds=micros)


monotonic = time.monotonic
