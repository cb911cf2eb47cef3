"""One scope of vectors: a segment, if it is large, and a tail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from ..embeddings.provider import Vector
from .calibration import SLACK
from .exact import ExactIndex
from .segment import Segment
from .source import Accepted, Row, Scope, Source, best_items, pages, scored

EXACT_ROWS = 20_000
"""Scopes of fewer rows than this are searched exactly."""
TAIL_SHARE = 0.25
"""A tail of more than this share of its segment goes into a new one."""
HELD_BYTES = 256 << 20
"""What the vectors held in memory may take, of all scopes; half of it for one."""
MOST_COMPARED = 4096
"""More rows than this are not asked of a segment: few meet the condition then, and those few are
searched exactly."""
DEAD_SHARE = 0.25
"""A segment of which more than this was removed is made anew."""

Found = list[tuple[str, float]]


def exact_rows(dimensions: int) -> int:
    """A scope of this many rows or more is worth a segment."""
    return min(EXACT_ROWS, _most_held(dimensions) // 2)


def _most_held(dimensions: int) -> int:
    """How many rows of a scope may be held in memory."""
    return HELD_BYTES // 2 // (4 * dimensions)


class ScopeIndex:
    """One scope: its segment, if it has one, and its tail."""

    def __init__(self, scope: Scope, dimensions: int, segment: Segment | None):
        self.scope = scope
        self.dimensions = dimensions
        self.segment = segment
        self.build_after = 0.0
        self._lock = threading.Lock()
        self._tail = self._new_tail()
        self._too_long = False
        self._worn = False

    @property
    def covered(self) -> int:
        """The last row that is known to be in the segment."""
        return self.segment.covered if self.segment is not None else 0

    @property
    def held_bytes(self) -> int:
        """What the tail takes in memory."""
        return self._tail.held_bytes

    @property
    def wants_segment(self) -> bool:
        """Whether the tail has grown too long, or the segment holds too much that is gone."""
        size = len(self.segment) if self.segment is not None else 0
        longest = max(exact_rows(self.dimensions), TAIL_SHARE * size)
        longest = min(longest, _most_held(self.dimensions) // 2)
        return self._too_long or self._worn or len(self._tail) > longest

    def has_more(self, source: Source, *, forced: bool) -> bool:
        """Whether rows have to be added to the segment, which is not worn as it turned out."""
        self._worn = False
        if not source.rows(self.scope, self.covered, 1):
            self.release()
            return False
        return forced or self.wants_segment

    def adopt(self, segment: Segment | None) -> None:
        """Use another segment, or none, from now on."""
        with self._lock:
            self.segment = segment
            self._reset()

    def release(self) -> None:
        """Give back the memory of the tail, unless it is in use; the next search reads it again."""
        if self._lock.acquire(blocking=False):
            try:
                self._reset()
            finally:
                self._lock.release()

    def _reset(self) -> None:
        self._tail = self._new_tail()
        self._too_long = self._worn = False

    def _new_tail(self) -> ExactIndex:
        return ExactIndex(self.dimensions, after=self.covered)

    def rows_at_hand(self, newest: tuple[int, int]) -> int | None:
        """How many rows a search compares, if they are all in memory up to the newest and nobody
        searches them."""
        if self.segment is not None or self._too_long or self._lock.locked():
            return None
        return len(self._tail) if self._tail.seen == newest else None

    def search(
        self,
        source: Source,
        vector: Vector,
        limit: int,
        accepted: Accepted | None,
        exclude: Sequence[str],
        *,
        keep: bool,
    ) -> Found:
        """See ``VectorIndex.search``."""
        passes = _Passing(accepted, exclude)
        with self._lock:
            tail = self._caught_up(source, keep=keep)
            parts = [
                passes.nearest(
                    lambda wanted: self._confirmed(source, vector, wanted, few=passes.all), limit
                ),
                passes.nearest(lambda wanted: tail.nearest(vector, wanted), limit)
                if tail is not None
                else passes.read(source, self.scope, self.covered, vector, limit),
            ]
        if any(part is None for part in parts):
            return passes.read(source, self.scope, 0, vector, limit)
        return best_items([hit for part in reversed(parts) for hit in part or ()], limit)

    def scores(
        self, source: Source, vector: Vector, items: Sequence[str], *, keep: bool
    ) -> dict[str, float]:
        """See ``VectorIndex.scores``."""
        with self._lock:
            tail = self._caught_up(source, keep=keep) if self.segment is None else None
            if tail is not None:
                return tail.scores(vector, items)
        rows = source.rows_of(self.scope, items)
        return dict(best_items(scored(rows, vector), len(items)))

    def _confirmed(
        self, source: Source, vector: Vector, wanted: int, *, few: bool
    ) -> tuple[Found, bool]:
        """The nearest of the segment that are still there, and whether that is all it has.

        With ``few`` no more than can be among those wanted, where each is another item's. A graph
        may not reach all it holds: nothing but having seen every row proves that.
        """
        if self.segment is None:
            return [], True
        numbers, nearest = self.segment.nearest(vector, wanted, SLACK)
        asked = numbers[:nearest] if few else numbers
        rows = source.rows_numbered(self.scope, asked)
        if len({item for _, item, _ in rows}) < len(asked) < len(numbers):
            rows += source.rows_numbered(self.scope, numbers[nearest:])
            asked = numbers
        self._worn = len(rows) < (1 - DEAD_SHARE) * len(asked)
        return scored(rows, vector), len(numbers) >= len(self.segment)

    def _caught_up(self, source: Source, *, keep: bool) -> ExactIndex | None:
        """The tail as the source shows it; ``None`` if it is too long to hold."""
        if self._too_long:
            return None
        tail = self._tail if keep else self._new_tail()
        newest = source.newest()
        if tail.seen is None:  # what goes from now on is in the log, should this reading fail
            tail.seen = (0, newest[1])
        if tail.seen == newest:
            return tail
        for page in pages(source, self.scope, tail.last_row):
            if tail.held_rows + len(page) > _most_held(self.dimensions):
                if keep:
                    self._too_long, self._tail = True, self._new_tail()
                return None
            tail.add(page)
        if tail.seen[1] < newest[1]:
            tail.remove(source.removals(tail.seen[1]))
        tail.seen = newest
        return tail


class _Passing:
    """What a search may find: what meets the condition and is not excluded."""

    def __init__(self, accepted: Accepted | None, exclude: Sequence[str]):
        self._accepted = accepted
        self._hidden = frozenset(exclude)
        self.all = accepted is None and not exclude

    def nearest(self, part: Callable[[int], tuple[Found, bool]], limit: int) -> Found | None:
        """The nearest of a part that pass; ``None`` if that would need too many of it."""
        wanted = limit + len(self._hidden)
        while True:
            found, exhausted = part(wanted)
            passing = best_items(self._kept(found), limit)
            if exhausted or len(passing) >= limit:
                return passing
            if wanted > MOST_COMPARED:
                return None
            wanted *= 4

    def _kept(self, found: Found) -> Found:
        kept = [hit for hit in found if hit[0] not in self._hidden]
        if self._accepted is None:
            return kept
        among = self._accepted.among([item for item, _ in kept])
        return [hit for hit in kept if hit[0] in among]

    def read(self, source: Source, scope: Scope, after: int, vector: Vector, limit: int) -> Found:
        """The nearest of all rows after a number, read from the database."""
        best: Found = []
        for page in self._pages(source, scope, after):
            kept = [row for row in page if row[1] not in self._hidden]
            best = best_items([*scored(kept, vector), *best], limit)
        return best

    def _pages(self, source: Source, scope: Scope, after: int) -> Iterator[list[Row]]:
        if self._accepted is None:
            return pages(source, scope, after)
        return self._accepted.pages(after)
