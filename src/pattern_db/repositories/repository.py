"""What every repository does the same way."""

from __future__ import annotations

import asyncio
import builtins
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from ..clock import Clock
from ..embeddings.indexing import Indexer
from ..engines.base import Store
from ..errors import Conflict, NotFound, Unsupported
from ..filters import After, Filter
from ..ids import new_id
from ..models import AuditRecord
from ..query import Bound, Count, Get, Insert, Select, Update, delete, param, select
from ..schema import Table, columns_of, table_of
from ..search import Searcher
from ..validation import build, check_id, check_limit, check_text

T = TypeVar("T", bound=msgspec.Struct)
R = TypeVar("R")

DEFAULT_LIMIT = 100
_ATTEMPTS = 20
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.5
_AUDIT = Insert(table_of(AuditRecord))


class Policy(msgspec.Struct, frozen=True):
    """How many ended episodes are kept, and for how many days; ``None`` for any."""

    max_episodes: int | None = None
    max_age_days: float | None = None


class Context(msgspec.Struct, frozen=True):
    """What repositories share."""

    store: Store
    indexer: Indexer
    searcher: Searcher
    clock: Clock
    policy: Policy = Policy()


class Queries:
    """The queries of one table, built once."""

    def __init__(self, model: type[msgspec.Struct]):
        self.table: Table = table_of(model)
        names = [column.name for column in self.table.columns]
        self.columns = columns_of(model)
        self.hidden: tuple[str, bool] | None = next(
            ((n, v) for n, v in (("is_active", False), ("is_deleted", True)) if n in names), None
        )
        self.get = Get(self.table)
        self.insert = Insert(self.table)
        self.insert_new = Insert(self.table, on_conflict="ignore")
        self.purge = delete(model).where(self.table.columns[0] == param("id"))
        self._selects: dict[Any, Select] = {}
        self._counts: dict[Any, Count] = {}
        self._updates: dict[tuple[str, ...], Update] = {}

    def page(
        self, fields: Sequence[str], *, order: Sequence[str], after: bool, newest: bool, all_: bool
    ) -> Select:
        """Rows with these fields equal to parameters, in order, perhaps after a given row."""
        key = (tuple(fields), tuple(order), after, newest, all_)
        if key not in self._selects:
            self._selects[key] = self._page(*key)
        return self._selects[key]

    def _page(
        self, fields: Sequence[str], order: Sequence[str], after: bool, newest: bool, all_: bool
    ) -> Select:
        query = select(self.table.model).where(*self.filters(fields, all_=all_))
        if after:
            values = tuple(param(f"after_{name}") for name in order)
            query = query.where(After(tuple(order), values, newest))
        columns = [self.table.column(name) for name in order]
        return query.order_by(*columns, descending=newest).limit(param("limit"))

    def count(self, fields: Sequence[str], *, all_: bool) -> Count:
        """The number of rows with these fields equal to parameters."""
        key = (tuple(fields), all_)
        if key not in self._counts:
            self._counts[key] = Count(self.table, self.filters(fields, all_=all_))
        return self._counts[key]

    def filters(self, fields: Sequence[str], *, all_: bool) -> tuple[Filter, ...]:
        """Equality with parameters, and being live unless ``all_``."""
        filters = [self.table.column(name) == param(name) for name in fields]
        if self.hidden is not None and not all_:
            name, value = self.hidden
            filters.append(self.table.column(name) == (not value))
        return tuple(filters)

    def update(self, changed: Sequence[str], *, guards: Sequence[str] = ()) -> Update:
        """Set these columns of one row; guards are columns that must still have a value."""
        key = (*changed, "", *guards)
        if key not in self._updates:
            update = Update(self.table, tuple((name, param(name)) for name in changed))
            guarded = [self.table.column(name) == param(f"seen_{name}") for name in guards]
            update = update.where(self.table.column("id") == param("id"), *guarded)
            self._updates[key] = update
        return self._updates[key]


