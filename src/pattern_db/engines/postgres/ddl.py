"""The schema as PostgreSQL statements.

A table that is searched has a column made of its text: the stems of its words, and one word for the
agent that owns the row, so that a search costs what its scope costs. Words are cut and stemmed as
SQLite's ``porter unicode61 remove_diacritics`` does: lower case, no marks, runs of letters and
digits, the stemmer of Porter, no stop words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from ...schema import Column, Counted, Index, Table, TextIndex
from ..sql import quoted
from .compiler import type_of
from .names import FOLD, WORDS, Schema, index_name, key_name, reference_name

_MOST_INDEXED_DIMENSIONS = 4000
_SURE_TO_FIT_CHARS = 100_000
_TOKENS = "asciiword, word, numword, int, uint, float, sfloat, version, numhword, asciihword, hword"
_BREAK = "0patternbreak0"
"""A word between two columns that is taken out again: what is left are places that do not touch, so
that no phrase runs from one column into the next."""
_OWN_FUNCTIONS = (("pattern_found", "text, text"), (FOLD, "text"), ("pattern_cut", "text"))
_VECTORS = "embeddings"
_SPACES = "embedding_spaces"
_QUEUE = "embedding_queue"


class Builder:
    """Writes the statements for one tenant's schema on one server."""

    def __init__(self, schema: Schema, *, collation: str, full_folding: bool):
        self._schema = schema
        self._of = schema.of
        self._collation = f'"{collation}"'
        folds = ("casefold", '"pg_unicode_fast"') if full_folding else ("lower", self._collation)
        self._folds, self._folding = folds

    def create(self, tables: Sequence[Table]) -> Iterator[str]:
        """Statements that create tables and everything that belongs to them."""
        yield from self._functions()
        for table in tables:
            yield self._table(table)
            yield from (self._index(table, index) for index in table.indexes)
            yield from self._counters(table)
        for table in tables:
            if table.text is not None:
                yield self._text_index(table, table.text)
                yield from self._liveness(table, table.text)
        if any(table.name == _SPACES for table in tables):
            yield from self._vector_indexes()

    def drop(self, tables: Sequence[Table]) -> Iterator[str]:
        """Statements that remove tables and everything that belongs to them."""
        for table in tables:
            yield f"DROP TABLE IF EXISTS {self._of(table.name)} CASCADE"
            for name in _functions_of(table):
                yield f"DROP FUNCTION IF EXISTS {self._of(name)} CASCADE"

    def vector_index(self, space: int, dimensions: int) -> str:
        """The statement that makes the index of a space, unless it is there."""
        half = f"(vector::halfvec({dimensions:d})) halfvec_ip_ops"
        return (
            f"CREATE INDEX IF NOT EXISTS embeddings_near_{space:d} ON {self._of(_VECTORS)} "
            f"USING hnsw ({half}) WHERE space = {space:d}"
        )

    def without_vector_index(self, space: int) -> str:
        """The statement that removes the index of a space."""
        return f"DROP INDEX IF EXISTS {self._schema.name}.embeddings_near_{space:d}"

    def erase(self, tables: Sequence[Table]) -> Iterator[str]:
        """Statements that remove everything ``create`` made, and the schema; they fail if there is
        something else in it."""
        yield from self.drop(tables[::-1])
        for name, arguments in _OWN_FUNCTIONS:
            yield f"DROP FUNCTION IF EXISTS {self._of(name)} ({arguments})"
        yield f"DROP TEXT SEARCH CONFIGURATION IF EXISTS {self._of('pattern_words')}"
        yield f"DROP TEXT SEARCH DICTIONARY IF EXISTS {self._of('pattern_stem')}"
        if self._schema.plain != "public":
            yield f"DROP SCHEMA IF EXISTS {self._schema.name} RESTRICT"

    # tables

    def _table(self, table: Table) -> str:
        lines = [self._column(table, column) for column in table.columns]
        if table.text is not None:
            lines.append(self._words_column(table.text))
        key = ", ".join(map(quoted, table.key))
        lines.append(f"CONSTRAINT {quoted(key_name(table))} PRIMARY KEY ({key})")
        lines += [self._reference(table, column) for column in table.columns if column.references]
        return f"CREATE TABLE {self._of(table.name)} ({', '.join(lines)})"

    def _column(self, table: Table, column: Column) -> str:
        type_ = type_of(table, column)
        order = ' COLLATE "C"' if type_ == "text" else ""
        null = "" if column.nullable and not column.counted else " NOT NULL"
        return f"{quoted(column.name)} {type_}{order}{null}"

    def _reference(self, table: Table, column: Column) -> str:
        assert column.references is not None
        return (
            f"CONSTRAINT {quoted(reference_name(table, column))} "
            f"FOREIGN KEY ({quoted(column.name)}) "
            f'REFERENCES {self._of(column.references.table)} ("id") '
            f"ON DELETE {column.references.on_delete.upper()}"
        )

    def _index(self, table: Table, index: Index) -> str:
        unique = "UNIQUE " if index.unique else ""
        where = " WHERE is_active" if index.live_only else ""
        columns = ", ".join(map(quoted, index.columns))
        name = quoted(index_name(table, index))
        return f"CREATE {unique}INDEX {name} ON {self._of(table.name)} ({columns}){where}"

    # numbers that the database assigns

    def _counters(self, table: Table) -> Iterator[str]:
        for column in table.columns:
            if column.counted is not None:
                yield from self._counter(table, column, column.counted)

    def _counter(self, table: Table, column: Column, counted: Counted) -> Iterator[str]:
        """The next number is asked for under a lock of the group, which the transaction holds to
        its end; the question then sees what was committed before."""
        name, within = f"{table.name}_count_{column.name}", counted.within
        group = " || '/' || ".join(f"coalesce(new.{quoted(w)}, '')" for w in within)
        newest = ", ".join(f"{quoted(c)} DESC" for c in _order_of(table, column, within))
        branches = " ".join(
            f"{'IF' if not n else 'ELSIF'} {test} THEN "
            f"SELECT {quoted(column.name)} + 1 INTO next FROM {self._of(table.name)} "
            f"WHERE {same} ORDER BY {newest} LIMIT 1;"
            for n, (test, same) in enumerate(_groups(table, within))
        )
        body = (
            f"DECLARE next bigint; BEGIN IF new.{quoted(column.name)} IS NULL THEN "
            f"PERFORM pg_advisory_xact_lock("
            f"hashtextextended('{self._schema.plain}/{name}/' || {group}, 0)); "
            f"{branches} END IF; "
            f"new.{quoted(column.name)} := coalesce(next, {counted.first}); END IF; "
            "RETURN new; END"
        )
        yield self._trigger(table.name, name, "BEFORE INSERT", body)

    def _trigger(
        self, table: str, name: str, event: str, body: str, *, when: str = "", each: str = "ROW"
    ) -> str:
        function = self._of(name)
        return (
            f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql "
            f"AS $body$ {body} $body$; "
            f"CREATE TRIGGER {quoted(name)} {event} ON {self._of(table)} "
            f"FOR EACH {each} {when} EXECUTE FUNCTION {function}()"
        )

    # text

    def _functions(self) -> Iterator[str]:
        literal, words = self._schema.literal("pattern_words"), self._of("pattern_cut")
        yield (
            "DO $do$ BEGIN "
            f"CREATE TEXT SEARCH DICTIONARY {self._of('pattern_stem')} "
            "(TEMPLATE = snowball, LANGUAGE = porter); "
            f"CREATE TEXT SEARCH CONFIGURATION {self._of('pattern_words')} (PARSER = default); "
            f"ALTER TEXT SEARCH CONFIGURATION {self._of('pattern_words')} "
            f"ADD MAPPING FOR {_TOKENS} WITH {self._of('pattern_stem')}; "
            "EXCEPTION WHEN unique_violation OR duplicate_object THEN NULL; END $do$"
        )
        bare = "regexp_replace(normalize($1, NFD), '[\\u0300-\\u036F]+', '', 'g')"
        plain = f"CASE WHEN octet_length($1) = length($1) THEN $1 ELSE normalize({bare}, NFC) END"
        yield (
            f"CREATE OR REPLACE FUNCTION {words}(text) RETURNS text LANGUAGE sql IMMUTABLE STRICT "
            "PARALLEL SAFE AS $body$ SELECT regexp_replace("
            f"lower(({plain}) COLLATE {self._collation}), '[^[:alnum:]]+', ' ', 'g') $body$"
        )
        yield (
            f"CREATE OR REPLACE FUNCTION {self._of(FOLD)}(text) RETURNS text "
            "LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $body$ SELECT normalize("
            f"{self._folds}(normalize($1, NFD) COLLATE {self._folding}), NFD) $body$"
        )
        yield (
            f"CREATE OR REPLACE FUNCTION {self._of('pattern_found')}(owner text, body text) "
            "RETURNS tsvector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $body$ DECLARE "
            f"cut text := {words}(body); fits int := length(cut); "
            "scope tsvector := array_to_tsvector(ARRAY['@' || "
            "left(encode(sha256(convert_to(owner, 'UTF8')), 'hex'), 16)]); BEGIN "
            f"IF fits <= {_SURE_TO_FIT_CHARS} THEN "
            f"RETURN ts_delete(to_tsvector({literal}::regconfig, cut), '{_BREAK}') || scope; "
            "END IF; "
            "LOOP BEGIN "
            f"RETURN ts_delete(to_tsvector({literal}::regconfig, left(cut, fits)), '{_BREAK}') "
            "|| scope; "
            "EXCEPTION WHEN program_limit_exceeded THEN fits := fits / 2; END; END LOOP; "
            "END $body$"
        )

    def _words_column(self, text: TextIndex) -> str:
        texts = f" || ' {_BREAK} ' || ".join(
            f"coalesce({quoted(column)}, '')" for column in text.columns
        )
        found = f"{self._of('pattern_found')}({quoted(text.owner)}, {texts})"
        return f"{quoted(WORDS)} tsvector GENERATED ALWAYS AS ({found}) STORED"

    def _text_index(self, table: Table, text: TextIndex) -> str:
        return (
            f"CREATE INDEX {quoted(table.name + WORDS)} ON {self._of(table.name)} "
            f"USING gin ({quoted(WORDS)}) WHERE {_live(text)}"
        )

    # vectors

    def _liveness(self, table: Table, text: TextIndex) -> Iterator[str]:
        """No vector outlives its item, whoever removes that, and none is added to one that is gone.

        The row of the item is locked while its vector is added: who hides it at the same time
        waits, and then sees the vector.
        """
        forget = "".join(
            f"DELETE FROM {self._of(name)} WHERE item_id = old.id AND kind = '{text.kind}'; "
            for name in (_VECTORS, _QUEUE)
        )
        body = f"BEGIN {forget} RETURN NULL; END"
        gone, hidden, live = _functions_of(table)[:3]
        yield self._trigger(table.name, gone, "AFTER DELETE", body)
        becomes = f"WHEN (new.{quoted(text.hidden[0])} = {_literal(text.hidden[1])})"
        event = f"AFTER UPDATE OF {quoted(text.hidden[0])}"
        yield self._trigger(table.name, hidden, event, body, when=becomes)
        look = (
            f"BEGIN PERFORM 1 FROM {self._of(table.name)} AS item "
            f"WHERE item.id = new.item_id AND item.{_live(text)} FOR SHARE; "
            "IF FOUND THEN RETURN new; END IF; RETURN NULL; END"
        )
        same = f"WHEN (new.kind = '{text.kind}')"
        yield self._trigger(_VECTORS, live, "BEFORE INSERT", look, when=same)

    def _vector_indexes(self) -> Iterator[str]:
        """Each space has an index of its own: pgvector indexes vectors of one length."""
        index = "'embeddings_near_' || new.id"
        make = (
            f"BEGIN IF new.dimensions BETWEEN 1 AND {_MOST_INDEXED_DIMENSIONS} THEN EXECUTE format("
            f"'CREATE INDEX %I ON {self._of(_VECTORS)} USING hnsw "
            "((vector::halfvec(%s)) halfvec_ip_ops) WHERE space = %s', "
            f"{index}, new.dimensions, new.id); END IF; RETURN NULL; END"
        )
        name = f"{_SPACES}_index"
        yield self._trigger(_SPACES, name, "AFTER INSERT", make)
        drop = (
            "BEGIN EXECUTE format("
            f"'DROP INDEX IF EXISTS {self._schema.name}.%I', 'embeddings_near_' || old.id); "
            "RETURN NULL; END"
        )
        yield self._trigger(_SPACES, f"{name}_gone", "AFTER DELETE", drop)


