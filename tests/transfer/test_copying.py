"""Copying a database into another one: everything arrives, once, whatever the engines."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

import pattern_db
from pattern_db import (
    CopyFailed,
    EmbeddingModelMismatch,
    NotFound,
    PatternDB,
    SchemaVersionMismatch,
)
from pattern_db.embeddings.indexing import SEARCHABLE
from pattern_db.models import (
    AgentGroup,
    ArchivalEntry,
    ArchiveSummary,
    BlockVersion,
    Embedding,
    SharedBlock,
    User,
)
from pattern_db.query import Count, Insert, delete, select, update
from pattern_db.schema import all_tables, columns_of, table_of
from pattern_db.testing.rows import user
from pattern_db.transfer import compare_databases, copy_database
from pattern_db.transfer.walking import CONTENT
from tests.reliability.tiny import TinyEmbeddings

from .constellation import ask, fill

pytestmark = pytest.mark.slow

ENGINES = ("sqlite", "postgres", "surreal", "turso")
Place = Callable[[str], str]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where an empty database of an engine is; every call another one."""
    numbers = itertools.count()

    def new(engine: str) -> str:
        if engine == "sqlite":
            return str(tmp_path / f"{next(numbers)}.db")
        if engine == "surreal":
            return f"surrealkv://{tmp_path}/{next(numbers)}"
        if engine == "turso":
            return f"turso://{tmp_path}/{next(numbers)}.db"
        url: str = request.getfixturevalue("postgres_server").database()
        request.addfinalizer(lambda: request.getfixturevalue("postgres_server").drop(url))
        return url

    return new


def opened(location: str, **settings: object) -> pattern_db.service.Opening:
    return pattern_db.open(location, **{"embeddings": "none", **settings})  # type: ignore[arg-type]


@pytest.fixture
async def source(place: Place) -> AsyncIterator[PatternDB]:
    """A filled constellation in a file."""
    async with opened(place("sqlite"), embeddings=TinyEmbeddings()) as db:
        await fill(db)
        yield db


@pytest.fixture
async def empty(place: Place) -> AsyncIterator[PatternDB]:
    async with opened(place("sqlite")) as db:
        yield db


async def everything(db: PatternDB) -> dict[str, list[object]]:
    """All rows of the tables that people fill, and the vectors, as values."""
    tables = [*CONTENT, table_of(Embedding)]
    return {
        table.name: sorted(
            (msgspec.to_builtins(row) for row in await db.store.execute(select(table.model))),
            key=lambda row: [row[name] for name in table.key],
        )
        for table in tables
    }


def hashes(comparison: object) -> dict[str, tuple[int, str]]:
    return {t.table: (t.destination_rows, t.destination_hash) for t in comparison.tables}


@pytest.mark.parametrize("middle", ENGINES)
async def test_around_the_ring_every_value_vector_and_answer_is_the_same(
    source: PatternDB, place: Place, middle: str
) -> None:
    async with opened(place(middle)) as there, opened(place("sqlite")) as back:
        first = await copy_database(source, there, verify=True)
        second = await copy_database(there, back, verify=True)
        for report in (first, second):
            assert report.comparison.equal
            assert {t.extra for t in report.comparison.tables} == {0}
        ring = await compare_databases(source, back)
        assert hashes(first.comparison) == hashes(second.comparison) == hashes(ring)
        filled = {name for name, rows in (await everything(source)).items() if rows}
        assert filled == {table.name for table in CONTENT} | {"embeddings"}
        assert await everything(back) == await everything(source)
        location = back.config.database.location
    async with opened(location, embeddings=TinyEmbeddings()) as again:
        for agent_id in ("agent_flux", "agent_sol"):
            assert await ask(again, agent_id) == await ask(source, agent_id)


