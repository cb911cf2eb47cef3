"""Reading rows of two databases side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import cache
from typing import Any, TypeVar

import msgspec

from pattern_db.engines.base import Store
from pattern_db.filters import After, In, param
from pattern_db.query import Select, select
from pattern_db.schema import Table

from .walking import EMBEDDINGS, Key, Page, key_of

T = TypeVar("T")

_NOT_THERE = -1


async def there(store: Store, table: Table, rows: list[Any]) -> dict[Key, Any]:
    """The rows with the same keys in another database, by key."""
    keys = {key_of(table, row) for row in rows}
    first, last = min(keys), max(keys)
    asked = {"ids": sorted({key[0] for key in keys})}
    asked |= {f"first_{n}": value for n, value in zip(table.key, first, strict=True)}
    asked |= {f"last_{n}": value for n, value in zip(table.key, last, strict=True)}
    found = await store.execute(_near(table), **asked)
    return {key: row for row in found if (key := key_of(table, row)) in keys}


@cache
def _near(table: Table) -> Select:
    """The rows with one of some values in the first column of the key, from one key to another.

    An index serves that on every engine; PostgreSQL reads the wrong one for whole keys (a second
    for a thousand of them).
    """
    query = select(table.model).where(In(table.key[0], param("ids")))
    if len(table.key) == 1:
        return query
    first, last = (tuple(param(f"{end}_{n}") for n in table.key) for end in ("first", "last"))
    before, after = After(table.key, first, descending=True), After(table.key, last)
    return query.where(~before, ~after)


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
