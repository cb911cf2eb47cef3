"""Full-text search on FTS5.

A search reads at most ``MOST_ROWS`` rows for each term, the newest, and drops the commonest terms
of a large scope where rarer ones tell enough, so that a question of common words costs no more
than another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count as counting
from typing import TYPE_CHECKING, Any

import apsw

from ...filters import And, Comparison, Filter, In, Param
from ...schema import Table
from ..embedded.writer import Run
from ..sql import Compiled, Statement, encode_json, quoted
from .ddl import text_table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

MOST_ROWS = 20_000
"""How many rows a term is looked up in; also how many all terms of a BM25 search may match."""
MOST_NEWEST, MOST_SCORED = 4_000, 3_000
"""The same where searches are within something narrow: BM25 costs 4 µs a row that matches."""
_SCOPES = "SELECT 'a' || pk FROM agents WHERE id IN (SELECT value FROM json_each(?))"
_RECOUNTED_GROWTH = 0.1
_MOST_SHARE = 0.5
"""Agents who own more than this of a table are nearly all of its owners."""
_AT_ONCE = 50
"""How many terms one statement looks up."""

Hits = list[tuple[str, float]]


def phrase(term: str) -> str:
    """A term as an FTS5 string: every character of it is text, none is syntax."""
    return '"' + term.replace('"', '""') + '"'


def match_expression(
    terms: Sequence[str], scopes: Sequence[str], within: Sequence[str] = ()
) -> str:
    """Rows of one of the scopes, within all others, with a term outside the scope column."""
    places = [f"(scope : {phrase(token)})" for token in within]
    if scopes:
        places.insert(0, f"(scope : ({' OR '.join(map(phrase, scopes))}))")
    return " AND ".join([*places, f"(- scope : ({' OR '.join(map(phrase, terms))}))"])


def tokens_within(table: Table, condition: Filter | None, params: dict[str, Any]) -> list[str]:
    """The words of the scope that every row has which meets the condition; see ``ddl``."""
    assert table.text is not None
    given: dict[str, Any] = {}
    for part in _equalities(condition):
        value = params.get(part.value.name) if isinstance(part.value, Param) else part.value
        given[part.column] = value
    return [
        f"w{place}x{given[column].encode().hex()}"
        for place, column in enumerate(table.text.within)
        if isinstance(given.get(column), str)
    ]


def _equalities(condition: Filter | None) -> Iterator[Comparison]:
    """The comparisons with one value that all have to hold."""
    if isinstance(condition, And):
        for part in condition.parts:
            yield from _equalities(part)
    elif isinstance(condition, Comparison) and condition.operator == "=":
        yield condition


class TextSearch:
    """Searches by words in one database."""

    def __init__(self) -> None:
        self._sizes: dict[tuple[str, str], tuple[int, int]] = {}

    def compile(
        self,
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
        own: Filter = In(table.text.owner, list(agent_ids))
        narrowed = own if condition is None else And((own, condition))
        ranked = _by_rarity if table.has_turns else _by_bm25
        if table.text.within:
            ranked = _by_either
        within = tokens_within(table, condition, params)

        def run(connection: apsw.Connection) -> Hits:
            listed = encode_json(list(agent_ids))
            scopes: Any = connection.execute(_SCOPES, (listed,)).fetchall()
            if not scopes:
                return []
            names = [scope for (scope,) in scopes]
            newest = _newest(connection, table)
            size = sum(self._size(connection, table, agent, newest) for agent in agent_ids)
            given = condition
            if within and len(names) > 1 and size >= _MOST_SHARE * newest:
                # nearly all are theirs: to look at who owns a hit costs less than to merge scopes
                names, given = [], narrowed
            passing = _Passing(table, given, params, exclude)
            postings = _Postings(connection, table, names, within, passing)
            return ranked(postings, list(dict.fromkeys(terms)), size, limit)

        return run

    def _size(self, connection: apsw.Connection, table: Table, agent_id: str, newest: int) -> int:
        """About how many rows of a table an agent has: counted anew when many were added."""
        assert table.text is not None
        size, seen = self._sizes.get((table.name, agent_id), (0, -1))
        if seen < 0 or abs(newest - seen) > size * _RECOUNTED_GROWTH:
            owner = quoted(table.text.owner)
            owned = f"SELECT count(*) FROM {quoted(table.name)} WHERE {owner} = ?"
            found: Any = connection.execute(owned, (agent_id,)).fetchone()
            size = found[0]
            self._sizes[table.name, agent_id] = (size, newest)
        return size


def _newest(connection: apsw.Connection, table: Table) -> int:
    """The number of the newest row: no fewer than there are rows."""
    sql = f"SELECT coalesce(max(pk), 0) FROM {quoted(table.name)}"
    found: Any = connection.execute(sql).fetchone()
    newest: int = found[0]
    return newest


class _Postings:
    """The rows of a table that hold a term, within the scopes of some agents."""

    def __init__(
        self,
        connection: apsw.Connection,
        table: Table,
        scopes: Sequence[str],
        within: Sequence[str],
        passing: _Passing,
    ):
        self._connection = connection
        self._scopes, self._within = scopes, within
        self._passing = passing
        self._index, self._table = quoted(text_table(table)), quoted(table.name)

    def of(self, terms: Sequence[str], size: int) -> list[Rows]:
        """The rows that hold each term, the newest in a scope of a larger size."""
        found = self._of_each(terms, MOST_ROWS if size > MOST_ROWS else None)
        if not self._passing.narrows:
            return found
        return [
            rows if len(rows) < MOST_ROWS else self._passing_of(term)
            for term, rows in zip(terms, found, strict=True)
        ]

    def _passing_of(self, term: str) -> Rows:
        """The newest rows that hold a term and pass: they may lie beyond the newest of all."""
        sql, values = self._passing.joined(
            f"SELECT {self._index}.rowid AS pk FROM {self._index} JOIN {self._table} "
            f"ON {self._table}.pk = {self._index}.rowid WHERE {self._index} MATCH ?"
        )
        sql += f" ORDER BY {self._index}.rowid DESC LIMIT {MOST_ROWS}"
        found = f"SELECT group_concat(pk) FROM ({sql})"
        ((listed,),) = self._connection.execute(found, (self._match([term]), *values))
        return _numbers(listed)

    def newest(self, terms: Sequence[str]) -> list[Rows]:
        """The newest rows that hold each term, whether they pass or not."""
        return self._of_each(terms, MOST_NEWEST)

    def _of_each(self, terms: Sequence[str], newest: int | None) -> list[Rows]:
        """One text of numbers for each term, all in one row: a Python value for each number would
        take longer than finding it, and each step of a statement waits for other threads."""
        sql = f"SELECT rowid AS pk FROM {self._index} WHERE {self._index} MATCH ?"
        if newest is not None:
            sql += f" ORDER BY rowid DESC LIMIT {newest}"
        found: list[Rows] = []
        for start in range(0, len(terms), _AT_ONCE):
            some = terms[start : start + _AT_ONCE]
            each = ", ".join([f"(SELECT group_concat(pk) FROM ({sql}))"] * len(some))
            (row,) = self._connection.execute(f"SELECT {each}", [self._match([t]) for t in some])
            found += map(_numbers, row)
        return found

    def _match(self, terms: Sequence[str]) -> str:
        return match_expression(terms, self._scopes, self._within)

    def passing(self, rows: Sequence[int]) -> dict[int, str]:
        """The ids of those of these rows that pass."""
        return self._passing.among(self._connection, rows)

    def bm25(self, terms: Sequence[str], limit: int) -> Hits:
        """The best rows by FTS5's BM25 over some of the terms."""
        sql, values = self._passing.joined(
            f"SELECT {self._table}.id, -bm25({self._index}, 0.0) AS score FROM {self._index} "
            f"JOIN {self._table} ON {self._table}.pk = {self._index}.rowid "
            f"WHERE {self._index} MATCH ?"
        )
        sql += f" ORDER BY score DESC, {self._table}.pk DESC LIMIT ?"
        match = self._match(terms)
        rows: Any = self._connection.execute(sql, (match, *values, limit))
        return list(rows)


