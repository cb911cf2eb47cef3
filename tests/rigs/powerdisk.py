"""The disk of ``powervfs``: what is durable, what is not yet, and what a power cut makes of both."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

SECTOR_BYTES = 512

Event = tuple[Any, ...]
"""What was done, in the order in which it took effect:

``("found", path, inode, content)``  a file was there before, and durable
``("link", path, inode)``            a new and empty file got a name
``("unlink", path)``, ``("rename", source, target)``
``("write", inode, offset, data)``, ``("truncate", inode, size)``
``("sync", inode)``, ``("syncdir", directory)``

An inode stands for a file whatever its name; it is never used again.
"""


class Image(NamedTuple):
    """One disk after one cut: the marks made before it, and the files by their original path."""

    marks: tuple[Hashable, ...]
    files: dict[str, bytes]


def write_image(
    image: Image, directory: str | Path, *, root: str | Path | None = None
) -> dict[str, Path]:
    """Write the files into an empty directory; returns where each original path now is.

    They lie side by side, or as they did under ``root`` if it is given.
    """
    places = {
        path: Path(directory, os.path.relpath(path, root) if root else Path(path).name)
        for path in image.files
    }
    if len(set(places.values())) < len(places) or any(Path(directory).iterdir()):
        raise ValueError("The directory is not empty, or two files have one name: give the root.")
    for path, place in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(image.files[path])
    return places


class Disk:
    """The durable names and contents, and the events since that no sync has covered."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._data: dict[int, bytearray] = {}
        self._pending: list[Event] = []

    def do(self, event: Event) -> None:
        match event:
            case ("found", path, inode, content):
                self._names[path] = inode
                self._data[inode] = bytearray(content)
            case ("sync", inode):
                self._sync(inode)
            case ("syncdir", directory):
                self._settle(lambda event: directory in _directories(event))
            case _:
                self._pending.append(event)

    def _sync(self, inode: int) -> None:
        """A synced file keeps its first name too, and so all that happened to that name before."""
        links = [event for event in self._pending if event[0] == "link" and event[2] == inode]
        for link in links:
            before = self._pending[: self._pending.index(link) + 1]
            named = {id(event) for event in before if link[1] in _paths(event)}
            self._settle(lambda event, named=named: id(event) in named)  # type: ignore[misc]
        self._settle(lambda event: event[0] in ("write", "truncate") and event[1] == inode)

    def _settle(self, covered: Callable[[Event], bool]) -> None:
        """Make durable, in order, each event that is covered."""
        waiting = []
        for event in self._pending:
            if covered(event):
                _apply(event, self._names, self._data)
            else:
                waiting.append(event)
        self._pending = waiting

    def after_a_cut(self, rng: random.Random) -> dict[str, bytes]:
        """The files by path: everything durable and a random part of the rest."""
        whole, torn = rng.choice([(0.0, 0.0), (1.0, 0.0), (rng.random(), rng.random())])
        names = dict(self._names)
        touched = {event[1] for event in self._pending if event[0] in ("write", "truncate")}
        data = {
            inode: bytearray(content) if inode in touched else content
            for inode, content in self._data.items()
        }
        for event in self._pending:
            if rng.random() < whole:
                _apply(event, names, data)
            elif event[0] == "write" and rng.random() < torn:
                for sector in _sectors(event):
                    if rng.random() < 0.5:
                        _apply(sector, names, data)
        return {path: bytes(data.get(inode, b"")) for path, inode in names.items()}


def _paths(event: Event) -> tuple[str, ...]:
    match event:
        case ("link", path, _) | ("unlink", path):
            return (path,)
        case ("rename", source, target):
            return (source, target)
    return ()


def _directories(event: Event) -> set[str]:
    return {os.path.dirname(path) for path in _paths(event)}


def _sectors(event: Event) -> Iterator[Event]:
    """The write cut at the sector boundaries of the file."""
    _, inode, offset, data = event
    start = 0
    while start < len(data):
        end = start + SECTOR_BYTES - (offset + start) % SECTOR_BYTES
        yield ("write", inode, offset + start, data[start:end])
        start = end


def _apply(event: Event, names: dict[str, int], data: dict[int, bytearray]) -> None:
    match event:
        case ("link", path, inode):
            names[path] = inode
        case ("unlink", path):
            names.pop(path, None)
        case ("rename", source, target):
            if source in names:
                names[target] = names.pop(source)
        case ("write", inode, offset, written):
            content = data.setdefault(inode, bytearray())
            _resize(content, max(len(content), offset))
            content[offset : offset + len(written)] = written
        case ("truncate", inode, size):
            _resize(data.setdefault(inode, bytearray()), size)


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))
