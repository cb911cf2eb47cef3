"""Values are bound, never spliced: no statement that SQLite ever sees holds a byte of an input."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import apsw
import pytest

import pattern_db
from pattern_db import NotFound, PatternDB, PatternError
from pattern_db.engines.sqlite import engine
from tests.rigs.canary import Needles

from .tiny import TinyEmbeddings

pytestmark = pytest.mark.slow


class Tracer:
    """Every statement of every connection: ours, those of triggers, and those FTS5 makes."""

    def __init__(self) -> None:
        self.statements: set[str] = set()
        self.bound: list[Any] = []
        self.connections = 0

    def watch(self, connection: apsw.Connection) -> None:
        self.connections += 1
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, self._run, id=self)
        connection.set_exec_trace(self._asked)

    def _run(self, event: dict[str, Any]) -> None:
        self.statements.add(event["sql"])

    def _asked(self, _cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        self.statements.add(sql)
        self.bound.append(bindings)
        return True


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> Tracer:
    made = Tracer()
    connect = engine.connect

    def connect_and_watch(*args: Any, **kwargs: Any) -> apsw.Connection:
        connection = connect(*args, **kwargs)
        made.watch(connection)
        return connection

    monkeypatch.setattr(engine, "connect", connect_and_watch)
    return made


@pytest.fixture
async def db(path: str, tracer: Tracer) -> AsyncIterator[PatternDB]:
    async with pattern_db.open(path, embeddings=TinyEmbeddings()) as opened:
        yield opened


class Planted:
    """Gives a new needle each time, on its own or where it could leave a quoted place."""

    def __init__(self) -> None:
        self.needles = Needles(seed=11)
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return self.needles.plant(f"input {self.count}")

    def spiked(self) -> str:
        return f"'\"`); {self()} --"


async def use_everything(db: PatternDB, new: Planted) -> None:
    """A needle in every place of the API that takes a value."""
    metadata = {new(): new.spiked(), "tags": [new()], "n": {new(): [new()]}}
    user = await db.users.create(id=new(), name=new.spiked(), settings=metadata)
    flux, other = [
        await db.agents.create(
            id=new.spiked(), name=new(), user_id=user.id, state=metadata, enabled_tools=[new()]
        )
        for _ in range(2)
    ]
    await db.agents.list(name=new.spiked(), user_id=new())
    group = await db.groups.create(id=new(), name=new())
    await db.groups.add_member(group.id, flux.id, role="specialist", domain=new.spiked())
    talk = await db.conversations.create(flux.id, id=new(), title=new(), context=metadata)
    said = await db.messages.append(
        flux.id, role="user", id=new(), content=new.spiked(), speaker=new(), source=new(),
        conversation_id=talk.id, metadata=metadata,
    )  # fmt: skip
    await db.messages.append_many(
        flux.id, [{"role": "user", "content": [{"type": "text", "text": new()}], "id": new()}]
    )
    call = {"call_id": new.spiked(), "name": new(), "arguments": {new(): new()}}
    await db.messages.append(flux.id, role="assistant", tool_calls=[call], batch_id=new())
    await db.messages.append(
        flux.id, role="tool", tool_responses=[{"call_id": call["call_id"], "content": new()}]
    )
    await db.messages.update(said.id, content=new(), speaker=new.spiked(), metadata=metadata)
    block = await db.memory.create(
        flux.id, id=new(), label=new.spiked(), content=new(), description=new()
    )
    await db.memory.append(block.id, new.spiked())
    await db.memory.share(block.id, other.id)
    await db.memory.by_label(flux.id, new())
    await db.memory.undo(block.id)
    note = await db.archival.create(flux.id, f"{new()} {new()}", chunk_chars=40, id=new())
    await db.archival.read(note.id)
    await db.archival.create_many(
        flux.id, [{"content": new.spiked(), "id": new()}], skip_existing=True
    )
    await db.tool_calls.create(
        flux.id, tool_name=new(), parameters={new(): 1}, result=new(), error=new.spiked()
    )
    await db.tool_calls.list(flux.id, tool_name=new.spiked())
    for mode in ("keyword", "semantic", "hybrid"):
        await db.search(
            flux.id,
            f"{new.spiked()} {new()}",
            mode=mode,
            tags=[new.spiked()],
            speakers=[new.spiked()],
            metadata={
                new.spiked(): new.spiked(),
                new(): {"$ne": new.spiked(), "$gte": new(), "$in": [{new(): new.spiked()}]},
            },
            conversation_id=talk.id,
        )
        await db.search(other.id, new(), mode=mode)
    for missing in (
        db.users.require(new.spiked()),
        db.messages.list(flux.id, after=new.spiked()),
        db.messages.append(new.spiked(), role="user"),
        db.conversations.create(flux.id, user_id=new.spiked()),
        db.search(new.spiked(), "x"),
        db.search([flux.id, new.spiked()], "x"),
        db.search(flux.id, "x", conversation_id=new.spiked()),
    ):
        with pytest.raises(NotFound):
            await missing
    async with db.transaction():
        async with db.transaction():
            await db.users.create(name=new())
        await db.search(flux.id, new.spiked())
    await db.messages.archive_before(flux.id, said.id)
    await db.messages.repair(flux.id)
    await db.messages.delete(said.id)
    await db.messages.restore(said.id)
    await db.memory.delete(block.id)
    await db.conversations.purge(talk.id)
    await db.reembed(everything=True)
    await db.status()
    await db.vacuum()
    await db.agents.purge(flux.id)


async def test_no_statement_holds_a_byte_of_an_input(db: PatternDB, tracer: Tracer) -> None:
    new = Planted()
    await use_everything(db, new)
    assert tracer.connections >= 3, "the writer, the one for short reads, and a reader"
    assert len(tracer.statements) > 100
    assert any("messages_text" in sql for sql in tracer.statements)
    for sql in tracer.statements:
        assert new.needles.in_value(sql) == set(), sql
    bound = new.needles.in_value(tracer.bound)
    most = 0.8 * new.count  # the words of a query are bound one by one
    assert len(bound) > most, "the trace sees nearly every input as a bound value"


async def test_a_statement_is_compiled_once_whatever_its_values(
    db: PatternDB, tracer: Tracer
) -> None:
    """A statement's text depends on the kind of question alone: there is nothing to escape."""
    await use_everything(db, Planted())
    before = set(tracer.statements)
    again = Planted()
    again.needles = Needles(seed=12)
    await use_everything(db, again)
    assert tracer.statements == before