def _groups(table: Table, within: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each choice of group columns that are absent: how it is known, and which rows belong to it.

    Written out, because no index serves ``IS NOT DISTINCT FROM``.
    """
    choices = [(False, True) if table.column(name).nullable else (False,) for name in within]
    for absent in product(*choices):
        pairs = list(zip(within, absent, strict=True))
        test = " AND ".join(f"new.{quoted(n)} IS {'' if gone else 'NOT '}NULL" for n, gone in pairs)
        same = " AND ".join(
            f"{quoted(n)} IS NULL" if gone else f"{quoted(n)} = new.{quoted(n)}"
            for n, gone in pairs
        )
        yield test, same


def _order_of(table: Table, column: Column, within: Sequence[str]) -> Sequence[str]:
    """All columns of the index that the newest number is read from: to PostgreSQL a column that is
    absent is not a constant, and without it in the order every row of the group would be read."""
    for index in table.indexes:
        if index.columns[-1] == column.name and {*index.columns[:-1]} == {*within}:
            return index.columns
    return (*within, column.name)


def _functions_of(table: Table) -> list[str]:
    """The trigger functions that belong to a table."""
    liveness = [f"{table.name}_vectors_{what}" for what in ("gone", "hidden", "live")]
    counters = [f"{table.name}_count_{c.name}" for c in table.columns if c.counted]
    indexes = [f"{_SPACES}_index", f"{_SPACES}_index_gone"] if table.name == _SPACES else []
    return (liveness if table.text is not None else []) + counters + indexes


def _live(text: TextIndex) -> str:
    return f"{quoted(text.hidden[0])} = {_literal(not text.hidden[1])}"


def _literal(value: bool) -> str:
    return "true" if value else "false"
