"""Full-text search: SurrealDB's index finds the rows, BM25 is computed here.

Its own score counts over all agents, and its analyzers cut words otherwise than the other engines;
so the index holds stems made by us, and a search reads the stems of every row it found. ``k1`` and
``b`` are SQLite's, the usual length is that of the rows found, as on PostgreSQL.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ...filters import Filter
from ...schema import Table
from .compiler import Compiled, Statement, is_searched
from .names import WORDS, quoted, scope_word, words_of
from .scope import Rows, Scope, same, shared_with
from .stems import stems

_K1, _B = 1.2, 0.75
_LEAST_WEIGHT = 1e-6
"""Of a word that most rows have: less than nothing would be too little."""
MOST_ROWS = 20_000
"""How many rows one search reads."""
_MOST_BRANCHES = 64
"""Of a condition, each looked up in the index."""

Hits = list[tuple[str, float]]


class TextSearch:
    """Searches by words in one database; ``rows`` runs a read."""

    def __init__(self, rows: Rows):
        self._rows = rows

    async def search(
        self,
        table: Table,
        terms: Sequence[str],
        *,
        agent_ids: Sequence[str],
        limit: int,
        condition: Filter | None,
        params: dict[str, Any],
        exclude: Sequence[str],
    ) -> Hits:
        """See ``TextStore.text_search``."""
        assert table.text is not None
        phrases = list(dict.fromkeys(phrase for t in terms if (phrase := tuple(stems(t)))))
        if not phrases or not agent_ids or limit <= 0:
            return []
        shared = await shared_with(self._rows, table.text, agent_ids)
        scope = Scope(table, agent_ids=agent_ids, shared=shared, condition=condition, params=params)
        size, found = await self._rows(_compiled(scope, phrases), params)
        left_out = set(exclude)
        return _ranked([row for row in found if row[0] not in left_out], phrases, size)[:limit]


def _compiled(scope: Scope, phrases: Sequence[tuple[str, ...]]) -> Compiled:
    statement, table = Statement(scope.table), quoted(scope.table.name)
    columns = [words_of(c.name) for c in scope.table.columns if is_searched(scope.table, c)]
    values = ", ".join(f"{quoted(column)} ?? ''" for column in columns)
    size = f"((SELECT count() FROM {table} WHERE {scope.owned(statement)} GROUP ALL)[0].count ?? 0)"
    found = (
        f"(SELECT VALUE [id, {values}] FROM {table} WHERE ({_matches(statement, scope, phrases)}) "
        f"AND {scope.mine(statement)} AND {scope.live(statement)} LIMIT {MOST_ROWS})"
    )
    return statement.finish(f"[{size}, {found}]", same)


def _matches(statement: Statement, scope: Scope, phrases: Sequence[tuple[str, ...]]) -> str:
    """All words of one of the phrases, and the word of one of the agents where it narrows."""
    scopes = [scope_word(agent_id) for agent_id in scope.agent_ids]
    if scope.shared or len(scopes) * len(phrases) > _MOST_BRANCHES:
        scopes = [""]
    asked = [f"{own} {' '.join(phrase)}".strip() for own in scopes for phrase in phrases]
    return " OR ".join(f"{WORDS} @@ {statement.value(words)}" for words in asked)


def _ranked(rows: list[list[Any]], phrases: Sequence[tuple[str, ...]], size: int) -> Hits:
    """The rows by BM25, best first; those that hold a phrase's words elsewhere fall out."""
    texts = [(id, [column.split() for column in columns]) for id, *columns in rows]
    counts = [[_times(columns, phrase) for phrase in phrases] for _, columns in texts]
    rare = Counter(n for times in counts for n, count in enumerate(times) if count)
    size = max(size, len(rows))
    weights = [
        max(math.log((size - rare[n] + 0.5) / (rare[n] + 0.5)), _LEAST_WEIGHT)
        for n in range(len(phrases))
    ]
    lengths = [sum(map(len, columns)) for _, columns in texts]
    hit = [length for length, times in zip(lengths, counts, strict=True) if any(times)]
    usual = sum(hit) / len(hit) if hit else 1.0
    scored = [
        (id, _score(times, weights, length / usual))
        for (id, _), times, length in zip(texts, counts, lengths, strict=True)
        if any(times)
    ]
    return sorted(scored, key=lambda pair: (pair[1], pair[0]), reverse=True)


def _score(times: Sequence[int], weights: Sequence[float], length: float) -> float:
    least = _K1 * (1 - _B + _B * length)
    return sum(
        weight * count * (_K1 + 1) / (count + least)
        for count, weight in zip(times, weights, strict=True)
        if count
    )


def _times(columns: Sequence[list[str]], phrase: tuple[str, ...]) -> int:
    """How often a phrase occurs, within one column."""
    if len(phrase) == 1:
        return sum(column.count(phrase[0]) for column in columns)
    return sum(
        tuple(column[n : n + len(phrase)]) == phrase
        for column in columns
        for n in range(len(column) - len(phrase) + 1)
        if column[n] == phrase[0]
    )
