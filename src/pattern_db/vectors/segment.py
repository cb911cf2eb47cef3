"""An HNSW index in a file, mapped into memory.

A segment holds the vectors of one scope up to a row number. It is derived and disposable: what it
finds are row numbers, which the database then confirms with the exact vectors, so that the worst
a wrong one could do is to miss something. Its file is the index as usearch saves it, a header and
a trailer; a checksum over all of it is compared before the index is used.

Vectors are 8-bit integers: the order of the nearest is then settled by the exact ones, with which
nothing is lost (docs/explanation/decisions/vector-segments.md).
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..embeddings.provider import Matrix, Vector
from .source import Row, Scope, Source

DEVIATIONS = 6
"""Rows whose scores are further apart than so many times the error are in the right order."""
CONNECTIVITY = 16
EXPANSION_ADD = 128
_FORMAT = 4
_MAGIC = b"pattern-segment\n"
_TRAILER = struct.Struct("<QII")
_CHUNK_BYTES = 1 << 20

Witness = tuple[int, str, int]
"""(row number, item id, CRC-32 of the vector)."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment is a segment of.

    ``last_row`` is the last row number it covers, ``count`` how many rows it holds. ``expansion``
    is how many nodes a search has to keep in view for recall@10 of 0.995 on this scope's own
    vectors, 0 if the graph cannot get there and all of it is to be read. ``error`` is by how much
    its scores differ from the exact ones (root mean square). ``witnesses`` are a few of its rows,
    with a checksum of their vectors, which tell how much of it is still the history of the
    database.
    """

    format: int = _FORMAT
    database_id: str
    scope: Scope
    dimensions: int
    last_row: int
    count: int
    expansion: int
    error: float
    witnesses: list[Witness]


def witness_of(row: Row) -> Witness:
    """What is remembered of a row to know it again."""
    number, item, vector = row
    return number, item, zlib.crc32(vector)


def new_index(dimensions: int) -> Any:
    """An empty index in memory, of vectors as ``quantized`` makes them."""
    from usearch.index import Index

    return Index(
        ndim=dimensions,
        metric="cos",
        dtype="i8",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
    )


def quantized(vectors: Matrix) -> NDArray[np.int8]:
    """Vectors as integers up to 127, each with a scale of its own, which a cosine does not see."""
    largest = np.abs(vectors).max(axis=-1, keepdims=True)
    scaled = vectors * (127 / np.where(largest > 0, largest, 1.0))
    return np.rint(scaled).astype(np.int8)


class Segment:
    """A finished index with its header.

    ``covered`` is the last row that is known to be in it. It is less than the header's where the
    newest rows were removed since: the same numbers may be other rows then, if the database is an
    older copy that has grown differently.
    """

    def __init__(
        self,
        header: Header,
        index: Any,
        mapped: memoryview | None = None,
        covered: int | None = None,
    ):
        self.header = header
        self.covered = header.last_row if covered is None else covered
        self._index = index
        self._mapped = mapped

    def __len__(self) -> int:
        return self.header.count

    def nearest(self, vector: Vector, wanted: int, spare: int) -> tuple[list[int], int]:
        """About the nearest rows, by number, and how many of them the ones wanted are among.

        The others are spares, for where rows turn out to be gone. There may be fewer than wanted.
        Not for two threads at once.
        """
        if self.header.expansion:
            self._index.expansion_search = max(self.header.expansion, wanted + spare)
        exact = not self.header.expansion
        most = min(wanted + spare, self.header.count)
        found = self._index.search(quantized(vector), most, exact=exact, threads=1)
        distances = found.distances
        if len(distances) <= wanted:
            return found.keys.tolist(), len(distances)
        furthest = distances[wanted - 1] + DEVIATIONS * self.header.error
        return found.keys.tolist(), int(np.searchsorted(distances, furthest, side="right"))

    def editable(self) -> Any:
        """A copy in memory that more vectors can be added to."""
        index = new_index(self.header.dimensions)
        if self._mapped is not None:
            index.load(self._mapped)
            return index
        return self._index.copy()

    def save(self, path: Path) -> None:
        """Write the file whole or not at all, over an older one. Raises ``OSError``."""
        aside = path.with_suffix(f".{os.getpid()}.new")
        try:
            _write(aside, self._index, self.header)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)


def open_segment(path: Path, source: Source, scope: Scope, dimensions: int) -> Segment | None:
    """The segment in a file; ``None`` for one that is missing, damaged or of other vectors."""
    try:
        with open(path, "rb") as file:
            header, length = _read_header(file.fileno())
            covered = _covered(header, source, scope, dimensions)
            if not covered:
                return None
            mapped = memoryview(mmap.mmap(file.fileno(), length, prot=mmap.PROT_READ))
    except (OSError, ValueError, msgspec.MsgspecError, struct.error):
        return None
    index = new_index(dimensions)
    try:
        index.view(mapped)
    except (RuntimeError, ValueError):
        return None
    return Segment(header, index, mapped, covered) if len(index) == header.count else None


def header_of(path: Path) -> Header | None:
    """The header of a segment file, whatever state its index is in; ``None`` if it has none."""
    try:
        with open(path, "rb") as file:
            return _read_header(file.fileno(), whole=False)[0]
    except (OSError, ValueError, msgspec.MsgspecError, struct.error):
        return None


def _covered(header: Header, source: Source, scope: Scope, dimensions: int) -> int:
    """The last row up to which the database has had the rows that the segment was made of.

    Histories that part never meet again: one witness that is there proves all before it. 0 if the
    segment is of another history, or if nothing proves that it is not.
    """
    if header.format != _FORMAT or header.database_id != source.database_id():
        return 0
    if (header.scope, header.dimensions) != (scope, dimensions):
        return 0
    if header.last_row > source.newest()[0]:
        return 0
    numbers = [number for number, _, _ in header.witnesses]
    present = {row[0]: witness_of(row) for row in source.rows_numbered(scope, numbers)}
    gone = source.removed_among([number for number in numbers if number not in present])
    if not all(present.get(w[0]) == w or w[0] in gone for w in header.witnesses):
        return 0
    return max(present, default=0)


def _write(path: Path, index: Any, header: Header) -> None:
    try:
        index.save(str(path))
    except RuntimeError as error:  # usearch's own word for a full disk
        raise OSError(str(error)) from error
    length = path.stat().st_size
    if not _is_whole(path, header):
        raise OSError("the disk did not take all of it")
    told = msgspec.json.encode(header)
    checksum = zlib.crc32(told, _checksum(path, length))
    with open(path, "r+b") as file:
        file.seek(length)
        file.write(told + _TRAILER.pack(length, len(told), checksum) + _MAGIC)
        file.flush()
        os.fsync(file.fileno())


def _is_whole(path: Path, header: Header) -> bool:
    index = new_index(header.dimensions)
    try:
        index.view(str(path))
    except (RuntimeError, ValueError):
        return False
    return len(index) == header.count


def _read_header(descriptor: int, *, whole: bool = True) -> tuple[Header, int]:
    """The header and the length of the index before it.

    Raises ``ValueError`` for damage, to the index too if the ``whole`` file is to be read.
    """
    size = os.fstat(descriptor).st_size
    tail = _TRAILER.size + len(_MAGIC)
    trailer = os.pread(descriptor, tail, max(size - tail, 0))
    if len(trailer) < tail or not trailer.endswith(_MAGIC):
        raise ValueError("no segment")
    length, told_length, checksum = _TRAILER.unpack(trailer[: _TRAILER.size])
    if length + told_length + tail != size:
        raise ValueError("cut off or grown")
    told = os.pread(descriptor, told_length, length)
    if whole and zlib.crc32(told, _checksum_of(descriptor, length)) != checksum:
        raise ValueError("damaged")
    return msgspec.json.decode(told, type=Header), length


def _checksum(path: Path, length: int) -> int:
    with open(path, "rb") as file:
        return _checksum_of(file.fileno(), length)


def _checksum_of(descriptor: int, length: int) -> int:
    checksum = 0
    for start in range(0, length, _CHUNK_BYTES):
        chunk = os.pread(descriptor, min(_CHUNK_BYTES, length - start), start)
        checksum = zlib.crc32(chunk, checksum)
    return checksum