async def test_a_server_finds_in_the_copy_what_the_file_finds(
    source: PatternDB, postgres: str
) -> None:
    async with opened(postgres) as there:
        await copy_database(source, there)
    async with opened(postgres, embeddings=TinyEmbeddings()) as there:
        for question in ("what did flux say", "paints version"):
            ours = await source.search("agent_flux", question, mode="semantic", limit=5)
            theirs = await there.search("agent_flux", question, mode="semantic", limit=5)
            assert [h.score for h in theirs] == pytest.approx([h.score for h in ours], abs=1e-3)
        hits = await there.search("agent_flux", "sol a.b", mode="keyword", limit=50)
        assert "agent_sol_block_5" in {hit.item.id for hit in hits}, "a block that Sol shares"


async def test_copying_twice_changes_nothing(source: PatternDB, empty: PatternDB) -> None:
    first = await copy_database(source, empty)
    before = await everything(empty)
    again = await copy_database(source, empty)
    assert first.written > 200
    assert again.written == 0
    assert sum(t.present for t in again.tables) == first.written
    assert await everything(empty) == before


async def test_a_second_copy_takes_what_is_new(source: PatternDB, empty: PatternDB) -> None:
    await copy_database(source, empty)
    new = await source.messages.append("agent_flux", role="user", content="said later")
    report = await copy_database(source, empty, verify=True)
    assert report.comparison.equal
    written = {t.table: t.written for t in report.tables if t.written}
    assert written == {"messages": 1, "embeddings": 1}
    assert (await empty.messages.get(new.id)) == new


async def test_what_only_the_destination_has_stays_and_is_counted(
    source: PatternDB, empty: PatternDB
) -> None:
    own = await empty.agents.create(name="Own")
    await empty.messages.append(own.id, role="user", content="mine")
    report = await copy_database(source, empty, verify=True)
    assert report.comparison.equal
    extra = {t.table: t.extra for t in report.comparison.tables if t.extra}
    assert (extra["agents"], extra["messages"]) == (1, 1)
    assert await empty.messages.count(own.id) == 1


