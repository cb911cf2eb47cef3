"""Names in SurrealDB. Every one of ours comes from the schema and stands between backticks."""

from __future__ import annotations

import hashlib

from ...schema import Column, Index, Table, all_tables

WORDS = "_words"
"""The field with the stems that a text search finds a row by, and a word for its agent."""
ANALYZER = "pattern_words"
VECTORS, SPACES, QUEUE = "embeddings", "embedding_spaces", "embedding_queue"
TURN = "pattern_turn"
"""The table of ``locking``."""
NEAR = "near"
"""The field with a vector as numbers, in the table of its space, which has the HNSW index."""


def quoted(name: str) -> str:
    """An identifier of the schema."""
    return f"`{name}`"


def index_name(table: Table, index: Index) -> str:
    """The name of an index."""
    return f"{table.name}_by_{'_'.join(index.columns)}"


def words_of(column: str) -> str:
    """The field with the stems of one searchable column."""
    return f"_words_{column}"


def live(column: str) -> str:
    """The field with a column's value while the row is active."""
    return f"_live_{column}"


def near_table(space: int) -> str:
    """The table with the vectors of a space as HNSW takes them."""
    return f"near_{space}"


def near_key(item_id: str, kind: str, chunk_index: int) -> str:
    """The id of a vector there: text, because HNSW of SurrealDB 3.2 finds no record whose id is a
    list."""
    return f"{chunk_index}/{kind}/{item_id}"


def key_of_near(id: str, space: int) -> list[str | int]:
    """The key of the vector that has this id there."""
    chunk, kind, item_id = id.split("/", 2)
    return [item_id, kind, space, int(chunk)]


def scope_word(agent_id: str) -> str:
    """The word that stands for an agent in a text index; no stem begins with ``@``."""
    return "@" + hashlib.md5(agent_id.encode(), usedforsecurity=False).hexdigest()


def column_of_index(table_name: str, index: str) -> Column | None:
    """The last column of an index, which is what an error about it is about."""
    for table in all_tables():
        for each in table.indexes if table.name == table_name else ():
            if index_name(table, each) == index:
                return table.column(each.columns[-1])
    return None