async def test_no_error_holds_a_value(db: PatternDB) -> None:
    """Ids may show, so that people know what is missing; texts and metadata may not."""
    needles = Needles(seed=13)
    secret = needles.plant("secret")
    flux = await db.agents.create(name="Flux")
    await db.memory.create(flux.id, label=secret, content=secret)
    short = await db.memory.create(flux.id, label="short", char_limit=10)
    for failing in (
        db.memory.create(flux.id, label=secret),
        db.memory.update(short.id, content=secret),
        db.memory.update(short.id, label=secret),
        db.memory.append(short.id, secret),
        db.messages.append(flux.id, role=secret),
        db.messages.append(flux.id, role="user", content=f"{secret}\0"),
        db.messages.append(flux.id, role="user", metadata={secret: secret, "x": {1: secret}}),
        db.messages.append(flux.id, role="user", metadata={secret: float("nan")}),
        db.messages.append(flux.id, role="user", created_at=secret),
        db.agents.create(name=f"{secret}\ud800"),
        db.agents.create(name="x", config={secret: secret.encode()}),
        db.search(flux.id, f"{secret}\0"),
        db.search(flux.id, "x", metadata={secret: {secret}}),
        db.search(flux.id, "x", mode=secret),
        db.search(flux.id, "x", since=secret),
    ):
        with pytest.raises(PatternError) as raised:
            await failing
        assert needles.in_value(str(raised.value)) == set()
        assert needles.in_value(vars(raised.value)) == set()
