"""Whether a database file agrees with itself, read with plain SQLite and not through the engine.

Pages, references, text index, vectors, batches and versions are derived here a second time from the
rows, and compared with what the file holds:

    assert flaws(path) == []
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import apsw
import msgspec

from pattern_db.embeddings.texts import EMBEDDED_TEXT, content_hash
from pattern_db.engines.sql import model_reader
from pattern_db.engines.sqlite.ddl import TOKENIZER
from pattern_db.models import (
    ArchivalEntry,
    BatchStatus,
    Episode,
    MemoryBlock,
    Message,
    MessageBatch,
)
from pattern_db.schema import Table, TextIndex, table_of

from .tiny import DIMENSIONS, TinyEmbeddings, vector_of

_SEARCHED = (Message, MemoryBlock, ArchivalEntry, Episode)


def flaws(path: str | Path, *, embedded: bool = True) -> list[str]:
    """Everything in the file that is damaged or disagrees; nothing in a file without a schema yet.

    ``embedded`` says that every text was written with ``TinyEmbeddings`` at hand.
    """
    with closing(read(path)) as connection:
        found = list(_damage(connection))
        if not found and connection.table_exists("main", "schema_migrations"):
            found = list(_disagreements(connection, embedded=embedded))
        return found


def read(path: str | Path) -> apsw.Connection:
    """A plain connection, which recovers the log of the last one that died."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(10_000)
    connection.pragma("synchronous", "off")
    return connection


def rows_of(connection: apsw.Connection, model: type[msgspec.Struct]) -> dict[int, Any]:
    """Every row of a model's table as a model, by its row number."""
    table = table_of(model)
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    as_model = model_reader(table)
    rows: Any = connection.execute(f"SELECT pk, {names} FROM {table.name}")
    return {pk: as_model(values) for pk, *values in rows}


def _damage(connection: apsw.Connection) -> Iterator[str]:
    try:
        for (line,) in connection.execute("PRAGMA integrity_check"):
            if line != "ok":
                yield f"integrity: {line}"
        for row in connection.execute("PRAGMA foreign_key_check"):
            yield f"reference: {row}"
    except (apsw.CorruptError, apsw.NotADBError) as error:
        yield f"corrupt: {error}"


def _disagreements(connection: apsw.Connection, *, embedded: bool) -> Iterator[str]:
    rows = {
        model: rows_of(connection, model)
        for model in _SEARCHED  # a power cut may have come before the migration that makes one
        if connection.table_exists("main", table_of(model).name)
    }
    for model, by_pk in rows.items():
        yield from _text_index(connection, table_of(model), by_pk)
    if embedded:
        yield from _vectors(
            connection, [item for by_pk in rows.values() for item in by_pk.values()]
        )
    yield from _batches(connection, [m for m in rows[Message].values() if m.batch_id])
    yield from _versions(connection, list(rows[MemoryBlock].values()))


def _is_live(item: Any) -> bool:
    text = table_of(type(item)).text
    assert text is not None
    hidden, value = text.hidden
    return getattr(item, hidden) is not value


# text


def _text_index(connection: apsw.Connection, table: Table, rows: dict[int, Any]) -> Iterator[str]:
    """The index holds the live rows, each with its words where they stand and nothing else."""
    assert table.text is not None
    name = f"{table.name}_text"
    live = {pk: item for pk, item in rows.items() if _is_live(item)}
    indexed = {pk for (pk,) in connection.execute(f"SELECT rowid FROM {name}")}
    for pk in indexed ^ live.keys():
        yield f"{name}: row {pk} is {'not live' if pk in indexed else 'not indexed'}"
    expected = _index_anew(connection, table.text, live)
    found = set(_words(connection, name))
    for word in expected - found:
        yield f"{name}: the index misses {word}"
    for word in found - expected:
        yield f"{name}: the index has {word} too much"


def _index_anew(connection: apsw.Connection, text: TextIndex, live: dict[int, Any]) -> set[Any]:
    """The words of an index of the live rows, and a token for each agent who may find a row."""
    agents = dict(connection.execute("SELECT id, pk FROM agents"))
    finders = [(pk, agents[getattr(item, text.owner)]) for pk, item in live.items()]
    if text.shared_through:
        pks = {item.id: pk for pk, item in live.items()}
        shares: Any = connection.execute(f"SELECT block_id, agent_id FROM {text.shared_through}")
        finders += [(pks[block], agents[agent]) for block, agent in shares if block in pks]
    words = {
        (pk, text.columns[column], word, place)
        for pk, item in live.items()
        for column, word, place in _tokens(tuple(getattr(item, name) for name in text.columns))
    }
    narrower = {
        (pk, "scope", f"w{place}x{getattr(item, name).encode().hex()}", None)
        for pk, item in live.items()
        for place, name in enumerate(text.within)
    }
    return words | narrower | {(pk, "scope", f"a{agent}", None) for pk, agent in finders}


