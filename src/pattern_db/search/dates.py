"""Dates that a question names, and how near to them something was written."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import date, datetime, timedelta
from typing import TypeAlias

import msgspec

MONTHS = tuple(
    """
    january february march april may june july august september october november december
    """.split()  # noqa: SIM905
)
MONTHS_THAT_ARE_WORDS = frozenset({"march", "may"})
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SEASONS = {"spring": (3, 4, 5), "summer": (6, 7, 8), "autumn": (9, 10, 11), "fall": (9, 10, 11)}
NUMBERS = {
    word: number
    for number, words in enumerate(
        ("", "a an one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
    for word in words.split()
}
ORDINALS = {"first": 0, "1st": 0, "second": 1, "2nd": 1, "third": 2, "3rd": 2, "last": -1}
DAYS_BEFORE, DAYS_AFTER = 1, 2
"""How far from a day something is written that tells of it; most is told a little later."""
LONGEST_OCCASION = timedelta(days=9)

_YEAR = r"(?:,? (?:of )?(?P<year>\d{4})\b)?"
_MONTH = rf"(?P<month>{'|'.join(MONTHS)})"
_ISO_DATE = re.compile(r"\b(?P<year>\d{4})-(?P<month>\d\d)(?:-(?P<day>\d\d))?\b")
_DATE = re.compile(
    r"(?:\b(?P<lead>in|of|during|on|early|late|mid|by|until|since|before|after|last) )?"
    r"(?:\b(?P<day>\d{1,2})(?:st|nd|rd|th)? (?:of )?)?"
    rf"\b{_MONTH}\b(?: (?P<day_after>\d{{1,2}})(?:st|nd|rd|th)?\b)?{_YEAR}"
)
_SEASON = re.compile(
    rf"\b(?:(?:in|during|over|of) (?:the )?|the )(?P<season>{'|'.join(SEASONS)})\b{_YEAR}"
)
_WEEKEND = re.compile(rf"\b(?P<which>{'|'.join(ORDINALS)}) weekend (?:of|in) {_MONTH}\b{_YEAR}")
_AGO = re.compile(
    rf"\b(?P<number>\d{{1,3}}|{'|'.join(NUMBERS)}) (?P<unit>day|week|month|year)s? ago\b"
)
_LAST = re.compile(
    r"\b(?P<which>last|past|previous|this) "
    rf"(?P<unit>night|week|weekend|month|year|{'|'.join((*WEEKDAYS, *MONTHS, *SEASONS))})\b"
)
_NEAR_DAY = re.compile(r"\b(?:(?P<before>day before )?(?P<yesterday>yesterday)|today|tonight)\b")


class Moment(msgspec.Struct, frozen=True):
    """A date in a query; ``None`` where the query leaves the year or the day open."""

    month: int
    year: int | None = None
    day: int | None = None


class Span(msgspec.Struct, frozen=True):
    """From the first to the last day of a time that is known to the day."""

    first: date
    last: date


Dates: TypeAlias = tuple[Moment | Span, ...]


def dates_in(text: str, names: Collection[str] = (), now: datetime | None = None) -> Dates:
    """The dates in a text of lower case; a name that is also a month's is none.

    Those that depend on when the question is asked are read only where ``now`` tells it.
    """
    told: list[Moment | Span] = [
        *_iso(text),
        *_named(text, names, now),
        *_seasons(text),
        *_weekends(text),
    ]
    if now is not None:
        told += _relative(text, now.date())
    return tuple(dict.fromkeys(told))


def closeness(told: Moment | Span, written: date) -> float:
    """1 for what was written at that occasion or soon after, ½ in that month or long time."""
    if isinstance(told, Span):
        return _within(told, written)
    year = told.year or written.year
    day = day_of(year, told.month, told.day) if told.day else None
    if day is not None and _within(Span(day, day), written):
        return 1.0
    return 0.5 if (written.year, written.month) == (year, told.month) else 0.0


def day_of(year: int, month: int, day: int) -> date | None:
    """The day, ``None`` where there is no such day."""
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _within(span: Span, written: date) -> float:
    if span.last - span.first > LONGEST_OCCASION:
        return 0.5 if span.first <= written <= span.last else 0.0
    early, late = (span.first - written).days, (written - span.last).days
    return float(early <= DAYS_BEFORE and late <= DAYS_AFTER)


def _moment(month: int, year: str | None, day: str | None = None) -> Moment:
    in_year = int(year) if year and int(year) else None
    on_day = int(day) if day and day_of(in_year or 2000, month, int(day)) else None
    return Moment(month, in_year, on_day)


def _iso(text: str) -> Iterator[Moment]:
    for m in _ISO_DATE.finditer(text):
        if 1 <= int(m["month"]) <= 12:
            yield _moment(int(m["month"]), m["year"], m["day"])


def _named(text: str, names: Collection[str], now: datetime | None) -> Iterator[Moment]:
    for m in _DATE.finditer(text):
        day = m["day"] or m["day_after"]
        sure = m["month"] not in MONTHS_THAT_ARE_WORDS or m["lead"] or day or m["year"]
        if now is not None and m["lead"] == "last" and not (day or m["year"]):
            continue  # the year is known
        if sure and m["month"] not in names:
            yield _moment(MONTHS.index(m["month"]) + 1, m["year"], day)


def _seasons(text: str) -> Iterator[Moment]:
    for m in _SEASON.finditer(text):
        for month in SEASONS[m["season"]]:
            yield _moment(month, m["year"])


def _weekends(text: str) -> Iterator[Span]:
    for m in _WEEKEND.finditer(text):
        first = day_of(int(m["year"] or 0), MONTHS.index(m["month"]) + 1, 1)
        if first is not None:
            days = [first + timedelta(days=n) for n in range(31)]
            saturdays = [d for d in days if d.weekday() == 5 and d.month == first.month]
            saturday = saturdays[ORDINALS[m["which"]]]
            yield Span(saturday, saturday + timedelta(days=1))


def _relative(text: str, today: date) -> Iterator[Span]:
    for m in _NEAR_DAY.finditer(text):
        day = today - timedelta(days=bool(m["yesterday"]) + bool(m["before"]))
        yield Span(day, day)
    for m in _AGO.finditer(text):
        number = NUMBERS[m["number"]] if m["number"] in NUMBERS else int(m["number"])
        yield from _ago(today, number, m["unit"])
    for m in _LAST.finditer(text):
        yield from _last(today, m["unit"], back=m["which"] != "this")


def _ago(today: date, number: int, unit: str) -> Iterator[Span]:
    if unit in ("day", "week"):
        day = today - timedelta(days=number * (7 if unit == "week" else 1))
        slack = timedelta(days=3 if unit == "week" else 0)
        yield Span(day - slack, day + slack)
    elif unit == "month":
        yield from _month_of(today.year, today.month - number)
    else:
        yield from _year_of(today.year - number)


def _last(today: date, unit: str, *, back: bool) -> Iterator[Span]:
    monday = today - timedelta(days=today.weekday() + 7 * back)
    if unit == "night":
        day = today - timedelta(days=back)
        yield Span(day, day)
    elif unit == "week":
        yield Span(monday, monday + timedelta(days=6))
    elif unit == "weekend":
        yield Span(monday + timedelta(days=5), monday + timedelta(days=6))
    elif unit == "month":
        yield from _month_of(today.year, today.month - back)
    elif unit == "year":
        yield from _year_of(today.year - back)
    elif unit in WEEKDAYS:
        days = (today.weekday() - WEEKDAYS.index(unit)) % 7 or 7 * back
        day = today - timedelta(days=days)
        yield Span(day, day)
    else:
        yield from _latest(today, SEASONS.get(unit) or (MONTHS.index(unit) + 1,), back=back)


def _latest(today: date, months: tuple[int, ...], *, back: bool) -> Iterator[Span]:
    """These months of this year, or of the year before where they are not over."""
    year = today.year - (back and months[-1] >= today.month)
    for month in months:
        yield from _month_of(year, month)


def _month_of(year: int, month: int) -> Iterator[Span]:
    """A month; of 0 and less, those of the years before."""
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    first = day_of(year, month, 1)
    if first is not None:
        after = day_of(year + month // 12, month % 12 + 1, 1) or date.max
        yield Span(first, after - timedelta(days=1))


def _year_of(year: int) -> Iterator[Span]:
    first, last = day_of(year, 1, 1), day_of(year, 12, 31)
    if first is not None and last is not None:
        yield Span(first, last)
