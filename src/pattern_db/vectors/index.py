"""The vectors of one database, searched in this process.

A small scope is held in memory and searched exactly. A large one is a segment and a tail: the rows
since the segment, in memory too, or read from the database for each search while they are too many
to hold. The tail is brought up to the snapshot that a search sees, and what the segment finds is
confirmed by that snapshot: a committed write is found by the next search, and a removed row never,
whichever process wrote or removed it.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from hashlib import blake2b
from pathlib import Path

from ..embeddings.provider import Vector
from . import scope as scopes
from .building import Builder, Stopped
from .locking import Alone, dismiss_builder, only_builder
from .scope import Found, ScopeIndex, exact_rows
from .segment import Header, Segment, header_of, open_segment
from .source import Accepted, Scope, Source

log = logging.getLogger("pattern_db.vectors")

PUBLISHED_GROWTH = 1.5
"""While a large segment is made it is used whenever it has grown so much."""
_PAUSE_S, _PAUSE_AFTER_FAILURE_S = 5.0, 60.0

Tell = Callable[[int], None]
Connect = Callable[[], AbstractContextManager[Source]]


def _untold(_rows: int) -> None:
    pass


class VectorIndex:
    """The indexes of one database. ``connect`` opens a source of its own for the background.

    Segments live in ``folder``; with ``None`` they are kept in memory and lost at the end.
    """

    def __init__(self, connect: Connect, folder: Path | None):
        self._connect = connect
        self._folder = folder
        self._scopes: OrderedDict[tuple[Scope, int], ScopeIndex] = OrderedDict()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._one_build = threading.Lock()
        self._building: threading.Thread | None = None
        self._last_failure: str | None = None

    def search(
        self,
        source: Source,
        scope: Scope,
        vector: Vector,
        limit: int,
        *,
        accepted: Accepted | None = None,
        exclude: Sequence[str] = (),
        keep: bool = True,
    ) -> Found:
        """The nearest items with their exact cosines, best first.

        What the source shows may never be committed: then ``keep`` is false.
        """
        index = self._scope(scope, source, len(vector))
        found = index.search(source, vector, limit, accepted, exclude, keep=keep)
        self._trim(index)
        if keep and index.wants_segment:
            self._build_aside(index)
        return found

    def scores(
        self,
        source: Source,
        scope: Scope,
        vector: Vector,
        items: Sequence[str],
        *,
        keep: bool = True,
    ) -> dict[str, float]:
        """The cosine of each of these items that is in the scope."""
        return self._scope(scope, source, len(vector)).scores(source, vector, items, keep=keep)

    def is_at_hand(self, source: Source, scopes: Sequence[Scope], dimensions: int) -> bool:
        """Whether a search of all these scopes reads nothing and compares few rows."""
        with self._lock:
            indexes = [self._scopes.get((scope, dimensions)) for scope in scopes]
        newest, rows = source.newest(), 0
        for index in indexes:
            held = None if index is None else index.rows_at_hand(newest)
            if held is None:
                return False
            rows += held
        return rows <= exact_rows(dimensions)

    def build(self, scope: Scope, dimensions: int, tell: Tell = _untold) -> None:
        """Bring the segment of a scope up to date now, where it is large enough for one.

        ``tell`` is called with the number of rows that are in it so far. While another process
        builds, what that has made is used. Raises ``OSError`` if it cannot be written.
        """
        with self._one_build:
            if self._closing.is_set():
                return
            with self._connect() as source:
                self._build(self._scope(scope, source, dimensions), source, tell, forced=True)

    def wait(self) -> None:
        """Wait for what is being built in the background."""
        if (building := self._building) is not None:
            building.join()

    def close(self) -> None:
        """Stop building; what was not in use yet is given up."""
        self._closing.set()
        self.wait()
        with self._one_build:
            self._scopes.clear()

    def sweep(self, *, whole: bool = False) -> None:
        """Forget scopes that have no rows any more; remove their files, and damaged ones.

        With ``whole`` also segments that still hold a removed row, and those that are being made.
        """
        filed = self._folder is not None and self._folder.is_dir()
        if not filed and not self._scopes:
            return
        with self._connect() as source:
            self._forget(source, whole=whole)
            self._sweep_files(source, whole=whole)
            if whole and self._folder is not None:
                dismiss_builder(self._folder)  # it may have begun with a file that is gone now
                self._sweep_files(source, whole=whole)

    def _forget(self, source: Source, *, whole: bool) -> None:
        with self._lock:
            scopes = list(self._scopes.items())
        for key, index in scopes:
            segment = index.segment
            removed = whole and segment is not None and not _is_whole(segment.header, source)
            if removed or not source.rows(index.scope, 0, 1):
                with self._lock:
                    self._scopes.pop(key, None)

    def _sweep_files(self, source: Source, *, whole: bool) -> None:
        if self._folder is None or not self._folder.is_dir():
            return
        for path in self._folder.glob("*.segment"):
            if not _is_wanted(header_of(path), source, whole=whole):
                with suppress(OSError):  # one that cannot be removed is never used either
                    path.unlink()
        if any(self._folder.glob("*.new")):
            with suppress(OSError), only_builder(self._folder) as alone:
                if alone():
                    _remove_leftovers(self._folder)

    # the scopes

    def _scope(self, scope: Scope, source: Source, dimensions: int) -> ScopeIndex:
        with self._lock:
            index = self._scopes.get((scope, dimensions))
            if index is not None:
                self._scopes.move_to_end((scope, dimensions))
                return index
        segment = None
        if self._folder is not None:
            segment = open_segment(self._path(scope), source, scope, dimensions)
        with self._lock:
            made = ScopeIndex(scope, dimensions, segment)
            return self._scopes.setdefault((scope, dimensions), made)

    def _path(self, scope: Scope) -> Path:
        assert self._folder is not None
        agent = blake2b(scope.agent_id.encode(), digest_size=12).hexdigest()
        return self._folder / f"{scope.space}-{scope.kind}-{agent}.segment"

    def _trim(self, newest: ScopeIndex) -> None:
        """Keep what is held within bounds, giving up the scopes that were searched longest ago."""
        with self._lock:
            held = sum(index.held_bytes for index in self._scopes.values())
            for index in self._scopes.values():
                if held <= scopes.HELD_BYTES:
                    break
                if index is not newest:
                    held -= index.held_bytes
                    index.release()

    # building

    def _build_aside(self, index: ScopeIndex) -> None:
        with self._lock:
            busy = self._building is not None and self._building.is_alive()
            if self._closing.is_set() or busy or time.monotonic() < index.build_after:
                return
            self._building = threading.Thread(
                target=self._build_quietly, args=(index,), name="pattern-db-vectors", daemon=True
            )
            self._building.start()

    def _build_quietly(self, index: ScopeIndex) -> None:
        _be_nice()
        index.build_after = time.monotonic() + _PAUSE_S
        try:
            with self._one_build, self._connect() as source:
                self._build(index, source)
        except Exception as error:  # searches are right without it, if slower
            index.build_after = time.monotonic() + _PAUSE_AFTER_FAILURE_S
            self._warn(f"{error}")
        else:
            self._last_failure = None

    def _warn(self, failure: str) -> None:
        """Say what went wrong, and not again at every attempt."""
        if failure != self._last_failure:
            self._last_failure = failure
            log.warning("a vector segment could not be made; it is tried again later: %s", failure)

    def _build(
        self, index: ScopeIndex, source: Source, tell: Tell = _untold, *, forced: bool = False
    ) -> None:
        if self._folder is None:
            self._grow(index, source, tell, lambda: True, forced=forced)
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with only_builder(self._folder) as alone:
            self._adopt_file(index, source)
            if alone():  # else another process builds: its segment is adopted at the next look
                _remove_leftovers(self._folder)
                self._grow(index, source, tell, alone, forced=forced)

    def _adopt_file(self, index: ScopeIndex, source: Source) -> None:
        """Use a newer segment that another process made."""
        path, mine = self._path(index.scope), index.segment
        theirs = header_of(path)
        if theirs is None or (mine is not None and not _is_newer(theirs, mine.header)):
            return
        found = open_segment(path, source, index.scope, index.dimensions)
        if found is not None:
            index.adopt(found)

    def _grow(
        self, index: ScopeIndex, source: Source, tell: Tell, alone: Alone, *, forced: bool
    ) -> None:
        """Add the rows that are in no segment yet; one of too many removed rows is made anew."""

        def stopped() -> bool:
            return self._closing.is_set() or not alone()

        old = index.segment
        if old is not None and (self._is_unsafe(old) or _is_worn(old, source)):
            old = None
        elif old is not None and not index.has_more(source, forced=forced):
            return
        threads = 0 if forced else 1
        builder = Builder(source, index.scope, index.dimensions, old, threads)
        published, least = len(builder), exact_rows(index.dimensions)
        while builder.add_page(stopped):
            tell(len(builder))
            if len(builder) >= max(PUBLISHED_GROWTH * published, least):
                published = len(builder)
                self._publish(builder, index, source, stopped, alone)
        if stopped():
            return
        if len(builder) < least:
            self._drop(index)
        elif len(builder) > published:
            self._publish(builder, index, source, stopped, alone)

    def _is_unsafe(self, segment: Segment) -> bool:
        """Whether it must not be built upon: its file was swept, or not all of it is proved."""
        if segment.covered < segment.header.last_row:
            return True
        scope = segment.header.scope
        return self._folder is not None and header_of(self._path(scope)) != segment.header

    def _publish(
        self, builder: Builder, index: ScopeIndex, source: Source, stopped: Stopped, alone: Alone
    ) -> None:
        """Use what was built so far from now on."""
        segment = builder.finish(stopped, copy=self._folder is None)
        if segment is not None and self._folder is not None:
            segment = self._filed(segment, source, alone)
        if segment is not None:
            index.adopt(segment)

    def _filed(self, segment: Segment, source: Source, alone: Alone) -> Segment | None:
        """The segment from its file; ``None`` if it is not wanted any more.

        That is looked at when the file is in place: who sweeps after that finds it there.
        """
        scope, path = segment.header.scope, self._path(segment.header.scope)
        segment.save(path)
        if not alone() or not source.rows(scope, 0, 1):
            path.unlink(missing_ok=True)
            return None
        found = open_segment(path, source, scope, segment.header.dimensions)
        if found is None:
            raise OSError("what was written cannot be read again")
        return found

    def _drop(self, index: ScopeIndex) -> None:
        """Search a scope that has become small exactly."""
        if self._folder is not None:
            self._path(index.scope).unlink(missing_ok=True)
        index.adopt(None)


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed builders left; only for who builds alone."""
    for path in folder.glob("*.new"):
        path.unlink(missing_ok=True)


def _is_wanted(header: Header | None, source: Source, *, whole: bool) -> bool:
    if header is None or header.database_id != source.database_id():
        return False
    return bool(source.rows(header.scope, 0, 1)) and (not whole or _is_whole(header, source))


def _is_whole(header: Header, source: Source) -> bool:
    """Whether no row of a segment was removed since it was made."""
    return source.count(header.scope, header.last_row) == header.count


def _is_newer(theirs: Header, mine: Header) -> bool:
    """Whether a segment covers more, or as much with fewer removed rows."""
    return (theirs.last_row, -theirs.count) > (mine.last_row, -mine.count)


def _is_worn(segment: Segment, source: Source) -> bool:
    """Whether too much of a segment was removed since it was made."""
    alive = source.count(segment.header.scope, segment.header.last_row)
    return alive < (1 - scopes.DEAD_SHARE) * len(segment)


def _be_nice() -> None:
    """Let searches go first: this thread only takes what they leave."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