@lru_cache(maxsize=100_000)
def _tokens(values: tuple[str | None, ...]) -> list[tuple[int, str, int]]:
    """The words of a row of the text index, by column and place."""
    names = [f"c{n}" for n in range(len(values))]
    with closing(apsw.Connection("")) as memory:
        memory.execute(
            f"CREATE VIRTUAL TABLE one USING fts5({', '.join(names)}, tokenize='{TOKENIZER}')"
        )
        memory.execute(f"INSERT INTO one VALUES ({', '.join('?' * len(values))})", values)
        return [(names.index(c), word, place) for _, c, word, place in _words(memory, "one")]


def _words(connection: apsw.Connection, name: str) -> Iterator[Any]:
    """Row, column, word and place of everything in an index; the scope's words have no place."""
    words = f"temp.{name}_words"
    connection.execute(f"CREATE VIRTUAL TABLE {words} USING fts5vocab(main, {name}, instance)")
    rows: Any = connection.execute(f"SELECT doc, col, term, offset FROM {words}").fetchall()
    connection.execute(f"DROP TABLE {words}")
    for row, column, word, place in rows:
        yield row, column, word, None if column == "scope" else place


# vectors


def _vectors(connection: apsw.Connection, items: list[Any]) -> Iterator[str]:
    """Each live text has the vectors of all its pieces, as it reads now, and nothing else has any.

    What waits in the queue may lack its vectors or still have those of an earlier text.
    """
    queued = set(connection.execute("SELECT item_id, kind FROM embedding_queue"))
    expected = dict(piece for item in items if _is_live(item) for piece in _pieces(item))
    found: dict[Any, Any] = {}
    rows: Any = connection.execute(
        "SELECT item_id, kind, chunk_index, agent_id, start_char, end_char, content_hash, vector "
        "FROM embeddings"
    )
    for item_id, kind, index, *values in rows:
        if (item_id, kind, index) in found:
            yield f"vectors: {kind} {item_id} has two at {index}"
        found[item_id, kind, index] = tuple(values)
    for key in expected.keys() | found.keys():
        if key[:2] in queued:
            continue
        if key not in found:
            yield f"vectors: {key} has none"
        elif key not in expected:
            yield f"vectors: {key} has one too many"
        elif found[key] != expected[key]:
            yield f"vectors: {key} has one of another text"
    live = {(item.id, _kind(item)) for item in items if _is_live(item)}
    for key in queued - live:
        yield f"queue: {key} waits but is not live"
    spaces = connection.execute("SELECT model, dimensions FROM embedding_spaces").fetchall()
    if found and spaces != [(TinyEmbeddings.model_id, DIMENSIONS)]:
        yield f"vectors: they are in the spaces {spaces}"


def _kind(item: Any) -> str:
    text = table_of(type(item)).text
    assert text is not None
    return text.kind


def _pieces(item: Any) -> Iterator[tuple[Any, Any]]:
    text = EMBEDDED_TEXT[type(item)](item)
    for index, (start, end) in enumerate(TinyEmbeddings().split(text) if text.strip() else ()):
        vector = vector_of(text[start:end]).astype("<f4").tobytes()
        key = (item.id, _kind(item), index)
        yield key, (item.agent_id, start, end, content_hash(text), vector)


# batches and versions


def _batches(connection: apsw.Connection, messages: list[Message]) -> Iterator[str]:
    """A batch knows its messages, their places, and the calls that nobody answered."""
    members = defaultdict(list)
    for message in sorted(messages, key=lambda message: message.sequence_in_batch or 0):
        members[message.batch_id].append(message)
    batches = {batch.id: batch for batch in rows_of(connection, MessageBatch).values()}
    for id, batch in batches.items():
        inside = members[id]
        if [m.sequence_in_batch for m in inside] != list(range(batch.message_count)):
            yield f"batch {id}: its messages are not numbered 0 to {batch.message_count - 1}"
        positions = [message.position for message in inside]
        edges = (min(positions), max(positions)) if positions else (None, None)
        if (batch.first_position, batch.last_position) != edges:
            yield f"batch {id}: it does not reach from its first to its last message"
        calls = Counter(call.call_id for m in inside for call in m.tool_calls)
        answers = Counter(answer.call_id for m in inside for answer in m.tool_responses)
        if batch.status is BatchStatus.OPEN and Counter(batch.pending) != calls - answers:
            yield f"batch {id}: what is pending is not what is unanswered"
        if batch.status is not BatchStatus.OPEN and batch.pending:
            yield f"batch {id}: it is closed and waits for answers"


def _versions(connection: apsw.Connection, blocks: list[MemoryBlock]) -> Iterator[str]:
    """A block shows the text of its version, and has every version up to the last."""
    history: dict[str, dict[int, str]] = defaultdict(dict)
    rows: Any = connection.execute("SELECT block_id, version, content FROM memory_block_history")
    for block_id, version, content in rows:
        history[block_id][version] = content
    for block in blocks:
        versions = history[block.id]
        if sorted(versions) != list(range(1, block.last_version + 1)):
            yield f"block {block.id}: it lacks a version"
        elif versions[block.version] != block.content:
            yield f"block {block.id}: it does not show its version"
