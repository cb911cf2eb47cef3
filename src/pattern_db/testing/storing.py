"""Writing rows and reading them: what ``execute`` and ``write`` promise."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ..engines.base import Store
from ..errors import AlreadyExists, Conflict, DatabaseClosed, InvalidValue, NotFound, Unsupported
from ..models import (
    AgentGroup,
    ArchiveSummary,
    Conversation,
    MessageBatch,
    Permission,
    RecommendationSession,
    SystemMetadata,
    User,
)
from ..query import Added, Count, Get, Insert, delete, param, select, update
from ..schema import Table, all_tables, columns_of, table_of
from .entities import NASTY_TEXTS, entities, vectors
from .rows import (
    DIMENSIONS,
    NOW,
    SPACE,
    add,
    adding,
    agent,
    block,
    change,
    entry,
    episode,
    later,
    message,
    pattern,
    read,
    remove,
    shared,
    space,
    step,
    user,
)
from .subject import Subject

pytestmark = pytest.mark.asyncio
_U = columns_of(User)
_USERS = table_of(User)
_PARENT = "parent"


async def _parents(store: Store) -> None:
    """A row in every table that others refer to; all of another agent than the generated rows."""
    await space(store)
    await add(
        store,
        user(_PARENT),
        agent(_PARENT),
        agent("other"),
        AgentGroup(_PARENT, "group", NOW, NOW),
        Conversation(_PARENT, "other", NOW, NOW),
        MessageBatch(_PARENT, "other", NOW),
        message(_PARENT, "other"),
        block(_PARENT, "other"),
        entry(_PARENT, "other"),
        ArchiveSummary(_PARENT, "other", "", 0, 0, 0, NOW),
        episode(_PARENT, "other"),
        pattern(_PARENT),
        RecommendationSession(_PARENT, "", NOW),
    )


def _rows_of(table: Table) -> st.SearchStrategy[msgspec.Struct]:
    """Any row whose references are to the parents and whose key none of them has."""
    fixed: dict[str, st.SearchStrategy[Any]] = {
        column.name: st.just(_PARENT) for column in table.columns if column.references
    }
    if "id" in {column.name for column in table.columns}:
        fixed["id"] = st.text("abc-é😀", min_size=1, max_size=9)
    if table.name == "embedding_spaces":
        fixed |= {"id": st.integers(SPACE + 1, 2**40), "dimensions": st.integers(1, 4096)}
    if table.name == "embeddings":
        fixed |= {
            "space": st.just(SPACE),
            "item_id": st.just(_PARENT),
            "kind": st.sampled_from(["message", "memory", "archival", "episode"]),
            "vector": vectors(DIMENSIONS),
        }
    return entities(table, **fixed)


@pytest.mark.parametrize("table", all_tables(), ids=lambda table: table.name)
async def test_any_row_comes_back_as_it_was_stored(store: Store, table: Table) -> None:
    await _parents(store)

    drawn: list[msgspec.Struct] = []

    @settings(max_examples=25, deadline=None, database=None)
    @given(row=_rows_of(table))
    def draw(row: msgspec.Struct) -> None:
        drawn.append(row)

    draw()
    for row in drawn:
        assert await store.execute(Insert(table), row=row) == row
        assert repr(await read(store, row)) == repr(row)
        assert await remove(store, row) == 1
        assert await read(store, row) is None


async def test_every_text_means_itself(store: Store) -> None:
    by_name = select(User).where(_U.name == param("name"))
    among = select(User).where(_U.name.in_(param("names")))
    for text in NASTY_TEXTS:
        row = user("ada", name=text, metadata={text: [text], "x": {text: text}})
        other = user("bob", name=text + "x")
        await add(store, row, other)
        assert await read(store, row) == row
        assert await store.execute(by_name, name=text) == [row]
        assert await store.execute(among, names=[text]) == [row]
        assert await remove(store, row) == await remove(store, other) == 1


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800"])
async def test_text_that_no_engine_can_keep_is_refused_or_kept(store: Store, text: str) -> None:
    row = user("ada", name=text)
    try:
        await add(store, row)
    except InvalidValue:
        assert await read(store, row) is None
    else:
        assert await read(store, row) == row


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
async def test_a_number_of_more_than_64_bits_is_refused(store: Store, number: int) -> None:
    await add(store, agent("flux"))
    with pytest.raises(InvalidValue):
        await add(store, message("m1", position=number))
    assert await store.execute(Count(table_of(type(message("m1"))))) == 0


async def test_get_gives_the_row_or_none(store: Store) -> None:
    ada = user("ada")
    assert await store.execute(Get(_USERS), id="ada") is None
    assert await store.execute(Insert(_USERS), row=ada) == ada
    assert await store.execute(Get(_USERS), id="ada") == ada


async def test_count_and_select_see_what_is_there(store: Store) -> None:
    rows = [user(f"u{n}", name=f"n{n % 2}") for n in range(6)]
    await add(store, *rows)
    even = _U.name == param("name")
    assert await store.execute(Count(_USERS)) == 6
    assert await store.execute(Count(_USERS, (even,)), name="n0") == 3
    asked = select(User).where(even).order_by(_U.id, descending=True).limit(param("limit"))
    assert await store.execute(asked, name="n0", limit=2) == [rows[4], rows[2]]
    assert await store.execute(asked.only(_U.id, _U.name), name="n1", limit=1) == [("u5", "n1")]
    assert await store.execute(select(User).where(even), name="none") == []


async def test_update_and_delete_give_the_number_of_rows(store: Store) -> None:
    await add(store, *(user(f"u{n}") for n in range(5)))
    rename = update(User, "name", is_active=False).where(_U.id > param("after"))
    assert await store.execute(rename, name="x", after="u2") == 2
    assert await store.execute(rename, name="x", after="u9") == 0
    assert (await read(store, user("u4"))).is_active is False
    assert await store.execute(delete(User).where(_U.name == "x")) == 2
    assert await store.execute(delete(User)) == 3


async def test_a_key_that_is_taken_raises(store: Store) -> None:
    await add(store, user("ada", name="first"))
    with pytest.raises(AlreadyExists) as raised:
        await add(store, user("ada", name="second"))
    assert (raised.value.entity, raised.value.field) == ("user", "id")
    assert (await read(store, user("ada"))).name == "first"


async def test_a_unique_index_names_its_last_column(store: Store) -> None:
    await add(store, agent("flux"), block("one", label="same"), message("m1", position=5))
    with pytest.raises(AlreadyExists) as raised:
        await add(store, block("two", label="same"))
    assert (raised.value.entity, raised.value.field) == ("memory block", "label")
    with pytest.raises(AlreadyExists) as raised:
        await add(store, message("m2", position=5))
    assert (raised.value.entity, raised.value.field) == ("message", "position")


async def test_a_unique_index_of_live_rows_ignores_the_others(store: Store) -> None:
    await add(store, agent("flux"), block("one", label="same", is_active=False))
    await add(store, block("two", label="same", is_active=False), block("three", label="same"))
    with pytest.raises(AlreadyExists):
        await change(store, block("one"), is_active=True)


async def test_a_reference_to_nothing_raises(store: Store) -> None:
    with pytest.raises(NotFound) as raised:
        await add(store, agent("flux", user_id="nobody"))
    assert (raised.value.entity, raised.value.key) == ("user", "nobody")
    await add(store, agent("flux", user_id=None))


@pytest.mark.parametrize("rows", [2, 40])
async def test_many_rows_with_one_reference_to_nothing_are_not_kept(
    store: Store, rows: int
) -> None:
    await add(store, agent("flux"))
    many = [message(f"m{n:03}") for n in range(rows)]
    many[rows // 2] = message("bad", "nobody")
    with pytest.raises(NotFound) as raised:
        await add(store, *many)
    assert (raised.value.entity, raised.value.key) == ("agent", "nobody")
    assert await store.execute(Count(table_of(type(many[0])))) == 0


async def test_ignore_keeps_the_row_that_is_there(store: Store) -> None:
    ignoring = Insert(_USERS, on_conflict="ignore")
    assert await store.execute(ignoring, row=user("ada", name="first")) is not None
    assert await store.execute(ignoring, row=user("ada", name="second")) is None
    assert (await read(store, user("ada"))).name == "first"


async def test_replace_keeps_only_when_it_was_made(store: Store) -> None:
    await add(store, user("ada", name="first"))
    replacing = Insert(_USERS, on_conflict="replace")
    await store.execute(replacing, row=user("ada", name="second", created_at=later(9)))
    now = await read(store, user("ada"))
    assert (now.name, now.created_at) == ("second", NOW)


async def test_removing_a_row_removes_what_belongs_to_it(store: Store) -> None:
    await add(store, user("ada"), agent("flux", user_id="ada"), agent("sol"))
    await add(
        store, Conversation("talk", "sol", NOW, NOW, user_id="ada"), message("m1"), block("b")
    )
    await add(store, shared(block("b"), "sol"))
    assert await remove(store, user("ada")) == 1
    for gone in (agent("flux"), message("m1"), block("b"), shared(block("b"), "sol")):
        assert await read(store, gone) is None
    assert (await read(store, Conversation("talk", "sol", NOW, NOW))).user_id is None


@pytest.mark.parametrize("rows", [3, 40])
async def test_the_database_counts_within_each_conversation(store: Store, rows: int) -> None:
    await add(store, agent("flux"), agent("sol"), Conversation("talk", "flux", NOW, NOW))
    for conversation, owner in ((None, "flux"), ("talk", "flux"), (None, "sol")):
        made = [
            message(f"{owner}{conversation}{n:03}", owner, conversation_id=conversation)
            for n in range(rows)
        ]
        stored = await add(store, *made)
        assert [row.ordinal for row in stored] == list(range(rows))
        assert await read(store, made[-1]) == stored[-1]
    (one,) = await add(store, message("next", conversation_id="talk"))
    assert one.ordinal == rows


async def test_the_database_counts_the_steps_of_each_episode_from_one(store: Store) -> None:
    await add(store, agent("flux"), episode("e1"), episode("e2"))
    for owner in ("e1", "e2"):
        stored = await add(store, *(step(f"{owner}-{n:02}", owner) for n in range(20)))
        assert [row.step_number for row in stored] == list(range(1, 21))
    (one,) = await add(store, step("next", "e1"))
    assert one.step_number == 21
    assert (await read(store, step("next", "e1"))).step_number == 21


async def test_an_update_adds_to_the_number_that_is_there(store: Store) -> None:
    await add(store, agent("flux"), block("b", revision=3), block("c"))
    by = columns_of(type(block("b")))
    more = update(type(block("b")), "content", revision=Added(param("n")), version=Added(-1))
    more = more.where(by.id == param("id"))
    await asyncio.gather(*(store.execute(more, id="b", n=2, content=str(n)) for n in range(10)))
    after = await read(store, block("b"))
    assert (after.revision, after.version) == (23, -9)
    assert (await read(store, block("c"))).revision == 1


async def test_a_write_is_kept_whole_or_not_at_all(store: Store) -> None:
    writes = [adding(user("ada")), adding(agent("flux", user_id="ada")), adding(user("ada"))]
    with pytest.raises(AlreadyExists):
        await store.write(writes)
    assert await store.execute(Count(_USERS)) == 0


@pytest.mark.parametrize("rows", [1, 60])
async def test_a_write_gives_what_each_statement_would(store: Store, rows: int) -> None:
    people = [user(f"u{n:03}") for n in range(rows)]
    rename = update(User, "name").where(_U.id == param("id"))
    results = await store.write(
        [
            *map(adding, people),
            rename(id="u000", name="x"),
            rename(id="nobody", name="x"),
            Insert(_USERS, on_conflict="ignore")(row=people[0]),
            delete(User)(),
        ]
    )
    assert results == [*people, 1, 0, None, rows]


async def test_a_count_that_differs_is_a_conflict(store: Store) -> None:
    await add(store, user("ada"), user("bob"))
    rename = update(User, "name").where(_U.id == param("id"))
    with pytest.raises(Conflict):
        await store.write([rename(id="ada", name="x"), rename(id="nobody", name="x").expect(1)])
    with pytest.raises(Conflict):
        await store.write([delete(User)().expect(1)])
    assert (await read(store, user("ada"))).name == ""
    assert await store.write([delete(User)().expect(2)]) == [2]


async def test_the_first_statement_that_fails_says_why(store: Store) -> None:
    await add(store, user("ada"))
    rename = update(User, "name").where(_U.id == param("id"))
    with pytest.raises(Conflict):
        await store.write([rename(id="nobody", name="x").expect(1), adding(user("ada"))])


async def test_what_was_acknowledged_is_there_in_another_handle(
    store: Store, subject: Subject
) -> None:
    await add(store, user("ada"))
    if store.capabilities.several_processes:
        other = await subject.open()
        try:
            assert await read(other, user("ada")) == user("ada")
            await add(other, user("bob"))
        finally:
            await other.close()
        assert await read(store, user("bob")) == user("bob")


async def test_tables_are_made_and_dropped(store: Store) -> None:
    assert await store.has_table("users")
    assert not await store.has_table("nothing")
    await store.drop(all_tables()[::-1])
    assert not any([await store.has_table(table.name) for table in all_tables()])
    await store.create(all_tables())
    await add(store, user("ada"), agent("flux"), message("m1"))


async def test_vacuum_and_describe_change_nothing(store: Store) -> None:
    await add(store, *(user(f"u{n}") for n in range(50)))
    await store.execute(delete(User).where(_U.id > "u3"))
    before = await store.execute(Count(_USERS))
    await store.optimize()
    if store.capabilities.vacuums:
        await store.vacuum()
    else:
        with pytest.raises(Unsupported):
            await store.vacuum()
    described = await store.describe()
    assert await store.execute(Count(_USERS)) == before
    assert all(isinstance(name, str) for name in described)
    assert store.capabilities.engine


async def test_a_closed_store_says_so(store: Store) -> None:
    await add(store, user("ada"))
    await store.close()
    with pytest.raises(DatabaseClosed):
        await store.execute(Count(_USERS))
    with pytest.raises(DatabaseClosed):
        await add(store, user("bob"))
    with pytest.raises(DatabaseClosed):
        store.transaction()


async def test_writers_at_once_are_numbered_without_gaps(store: Store) -> None:
    await add(store, agent("flux"))
    stored = await asyncio.gather(*(add(store, message(f"m{n:03}")) for n in range(40)))
    assert sorted(row.ordinal for (row,) in stored) == list(range(40))


async def test_of_writers_at_once_one_gets_a_key(store: Store) -> None:
    made = await asyncio.gather(
        *(add(store, user("ada", name=str(n))) for n in range(20)), return_exceptions=True
    )
    assert sum(not isinstance(one, BaseException) for one in made) == 1
    assert all(isinstance(one, list | AlreadyExists) for one in made)


async def test_guards_lose_no_update(store: Store) -> None:
    await add(store, agent("flux"), block("b"))
    save = update(type(block("b")), "revision").where(
        columns_of(type(block("b"))).id == "b",
        columns_of(type(block("b"))).revision == param("seen"),
    )

    async def increment() -> None:
        while True:
            seen = (await read(store, block("b"))).revision
            try:
                await store.write([save(revision=seen + 1, seen=seen).expect(1)])
                return
            except Conflict:
                await asyncio.sleep(0)

    await asyncio.gather(*(increment() for _ in range(20)))
    assert (await read(store, block("b"))).revision == 21


async def test_enums_json_and_absent_values_can_be_changed(store: Store) -> None:
    await add(store, agent("flux", model_name="m"), block("b"))
    assert await change(store, agent("flux"), model_name=None, config={"a": [1, 1.0, None]}) == 1
    assert await change(store, block("b"), permission=Permission.ADMIN) == 1
    flux = await read(store, agent("flux"))
    assert (flux.model_name, repr(flux.config)) == (None, "{'a': [1, 1.0, None]}")
    assert (await read(store, block("b"))).permission is Permission.ADMIN
    assert await store.execute(Count(table_of(SystemMetadata))) == 0


async def test_an_erased_database_is_closed_and_empty_when_it_is_opened_again(
    subject: Subject, store: Store
) -> None:
    await add(store, user("ada"))
    await store.erase()
    with pytest.raises(DatabaseClosed):
        await store.execute(Count(_USERS))
    again = await subject.open()
    try:
        assert not await again.has_table("users")
        await again.create(all_tables())
        assert await again.execute(Count(_USERS)) == 0
    finally:
        await again.close()
