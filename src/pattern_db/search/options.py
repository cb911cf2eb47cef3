"""What can be asked of a search, and what comes back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import msgspec

from ..embeddings.indexing import SEARCHABLE
from ..errors import InvalidValue
from ..filters import And, Filter, InFolded, JsonContains, param
from ..models import Json, OutcomeKind, Role, TaskType
from ..schema import Table
from ..validation import (
    check_enum,
    check_id,
    check_known,
    check_limit,
    check_text,
    check_time,
)
from .metadata import check_metadata, condition_of, tests_of, values_of
from .past import theirs

Mode = Literal["hybrid", "semantic", "keyword"]
MODES = ("hybrid", "semantic", "keyword")
DEFAULT_HITS = 10
MOST_HITS = 1000
MOST_AGENTS = 100


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was found.

    ``item`` is the model, ``kind`` its kind, ``score`` in 0…1 (comparable within one mode), ``why``
    the parts the score is the sum of, ``mode`` the mode that ran.
    """

    item: Any
    kind: str
    score: float
    why: dict[str, float]
    mode: str


class SearchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One scope for both sides of a search. Filters only find what has the field they ask for.

    ``as_of`` is a time in the past: what was known then. ``diversity`` is in 0…1, 0 for none.
    """

    kinds: tuple[str, ...]
    limit: int = DEFAULT_HITS
    mode: Mode = "hybrid"
    roles: tuple[Role, ...] | None = None
    speakers: tuple[str, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None
    tags: tuple[str, ...] | None = None
    metadata: Json | None = None
    conversation_id: str | None = None
    domain: str | None = None
    task_type: TaskType | None = None
    outcome: OutcomeKind | None = None
    include_archived: bool = True
    as_of: datetime | None = None
    diversity: float = 0.0

    @classmethod
    def of(cls, given: dict[str, Any], *, kind: str | None = None) -> SearchOptions:
        """Checked options, of a search of every kind or of one only.

        Raises ``InvalidValue`` naming the one that cannot be.
        """
        known = [name for name in cls.__struct_fields__ if kind is None or name != "kinds"]
        check_known("option", given, known)
        checked = {name: _CHECKS[name](value) for name, value in given.items() if value is not None}
        kinds = tuple(SEARCHABLE) if kind is None else (kind,)
        return cls(**{"kinds": kinds, **checked})

    def condition(
        self, table: Table, *, without: Collection[str] = ()
    ) -> tuple[Filter | None, dict[str, Any]] | None:
        """The filter for the rows of one table and its values; ``None`` if no row can meet it.

        The filter of ``as_of`` also needs the value ``agent_ids``. ``without`` names options to
        leave aside.
        """
        columns = {column.name for column in table.columns}
        used = tuple(name for name in _NEEDS if name not in without and self._asks(name))
        missing = {name for name in used if columns.isdisjoint(_NEEDS[name])}
        if missing - {"include_archived"}:
            return None
        used = tuple(name for name in used if name not in missing)
        tests = tests_of(self.metadata or {})
        condition = _condition(table, used, tuple(operator for _, operator, _ in tests))
        return condition, {name: getattr(self, name) for name in used} | values_of(tests)

    def covers(self, moment: datetime) -> bool:
        """Whether a time lies in the asked range."""
        return (self.since is None or self.since <= moment) and (
            self.until is None or moment < self.until
        )

    def _asks(self, name: str) -> bool:
        value = getattr(self, name)
        if name == "include_archived":
            return not value
        return bool(value) if name == "metadata" else value is not None


_NEEDS = {
    "roles": ("role",),
    "speakers": ("speaker",),
    "since": ("created_at",),
    "until": ("created_at",),
    "tags": ("tags", "metadata"),
    "metadata": ("metadata",),
    "conversation_id": ("conversation_id",),
    "domain": ("domain",),
    "task_type": ("task_type",),
    "outcome": ("outcome_kind",),
    "include_archived": ("is_archived", "archived_from"),
    "as_of": ("created_at",),
}
"""The columns of which a row must have one to meet an option."""


def _time_column(table: Table) -> str:
    """A block is as old as its text; everything else as its creation."""
    return "updated_at" if table.name == "memory_blocks" else "created_at"


def _known_by(table: Table) -> Filter:
    """The row was there by then, and is as it was: of blocks those that did not change since."""
    blocks = table.name == "memory_blocks"
    column = table.column("updated_at" if blocks else "created_at")
    by_then: Filter = column <= param("as_of")
    return by_then & theirs() if blocks else by_then


def _tagged(table: Table) -> Filter:
    """It has all tags: as a list of its own, or in its metadata."""
    if any(column.name == "tags" for column in table.columns):
        return JsonContains("tags", None, param("tags"))
    return JsonContains("metadata", "tags", param("tags"))


def _in_use(table: Table) -> Filter:
    """It is not archived."""
    if any(column.name == "archived_from" for column in table.columns):
        not_archived: Filter = table.column("archived_from") == None  # noqa: E711
        return not_archived
    live: Filter = table.column("is_archived") == False  # noqa: E712
    return live


_FILTERS: dict[str, Any] = {
    "roles": lambda t: t.column("role").in_(param("roles")),
    "speakers": lambda _t: InFolded("speaker", param("speakers")),
    "since": lambda t: t.column(_time_column(t)) >= param("since"),
    "until": lambda t: t.column(_time_column(t)) < param("until"),
    "tags": _tagged,
    "conversation_id": lambda t: t.column("conversation_id") == param("conversation_id"),
    "domain": lambda t: t.column("domain") == param("domain"),
    "task_type": lambda t: t.column("task_type") == param("task_type"),
    "outcome": lambda t: t.column("outcome_kind") == param("outcome"),
    "include_archived": _in_use,
    "as_of": _known_by,
}


@lru_cache(maxsize=1024)
def _condition(table: Table, used: tuple[str, ...], operators: tuple[str, ...]) -> Filter | None:
    filters = [_FILTERS[name](table) for name in used if name in _FILTERS]
    filters += condition_of(operators)
    return And(tuple(filters)) if filters else None


def agents_of(agent_id: Any) -> tuple[str, ...]:
    """The agents to search: of one id or of a list of them. Raises ``InvalidValue``."""
    ids = tuple(dict.fromkeys(check_id("agent_id", id) for id in _listed("agent_id", agent_id)))
    if not 1 <= len(ids) <= MOST_AGENTS:
        raise InvalidValue("agent_id", f"name at least one agent, and at most {MOST_AGENTS}.")
    return ids


def _listed(field: str, value: Any) -> list[Any]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Sequence | set | frozenset):
        raise InvalidValue(field, "it must be a text or a list of them.")
    return list(value)


def _kinds(value: Any) -> tuple[str, ...]:
    kinds = _listed("kinds", value)
    check_known("kinds", kinds, SEARCHABLE)
    if not kinds:
        raise InvalidValue("kinds", f"name at least one of {', '.join(SEARCHABLE)}.")
    return tuple(dict.fromkeys(kinds))


def _limit(value: Any) -> int:
    if check_limit(value) > MOST_HITS:
        raise InvalidValue("limit", f"a search gives at most {MOST_HITS} hits.")
    return int(value)


def _mode(value: Any) -> str:
    if value not in MODES:
        raise InvalidValue("mode", f"it must be one of {', '.join(MODES)}.")
    return str(value)


def _texts(field: str) -> Any:
    return lambda value: tuple(check_text(field, text) for text in _listed(field, value))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidValue("include_archived", "it must be true or false.")
    return value


def _diversity(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidValue("diversity", "it must be a number from 0 to 1.")
    return float(value)


_CHECKS: dict[str, Any] = {
    "kinds": _kinds,
    "limit": _limit,
    "mode": _mode,
    "roles": lambda value: tuple(check_enum("roles", Role, r) for r in _listed("roles", value)),
    "speakers": _texts("speakers"),
    "since": lambda value: check_time("since", value),
    "until": lambda value: check_time("until", value),
    "tags": _texts("tags"),
    "metadata": check_metadata,
    "conversation_id": lambda value: check_id("conversation_id", value),
    "domain": lambda value: check_text("domain", value),
    "task_type": lambda value: check_enum("task_type", TaskType, value),
    "outcome": lambda value: check_enum("outcome", OutcomeKind, value),
    "include_archived": _flag,
    "as_of": lambda value: check_time("as_of", value),
    "diversity": _diversity,
}
