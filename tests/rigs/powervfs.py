"""Power cuts: a VFS that records what SQLite writes, and the disks that a cut may leave behind.

A ``Recorder`` is a VFS over the default one. It logs each write, truncate, sync, creation and
delete in the order in which they take effect, and ``mark`` logs that something was acknowledged to
a caller. ``images`` then cuts the power at random points of the log. A disk holds after a cut:

- what was synced before it. A sync of a file covers what was written to it and its name; a sync of
  a directory covers every creation, delete and rename in it. As in SQLite's unix VFS the first sync
  of a new journal or WAL syncs the directory too;
- a random part of everything else, done in order: none, all, or each with some probability. A write
  that is not kept whole may be torn: each of its 512-byte sectors is kept or not for itself;
- no ``-shm``: it is shared memory and never passes through a VFS.

The oracle: what was marked before the cut is there, and ``PRAGMA integrity_check`` says ``ok``.

    recorder = Recorder()
    store = open_store(path, vfs=recorder.name)
    for key in keys:
        await store.put(key)
        recorder.mark(key)
    for image in images(recorder, 1000, seed=7):
        with tempfile.TemporaryDirectory() as place:
            assert set(image.marks) <= keys_in(write_image(image, place)[path])

Files that SQLite does not write go through the same log by calling ``created``, ``written``,
``synced``, ``renamed`` and ``directory_synced`` where the code under test does that.

To record an encrypted database open it with ``vfs="multipleciphers-" + recorder.name``: encryption
then lies above this VFS, and the images hold ciphertext. Syncs do not reach the real disk.
"""

# ruff: noqa: N802 - SQLite names the methods of a VFS

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import apsw

from .powerdisk import Disk, Event, Image, write_image

__all__ = ["Image", "Recorder", "images", "write_image"]

_JOURNALS = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL

_serial = itertools.count(1)
_registered: list[apsw.VFS] = []
"""Every VFS made here, for ever: SQLite3 Multiple Ciphers keeps pointers to those it wraps."""


class Recorder:
    """A VFS called ``name`` and the log of what was done through it, from any number of threads.

    A file that exists when it is first opened counts as synced; open it nowhere else meanwhile.
    """

    def __init__(self, name: str | None = None, *, base: str = "") -> None:
        self.name = name or f"power-{next(_serial)}"
        if self.name in apsw.vfs_names():
            raise ValueError(f"A VFS called {self.name} exists.")
        self.log: list[Event] = []
        self.lock = threading.RLock()
        self._inodes: dict[str, int] = {}
        self._vfs = _RecordingVFS(self, base)
        _registered.append(self._vfs)

    def close(self) -> None:
        """Forget the log, which is large; call it when no connection is left."""
        self._vfs.unregister()
        self.log = []

    def mark(self, tag: Hashable) -> None:
        """Note that ``tag`` was acknowledged: no cut from here on may lose it."""
        self.log.append(("mark", tag))

    def found(self, path: str) -> bytes | None:
        """What a file holds that the log does not know yet; ``None`` if it knows or none exists."""
        known = path in self._inodes or not os.path.exists(path)
        return None if known else Path(path).read_bytes()

    def created(self, path: str, found: bytes | None = None) -> int:
        """The number that stands for the file at ``path``; ``found``: what a synced one holds."""
        with self.lock:
            if path not in self._inodes:
                inode = self._inodes[path] = next(_serial)
                new = ("link", path, inode)
                self.log.append(new if found is None else ("found", path, inode, found))
            return self._inodes[path]

    def written(self, inode: int, data: bytes, offset: int) -> None:
        self.log.append(("write", inode, offset, data))

    def truncated(self, inode: int, size: int) -> None:
        self.log.append(("truncate", inode, size))

    def synced(self, inode: int) -> None:
        self.log.append(("sync", inode))

    def deleted(self, path: str, *, durably: bool = False) -> None:
        with self.lock:
            self._inodes.pop(path, None)
            self.log.append(("unlink", path))
            if durably:
                self.directory_synced(os.path.dirname(path))

    def renamed(self, source: str, target: str) -> None:
        with self.lock:
            self._inodes[target] = self._inodes.pop(source)
            self.log.append(("rename", source, target))

    def directory_synced(self, directory: str) -> None:
        self.log.append(("syncdir", directory))


class _RecordingVFS(apsw.VFS):
    def __init__(self, recorder: Recorder, base: str) -> None:
        super().__init__(recorder.name, base)
        self._recorder = recorder
        self._base = base

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        if name is None or flags[0] & apsw.SQLITE_OPEN_DELETEONCLOSE:
            return apsw.VFSFile(self._base, name, flags)
        return _RecordingFile(self._recorder, self._base, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self._recorder.deleted(filename, durably=syncdir)


class _RecordingFile(apsw.VFSFile):
    def __init__(
        self, recorder: Recorder, base: str, name: str | apsw.URIFilename, flags: list[int]
    ) -> None:
        path = name if isinstance(name, str) else name.filename()
        wanted = flags[0]
        with recorder.lock:
            found = recorder.found(path)
            super().__init__(base, name, flags)
            self._inode = recorder.created(path, found)
        self._recorder = recorder
        journal = wanted & _JOURNALS and wanted & apsw.SQLITE_OPEN_CREATE
        self._unsynced_directory = os.path.dirname(path) if journal else ""

    def xWrite(self, data: Any, offset: int) -> None:
        super().xWrite(data, offset)
        self._recorder.written(self._inode, bytes(data), offset)

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._recorder.truncated(self._inode, newsize)

    def xSync(self, flags: int) -> None:
        self._recorder.synced(self._inode)
        if self._unsynced_directory:
            self._recorder.directory_synced(self._unsynced_directory)
            self._unsynced_directory = ""


def images(recorder: Recorder, count: int, seed: int) -> Iterator[Image]:
    """``count`` disks, each after a cut at a random point of the log, in the order of the cuts."""
    rng = random.Random(seed)
    log = list(recorder.log)
    disk, done = Disk(), 0
    marks: list[Hashable] = []
    for cut in sorted(rng.randint(0, len(log)) for _ in range(count)):
        for event in log[done:cut]:
            if event[0] == "mark":
                marks.append(event[1])
            else:
                disk.do(event)
        done = cut
        yield Image(tuple(marks), disk.after_a_cut(rng))
