"""Where a text is cut so that each piece fits."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

Ranges = list[tuple[int, int]]
Splitter = Callable[[str], Ranges]

_SENTENCE_END = re.compile(r"""(?<=[.!?…])\s+|(?<=[.!?…]["')\]”’»])\s+|(?<=[。！？\n])""")
_WORD_START = re.compile(r"(?<=\s)(?=\S)")
_WORD_BORDER = re.compile(r"\b")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Units(NamedTuple):
    """A text as things that are never cut: characters, or words."""

    starts: Sequence[int]
    """The character at which each unit begins, ascending."""

    spent: Sequence[int]
    """The size of all units up to the end of each one, ascending."""

    @property
    def size(self) -> int:
        """The size of the whole text."""
        return self.spent[-1] if self.spent else 0

    def before(self, unit: int) -> int:
        """The size of all units before this one."""
        return self.spent[unit - 1] if unit else 0

    def within(self, size: int) -> int:
        """The number of units, from the first, that have room in this size."""
        return bisect_right(self.spent, size)

    def at(self, position: int) -> int:
        """The first unit that begins at this character or after it."""
        return bisect_left(self.starts, position)


def divide(text: str, units: Units, window: int) -> Ranges:
    """Cut between units into pieces of about equal size, none above ``window``.

    A cut falls after a sentence if one ends near the even share, else after white space, else at a
    word's border, else between any two units. The time is linear in the text.
    """
    return list(pairwise([0, *_cuts(text, units, window), len(text)]))


def _cuts(text: str, units: Units, window: int) -> Iterator[int]:
    first = 0
    while (left := units.size - units.before(first)) > window:
        first = _next_piece(text, units, first, share=-(-left // -(-left // window)), window=window)
        yield units.starts[first]


def _next_piece(text: str, units: Units, first: int, *, share: int, window: int) -> int:
    spent = units.before(first)
    low = max(units.within(spent + share // 2), first + 1)
    high = max(units.within(spent + window), low)
    aim = min(max(units.within(spent + share), low), high)
    border = _border(text, units.starts[low], units.starts[aim], units.starts[high])
    return min(max(units.at(border), low), high)


def _border(text: str, low: int, aim: int, high: int) -> int:
    for kind in (_SENTENCE_END, _WORD_START, _WORD_BORDER):
        ends = [match.end() for match in kind.finditer(text, low, high)]
        if ends:
            return min(ends, key=lambda end: abs(end - aim))
    return aim


def split_text(text: str, max_chars: int) -> Ranges:
    """Ranges of at most ``max_chars`` characters that together cover the text."""
    return divide(text, Units(range(len(text)), range(1, len(text) + 1)), max_chars)


def fits(text: str, window: int) -> bool:
    """Whether a text surely has no more tokens than this: none is shorter than a byte of UTF-8."""
    return len(text) <= window and len(text.encode("utf-8", "surrogatepass")) <= window


def by_bytes(window: int) -> Splitter:
    """Pieces of at most ``window`` bytes of UTF-8, and so of at most as many tokens.

    The bound holds for every tokenizer over bytes, WordPiece, or SentencePiece with byte fallback;
    English text has about four times fewer tokens than bytes.
    """

    def split(text: str) -> Ranges:
        return [(0, len(text))] if fits(text, window) else divide(text, _characters(text), window)

    return split


def _characters(text: str) -> Units:
    if text.isascii():
        return Units(range(len(text)), range(1, len(text) + 1))
    sizes = (1 + (c > "\x7f") + (c > "\u07ff") + (c > "\uffff") for c in text)
    return Units(range(len(text)), list(accumulate(sizes)))


def well_formed(text: str) -> str:
    """The text with lone surrogates, which no tokenizer or server takes, as U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
