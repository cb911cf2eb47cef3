"""Tables, columns, indexes and references, read off the models.

A model is a msgspec Struct under the ``@table`` decorator. Its annotations give the columns; what
annotations cannot say (references, indexes, what is searchable) is given to the decorator or as
``Annotated`` notes. Nothing else declares the data model.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from .filters import Comparison, In

S = TypeVar("S", bound=msgspec.Struct)


class ColumnType(enum.Enum):
    """How a value is kept. An engine maps each to a type of its own."""

    TEXT = "text"
    INTEGER = "integer"
    REAL = "real"
    BOOLEAN = "boolean"
    BYTES = "bytes"
    TIME = "time"
    ENUM = "enum"
    JSON = "json"


class Reference(msgspec.Struct, frozen=True):
    """A foreign key to the ``id`` of another table."""

    table: str
    on_delete: str = "cascade"


class Counted(msgspec.Struct, frozen=True):
    """The database assigns ``first`` and the numbers after it among the rows that agree in these
    columns."""

    within: tuple[str, ...]
    first: int = 0


class Column(msgspec.Struct, frozen=True, eq=False):
    """One column. Comparing it gives a filter; enum columns compare and sort by rank."""

    name: str
    type: ColumnType
    nullable: bool = False
    references: Reference | None = None
    counted: Counted | None = None
    ranks: tuple[str, ...] = ()
    python: Any = None

    __hash__ = object.__hash__

    def __eq__(self, value: object) -> Comparison:  # type: ignore[override]
        return Comparison(self.name, "=", value)

    def __ne__(self, value: object) -> Comparison:  # type: ignore[override]
        return Comparison(self.name, "!=", value)

    def __lt__(self, value: object) -> Comparison:
        return Comparison(self.name, "<", value)

    def __le__(self, value: object) -> Comparison:
        return Comparison(self.name, "<=", value)

    def __gt__(self, value: object) -> Comparison:
        return Comparison(self.name, ">", value)

    def __ge__(self, value: object) -> Comparison:
        return Comparison(self.name, ">=", value)

    def in_(self, values: object) -> In:
        """The value is one of a bound list."""
        return In(self.name, values)

    def describe(self) -> dict[str, Any]:
        """What of the column is part of the stored schema, as plain data."""
        shown: dict[str, Any] = {"name": self.name, "type": self.type.value}
        if self.nullable:
            shown["nullable"] = True
        if self.references:
            shown["references"] = [self.references.table, self.references.on_delete]
        if self.counted:
            shown["counted"] = list(self.counted.within)
            if self.counted.first:
                shown["first"] = self.counted.first
        if self.ranks:
            shown["ranks"] = list(self.ranks)
        return shown


class Index(msgspec.Struct, frozen=True):
    """An index; ``live_only`` leaves out rows whose ``is_active`` is false."""

    columns: tuple[str, ...]
    unique: bool = False
    live_only: bool = False


class TextIndex(msgspec.Struct, frozen=True):
    """What a text search finds of a table.

    ``columns`` are searchable, ``hidden`` names a boolean column and the value that takes a row out
    of the index, ``owner`` the column with the agent that scopes it, and ``shared_through`` a table
    (``block_id``, ``agent_id``) of further agents who may find it. A search for one value of a
    column ``within`` costs what there is with that value, however much there is else.
    """

    kind: str
    columns: tuple[str, ...]
    hidden: tuple[str, bool]
    owner: str = "agent_id"
    shared_through: str | None = None
    within: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """It as plain data; what was added later is left out where it says nothing."""
        shown: dict[str, Any] = msgspec.to_builtins(self)
        if not self.within:
            del shown["within"]
        return shown


class Table(msgspec.Struct, frozen=True, eq=False):
    """One table: its columns in order, its key, indexes and text index."""

    name: str
    entity: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ("id",)
    indexes: tuple[Index, ...] = ()
    text: TextIndex | None = None
    logged_removals: bool = False
    model: Any = None

    __hash__ = object.__hash__

    @property
    def has_turns(self) -> bool:
        """Whether its rows are said one after the other: short texts, in whose length and repeated
        words there is nothing to read."""
        return any(column.name == "ordinal" for column in self.columns)

    def column(self, name: str) -> Column:
        """The column of this name; ``KeyError`` if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"table {self.name!r} has no column {name!r}")

    def describe(self) -> dict[str, Any]:
        """The stored schema of the table as plain data; equal data, equal schema."""
        return {
            "name": self.name,
            "key": list(self.key),
            "columns": [column.describe() for column in self.columns],
            "indexes": [msgspec.to_builtins(index) for index in self.indexes],
            "text": None if self.text is None else self.text.describe(),
            "logged_removals": self.logged_removals,
        }


