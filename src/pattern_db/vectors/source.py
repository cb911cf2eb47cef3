"""Where an index gets its vectors from: the database, which alone is the truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import msgspec
import numpy as np

from ..embeddings.provider import Matrix, Vector

PAGE_ROWS = 4096

Row = tuple[int, str, bytes]
"""(row number, item id, float32 vector). Numbers ascend with time and are never used twice."""


class Scope(msgspec.Struct, frozen=True):
    """Whose vectors are searched together: one space, agent and kind."""

    space: int
    agent_id: str
    kind: str


class Source(Protocol):
    """The vectors of a database as one snapshot of it shows them."""

    def database_id(self) -> str:
        """What tells this database from every other one."""
        ...

    def newest(self) -> tuple[int, int]:
        """The largest number any row was given so far, and that of the newest logged removal.

        0 where there is none.
        """
        ...

    def rows(self, scope: Scope, after: int, limit: int) -> list[Row]:
        """The next rows of a scope by number."""
        ...

    def count(self, scope: Scope, up_to: int) -> int:
        """How many rows of a scope have at most this number."""
        ...

    def rows_numbered(self, scope: Scope, numbers: Sequence[int]) -> list[Row]:
        """Those of these rows that are still there and belong to the scope."""
        ...

    def rows_of(self, scope: Scope, items: Sequence[str]) -> list[Row]:
        """The rows of these items."""
        ...

    def removals(self, after: int) -> list[int]:
        """The numbers of the rows that the log of removals names after an entry."""
        ...

    def removed_among(self, numbers: Sequence[int]) -> set[int]:
        """Which of these rows the log of removed rows names."""
        ...


class Accepted(Protocol):
    """The items of a scope that a condition lets through."""

    def among(self, items: Sequence[str]) -> set[str]:
        """Those of these items."""
        ...

    def pages(self, after: int) -> Iterator[list[Row]]:
        """The rows of every one of them that come after a number, by number."""
        ...


def matrix_of(rows: Sequence[Row], dimensions: int) -> Matrix:
    """The vectors of some rows, one a line."""
    flat = np.frombuffer(b"".join(row[2] for row in rows), "<f4")
    return flat.reshape(len(rows), dimensions)


def pages(source: Source, scope: Scope, after: int = 0) -> Iterator[list[Row]]:
    """All rows of a scope after a number, a page at a time."""
    while page := source.rows(scope, after, PAGE_ROWS):
        yield page
        after = page[-1][0]


def best_items(
    scored: Iterable[tuple[str, float]], limit: int, hidden: Iterable[str] = ()
) -> list[tuple[str, float]]:
    """The best score of each item, best first; ``scored`` comes newest first, for ties."""
    left_out = set(hidden)
    best: dict[str, float] = {}
    for item, score in sorted(scored, key=lambda pair: -pair[1]):
        if item not in left_out:
            best.setdefault(item, score)
            if len(best) == limit:
                break
    return list(best.items())


def scored(rows: Sequence[Row], vector: Vector) -> list[tuple[str, float]]:
    """The items of some rows with their cosines, newest first."""
    if not rows:
        return []
    newest = sorted(rows, key=lambda row: -row[0])
    cosines = np.vecdot(matrix_of(newest, len(vector)), vector).tolist()
    return [(row[1], cosine) for row, cosine in zip(newest, cosines, strict=True)]
