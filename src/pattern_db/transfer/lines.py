"""Reading a file of JSON objects, one a line, piece by piece."""

from __future__ import annotations

import os

import msgspec

from pattern_db.errors import ImportFailed
from pattern_db.models import Json

from .reading import BOM, Source, parse
from .run import CHUNK

MAX_LINE_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 8 * 1024 * 1024


class Line(msgspec.Struct, frozen=True):
    """The object on a line; lines count from 1, blank ones too."""

    number: int
    fields: Json

    @property
    def place(self) -> str:
        """What errors call it."""
        return f"line {self.number}"


class Chunk(msgspec.Struct):
    """Some lines, and why those after them cannot be read, if they cannot."""

    lines: list[Line] = []
    replaced: int = 0
    failure: ImportFailed | None = None


class Lines:
    """An open file of lines, each ``what``. All of it blocks; run it in a thread."""

    def __init__(self, source: Source, *, what: str = "the message") -> None:
        self._source = source
        self._what = what
        self._file = source.open()
        self._number = 0
        self._ended = self._found = False
        self.bytes_read = 0
        self.size = os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def next_chunk(self) -> Chunk | None:
        """The lines up to some number or size of them; ``None`` at the end of the file."""
        chunk, until = Chunk(), self.bytes_read + _CHUNK_BYTES
        try:
            while not self._ended and len(chunk.lines) < CHUNK and self.bytes_read < until:
                self._add(chunk, self._next())
            if self._ended and not self._found:
                raise self._source.failure(None, "the file is empty")
        except ImportFailed as error:
            chunk.failure = error
        over = self._ended and not chunk.lines and chunk.failure is None
        return None if over else chunk

    def _next(self) -> bytes:
        try:
            raw = self._file.readline(MAX_LINE_BYTES + 1)
        except OSError as error:
            raise self._source.unreadable(error) from error
        self._ended = not raw
        self._number += 1
        self.bytes_read += len(raw)
        if len(raw) > MAX_LINE_BYTES:
            raise self._source.failure(f"line {self._number}", "it is longer than 16 MiB")
        return raw.removeprefix(BOM) if self._number == 1 else raw

    def _add(self, chunk: Chunk, raw: bytes) -> None:
        if not raw.strip():
            return
        self._found, place = True, f"line {self._number}"
        try:
            parsed = parse(raw)
        except ValueError as error:
            raise self._source.failure(place, str(error)) from error
        fields = self._source.expect(dict, parsed.value, place, self._what)
        chunk.lines.append(Line(self._number, fields))
        chunk.replaced += parsed.replaced
