"""Full-text search on ``tsvector``, ranked by BM25.

PostgreSQL has no BM25, but what it is made of: ``ts_rank_cd`` with all weights 1 and no
normalization counts the occurrences of a word or phrase, ``length`` the different words of a row.
(``ts_rank_cd`` alone does not know that a rare word says more than a common one.) ``k1`` and ``b``
are SQLite's, so that scores mean the same. Positions end at 16,383: in a longer text a phrase
further back is not found as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...filters import Filter
from ...schema import Table, TextIndex
from ..sql import Compiled, quoted
from .compiler import PostgresStatement
from .names import WORDS, Schema, scope_word

_K1, _B = 1.2, 0.75
_LEAST_WEIGHT = 1e-6
"""Of a word that most rows have: less than nothing would be too little."""


def compile_text_search(
    schema: Schema,
    table: Table,
    terms: Sequence[str],
    *,
    agent_ids: Sequence[str],
    limit: int,
    condition: Filter | None,
    params: dict[str, Any],
    exclude: Sequence[str],
) -> tuple[Compiled, dict[str, Any]]:
    """The search and its values: rows of an id and a score."""
    assert table.text is not None
    absent = frozenset(name for name, value in params.items() if value is None)
    statement = PostgresStatement(table, schema, absent)
    asked = _asked(statement, terms, agent_ids, table.text)
    rows = f"FROM {statement.source()} WHERE {live_and_mine(statement, table.text, agent_ids)}"
    where = rows + conditions(statement, condition, exclude)
    words = f"{quoted(table.name)}.{quoted(WORDS)}"
    sql = f"""
        WITH asked AS MATERIALIZED ({asked}),
        hits AS MATERIALIZED (
            SELECT found.id, asked.word,
                greatest(ts_rank_cd('{{1,1,1,1}}', found.words, asked.word), 1) AS times,
                length(found.words) AS long
            FROM asked CROSS JOIN LATERAL (
                SELECT id, {words} AS words {where} AND {words} @@ asked.here
            ) AS found
        ),
        every AS (SELECT count(*)::float8 AS n {rows}),
        usual AS (SELECT avg(long)::float8 AS long FROM hits),
        weights AS (
            SELECT word, greatest(ln((every.n - count(*) + 0.5) / (count(*) + 0.5)),
                {_LEAST_WEIGHT}) AS weight
            FROM hits, every GROUP BY word, every.n
        )
        SELECT id, sum(weight * times * {_K1 + 1} / (times + {_K1} * (
            {1 - _B} + {_B} * hits.long / usual.long)))::float8 AS score
        FROM hits JOIN weights USING (word), usual
        GROUP BY id ORDER BY score DESC, id DESC LIMIT {statement.value(limit, None, "bigint")}
    """
    return statement.finish(sql, None, writes=False, bounded=False), params


def _asked(
    statement: PostgresStatement, terms: Sequence[str], agent_ids: Sequence[str], text: TextIndex
) -> str:
    """Each term as a phrase, alone and within the scope; a term without a word is none."""
    cut, words = statement.schema.of("pattern_cut"), statement.schema.literal("pattern_words")
    scope = " | ".join(f"'{scope_word(agent_id)}'" for agent_id in agent_ids)
    here = "word" if text.shared_through else f"{statement.value(scope, None, 'tsquery')} && word"
    return (
        f"SELECT DISTINCT word, {here} AS here FROM unnest({statement.listed(terms)}) AS term, "
        f"LATERAL phraseto_tsquery({words}::regconfig, {cut}(term)) AS word "
        "WHERE numnode(word) > 0"
    )


def live_and_mine(statement: PostgresStatement, text: TextIndex, agent_ids: Sequence[str]) -> str:
    """The rows that are not hidden and that one of the agents may find."""
    table = quoted(statement.table.name)
    hidden, value = text.hidden
    return (
        f"{table}.{quoted(hidden)} = {'false' if value else 'true'} "
        f"AND {mine(statement, text, agent_ids, f'{table}.{quoted(text.owner)}', f'{table}.id')}"
    )


def mine(
    statement: PostgresStatement, text: TextIndex, agent_ids: Sequence[str], owner: str, id: str
) -> str:
    """What belongs to one of the agents, or is shared with one."""
    agents = statement.listed(agent_ids)
    own = f"{owner} = ANY({agents})"
    if text.shared_through is None:
        return own
    shares = statement.schema.of(text.shared_through)
    return f"({own} OR {id} IN (SELECT block_id FROM {shares} WHERE agent_id = ANY({agents})))"


def conditions(
    statement: PostgresStatement, condition: Filter | None, exclude: Sequence[str]
) -> str:
    """The rest of the scope, to be added to a ``WHERE``."""
    sql = "" if condition is None else f" AND {statement.condition(condition)}"
    if exclude:
        sql += f" AND {quoted(statement.table.name)}.id <> ALL({statement.listed(exclude)})"
    return sql
