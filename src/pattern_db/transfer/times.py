"""The forms in which files tell the time."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from pattern_db.clock import EPOCH, from_micros

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SPOKEN = re.compile(
    r"(?P<hour>\d{1,2})(?:[:.](?P<minute>\d{2}))?\s*(?P<half>[ap])\.?\s*m\.?[\s,]*(?:on\s+)?"
    r"(?P<day>\d{1,2})(?:st|nd|rd|th)?[\s,]+(?P<month>[a-z]{3,9})\.?[\s,]+(?P<year>\d{4})",
    re.IGNORECASE | re.ASCII,
)
_MILLISECONDS_FROM = 1e11
"""As seconds this is the year 5138; larger numbers are milliseconds."""


def moment(value: Any) -> datetime | None:
    """A time from ISO 8601 text, or from seconds or milliseconds since 1970.

    Without a zone it is UTC. ``None`` if the value is no time.
    """
    try:
        if isinstance(value, str):
            return _aware(datetime.fromisoformat(value.strip()))
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if abs(value) >= _MILLISECONDS_FROM else value
            return from_micros(round(seconds * 1_000_000))
    except (ValueError, OverflowError):
        return None
    return None


def spoken(text: str) -> datetime | None:
    """A time as LoCoMo writes it, "1:56 pm on 8 May, 2023", in UTC; ``None`` if it is no time."""
    found = _SPOKEN.fullmatch(text.strip())
    if found is None:
        return moment(text)
    month = found["month"].lower()[:3]
    if month not in _MONTHS or not 1 <= int(found["hour"]) <= 12:
        return None
    hour = int(found["hour"]) % 12 + (12 if found["half"].lower() == "p" else 0)
    try:
        return datetime(
            int(found["year"]),
            _MONTHS.index(month) + 1,
            int(found["day"]),
            hour,
            int(found["minute"] or 0),
            tzinfo=UTC,
        )
    except ValueError:
        return None


def _aware(parsed: datetime) -> datetime:
    if parsed.tzinfo is None:
        return parsed.replace(tzinfo=UTC)
    return parsed.astimezone(EPOCH.tzinfo)