async def test_other_values_under_the_same_id_are_an_error_that_names_the_row(
    source: PatternDB, empty: PatternDB
) -> None:
    await copy_database(source, empty)
    await empty.agents.update("agent_sol", description="changed over there")
    with pytest.raises(CopyFailed, match="agent 'agent_sol' with other values"):
        await copy_database(source, empty)
    assert (await empty.agents.require("agent_sol")).description == "changed over there"
    found = await compare_databases(source, empty)
    (agents,) = [t for t in found.tables if t.table == "agents"]
    assert (found.equal, agents.different, agents.examples) == (False, 1, ["agent_sol"])
    report = await copy_database(source, empty, overwrite=True, verify=True)
    assert report.comparison.equal
    assert {t.table: t.overwritten for t in report.tables if t.overwritten} == {"agents": 1}


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_overwritten_text_has_its_own_vectors_and_no_others(
    source: PatternDB, place: Place, engine: str
) -> None:
    location = place(engine)
    async with opened(location, embeddings=TinyEmbeddings()) as there:
        await copy_database(source, there)
        await there.memory.update("agent_flux_block_7", content="cats " * 300)
        await there.search("agent_flux", "cats", mode="semantic")
        report = await copy_database(source, there, overwrite=True, verify=True)
        assert report.comparison.equal
        assert {t.extra for t in report.comparison.tables if t.table == "embeddings"} == {0}
        assert {t.overwritten for t in report.tables if t.table == "memory_blocks"} == {1}
        ours = await source.memory.search("agent_flux", "cats", mode="semantic", limit=5)
        theirs = await there.memory.search("agent_flux", "cats", mode="semantic", limit=5)
        assert [h.score for h in theirs] == pytest.approx([h.score for h in ours], abs=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_place_that_is_taken_is_an_error_that_names_the_row(
    source: PatternDB, place: Place, engine: str
) -> None:
    async with opened(place(engine)) as there:
        await copy_database(source, there, tables=["agents"])
        await there.memory.create("agent_flux", label="block 9", content="in the way", id="other")
        with pytest.raises(
            CopyFailed, match="'agent_flux_block_9': another one there has the same label"
        ):
            await copy_database(source, there)
        await there.memory.purge("other")
        report = await copy_database(source, there, verify=True)
        assert report.comparison.equal


async def test_tables_come_with_those_they_refer_to(source: PatternDB, empty: PatternDB) -> None:
    report = await copy_database(source, empty, tables=["memory_blocks"], verify=True)
    assert [t.table for t in report.tables] == ["users", "agents", "memory_blocks", "embeddings"]
    assert report.comparison.equal
    assert await empty.messages.count() == 0
    kinds = {row.kind for row in await empty.store.execute(select(Embedding))}
    assert kinds == {"memory"}


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_agent_comes_with_what_is_its_own_and_what_that_refers_to(
    source: PatternDB, place: Place, engine: str
) -> None:
    async with opened(place(engine), embeddings=TinyEmbeddings()) as there:
        report = await copy_database(source, there, agents=["agent_flux"], verify=True)
        assert report.comparison.equal
        assert {t.present for t in report.tables} == {0}, "each row is read once"
        ours, theirs = await everything(source), await everything(there)
        for table, own in (
            ("messages", "agent_id"), ("conversations", "agent_id"), ("archive_summaries", "agent_id"),
            ("archival_entries", "agent_id"), ("tool_calls", "agent_id"), ("group_members", "agent_id"),
            ("shared_block_agents", "agent_id"), ("message_batches", "agent_id"),
        ):  # fmt: skip
            assert theirs[table] == [row for row in ours[table] if row[own] == "agent_flux"], table
        blocks = {row["id"] for row in theirs["memory_blocks"]}
        mine = {row["id"] for row in ours["memory_blocks"] if row["agent_id"] == "agent_flux"}
        assert blocks == mine | {"agent_sol_block_5"}, "its own, and one that is shared with it"
        assert {row["block_id"] for row in theirs["memory_block_history"]} <= mine
        assert len(theirs["memory_block_history"]) >= 3
        assert {row["id"] for row in theirs["agents"]} == {"agent_flux", "agent_sol"}
        assert {row["id"] for row in theirs["users"]} == {"user_ada", "user_bob"}
        assert [row["id"] for row in theirs["agent_groups"]] == ["group_crew"]
        if engine == "sqlite":
            assert await ask(there, "agent_flux") == await ask(source, "agent_flux")
        assert (await copy_database(source, there, agents=["agent_flux"])).written == 0


async def test_the_other_agents_can_follow(source: PatternDB, empty: PatternDB) -> None:
    await copy_database(source, empty, agents=["agent_flux"])
    await copy_database(source, empty, agents=["agent_sol", "agent_vega"])
    report = await copy_database(source, empty, verify=True)
    assert report.comparison.equal
    nobodys = {t.table for t in report.tables if t.written}
    assert nobodys <= {"patterns", "audit_log"}, "what belongs to no agent"
    assert {t.extra for t in report.comparison.tables} == {0}


async def test_without_embeddings_the_destination_makes_its_own(
    source: PatternDB, place: Place
) -> None:
    class Other(TinyEmbeddings):
        model_id = "other-16"

    location = place("sqlite")
    async with opened(location) as there:
        report = await copy_database(source, there, embeddings=False, verify=True)
        assert report.comparison.equal
        assert "embeddings" not in {t.table for t in report.comparison.tables}
        waiting = await there.embeddings.pending()
        live = [
            Count(table, (table.column(table.text.hidden[0]) == (not table.text.hidden[1]),))
            for table in SEARCHABLE.values()
        ]
        assert waiting == sum([await source.store.execute(count) for count in live])
        await copy_database(source, there, embeddings=False)
        assert await there.embeddings.pending() == waiting
    async with opened(location, embeddings=Other()) as there:
        await there.embed_pending()
        assert await there.embeddings.pending() == 0
        assert (await there.status()).embedding_model == "other-16"
        found = await there.search("agent_flux", "paints version 1", mode="semantic", limit=3)
        assert len(found) == 3
        with pytest.raises(EmbeddingModelMismatch):
            await copy_database(source, there)
    async with opened(location) as there:
        with pytest.raises(CopyFailed, match="'tiny-16' and the destination with 'other-16'"):
            await copy_database(source, there)


async def test_what_waits_for_a_vector_waits_in_the_copy_too(
    source: PatternDB, place: Place
) -> None:
    location = place("sqlite")
    async with opened(source.config.database.location) as without_model:
        await without_model.messages.append("agent_flux", role="user", content="not embedded yet")
        async with opened(location) as there:
            await copy_database(without_model, there)
            await copy_database(without_model, there)
            assert await there.embeddings.pending() == 1
    async with opened(location, embeddings=TinyEmbeddings()) as there:
        await there.embed_pending()
        (hit, *_) = await there.search("agent_flux", "not embedded yet", mode="semantic")
        assert hit.item.content == "not embedded yet"


async def test_a_destination_that_numbers_its_models_otherwise_gets_the_vectors(
    source: PatternDB, postgres: str
) -> None:
    class Other(TinyEmbeddings):
        model_id = "other-16"

    async with opened(postgres, embeddings=Other()) as there:
        await there.agents.create(name="First")
    async with opened(postgres) as there:
        report = await copy_database(source, there, verify=True)
        assert report.comparison.equal
        assert (await there.status()).embedding_model == "tiny-16"


async def test_rows_that_refer_to_later_ones_and_to_each_other_arrive(
    source: PatternDB, empty: PatternDB
) -> None:
    ring = update(ArchivalEntry, "parent_entry_id").where(columns_of(ArchivalEntry).id == "b")
    for id in "ba":
        await source.archival.create("agent_flux", content=id, id=id)
    await source.store.execute(ring, parent_entry_id="a")
    ring = update(ArchivalEntry, "parent_entry_id").where(columns_of(ArchivalEntry).id == "a")
    await source.store.execute(ring, parent_entry_id="b")
    report = await copy_database(source, empty, verify=True)
    assert report.comparison.equal
    a = await empty.archival.require("a")
    assert a.parent_entry_id == "b"
    chain = await empty.messages.summaries.chain("agent_flux_x")
    assert [s.id[-1] for s in chain] == [
        s.id[-1] for s in await source.messages.summaries.chain("agent_flux_x")
    ]


async def test_a_copy_that_stopped_before_the_late_references_fills_them_in(
    source: PatternDB, empty: PatternDB
) -> None:
    await copy_database(source, empty)
    cut = update(ArchiveSummary, previous_summary_id=None)
    assert await empty.store.execute(cut) > 0
    report = await copy_database(source, empty, verify=True)
    assert report.comparison.equal


async def test_a_vector_that_is_replaced_is_found_where_it_is_now(
    source: PatternDB, place: Place
) -> None:
    async with opened(place("sqlite"), embeddings=TinyEmbeddings()) as there:
        await copy_database(source, there)
        e = columns_of(Embedding)
        row: Embedding = (
            await there.store.execute(select(Embedding).where(e.item_id == "agent_flux_block_7"))
        )[0]
        wrong = np.eye(16, dtype="<f4")[3].tobytes()
        await there.store.execute(delete(Embedding).where(e.item_id == row.item_id))
        other = msgspec.structs.replace(row, content_hash=b"other", vector=wrong)
        await there.store.execute(Insert(table_of(Embedding)), row=other)
        await ask(there, "agent_flux")
        report = await copy_database(source, there, overwrite=True, verify=True)
        assert report.comparison.equal
        assert await ask(there, "agent_flux") == await ask(source, "agent_flux")


async def test_a_comparison_tells_what_is_missing_and_what_is_more(
    source: PatternDB, empty: PatternDB
) -> None:
    await copy_database(source, empty)
    gone = (await empty.messages.list("agent_flux", limit=2))[1]
    await empty.messages.purge(gone.id)
    await empty.users.create(name="More", id="user_more")
    found = await compare_databases(source, empty)
    told = {t.table: t for t in found.tables}
    assert (told["messages"].missing, told["messages"].examples) == (1, [gone.id])
    assert (told["users"].extra, told["users"].equal) == (1, True)
    assert not found.equal


async def test_one_bit_of_a_vector_is_a_difference(source: PatternDB, empty: PatternDB) -> None:
    await copy_database(source, empty)
    row: Embedding = (await empty.store.execute(select(Embedding).limit(1)))[0]
    e = columns_of(Embedding)
    here = (e.item_id == row.item_id, e.kind == row.kind, e.chunk_index == row.chunk_index)
    flipped = bytes([row.vector[0] ^ 1]) + row.vector[1:]
    await empty.store.execute(update(Embedding, "vector").where(*here), vector=flipped)
    found = await compare_databases(source, empty)
    assert [t.table for t in found.tables if not t.equal] == ["embeddings"]


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (1, True), (0.0, -0.0), ([], {}), (None, "null"), ("é", "e\u0301")],
)
async def test_values_that_python_takes_for_equal_are_not(
    place: Place, one: object, other: object
) -> None:
    insert = Insert(table_of(User))
    async with opened(place("sqlite")) as left, opened(place("sqlite")) as right:
        await left.store.execute(insert, row=user("ada", metadata={"x": one}))
        await right.store.execute(insert, row=user("ada", metadata={"x": other}))
        found = await compare_databases(left, right)
        assert not found.equal
        assert {t.table: t.different for t in found.tables if t.different} == {"users": 1}


