"""Needles that must not be found, and the scanners that look for them.

Each label (a tenant, a secret, a record) gets a needle of 128 random bits that is put into every
field. Where a needle of one label turns up in what belongs to another, or in a log, an exception or
an encrypted file, there is a leak:

    needles = Needles(seed=7)
    secret = needles.plant("tenant-a")
    ...
    assert needles.in_value(await tenant_b.search(secret)) == set()
    assert needles.in_directory(tmp_path) == []

A needle is found whole or by halves (SQLite cuts long values at page boundaries), and as UTF-8,
UTF-16, upper or lower case, hexadecimal, base64 at each alignment, and inside gzip files. Planted
vectors are found as the bytes of their numbers in 32 and 64 bits, little and big endian.
"""

from __future__ import annotations

import base64
import gzip
import os
import random
import struct
import traceback
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

_CHUNK_BYTES = 1 << 22
_OVERLAP_BYTES = 1 << 10
_HALF_CHARS = 16


class Finding(NamedTuple):
    """A needle that was found: whose, in which file, and at which byte of it (of what
    it expands to, if it is packed; -1: in its name)."""

    label: str
    path: Path
    offset: int


class Needles:
    """The needles planted so far. The same seed gives the same needles in the same order."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"canary {seed}")
        self._patterns: dict[bytes, str] = {}

    def plant(self, label: str) -> str:
        """A new needle for this label: 32 hexadecimal digits, safe in any syntax and file name.

        A label may have many needles.
        """
        needle = f"{self._rng.getrandbits(128):032x}"
        for half in (needle[:_HALF_CHARS], needle[_HALF_CHARS:]):
            self._patterns.update(dict.fromkeys(_disguises(half), label))
        return needle

    def plant_vector(self, label: str, dimensions: int) -> list[float]:
        """A unit vector for this label, of at least four numbers, all exact in 32 bits.

        Its first, middle and last four numbers are looked for.
        """
        raw = [self._rng.gauss(0.0, 1.0) for _ in range(dimensions)]
        length = sum(number * number for number in raw) ** 0.5
        single = struct.Struct(f"{dimensions}f")
        vector = list(single.unpack(single.pack(*(number / length for number in raw))))
        for start in (0, dimensions // 2 - 2, dimensions - 4):
            for layout in ("<4f", ">4f", "<4d", ">4d"):
                self._patterns[struct.pack(layout, *vector[start : start + 4])] = label
        return vector

    def in_bytes(self, data: bytes) -> set[str]:
        """The labels of all needles in the data."""
        return {label for label, _ in self._found(data)}

    def in_value(self, value: object) -> set[str]:
        """The labels of all needles in text, bytes, or the ``repr`` of anything else."""
        if isinstance(value, bytes | bytearray | memoryview):
            return self.in_bytes(bytes(value))
        text = value if isinstance(value, str) else repr(value)
        return self.in_bytes(text.encode(errors="surrogatepass"))

    def in_exception(self, error: BaseException) -> set[str]:
        """The labels of all needles in an exception as printed, with its arguments, notes, causes
        and attributes, and those of its causes."""
        seen: list[BaseException] = []
        found = self.in_value("".join(traceback.format_exception(error)))
        waiting: list[BaseException | None] = [error]
        while waiting:
            each = waiting.pop()
            if each is not None and each not in seen:
                seen.append(each)
                found |= self.in_value((each.args, vars(each)))
                waiting += [each.__cause__, each.__context__]
        return found

    def in_directory(self, directory: str | Path) -> list[Finding]:
        """Every needle in the names and contents of all regular files below a directory."""
        found = []
        for path in _files(Path(directory)):
            name = path.relative_to(directory).as_posix().encode(errors="surrogateescape")
            found += [Finding(label, path, -1) for label, _ in self._found(name)]
            for start, chunk in _chunks(path):
                found += [Finding(label, path, start + at) for label, at in self._found(chunk)]
        return sorted(set(found))

    def _found(self, data: bytes) -> Iterator[tuple[str, int]]:
        for pattern, label in self._patterns.items():
            if (at := data.find(pattern)) >= 0:
                yield label, at


def _disguises(text: str) -> Iterator[bytes]:
    """What the text looks like in the encodings that files and logs use."""
    for case in (text, text.upper()):
        yield case.encode()
        yield case.encode("utf-16-le")
        yield case.encode("utf-16-be")
    yield text.encode().hex().encode()
    yield text.encode().hex().upper().encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + text.encode())
        yield encoded[4 if before else 0 : (before + len(text)) // 3 * 4]


def _files(directory: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _chunks(path: Path) -> Iterator[tuple[int, bytes]]:
    """The content in overlapping pieces, and after it what a gzip file expands to."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        yield from _overlapping(file)
    if packed:
        with suppress(OSError, EOFError, zlib.error), gzip.open(path) as expanded:
            yield from _overlapping(expanded)


def _overlapping(file: IO[bytes] | gzip.GzipFile) -> Iterator[tuple[int, bytes]]:
    """Pieces and where each begins."""
    start, chunk = 0, b""
    while piece := file.read(_CHUNK_BYTES):
        kept = chunk[-_OVERLAP_BYTES:]
        chunk = kept + piece
        yield start - len(kept), chunk
        start += len(piece)
