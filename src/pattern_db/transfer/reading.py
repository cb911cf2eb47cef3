"""From a file on disk to JSON values, or one sentence that says where it is wrong."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

import msgspec

from pattern_db.errors import ImportFailed

T = TypeVar("T")

BOM = b"\xef\xbb\xbf"
_OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_MAY_BE_UNSTORABLE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_CALLED = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "nothing",
}


class Parsed(msgspec.Struct, frozen=True):
    """A JSON value, and how many of its texts held characters that no database stores."""

    value: Any
    replaced: int = 0


class Source(msgspec.Struct, frozen=True):
    """The file of one import."""

    path: Path

    @property
    def name(self) -> str:
        """What errors and identities call it: its name without the folders."""
        return os.fsencode(self.path.name).decode(errors="replace")

    @property
    def stem(self) -> str:
        """Its name without the ending."""
        return Path(self.name).stem or self.name

    def failure(self, place: str | None, problem: str) -> ImportFailed:
        """The error for something at a place in the file."""
        where = f"{self.name}, {place}" if place else self.name
        return ImportFailed(f"{where}: {problem}; correct the file and import it again.")

    def expect(self, kind: type[T], value: Any, place: str, what: str) -> T:
        """The value, if it is of this JSON type; else ``ImportFailed`` says what was expected."""
        if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
            return value
        raise self.failure(
            place, f"expected {_CALLED[kind]} as {what}, found {_CALLED[type(value)]}"
        )

    def open(self) -> BinaryIO:
        """The file, to read its bytes."""
        try:
            if not self.path.exists():
                raise ImportFailed(f"{self.name}: there is no such file; check the path.")
            if not self.path.is_file():
                raise ImportFailed(f"{self.name}: this is not a file; name the file to import.")
            return self.path.open("rb")
        except (OSError, ValueError) as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: Exception) -> ImportFailed:
        """The error for what the operating system refuses to read."""
        reason = getattr(error, "strerror", None) or "its name is not a path"
        return ImportFailed(f"{self.name}: it cannot be read ({reason}); check the file.")

    def read_json(self) -> Parsed:
        """The whole file as one JSON value. Blocks; run it in a thread."""
        data = self._read()
        try:
            return parse(data)
        except ValueError as error:
            raise self.failure(None, str(error)) from error

    def read_text(self) -> str:
        """The whole file as text. Blocks; run it in a thread."""
        data = self._read()
        try:
            return _decode(data)
        except ValueError as error:
            raise self.failure(None, str(error)) from error

    def _read(self) -> bytes:
        with self.open() as file:
            try:
                data = file.read()
            except OSError as error:
                raise self.unreadable(error) from error
        if not data.strip():
            raise self.failure(None, "the file is empty")
        return data


def parse(data: bytes) -> Parsed:
    """A JSON value from bytes. Raises ``ValueError`` with a phrase for what is wrong."""
    text = _decode(data)
    try:
        value = json.loads(text, parse_constant=_refuse)
        return _storable(value) if _MAY_BE_UNSTORABLE.search(text) else Parsed(value)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"it is not valid JSON ({error.msg} at {where})") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _decode(data: bytes) -> str:
    if data.startswith(_OTHER_ENCODINGS) or b"\0" in data[:4]:
        raise ValueError("it is UTF-16 or UTF-32 text where UTF-8 was expected")
    try:
        return data.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (at byte {error.start + 1})") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}, which is not JSON")


def _storable(value: Any) -> Parsed:
    """The value with U+FFFD in the place of NUL and of half surrogate pairs."""
    replaced = 0

    def walk(value: Any) -> Any:
        nonlocal replaced
        if isinstance(value, str):
            text, found = _UNSTORABLE.subn(_REPLACEMENT, value)
            replaced += bool(found)
            return text
        if isinstance(value, list):
            return [walk(inner) for inner in value]
        if isinstance(value, dict):
            return {walk(key): walk(inner) for key, inner in value.items()}
        return value

    return Parsed(walk(value), replaced)