async def test_the_order_of_keys_in_json_is_no_value(place: Place) -> None:
    insert = Insert(table_of(User))
    async with opened(place("sqlite")) as left, opened(place("sqlite")) as right:
        await left.store.execute(insert, row=user("ada", metadata={"x": {"a": 1, "b": 2}, "y": 3}))
        await right.store.execute(insert, row=user("ada", metadata={"y": 3, "x": {"b": 2, "a": 1}}))
        assert (await compare_databases(left, right)).equal


async def test_a_newer_source_is_refused_before_anything_is_done(place: Place) -> None:
    location = place("sqlite")
    async with opened(location) as db:
        newest = (await db.status()).schema.newest
        bump = update(pattern_db.models.MigrationRecord, "version").where(
            columns_of(pattern_db.models.MigrationRecord).version == newest
        )
        await db.store.execute(bump, version=99)
    with pytest.raises(SchemaVersionMismatch, match="install a newer"):
        await opened(location)


async def test_an_agent_or_a_table_that_is_not_there_is_named(
    source: PatternDB, empty: PatternDB
) -> None:
    with pytest.raises(NotFound, match="nobody"):
        await copy_database(source, empty, agents=["nobody"])
    with pytest.raises(CopyFailed, match="no table 'embeddings' to copy; there are users"):
        await copy_database(source, empty, tables=["embeddings"])
    assert await empty.users.count() == 0