def _numbers(listed: str | None) -> Rows:
    import numpy as np

    return np.fromstring(listed or "", np.int64, sep=",")


def _by_rarity(postings: _Postings, terms: Sequence[str], size: int, limit: int) -> Hits:
    """Rows by the sum of their terms' rarity, newest first where that is equal.

    That is BM25 without frequency and length, of which short texts have next to none.
    """
    return _rarest(postings, postings.of(terms, size), size, limit)


def _rarest(postings: _Postings, found: Sequence[Rows], size: int, limit: int) -> Hits:
    import numpy as np

    counts = np.array([len(rows) for rows in found])
    rarity = np.log1p((np.maximum(size, counts) - counts + 0.5) / (counts + 0.5))
    rows, places = np.unique(np.concatenate(found), return_inverse=True)
    scores = np.bincount(places, np.repeat(rarity, counts), minlength=len(rows)).astype(np.float64)
    hits: Hits = []
    for chunk in _best_first(rows, scores, limit):
        ids = postings.passing(rows[chunk].tolist())
        for row, score in zip(rows[chunk].tolist(), scores[chunk].tolist(), strict=True):
            if row in ids:
                hits.append((ids[row], score))
        if len(hits) >= limit:
            break
    return hits[:limit]


def _by_either(postings: _Postings, terms: Sequence[str], size: int, limit: int) -> Hits:
    """Rows by BM25 where few match, else by rarity among the newest of each term; of all, if too
    few of those pass."""
    newest = postings.newest(terms)
    if sum(map(len, newest)) <= MOST_SCORED:
        return postings.bm25(terms, limit)
    hits = _rarest(postings, newest, size, limit)
    if len(hits) >= limit or all(len(rows) < MOST_NEWEST for rows in newest):
        return hits
    return _by_rarity(postings, terms, size, limit)


