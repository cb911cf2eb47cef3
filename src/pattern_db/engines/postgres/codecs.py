"""How Python values travel: what psycopg does by itself, except numbers, JSON and vectors."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from psycopg.adapt import AdaptersMap, Dumper, Loader
from psycopg.pq import Format
from psycopg.types import TypeInfo
from psycopg.types.numeric import Int8BinaryDumper
from psycopg.types.string import StrBinaryDumper, StrDumperUnknown, TextBinaryLoader, TextLoader

from .pool import Connection

_HEAD = struct.Struct(">HH")


class PackedVector:
    """A float32 little-endian vector on its way to a column of pgvector."""

    __slots__ = ("data",)

    def __init__(self, data: bytes):
        self.data = data


class VectorDumper(Dumper):
    """pgvector's binary form: the length, two bytes of nothing, float32 big-endian."""

    format = Format.BINARY

    def dump(self, obj: PackedVector) -> bytes:
        """The vector as the server takes it."""
        values = np.frombuffer(obj.data, "<f4")
        return _HEAD.pack(len(values), 0) + values.astype(">f4").tobytes()


class VectorLoader(Loader):
    """The inverse."""

    format = Format.BINARY

    def load(self, data: Any) -> bytes:
        """The vector as it was given."""
        return np.frombuffer(bytes(data)[_HEAD.size :], ">f4").astype("<f4").tobytes()


class JsonTextDumper(StrBinaryDumper):
    """JSON that is text already; asked for by ``COPY``."""

    oid = 114


class Adapting:
    """What psycopg asks for the adapters of a connection to be."""

    connection = None

    def __init__(self, adapters: AdaptersMap):
        self.adapters = adapters


def adapters_for(connection: Connection, vector_oid: int) -> AdaptersMap:
    """The adapters of one database, whose extension types have numbers of its own.

    Integers always travel as ``bigint``, so that a statement is prepared once and not once for each
    size of number. JSON stays text, which keeps 1, 1.0 and -0.0 apart.
    """
    adapters = AdaptersMap(connection.adapters)
    adapters.register_dumper(int, Int8BinaryDumper)
    adapters.register_dumper(str, JsonTextDumper)
    adapters.register_dumper(str, StrDumperUnknown)
    for loader in (TextLoader, TextBinaryLoader):
        adapters.register_loader("json", loader)
    dumper = type("VectorDumper", (VectorDumper,), {"oid": vector_oid})
    adapters.register_dumper(PackedVector, dumper)
    adapters.register_loader(vector_oid, VectorLoader)
    adapters.types.add(TypeInfo("vector", vector_oid, 0))
    return adapters