async def test_large_rows_make_small_pages(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    async with opened(place("sqlite")) as left, opened(place("sqlite")) as right:
        insert, write = Insert(table_of(User)), right.store.write
        rows = [user(f"u{n:05}", name="x" * 300_000) for n in range(80)]
        await left.store.write([insert(row=row) for row in rows])

        async def noted(statements):
            sizes.append(sum(len(bound.params["row"].name) for bound in statements))
            return await write(statements)

        monkeypatch.setattr(right.store, "write", noted)
        assert (await copy_database(left, right)).written == 80
    assert sum(sizes) == 80 * 300_000
    assert max(sizes) <= 5_000_000


async def test_progress_ends_at_the_total(source: PatternDB, empty: PatternDB) -> None:
    heard: list[tuple[int, int]] = []
    await copy_database(source, empty, progress=lambda done, total: heard.append((done, total)))
    assert heard[-1][0] == heard[-1][1] > 200
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)


def test_every_table_is_copied_or_belongs_to_the_database_itself() -> None:
    left = {table.name for table in all_tables()} - {table.name for table in CONTENT}
    assert left == {
        "system_metadata", "schema_migrations", "embedding_spaces", "embeddings", "embedding_queue",
        "constellations",
    }  # fmt: skip
    assert {AgentGroup, ArchiveSummary, BlockVersion, SharedBlock} <= {t.model for t in CONTENT}
