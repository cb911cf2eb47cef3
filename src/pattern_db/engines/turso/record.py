"""SQLite's record format: the values of one row in one BLOB (https://sqlite.org/fileformat2.html,
section 2.1), which is how Turso notes what a row was before it changed."""

from __future__ import annotations

from struct import unpack
from typing import Any

_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_REAL, _ZERO, _ONE, _FIRST_LONG = 7, 8, 9, 12


def values_of(record: bytes) -> list[Any]:
    """The values of a record, in the order of the table's columns."""
    end, at = _varint(record, 0)
    kinds = []
    while at < end:
        kind, at = _varint(record, at)
        kinds.append(kind)
    values = []
    for kind in kinds:
        value, at = _value(record, at, kind)
        values.append(value)
    return values


def _varint(record: bytes, at: int) -> tuple[int, int]:
    """A big-endian number of seven bits a byte, of nine bytes at most; where it ends."""
    number = 0
    for place in range(8):
        byte = record[at + place]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, at + place + 1
    return number << 8 | record[at + 8], at + 9


def _value(record: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind >= _FIRST_LONG:
        end = at + (kind - _FIRST_LONG) // 2
        return (record[at:end].decode() if kind % 2 else record[at:end]), end
    if kind in _INTEGER_BYTES:
        end = at + _INTEGER_BYTES[kind]
        return int.from_bytes(record[at:end], "big", signed=True), end
    if kind == _REAL:
        return unpack(">d", record[at : at + 8])[0], at + 8
    return {_ZERO: 0, _ONE: 1}.get(kind), at