class Repository(Generic[T]):
    """Get, list, count, delete and purge the entities of one table."""

    model: ClassVar[type[msgspec.Struct]]
    prefix: ClassVar[str]
    order: ClassVar[tuple[str, ...]] = ("created_at", "id")
    queries: ClassVar[Queries]

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        cls.queries = Queries(cls.model)

    def __init__(self, context: Context):
        self._context = context
        self._store = context.store
        self._indexer = context.indexer
        self._clock = context.clock

    @property
    def entity(self) -> str:
        """What an error calls one of these."""
        return self.queries.table.entity

    async def get(self, id: str, *, include_deleted: bool = False) -> T | None:
        """The entity with this id; ``None`` if there is none or it was deleted."""
        found: T | None = await self._store.execute(self.queries.get, id=check_id("id", id))
        if found is None or include_deleted or self._is_live(found):
            return found
        return None

    async def require(self, id: str, *, include_deleted: bool = False) -> T:
        """The entity with this id. Raises ``NotFound``."""
        found = await self.get(id, include_deleted=include_deleted)
        if found is None:
            raise NotFound(self.entity, id)
        return found

    async def delete(self, id: str) -> None:
        """Deactivate: no longer listed or found; ``purge`` erases. Raises ``NotFound``."""
        await self.require(id)
        await self._deactivate(id)

    async def restore(self, id: str) -> T:
        """Undo ``delete``; gives the entity. Raises ``NotFound``, or ``AlreadyExists`` if its place
        was taken."""
        found = await self.require(id, include_deleted=True)
        if self._is_live(found):
            return found
        return await self._reactivate(found)

    async def purge(self, id: str) -> None:
        """Erase the entity and everything derived from it, for good. Raises ``NotFound``."""
        found = await self.require(id, include_deleted=True)
        audit = self._audit("purge", subject_id=id, details={"entity": self.entity})
        await self._store.write([*self._purges(found), audit])

    def _purges(self, found: T) -> builtins.list[Bound]:
        return [self.queries.purge(id=found.id)]  # type: ignore[attr-defined]

    async def _deactivate(self, id: str) -> None:
        if self.queries.hidden is None:
            raise Unsupported(f"A {self.entity} cannot be deactivated; purge it to erase it.")
        await self._change(id, {"is_active": False})

    async def _reactivate(self, found: T) -> T:
        return await self._change(found.id, {"is_active": True})  # type: ignore[attr-defined,no-any-return]

    def _is_live(self, found: Any) -> bool:
        hidden = self.queries.hidden
        return hidden is None or getattr(found, hidden[0]) is not hidden[1]

    def _new_id(self, id: str | None, now: datetime) -> str:
        return new_id(self.prefix, now) if id is None else check_id("id", id)

    def _build(self, **values: Any) -> Any:
        return build(self.model, values)

    async def _insert(self, row: Any) -> Any:
        return await self._store.execute(self.queries.insert, row=row)

    async def _list(
        self,
        *,
        limit: int,
        after: str | None = None,
        newest_first: bool = False,
        include_deleted: bool = False,
        **fields: Any,
    ) -> builtins.list[T]:
        """A page of the rows with these fields (``None`` means any), after the row with an id."""
        given = {name: value for name, value in fields.items() if value is not None}
        for name, value in given.items():
            if isinstance(value, str):
                check_text(name, value)
        params = {**given, "limit": check_limit(limit)}
        if after is not None:
            params |= await self._keyset(after)
        query = self.queries.page(
            list(given),
            order=self.order,
            after=after is not None,
            newest=newest_first,
            all_=include_deleted,
        )
        return await self._store.execute(query, **params)  # type: ignore[no-any-return]

    async def _keyset(self, after: str) -> dict[str, Any]:
        row = await self.require(after, include_deleted=True)
        return {f"after_{name}": getattr(row, name) for name in self.order}

    async def _count(self, *, include_deleted: bool = False, **fields: Any) -> int:
        given = {name: value for name, value in fields.items() if value is not None}
        query = self.queries.count(list(given), all_=include_deleted)
        return await self._store.execute(query, **given)  # type: ignore[no-any-return]

    async def _change(self, id: str, changes: dict[str, Any]) -> Any:
        """Set fields of a live or deleted row, checked as a whole; gives the row as it is now."""
        before = await self.require(id, include_deleted=True)
        after = self._changed(before, changes)
        touched = self._touched(changes)
        bound = self.queries.update(touched)(id=id, **{n: getattr(after, n) for n in touched})
        await self._store.write([bound.expect(1)])
        return after

    def _changed(self, before: Any, changes: dict[str, Any]) -> Any:
        values = {name: getattr(before, name) for name in before.__struct_fields__}
        now = {"updated_at": self._clock()} if "updated_at" in values else {}
        return self._build(**{**values, **now, **changes})

    def _touched(self, changes: dict[str, Any]) -> builtins.list[str]:
        stamp = ["updated_at"] if "updated_at" in self.model.__struct_fields__ else []
        return [*changes, *(name for name in stamp if name not in changes)]

    def _audit(self, action: str, **fields: Any) -> Bound:
        now = self._clock()
        row = build(
            AuditRecord,
            {"id": new_id("audit", now), "action": action, "created_at": now, **fields},
        )
        return _AUDIT(row=row)


async def retried(attempt: Callable[[], Awaitable[R]], what: str) -> R:
    """Do something that others may interfere with, again until they do not."""
    for number in range(_ATTEMPTS):
        try:
            return await attempt()
        except Conflict:
            await pause(number)
    raise Conflict(f"This {what} is being changed all the time; try again later.")


async def pause(attempt: int) -> None:
    """Wait before trying again what others change too: at random, and longer each time.

    Thirty tasks that append to one block at once had six of them give up after 20 attempts.
    """
    await asyncio.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)))


def given(**fields: Any) -> dict[str, Any]:
    """The arguments that were given: those that are not ``UNSET``."""
    return {name: value for name, value in fields.items() if value is not msgspec.UNSET}
