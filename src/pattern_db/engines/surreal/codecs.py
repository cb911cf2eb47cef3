"""How values travel: CBOR with SurrealDB's tags for records, times and absence.

The server keeps the keys of an object in alphabetical order, so JSON columns are text: what was
stored comes back, in its order. Conditions on them decode it there.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2

from ...clock import to_micros
from ...errors import InvalidValue, QueryFailed
from ...schema import Column, ColumnType, Table
from ..sql import Decoder, decoder_of, encode_json

Encoder = Callable[[Any], Any]
_TAG_NONE, _TAG_RECORD, _TAG_TIME = 6, 8, 12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEAST, _MOST = -(2**63), 2**63 - 1
NONE = cbor2.CBORTag(_TAG_NONE, None)
"""What an absent value is; SurrealDB tells it from null."""


def record(table: str, key: Any) -> cbor2.CBORTag:
    """A record's id."""
    return cbor2.CBORTag(_TAG_RECORD, [table, key])


def encode(message: Any) -> bytes:
    """A message to the engine."""
    return cbor2.dumps(message)


def decode(data: bytes) -> Any:
    """A message from the engine; a record's id is read as its key. Raises ``QueryFailed``."""
    try:
        return cbor2.loads(data, tag_hook=_read)
    except (ValueError, cbor2.CBORError) as error:
        raise QueryFailed(
            "What answers does not speak SurrealDB's RPC; check database.url."
        ) from error


def _read(tag: cbor2.CBORTag, _immutable: bool) -> Any:
    if tag.tag == _TAG_NONE:
        return None
    if tag.tag == _TAG_RECORD:
        return tag.value[1]
    if tag.tag == _TAG_TIME:
        seconds, nanos = (*tag.value, 0, 0)[:2]
        return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
    return tag


def _time(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    seconds, micros = divmod(to_micros(value), 1_000_000)
    return cbor2.CBORTag(_TAG_TIME, [seconds, micros * 1000])


def _integer(value: Any) -> Any:
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        raise InvalidValue("number", "it does not fit into 64 bits.")
    return value


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))


_ENCODERS: dict[ColumnType, Encoder] = {
    ColumnType.TIME: _time,
    ColumnType.INTEGER: _integer,
    ColumnType.ENUM: _text,
    ColumnType.JSON: encode_json,
    ColumnType.REAL: lambda value: float(value) if isinstance(value, int) else value,
}


def plain_encoder(column: Column) -> Encoder | None:
    """How a value of this column travels inside a record's id; ``None`` if it does already."""
    return _ENCODERS.get(column.type)


def encoder_of(table: Table, column: Column) -> Encoder | None:
    """How a value of this column travels; ``None`` if it does already."""
    target = column.references.table if column.references else _own(table, column)
    return _ENCODERS.get(column.type) if target is None else lambda value: record(target, value)


def is_record(column: Column) -> bool:
    """Whether the field holds a record's id."""
    return column.references is not None or column.name == "id"


def _own(table: Table, column: Column) -> str | None:
    return table.name if column.name == "id" else None


def read_as(column: Column) -> Decoder | None:
    """How a value that was read becomes a Python value; ``None`` if it is one already."""
    if column.type in (ColumnType.ENUM, ColumnType.JSON):
        return decoder_of(column)
    return None


def key_of(table: Table) -> Callable[[Any], Any]:
    """The key of a row's record: its id, or the list of its key columns."""
    pairs = [(name, plain_encoder(table.column(name))) for name in table.key]

    def read(row: Any) -> Any:
        values = [
            value if encode is None or value is None else encode(value)
            for value, encode in ((getattr(row, name), encode) for name, encode in pairs)
        ]
        return values[0] if len(values) == 1 else values

    return read
