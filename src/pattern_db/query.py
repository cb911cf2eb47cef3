"""Questions that can be asked of the data model, as immutable values.

Build them once, at import; an engine compiles each once. ``query(**params)`` binds values and gives
a ``Bound``, which engines execute.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .filters import Filter, Param, param
from .schema import Column, Table, table_of

__all__ = [
    "Added",
    "Bound",
    "Count",
    "Delete",
    "Get",
    "Insert",
    "Order",
    "Param",
    "Query",
    "Select",
    "Update",
    "delete",
    "param",
    "select",
    "update",
]


class Added(msgspec.Struct, frozen=True):
    """In an ``Update``: what the column has, and a number (or ``Param``) more."""

    number: Any


class Order(msgspec.Struct, frozen=True):
    """Sort by a column; an enum sorts by rank."""

    column: str
    descending: bool = False


class _Query(msgspec.Struct, frozen=True, eq=False, weakref=True):
    table: Table

    __hash__ = object.__hash__

    def __call__(self, **params: Any) -> Bound:
        return Bound(self, params)


class Get(_Query, frozen=True, eq=False):
    """The row with this key, or ``None``. Parameters: the key columns by name."""


class Select(_Query, frozen=True, eq=False):
    """Rows in order. Without ``columns`` each row is a model, with them a tuple of those."""

    filters: tuple[Filter, ...] = ()
    orders: tuple[Order, ...] = ()
    at_most: Any = None
    columns: tuple[str, ...] = ()

    def where(self, *filters: Filter) -> Select:
        """With further conditions; all must hold."""
        return msgspec.structs.replace(self, filters=self.filters + filters)

    def order_by(self, *columns: Column, descending: bool = False) -> Select:
        """Sorted by these columns, all in one direction."""
        added = tuple(Order(column.name, descending) for column in columns)
        return msgspec.structs.replace(self, orders=self.orders + added)

    def limit(self, at_most: Any) -> Select:
        """At most this many rows (a number or a ``param``)."""
        return msgspec.structs.replace(self, at_most=at_most)

    def only(self, *columns: Column) -> Select:
        """Tuples of these columns instead of models."""
        return msgspec.structs.replace(self, columns=tuple(column.name for column in columns))


class Count(_Query, frozen=True, eq=False):
    """The number of rows that meet all conditions."""

    filters: tuple[Filter, ...] = ()


class Insert(_Query, frozen=True, eq=False):
    """Write one new row: ``Insert(table)(row=model)``.

    ``on_conflict="ignore"`` leaves an existing row with the same key as it is and gives ``None``;
    ``"replace"`` overwrites the row with the same key, except ``created_at``.
    """

    on_conflict: Literal["fail", "ignore", "replace"] = "fail"


class Update(_Query, frozen=True, eq=False):
    """Set columns of the rows that meet all conditions.

    A ``Param`` is bound when it runs; ``Added`` adds to the number that the row has then.
    """

    changes: tuple[tuple[str, Any], ...] = ()
    filters: tuple[Filter, ...] = ()

    def where(self, *filters: Filter) -> Update:
        """With further conditions; all must hold."""
        return msgspec.structs.replace(self, filters=self.filters + filters)


class Delete(_Query, frozen=True, eq=False):
    """Remove the rows that meet all conditions, and what references them with "cascade"."""

    filters: tuple[Filter, ...] = ()

    def where(self, *filters: Filter) -> Delete:
        """With further conditions; all must hold."""
        return msgspec.structs.replace(self, filters=self.filters + filters)


Query = Get | Select | Count | Insert | Update | Delete


class Bound(msgspec.Struct, frozen=True, gc=False):
    """A query with its values.

    ``expected`` guards a write: if another number of rows was touched, the whole atomic write it
    belongs to fails with ``Conflict`` and nothing is kept.
    """

    query: Any
    params: dict[str, Any]
    expected: int | None = None

    def expect(self, rows: int) -> Bound:
        """The same, guarded."""
        return Bound(self.query, self.params, rows)


def select(model: type[msgspec.Struct]) -> Select:
    """Every row of a model's table; narrow with ``where``, ``order_by``, ``limit``."""
    return Select(table_of(model))


def update(model: type[msgspec.Struct], *columns: str, **fixed: Any) -> Update:
    """Set ``columns`` to parameters of the same names, and ``fixed`` columns to these values."""
    bound = tuple((column, Param(column)) for column in columns)
    return Update(table_of(model), bound + tuple(fixed.items()))


def delete(model: type[msgspec.Struct]) -> Delete:
    """Every row of a model's table; narrow with ``where``."""
    return Delete(table_of(model))
