"""Making segments: from the rows of a scope, or from an older segment and the rows since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .calibration import SAMPLES, Calibration
from .segment import Header, Segment, Witness, new_index, quantized, witness_of
from .source import PAGE_ROWS, Row, Scope, Source, matrix_of, pages

_ADD_ROWS = 512
"""Rows added between two looks at whether to stop: a quarter of a second, at worst."""
_PAGE_WITNESSES, _LAST_WITNESSES = 32, 16

Stopped = Callable[[], bool]


class Builder:
    """Adds the rows of a scope to an index, to be finished into segments now and then.

    It takes so many threads; 0 is one for each processor.
    """

    def __init__(
        self, source: Source, scope: Scope, dimensions: int, old: Segment | None, threads: int
    ):
        self._source = source
        self._threads = threads
        self._scope = scope
        self._dimensions = dimensions
        self._index: Any = old.editable() if old is not None else new_index(dimensions)
        self.last_row = old.header.last_row if old is not None else 0

    def __len__(self) -> int:
        return len(self._index)

    def add_page(self, stopped: Stopped) -> bool:
        """Add the next rows; false if there were none, or if it was told to stop."""
        page = self._source.rows(self._scope, self.last_row, PAGE_ROWS)
        for start in range(0, len(page), _ADD_ROWS):
            if stopped():
                return False
            self._add(page[start : start + _ADD_ROWS])
        return bool(page)

    def _add(self, rows: list[Row]) -> None:
        numbers = np.array([row[0] for row in rows], np.uint64)
        vectors = quantized(matrix_of(rows, self._dimensions))
        self._index.add(numbers, vectors, threads=self._threads)
        self.last_row = rows[-1][0]

    def finish(self, stopped: Stopped, *, copy: bool) -> Segment | None:
        """The segment of what was added so far; a copy stays as it is when more is added.

        ``None`` if it was told to stop.
        """
        survey = self._survey(stopped)
        if survey is None:
            return None
        header = Header(
            database_id=self._source.database_id(),
            scope=self._scope,
            dimensions=self._dimensions,
            last_row=self.last_row,
            count=len(self._index),
            expansion=survey.calibration.expansion(self._index),
            error=survey.calibration.error(self._index),
            witnesses=survey.witnesses,
        )
        return Segment(header, self._index.copy() if copy else self._index)

    def _survey(self, stopped: Stopped) -> _Survey | None:
        """Look at every row once more, unless told to stop."""
        survey = _Survey(self._sampled())
        for page in pages(self._source, self._scope):
            if stopped():
                return None
            seen = [row for row in page if row[0] <= self.last_row]
            survey.see(seen, self._dimensions)
            if len(seen) < len(page):
                break
        return survey

    def _sampled(self) -> Calibration:
        """Questions near rows from all over the scope."""
        starts = np.linspace(0, max(self.last_row - 1, 0), SAMPLES, dtype=np.int64)
        rows = [self._source.rows(self._scope, int(start), 1) for start in starts]
        return Calibration(matrix_of([row[0] for row in rows if row], self._dimensions))


class _Survey:
    def __init__(self, calibration: Calibration):
        self.calibration = calibration
        self._firsts: list[Witness] = []
        self._lasts: list[Witness] = []

    def see(self, page: list[Row], dimensions: int) -> None:
        if not page:
            return
        numbers = np.array([row[0] for row in page], np.uint64)
        self.calibration.see(numbers, matrix_of(page, dimensions))
        self._firsts.append(witness_of(page[0]))
        lasts = [witness_of(row) for row in page[-_LAST_WITNESSES:]]
        self._lasts = [*self._lasts, *lasts][-_LAST_WITNESSES:]

    @property
    def witnesses(self) -> list[Witness]:
        """A few rows from all over, and the newest."""
        step = max(1, len(self._firsts) // _PAGE_WITNESSES)
        return sorted({*self._firsts[::step], *self._lasts})