def _best_first(rows: Rows, scores: NDArray[np.float64], limit: int) -> Iterator[Rows]:
    """Places of the rows, best first, newest first among equals, in growing chunks."""
    import numpy as np

    order = np.lexsort((-rows, -np.round(scores, 9)))
    start = 0
    for power in counting():
        if start >= len(order):
            return
        end = start + limit * 4**power
        yield order[start:end]
        start = end


def _by_bm25(postings: _Postings, terms: Sequence[str], size: int, limit: int) -> Hits:
    """Rows by BM25, over the rarest terms where the scope is large."""
    if size > MOST_ROWS:
        terms = _telling(postings, terms)
    return postings.bm25(terms, limit) if terms else []


def _telling(postings: _Postings, terms: Sequence[str]) -> list[str]:
    """The rarest terms, as long as they match few enough rows; one at least."""
    lengths = map(len, postings.of(terms, MOST_ROWS + 1))
    counted = sorted(zip(lengths, terms, strict=True))
    kept: list[str] = []
    matched = 0
    for rows, term in counted:
        matched += rows
        if kept and matched > MOST_ROWS:
            break
        if rows:
            kept.append(term)
    return kept


class _Passing:
    """What a search may find: rows that meet the condition and are not excluded."""

    def __init__(
        self,
        table: Table,
        condition: Filter | None,
        params: dict[str, Any],
        exclude: Sequence[str],
    ):
        self._params = params
        self._table, self._condition, self._exclude = table, condition, exclude
        self.narrows = condition is not None or bool(exclude)
        self._among: Compiled | None = None

    def joined(self, select: str) -> tuple[str, tuple[Any, ...]]:
        """A statement with the condition added, and the condition's values."""
        statement = Statement(self._table)
        sql = select
        if self._condition is not None:
            sql += f" AND {statement.condition(self._condition)}"
        if self._exclude:
            listed = statement.value(encode_json(list(self._exclude)))
            name = quoted(self._table.name)
            sql += f" AND {name}.id NOT IN (SELECT value FROM json_each({listed}))"
        compiled = statement.finish(sql, None, writes=False, bounded=False)
        return sql, compiled.bind(self._params)

    def among(self, connection: apsw.Connection, rows: Sequence[int]) -> dict[int, str]:
        """The ids of those of these rows that pass, by row number."""
        if self._among is None:
            self._among = self._compile_among()
        values = self._among.bind(self._params)
        found: Any = connection.execute(self._among.sql, (encode_json(rows), *values)).fetchall()
        hidden = set(self._exclude)
        return {row: id for row, id in found if id not in hidden}

    def _compile_among(self) -> Compiled:
        statement = Statement(self._table)
        name = quoted(self._table.name)
        sql = f"SELECT pk, id FROM {name} WHERE pk IN (SELECT value FROM json_each(?))"
        if self._condition is not None:
            sql += f" AND {statement.condition(self._condition)}"
        return statement.finish(sql, None, writes=False, bounded=False)