class Columns:
    """The columns of a table as attributes, for writing filters."""

    def __init__(self, table: Table):
        self._columns = {column.name: column for column in table.columns}

    def __getattr__(self, name: str) -> Column:
        try:
            return self._columns[name]
        except KeyError:
            raise AttributeError(f"there is no column {name!r}") from None


_TABLES: dict[type, Table] = {}

_SCALARS: dict[Any, ColumnType] = {
    str: ColumnType.TEXT,
    int: ColumnType.INTEGER,
    float: ColumnType.REAL,
    bool: ColumnType.BOOLEAN,
    bytes: ColumnType.BYTES,
    datetime: ColumnType.TIME,
}


def table(
    name: str,
    *,
    entity: str,
    key: tuple[str, ...] = ("id",),
    indexes: tuple[Index, ...] = (),
    text: TextIndex | None = None,
    logged_removals: bool = False,
) -> Callable[[type[S]], type[S]]:
    """Declare that a Struct is kept in a table."""

    def declare(model: type[S]) -> type[S]:
        _TABLES[model] = Table(
            name, entity, tuple(_columns(model)), key, indexes, text, logged_removals, model
        )
        return model

    return declare


def table_of(model: type[msgspec.Struct]) -> Table:
    """The table of a model."""
    return _TABLES[model]


def entity_of(table_name: str) -> str:
    """What a row of this table is called in a message to the user."""
    return next((t.entity for t in _TABLES.values() if t.name == table_name), table_name)


def columns_of(model: type[msgspec.Struct]) -> Columns:
    """The columns of a model: ``columns_of(Message).agent_id == param("agent_id")``."""
    return Columns(_TABLES[model])


def all_tables() -> tuple[Table, ...]:
    """Every declared table, in the order of declaration: referenced tables come first."""
    return tuple(_TABLES.values())


def _columns(model: type[msgspec.Struct]) -> Iterator[Column]:
    hints = get_type_hints(model, include_extras=True)
    for name in model.__struct_fields__:
        yield _column(name, hints[name])


def _column(name: str, hint: Any) -> Column:
    inner, notes = _unwrap(hint)
    inner, nullable = _without_none(inner)
    inner, more = _unwrap(inner)
    notes += more
    kind = _column_type(inner)
    return Column(
        name=name,
        type=kind,
        nullable=nullable or inner is Any,
        references=next((note for note in notes if isinstance(note, Reference)), None),
        counted=next((note for note in notes if isinstance(note, Counted)), None),
        ranks=tuple(member.value for member in inner) if kind is ColumnType.ENUM else (),
        python=inner,
    )


def _unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    if get_origin(hint) is Annotated:
        inner, *notes = get_args(hint)
        return inner, tuple(notes)
    return hint, ()


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
        others = tuple(arg for arg in get_args(hint) if arg is not type(None))
        return Union[others], True  # noqa: UP007
    return hint, False


def _column_type(hint: Any) -> ColumnType:
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return ColumnType.ENUM
    return _SCALARS.get(hint, ColumnType.JSON)


def table_from_description(described: dict[str, Any]) -> Table:
    """The table that ``describe`` described. It has no model, so rows cannot be read with it."""
    text = described["text"]
    return Table(
        name=described["name"],
        entity=described["name"],
        columns=tuple(_column_from(column) for column in described["columns"]),
        key=tuple(described["key"]),
        indexes=tuple(msgspec.convert(index, Index) for index in described["indexes"]),
        text=msgspec.convert(text, TextIndex) if text else None,
        logged_removals=described["logged_removals"],
    )


def _column_from(described: dict[str, Any]) -> Column:
    references, counted = described.get("references"), described.get("counted")
    return Column(
        name=described["name"],
        type=ColumnType(described["type"]),
        nullable=described.get("nullable", False),
        references=Reference(*references) if references else None,
        counted=Counted(tuple(counted), described.get("first", 0)) if counted else None,
        ranks=tuple(described.get("ranks", ())),
    )
