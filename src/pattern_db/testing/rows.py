"""Rows for tests, and shorthands to write and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import msgspec
import numpy as np

from ..embeddings.provider import Vector
from ..engines.base import Store
from ..models import (
    Agent,
    ArchivalEntry,
    Embedding,
    EmbeddingSpace,
    Episode,
    MemoryBlock,
    Message,
    Pattern,
    PatternKind,
    Role,
    SharedBlock,
    Step,
    ToolSequence,
    User,
)
from ..query import Bound, Get, Insert, delete, update
from ..schema import Table, columns_of, table_of

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
SPACE, DIMENSIONS = 1, 8
MESSAGES, BLOCKS = table_of(Message), table_of(MemoryBlock)


def user(id: str, **fields: Any) -> User:
    """A user."""
    return User(**{"id": id, "created_at": NOW, "updated_at": NOW, **fields})


def agent(id: str, **fields: Any) -> Agent:
    """An agent."""
    return Agent(**{"id": id, "name": id, "created_at": NOW, "updated_at": NOW, **fields})


def message(id: str, agent_id: str = "flux", **fields: Any) -> Message:
    """A message; its position follows from its id."""
    number = int.from_bytes(id.encode()[-6:], "big")
    given = {"position": number, "role": Role.USER, "created_at": NOW, "updated_at": NOW, **fields}
    return Message(id=id, agent_id=agent_id, **given)


def block(id: str, agent_id: str = "flux", **fields: Any) -> MemoryBlock:
    """A memory block, labelled with its id."""
    given = {"label": id, "created_at": NOW, "updated_at": NOW, **fields}
    return MemoryBlock(id=id, agent_id=agent_id, **given)


def entry(id: str, agent_id: str = "flux", **fields: Any) -> ArchivalEntry:
    """An archival entry."""
    given = {"content": id, "created_at": NOW, "updated_at": NOW, **fields}
    return ArchivalEntry(id=id, agent_id=agent_id, **given)


def episode(id: str, agent_id: str = "flux", **fields: Any) -> Episode:
    """An episode that says its id."""
    given = {"task": id, "created_at": NOW, "updated_at": NOW, **fields}
    return Episode(id=id, agent_id=agent_id, **given)


def step(id: str, episode_id: str, **fields: Any) -> Step:
    """A step of an episode."""
    return Step(**{"id": id, "episode_id": episode_id, "action": id, "timestamp": NOW, **fields})


def pattern(id: str, **fields: Any) -> Pattern:
    """A pattern, whose content key is its id."""
    given = {"pattern_data": ToolSequence([id]), "domain": "web", "content_key": id, **fields}
    return Pattern(
        id=id, pattern_type=PatternKind.TOOL_SEQUENCE, created_at=NOW, updated_at=NOW, **given
    )


def later(seconds: int) -> datetime:
    """A time after ``NOW``."""
    return NOW + timedelta(seconds=seconds)


def vector(*values: float) -> Vector:
    """These numbers and zeros, as a vector of unit length."""
    made = np.zeros(DIMENSIONS, np.float32)
    made[: len(values)] = values
    return made / np.linalg.norm(made)


def embedding(
    item: msgspec.Struct, values: Vector, *, chunk: int = 0, agent_id: str | None = None
) -> Embedding:
    """The vector of a chunk of an item."""
    text = table_of(type(item)).text
    assert text is not None
    return Embedding(
        item_id=item.id,  # type: ignore[attr-defined]
        kind=text.kind,
        space=SPACE,
        chunk_index=chunk,
        agent_id=agent_id or item.agent_id,  # type: ignore[attr-defined]
        start_char=0,
        end_char=1,
        content_hash=b"hash",
        vector=values.astype("<f4").tobytes(),
    )


def adding(row: msgspec.Struct) -> Bound:
    """The statement that inserts a row; rows of one table share their query."""
    return _insert(table_of(type(row)))(row=row)


@cache
def _insert(table: Table) -> Insert:
    return Insert(table)


async def add(store: Store, *rows: Any) -> list[Any]:
    """Insert rows, all or none."""
    return await store.write([adding(row) for row in rows])


async def read(store: Store, row: Any) -> Any:
    """The row with the same key as it is now."""
    table: Table = table_of(type(row))
    return await store.execute(Get(table), **{name: getattr(row, name) for name in table.key})


async def remove(store: Store, row: Any) -> int:
    """Delete the row with this key; gives how many were."""
    table: Table = table_of(type(row))
    columns = columns_of(type(row))
    query = delete(type(row)).where(
        *(getattr(columns, name) == getattr(row, name) for name in table.key)
    )
    count: int = await store.execute(query)
    return count


async def change(store: Store, row: Any, **values: Any) -> int:
    """Update columns of the row with this id; gives how many were."""
    query = update(type(row), *values).where(columns_of(type(row)).id == row.id)
    count: int = await store.execute(query, **values)
    return count


async def space(store: Store) -> None:
    """The space that the vectors of tests are in."""
    await add(store, EmbeddingSpace(SPACE, "test", DIMENSIONS, NOW))


def shared(shared_block: MemoryBlock, agent_id: str) -> SharedBlock:
    """The attachment of a block to another agent."""
    return SharedBlock(shared_block.id, agent_id, NOW)
