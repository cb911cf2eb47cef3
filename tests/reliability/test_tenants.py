"""No tenant sees another one: random operations of every public method, colliding ids and texts, and
a needle of its own in every field that a tenant writes."""

from __future__ import annotations

import inspect
import logging
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

import pattern_db
from pattern_db import PatternDB, PatternError
from pattern_db.models import Embedding, EmbeddingSpace, Message
from pattern_db.query import Insert
from pattern_db.schema import table_of
from pattern_db.testing.rows import embedding, message
from pattern_db.transfer import copy_database
from tests.rigs.canary import Needles

from .tiny import TinyEmbeddings

pytestmark = pytest.mark.slow

OPERATIONS = int(os.environ.get("PATTERN_TEST_OPERATIONS", "1000"))
TENANTS = 50 if OPERATIONS >= 10_000 else 12
COMMON = "everyone keeps this secret about the garden in Oslo"

Ids = dict[str, list[str]]
IDS: Ids = {
    kind: [f"{kind}_{n}" for n in range(3)]
    for kind in (
        "user",
        "agent",
        "group",
        "block",
        "conv",
        "msg",
        "arch",
        "batch",
        "summary",
        "tool",
    )
}
KIND = {
    "users": "user", "agents": "agent", "groups": "group", "memory": "block", "tool_calls": "tool",
    "archival": "arch", "conversations": "conv", "messages": "msg", "batches": "batch",
    "summaries": "summary",
}  # fmt: skip


class Tenant:
    """One tenant at work: what it may pass, and its own needle in all of it."""

    def __init__(self, db: PatternDB, needle: str, seed: int) -> None:
        self.db, self.needle, self.rng = db, needle, random.Random(seed)

    def text(self) -> str:
        return f"{COMMON} {self.needle} {self.rng.randrange(5)}"

    def id(self, kind: str) -> str:
        return self.rng.choice(IDS[kind])

    def argument(self, name: str, kind: str) -> Any:
        """A value for a parameter; ``KeyError`` for one that is not known here."""
        return _ARGUMENTS[name](self, kind)

    async def seed(self) -> None:
        """Whatever is missing of the rows that all tenants have under the same ids."""
        db = self.db
        for n in range(3):
            own = {"metadata": {"canary": self.needle, "tags": [self.needle]}}
            agent = f"agent_{n}"
            for make in (
                lambda: db.users.create(name=self.text(), id=f"user_{n}", **own),
                lambda: db.agents.create(
                    name=self.text(),
                    user_id=f"user_{n}",
                    id=agent,
                    system_prompt=self.text(),
                    **own,
                ),
                lambda: db.groups.create(name=self.text(), id=f"group_{n}", **own),
                lambda: db.conversations.create(agent, title=self.text(), id=f"conv_{n}", **own),
                lambda: db.memory.create(
                    agent, label=f"label {n}", content=self.text(), id=f"block_{n}", **own
                ),
                lambda: db.archival.create(agent, self.text(), id=f"arch_{n}", **own),
                lambda: db.messages.append(
                    agent,
                    role="user",
                    speaker=self.needle,
                    content=self.text(),
                    id=f"msg_{n}",
                    **own,
                ),
            ):
                try:
                    await make()
                except PatternError:
                    continue


_ARGUMENTS: dict[str, Callable[[Tenant, str], Any]] = {
    **{f"{kind}_id": lambda t, _, k=kind: t.id(k) for kind in ("user", "agent", "group", "batch")},
    "id": lambda t, kind: t.id(kind),
    "conversation_id": lambda t, _: t.id("conv"),
    "message_id": lambda t, _: t.id("msg"),
    "previous_summary_id": lambda t, _: t.id("summary"),
    "as_agent": lambda t, _: t.id("agent"),
    "written_by": lambda t, _: t.id("agent"),
    "after": lambda t, kind: t.id(kind),
    **dict.fromkeys(
        ("name", "title", "summary", "description", "system_prompt", "speaker", "tool_name",
         "source", "domain", "agent_type"),
        lambda t, _: t.text(),
    ),
    **dict.fromkeys(("content", "text", "result", "error", "reason"), lambda t, _: t.text()),
    "label": lambda t, _: f"label {t.rng.randrange(4)}",
    "query": lambda t, _: t.rng.choice([COMMON, "garden", "Oslo secret"]),
    "role": lambda t, _: t.rng.choice(["user", "assistant"]),
    "messages": lambda t, _: [{"role": "user", "content": t.text(), "speaker": t.needle}] * 2,
    "entries": lambda t, _: [{"content": t.text()}],
    **dict.fromkeys(("metadata", "state", "settings", "config"), lambda t, _: {"k": t.needle}),
    "limit": lambda t, _: t.rng.randrange(1, 20),
    **dict.fromkeys(("start_position", "end_position", "position"), lambda t, _: t.rng.randrange(9)),
    "include_deleted": lambda t, _: t.rng.random() < 0.5,
    "mode": lambda t, _: t.rng.choice(["hybrid", "semantic", "keyword"]),
}  # fmt: skip


def methods(db: PatternDB) -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """Every public coroutine of the repositories, and of the database itself."""
    places: dict[str, Any] = {name: getattr(db, name) for name in KIND if hasattr(db, name)}
    places |= {"batches": db.messages.batches, "summaries": db.messages.summaries}
    for name, place in places.items():
        for method, function in inspect.getmembers(place, inspect.iscoroutinefunction):
            if not method.startswith("_") and (name, method) != ("batches", "place"):
                yield KIND[name], f"{name}.{method}", function
    for method in ("search", "status", "audit_log", "embed_pending"):
        yield "agent", method, getattr(db, method)


