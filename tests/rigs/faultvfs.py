"""Failing calls: a VFS whose n-th write, sync, truncate, read, open or delete raises an error.

SQLite's own discipline: fail the first call, then the second, and so on until the operation under
test goes through without meeting the fault; each once (a hiccup) and from there on (a dead disk).

    faults = FaultVFS()
    for fault in each_nth(faults, Fault("write", error=apsw.FullError, forever=True)):
        store = fresh_store(vfs=faults.name)
        with faults.armed(fault):
            ...  # either it works or it raises our typed error
        ...      # all or nothing; not corrupt; the next write works

SQLite goes on when a checkpoint after a commit or at close fails, and says nothing. apsw raises the
error all the same, when the statement has taken effect or the connection is closed: so an error here
means all *or* nothing, and what was not raised did happen. ``suffix="-wal"`` spares checkpoints.

``FaultVFS(base=recorder.name)`` lies over a ``powervfs.Recorder``: faults and power cuts together.
Syncs go to a base that is named, not to the disk: nothing here is about power.
"""

# ruff: noqa: N802 - SQLite names the methods of a VFS

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import apsw

Operation = Literal["write", "sync", "truncate", "read", "open", "delete"]

IO_ERRORS: dict[str, int] = {
    "write": apsw.SQLITE_IOERR_WRITE,
    "sync": apsw.SQLITE_IOERR_FSYNC,
    "truncate": apsw.SQLITE_IOERR_TRUNCATE,
    "read": apsw.SQLITE_IOERR_READ,
    "open": apsw.SQLITE_CANTOPEN,
    "delete": apsw.SQLITE_IOERR_DELETE,
}
"""The extended code that SQLite's own VFS gives for each operation when the disk fails."""

_serial = itertools.count(1)
_registered: list[apsw.VFS] = []
"""Every VFS made here, for ever: SQLite3 Multiple Ciphers keeps pointers to those it wraps."""


@dataclass(frozen=True)
class Fault:
    """Which calls fail: the ``nth`` (the next is 1), and all later ones if ``forever``.

    Only calls on files whose path ends in ``suffix`` count (``"-wal"``). A failing write that is
    ``short`` still writes its first half.
    """

    operation: Operation
    nth: int = 1
    error: type[apsw.Error] = apsw.IOError
    forever: bool = False
    suffix: str = ""
    short: bool = False

    def exception(self) -> BaseException:
        if self.error is apsw.IOError:
            return apsw.exception_for(IO_ERRORS[self.operation])
        return self.error(f"injected into {self.operation} {self.nth}")


class FaultVFS:
    """A VFS called ``name`` that counts calls and fails on demand, from any number of threads.

    ``counts`` holds the calls per operation since the last ``arm`` or ``reset``, ``fired`` how
    many of them failed. Unarmed it only counts.
    """

    def __init__(self, name: str | None = None, *, base: str = "") -> None:
        self.name = name or f"fault-{next(_serial)}"
        if self.name in apsw.vfs_names():
            raise ValueError(f"A VFS called {self.name} exists; give each its own name.")
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self.reset()
        _registered.append(_CountingVFS(self, base))

    def arm(self, fault: Fault) -> None:
        """Count from zero, and fail as the fault says."""
        with self._lock:
            self.reset()
            self._fault = fault

    def disarm(self) -> None:
        """Fail no more; ``counts`` and ``fired`` stay as they are."""
        self._fault = None

    @contextmanager
    def armed(self, fault: Fault) -> Iterator[None]:
        """Armed inside the ``with`` block only."""
        self.arm(fault)
        try:
            yield
        finally:
            self.disarm()

    def reset(self) -> None:
        """Count from zero again."""
        self.counts: Counter[str] = Counter()
        self.fired = 0
        self._seen = 0

    def meet(self, operation: Operation, path: str) -> Fault | None:
        """Count a call, and return the fault if this call must fail. The VFS calls this."""
        with self._lock:
            self.counts[operation] += 1
            fault = self._fault
            if fault is None or operation != fault.operation or not path.endswith(fault.suffix):
                return None
            self._seen += 1
            if self._seen < fault.nth or (self._seen > fault.nth and not fault.forever):
                return None
            self.fired += 1
            return fault


def each_nth(faults: FaultVFS, fault: Fault, *, step: int = 1) -> Iterator[Fault]:
    """The fault at its n-th call, then ``step`` calls later, and so on until it does not fire.

    The last round, whose fault did not fire, must succeed. Arm each exactly once.
    """
    for nth in itertools.count(fault.nth, step):
        faults.reset()
        yield replace(fault, nth=nth)
        if not faults.fired:
            return


class _CountingVFS(apsw.VFS):
    def __init__(self, faults: FaultVFS, base: str) -> None:
        super().__init__(faults.name, base)
        self._faults = faults
        self._base = base

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = "" if name is None else name if isinstance(name, str) else name.filename()
        if fault := self._faults.meet("open", path):
            raise fault.exception()
        return _CountingFile(self._faults, path, self._base, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if fault := self._faults.meet("delete", filename):
            raise fault.exception()
        super().xDelete(filename, syncdir)


class _CountingFile(apsw.VFSFile):
    def __init__(
        self,
        faults: FaultVFS,
        path: str,
        base: str,
        name: str | apsw.URIFilename | None,
        flags: list[int],
    ) -> None:
        super().__init__(base, name, flags)
        self._faults = faults
        self._path = path
        self._base = base

    def xWrite(self, data: Any, offset: int) -> None:
        if fault := self._faults.meet("write", self._path):
            if fault.short:
                super().xWrite(bytes(data)[: len(data) // 2], offset)
            raise fault.exception()
        super().xWrite(data, offset)

    def xRead(self, amount: int, offset: int) -> bytes:
        if fault := self._faults.meet("read", self._path):
            raise fault.exception()
        return super().xRead(amount, offset)

    def xTruncate(self, newsize: int) -> None:
        if fault := self._faults.meet("truncate", self._path):
            raise fault.exception()
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        if fault := self._faults.meet("sync", self._path):
            raise fault.exception()
        if self._base:
            super().xSync(flags)
