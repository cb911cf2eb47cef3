"""Full-text search on FTS5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from ...filters import Filter
from ...schema import Table
from ..sql import Statement, encode_json, quoted
from .ddl import text_table
from .writer import Run

_SCOPES = "SELECT 'a' || pk FROM agents WHERE id IN (SELECT value FROM json_each(?))"


def phrase(term: str) -> str:
    """A term as an FTS5 string: every character of it is text, none is syntax."""
    return '"' + term.replace('"', '""') + '"'


def match_expression(terms: Sequence[str], scopes: Sequence[str]) -> str:
    """Rows of one of the scopes with at least one of the terms outside the scope column."""
    agents, words = (" OR ".join(map(phrase, given)) for given in (scopes, terms))
    return f"(scope : ({agents})) AND (- scope : ({words}))"


def compile_text_search(
    table: Table,
    terms: Sequence[str],
    *,
    agent_ids: Sequence[str],
    limit: int,
    condition: Filter | None,
    params: dict[str, Any],
    exclude: Sequence[str],
) -> Run:
    """The search as a function of a connection."""
    assert table.text is not None
    statement = Statement(table)
    name, index = quoted(table.name), quoted(text_table(table))
    sql = (
        f"SELECT {name}.id, -bm25({index}, 0.0) AS score FROM {index} "
        f"JOIN {name} ON {name}.pk = {index}.rowid WHERE {index} MATCH ?"
    )
    if condition is not None:
        sql += f" AND {statement.condition(condition)}"
    if exclude:
        listed = statement.value(encode_json(list(exclude)))
        sql += f" AND {name}.id NOT IN (SELECT value FROM json_each({listed}))"
    sql += f" ORDER BY score DESC, {name}.pk DESC LIMIT ?"
    compiled = statement.finish(sql, None, writes=False, bounded=False)

    def run(connection: apsw.Connection) -> list[tuple[str, float]]:
        scopes: Any = connection.execute(_SCOPES, (encode_json(list(agent_ids)),)).fetchall()
        if not scopes:
            return []
        match = match_expression(terms, [scope for (scope,) in scopes])
        rows: Any = connection.execute(compiled.sql, (match, *compiled.bind(params), limit))
        return list(rows)

    return run