async def act(tenant: Tenant, kind: str, method: Callable[..., Any]) -> object:
    """Call a method with values of the tenant; gives what came back, an error too."""
    given, options = [], {}
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        needed = parameter.default is parameter.empty
        if not needed and (parameter.name not in _ARGUMENTS or tenant.rng.random() < 0.6):
            continue
        value = tenant.argument(parameter.name, kind)
        if parameter.kind is parameter.KEYWORD_ONLY:
            options[parameter.name] = value
        else:
            given.append(value)
    try:
        return await method(*given, **options)
    except (PatternError, TypeError) as error:
        if isinstance(error, TypeError) and "argument" not in str(error):
            raise
        return error


@pytest.fixture
async def tenants(location: str) -> AsyncIterator[tuple[Needles, list[Tenant]]]:
    """Tenants of one database, all open, each seeded."""
    needles, made = Needles(seed=11), []
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(pattern_db.open(location, embeddings="none"))
        few = {"connections": 2} if base.store.capabilities.engine == "postgres" else {}
        for number in range(TENANTS):
            name = f"tenant-{number}"
            await base.tenants.create(name)
            opening = pattern_db.open(location, tenant=name, embeddings=TinyEmbeddings(), **few)
            db = await stack.enter_async_context(opening)
            made.append(Tenant(db, needles.plant(name), number))
            await made[-1].seed()
        yield needles, made


@pytest.mark.slow
async def test_no_result_error_or_log_holds_another_tenants_needle(
    tenants: tuple[Needles, list[Tenant]],
    location: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    needles, all_ = tenants
    caplog.set_level(logging.DEBUG)
    rng, called, own = random.Random(5), set(), 0
    plans = {id(tenant): list(methods(tenant.db)) for tenant in all_}
    for number in range(OPERATIONS):
        tenant = rng.choice(all_)
        if number % 25 == 0:
            await tenant.seed()
        kind, name, method = rng.choice(plans[id(tenant)])
        came = await act(tenant, kind, method)
        found = needles.in_value(came)
        if isinstance(came, BaseException):
            found |= needles.in_exception(came)
        assert found <= {f"tenant-{all_.index(tenant)}"}, (name, came)
        called.add(name)
        own += bool(found)
    assert own > OPERATIONS // 10, "the operations found what they were to find"
    assert called == {name for _, name, _ in plans[id(all_[0])]}
    assert needles.in_value(caplog.text) == set()
    await _stored_apart(needles, all_, location, tmp_path)


async def _stored_apart(
    needles: Needles, all_: list[Tenant], location: str, tmp_path: Path
) -> None:
    """What lies in each place is its tenant's, and what is copied out of it too."""
    async with pattern_db.open(tmp_path / "export.db", embeddings="none") as export:
        await copy_database(all_[7].db, export)
    found = needles.in_directory(tmp_path)
    exported = {each.label for each in found if each.path.name.startswith("export.db")}
    assert exported == {"tenant-7"}
    if location.startswith("postgresql"):
        for label, dumped in _dumped(location):
            assert needles.in_value(dumped) == ({label} if label else set())
        return
    for each in found:  # what holds all tenants in one place was asked through each of them
        one_file_each = not location.startswith("surrealkv")
        if one_file_each and not each.path.name.startswith("export.db"):
            assert f"/{each.label}.db" in str(each.path), each


def _dumped(url: str) -> Iterator[tuple[str | None, str]]:
    """All rows of each schema, with its tenant."""
    sql = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema LIKE 'public%' AND table_type = 'BASE TABLE' ORDER BY 1, 2"
    with psycopg.connect(url) as connection:
        rows: dict[str, list[str]] = {}
        for schema, table in connection.execute(sql).fetchall():
            every = connection.execute(f'SELECT t::text FROM "{schema}"."{table}" AS t').fetchall()  # type: ignore[call-overload]
            rows.setdefault(schema, []).extend(row for (row,) in every)
    for schema, texts in rows.items():
        yield schema.partition("__")[2] or None, "\n".join(texts)


async def test_ten_far_vectors_are_found_beside_a_tenant_with_thousands_of_near_ones(
    location: str,
) -> None:
    rng, asked = np.random.default_rng(3), np.eye(16, dtype=np.float32)[0]
    space = EmbeddingSpace(1, "tiny-16", 16, message("m").created_at)
    async with pattern_db.open(location, embeddings="none") as base:
        for name, count, noise in (("near", 3000, 0.01), ("far", 10, 0.0)):
            await base.tenants.create(name)
            async with pattern_db.open(location, tenant=name, embeddings="none") as db:
                await db.agents.create(name="Flux", id="flux")
                await db.store.execute(Insert(table_of(EmbeddingSpace)), row=space)
                rows = [message(f"m{n:05}") for n in range(count)]
                made = (
                    -asked + np.zeros((count, 16))
                    if name == "far"
                    else asked + noise * rng.normal(size=(count, 16))
                )
                made = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
                add, embed = Insert(table_of(Message)), Insert(table_of(Embedding))
                await db.store.write([add(row=row) for row in rows])
                await db.store.write(
                    [embed(row=embedding(row, v)) for row, v in zip(rows, made, strict=True)]
                )
        async with pattern_db.open(location, tenant="far", embeddings="none") as db:
            hits = await db.store.vector_search(
                table_of(Message), asked, space=1, agent_ids=["flux"], limit=10
            )
            assert sorted(id for id, _ in hits) == [f"m{n:05}" for n in range(10)]
            assert all(score < 0 for _, score in hits)
