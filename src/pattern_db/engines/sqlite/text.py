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


def phrase(term: str) -> str:
    """A term as an FTS5 string: every character of it is text, none is syntax."""
    return '"' + term.replace('"', '""') + '"'


def match_expression(terms: Sequence[str], scope: str) -> str:
    """Rows of a scope with at least one of the terms outside the scope column."""
    words = " OR ".join(map(phrase, terms))
    return f"(scope : {phrase(scope)}) AND (- scope : ({words}))"


def compile_text_search(
    table: Table,
    terms: Sequence[str],
    *,
    agent_id: str,
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
        scope = connection.execute("SELECT pk FROM agents WHERE id = ?", (agent_id,)).fetchone()
        if scope is None:
            return []
        match = match_expression(terms, f"a{scope[0]}")
        rows: Any = connection.execute(compiled.sql, (match, *compiled.bind(params), limit))
        return list(rows)

    return run
