"""Scripts: several writes as one, whole or not at all.

``BEGIN … COMMIT`` in one message is a transaction; a ``THROW`` in it undoes everything. The engine
in the process has no other kind, so this is the only one. What a script throws may carry a result:
that is how a write, or a read after writes, is tried without being kept.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from .codecs import decode
from .compiler import MARK
from .failures import DIFFERS, RESULT, SurrealError

RESULTS = "$_results"


class Write(msgspec.Struct, frozen=True):
    """One step of a script: statements that leave what ``read`` understands in ``$_r``.

    ``read`` gives one result for each query the step stands for. ``expected`` is compared with the
    expression ``touched``.
    """

    texts: tuple[str, ...]
    values: Sequence[Any]
    read: Callable[[Any], list[Any]]
    expected: int | None = None
    touched: str = "$_r"


class Done(msgspec.Struct, frozen=True):
    """A step that was tried, and what it gave: when it is done again it must give the same."""

    write: Write
    gave: Any


class Script:
    """A message in the making."""

    def __init__(self, *first: str) -> None:
        self.texts: list[str] = ["BEGIN", *first]
        self.values: dict[str, Any] = {}
        self._count = 0

    def add(self, texts: Sequence[str], values: Sequence[Any]) -> str:
        """Statements with names of their own; gives what those begin with."""
        own = f"$w{self._count}_"
        self._count += 1
        self.texts += [text.replace(MARK, own) for text in texts]
        for place, value in enumerate(values):
            self.values[f"{own[1:]}{place}_"] = value
        return own

    def write(self, write: Write) -> str:
        """A step; gives the name of its result."""
        own = self.add(write.texts, write.values)
        if write.expected is not None:
            touched = write.touched.replace(MARK, own)
            self.texts.append(f"IF {touched} != {int(write.expected)} {{ THROW '{DIFFERS}' }}")
        return f"{own}r"

    def again(self, done: Done) -> None:
        """A step that was tried before."""
        name = self.write(done.write)
        self.values[f"{name[1:]}_then"] = done.gave
        self.texts.append(f"IF {name} != {name}_then {{ THROW '{DIFFERS}' }}")

    def kept(self, result: str) -> tuple[str, dict[str, Any]]:
        """The message that keeps everything."""
        return "; ".join([*self.texts, f"RETURN {result}", "COMMIT"]), self.values

    def tried(self, result: str) -> tuple[str, dict[str, Any]]:
        """The message that keeps nothing."""
        packed = f"encoding::base64::encode(encoding::cbor::encode({result}))"
        return "; ".join([*self.texts, f"THROW '{RESULT}' + {packed}", "COMMIT"]), self.values


def unpacked(error: SurrealError) -> Any:
    """The result of a script that was tried; raises the error if it has none."""
    if not error.thrown.startswith(RESULT):
        raise error
    packed = error.thrown.removeprefix(RESULT)
    return decode(base64.b64decode(packed + "=" * (-len(packed) % 4)))


def ddl(statements: Sequence[str]) -> Write:
    """Definitions as a step."""
    return Write((*statements, "LET $_r = 0"), (), lambda _raw: [])
