"""Reading rows of two databases side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import cache
from typing import Any, TypeVar

import msgspec

from pattern_db.engines.base import Store
from pattern_db.filters import Filter, In, InRows, param
from pattern_db.query import Select, select
from pattern_db.schema import Table

from .walking import EMBEDDINGS, Key, Page, key_of

T = TypeVar("T")

_NOT_THERE = -1


async def there(store: Store, table: Table, rows: list[Any]) -> dict[Key, Any]:
    """The rows with the same keys in another database, by key."""
    keys = [key_of(table, row) for row in rows]
    asked = [key for (key,) in keys] if len(table.key) == 1 else keys
    found = await store.execute(_with_keys(table), keys=asked)
    return {key_of(table, row): row for row in found}


@cache
def _with_keys(table: Table) -> Select:
    keys = param("keys")
    chosen: Filter = In(table.key[0], keys) if len(table.key) == 1 else InRows(table.key, keys)
    return select(table.model).where(chosen)


def renumbered(page: Page, spaces: dict[int, int]) -> list[Any]:
    """The rows as the other database numbers their space."""
    if page.table is not EMBEDDINGS:
        return page.rows
    return [
        msgspec.structs.replace(row, space=spaces.get(row.space, _NOT_THERE)) for row in page.rows
    ]


async def ahead(items: AsyncIterator[T]) -> AsyncIterator[T]:
    """The same, one of them fetched while the one before is worked on."""

    async def following() -> T | None:
        return await anext(items, None)

    waiting = asyncio.create_task(following())
    try:
        while (item := await waiting) is not None:
            waiting = asyncio.create_task(following())
            yield item
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
