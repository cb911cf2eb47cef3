"""The schema as SQLite statements.

Every table has an explicit ``pk INTEGER PRIMARY KEY`` so that full-text rows, which are known by
it, survive VACUUM. A text index is a contentless FTS5 table kept by triggers: it stores no second
copy of the text, and its first column holds one token for each agent who may find the row, so that
a search costs what its scope costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...schema import Table, TextIndex
from ..embedded.tables import create_table, drop_triggers, trigger, vector_triggers
from ..sql import quoted

TOKENIZER = "porter unicode61 remove_diacritics 2"
_TRIGGERS = ("insert", "update", "delete", "share_insert", "share_delete")


def text_table(table: Table) -> str:
    """The name of a table's full-text index."""
    return f"{table.name}_text"


def removals_table(table: Table) -> str:
    """The name of the log of a table's removed rows."""
    return f"{table.name}_removed"


def create_tables(tables: Sequence[Table]) -> Iterator[str]:
    """Statements that create tables and everything that belongs to them."""
    for table in tables:
        yield from _create_table(table)
    for table in tables:
        if table.text is not None:
            yield from _text_index(table, table.text)


def _create_table(table: Table) -> Iterator[str]:
    grows_only = " AUTOINCREMENT" if table.logged_removals else ""
    yield from create_table(table, first=[f"pk INTEGER PRIMARY KEY{grows_only}"])
    if table.logged_removals:
        yield from _removal_log(table)


def drop_tables(tables: Sequence[Table]) -> Iterator[str]:
    """Statements that remove tables and everything that belongs to them."""
    yield from drop_triggers(tables, _TRIGGERS)
    for table in tables:
        if table.text is not None:
            yield f"DROP TABLE IF EXISTS {quoted(text_table(table))}"
        yield f"DROP TABLE IF EXISTS {quoted(table.name)}"
        if table.logged_removals:
            yield f"DROP TABLE IF EXISTS {quoted(removals_table(table))}"


def _removal_log(table: Table) -> Iterator[str]:
    log = removals_table(table)
    yield (
        f"CREATE TABLE {quoted(log)} "
        "(pk INTEGER PRIMARY KEY AUTOINCREMENT, removed INTEGER NOT NULL) STRICT"
    )
    yield (
        f"CREATE TRIGGER {quoted(log + '_log')} AFTER DELETE ON {quoted(table.name)} BEGIN "
        f"INSERT INTO {quoted(log)} (removed) VALUES (old.pk); END"
    )


def _text_index(table: Table, text: TextIndex) -> Iterator[str]:
    name, columns = text_table(table), ", ".join(map(quoted, text.columns))
    yield (
        f"CREATE VIRTUAL TABLE {quoted(name)} USING fts5(scope, {columns}, content='', "
        f"contentless_delete=1, tokenize='{TOKENIZER}')"
    )
    watched = ", ".join(map(quoted, (*text.columns, text.hidden[0], text.owner, *text.within)))
    add, remove = _add(table, text, "new"), _remove(table, "old")
    yield trigger(table, "insert", f"AFTER INSERT ON {quoted(table.name)}", add)
    yield trigger(table, "delete", f"AFTER DELETE ON {quoted(table.name)}", remove)
    yield trigger(
        table, "update", f"AFTER UPDATE OF {watched} ON {quoted(table.name)}", f"{remove}; {add}"
    )
    if text.shared_through:
        yield from _share_triggers(table, text)
    yield from vector_triggers(table, text)


def _add(table: Table, text: TextIndex, row: str) -> str:
    columns = ", ".join(map(quoted, text.columns))
    values = ", ".join(f"{row}.{quoted(column)}" for column in text.columns)
    hidden, value = text.hidden
    name = quoted(text_table(table))
    return (
        f"INSERT INTO {name} (rowid, scope, {columns}) SELECT {row}.pk, {_scope(text, row)}, "
        f"{values} WHERE {row}.{quoted(hidden)} <> {int(value)}"
    )


def _remove(table: Table, row: str) -> str:
    return f"DELETE FROM {quoted(text_table(table))} WHERE rowid = {row}.pk"


def _scope(text: TextIndex, row: str) -> str:
    """One token for the owner, one for each column it is searched within, and one for each agent
    the row is shared with."""
    owner = f"'a' || (SELECT pk FROM \"agents\" WHERE id = {row}.{quoted(text.owner)})"
    for place, column in enumerate(text.within):
        owner += f" || ' w{place}x' || hex({row}.{quoted(column)})"
    if not text.shared_through:
        return owner
    others = (
        "(SELECT group_concat('a' || a.pk, ' ') "
        f'FROM {quoted(text.shared_through)} AS s JOIN "agents" AS a ON a.id = s.agent_id '
        f"WHERE s.block_id = {row}.id)"
    )
    return f"{owner} || ' ' || coalesce({others}, '')"


def _share_triggers(table: Table, text: TextIndex) -> Iterator[str]:
    shares = quoted(text.shared_through or "")
    name, columns = quoted(text_table(table)), ", ".join(map(quoted, text.columns))
    hidden, value = text.hidden
    values = ", ".join(f"b.{quoted(column)}" for column in text.columns)
    for event, row in (("INSERT", "new"), ("DELETE", "old")):
        same = f"id = {row}.block_id AND {quoted(hidden)} <> {int(value)}"
        remove = (
            f"DELETE FROM {name} WHERE rowid IN (SELECT pk FROM {quoted(table.name)} WHERE {same})"
        )
        add = (
            f"INSERT INTO {name} (rowid, scope, {columns}) SELECT b.pk, {_scope(text, 'b')}, "
            f"{values} FROM {quoted(table.name)} AS b WHERE b.{same.replace(' AND ', ' AND b.')}"
        )
        yield trigger(
            table, f"share_{event.lower()}", f"AFTER {event} ON {shares}", f"{remove}; {add}"
        )
