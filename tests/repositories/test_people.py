"""Users, agents and groups."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import pattern_db
from pattern_db import (
    Agent,
    AgentStatus,
    AlreadyExists,
    InvalidValue,
    MemberRole,
    NotFound,
    PatternDB,
    PatternType,
    Role,
)


async def test_what_is_written_is_read_back_equal(db: PatternDB) -> None:
    ada = await db.users.create(
        name="Ada", settings={"theme": "dark"}, metadata={"a.b": 1, "nested": {"x": [1, None, 2.5]}}
    )
    flux = await db.agents.create(
        user_id=ada.id,
        name="Flux",
        agent_type="assistant",
        description="helps",
        system_prompt="You help Ada.",
        model_provider="anthropic",
        model_name="m",
        config={"temperature": 0.5},
        state={"mood": "calm"},
        enabled_tools=["search"],
        tool_rules=[{"tool": "search", "rule": "once"}],
        status=AgentStatus.HIBERNATED,
        metadata={"k": "v"},
    )
    assert await db.users.get(ada.id) == ada
    assert await db.agents.get(flux.id) == flux
    assert (await db.users.get_with_agents(ada.id)).agents == [flux]
    assert await db.agents.get_by_user(ada.id) == [flux]


async def test_everything_survives_reopening(path: str) -> None:
    async with pattern_db.open(path, embeddings="none") as db:
        ada = await db.users.create(name="Ada")
    async with pattern_db.open(path, embeddings="none") as db:
        assert await db.users.require(ada.id) == ada


async def test_get_gives_none_and_require_raises(db: PatternDB) -> None:
    assert await db.users.get("user_nobody") is None
    assert await db.users.get_with_agents("user_nobody") is None
    with pytest.raises(NotFound, match="no user 'user_nobody'"):
        await db.users.require("user_nobody")
    with pytest.raises(NotFound):
        await db.users.update("user_nobody", name="x")
    with pytest.raises(NotFound):
        await db.users.delete("user_nobody")


async def test_an_agent_needs_a_user_that_is_there(db: PatternDB) -> None:
    with pytest.raises(NotFound, match="no user 'user_nobody'"):
        await db.agents.create(name="Flux", user_id="user_nobody")


async def test_update_changes_only_what_is_given(db: PatternDB, flux: Agent) -> None:
    changed = await db.agents.update(flux.id, description="new", state={"n": 1})
    assert (changed.name, changed.description, changed.state) == ("Flux", "new", {"n": 1})
    assert changed.updated_at > flux.updated_at
    assert await db.agents.require(flux.id) == changed
    assert (await db.agents.update_state(flux.id, {"n": 2})).state == {"n": 2}


async def test_deleting_deactivates_and_purging_erases(db: PatternDB, flux: Agent) -> None:
    message = await db.messages.append(flux.id, role=Role.USER, content="hello")
    block = await db.memory.create(flux.id, label="human", content="x")
    await db.agents.delete(flux.id)
    assert await db.agents.get(flux.id) is None
    assert await db.agents.list() == []
    assert (await db.agents.get(flux.id, include_deleted=True)).is_active is False
    with pytest.raises(NotFound):
        await db.agents.delete(flux.id)
    assert (await db.agents.restore(flux.id)).is_active
    await db.agents.purge(flux.id)
    assert await db.agents.get(flux.id, include_deleted=True) is None
    assert await db.messages.get(message.id) is None
    assert await db.memory.get(block.id) is None
    assert (await db.audit_log())[0].action == "purge"


async def test_lists_page_by_keyset_and_filter(db: PatternDB) -> None:
    ada = await db.users.create(name="Ada")
    made = [
        await db.agents.create(
            name=f"agent {n}",
            user_id=ada.id if n % 2 else None,
            status=AgentStatus.ARCHIVED if n % 5 == 0 else AgentStatus.ACTIVE,
        )
        for n in range(25)
    ]
    seen: list[Agent] = []
    while page := await db.agents.list(limit=7, after=seen[-1].id if seen else None):
        seen += page
    assert seen == made
    assert await db.agents.list(user_id=ada.id) == made[1::2]
    assert await db.agents.list(status="archived") == made[::5]
    assert await db.agents.count(status=AgentStatus.ARCHIVED) == 5
    with pytest.raises(NotFound):
        await db.agents.list(after="agent_nobody")


@pytest.mark.parametrize("limit", [0, -1, 100_001, True, "5", 1.5, None])
async def test_a_limit_must_be_a_sensible_number(db: PatternDB, limit: object) -> None:
    with pytest.raises(InvalidValue, match="limit"):
        await db.users.list(limit=limit)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": 5}, "name"),
        ({"name": "x\0y"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": "x", "status": "sleeping"}, "status"),
        ({"name": "x", "config": {"a": float("nan")}}, "config"),
        ({"name": "x", "state": {"a": 2**63}}, "state"),
        ({"name": "x", "metadata": {1: 2}}, "metadata"),
        ({"name": "x", "metadata": {"d": datetime(2020, 1, 1, tzinfo=UTC)}}, "metadata"),
        ({"name": "x", "metadata": {"b": b"bytes"}}, "metadata"),
        ({"name": "x", "enabled_tools": [1]}, "enabled_tools"),
        ({"name": "x", "id": ""}, "id"),
        ({"name": "x", "id": "i" * 513}, "id"),
    ],
)
async def test_what_cannot_be_stored_is_refused_by_field(
    db: PatternDB, fields: dict, named: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        await db.agents.create(**fields)
    assert refused.value.field == named
    assert await db.agents.count() == 0


async def test_an_id_can_be_given_once(db: PatternDB) -> None:
    await db.users.create(name="Ada", id="ada")
    with pytest.raises(AlreadyExists):
        await db.users.create(name="Ada", id="ada")


async def test_groups_and_their_members(db: PatternDB, flux: Agent) -> None:
    other = await db.agents.create(name="Other")
    group = await db.groups.create(
        name="Crew", pattern_type=PatternType.SUPERVISOR, pattern_config={"leader_id": flux.id}
    )
    await db.groups.add_member(group.id, flux.id, role=MemberRole.SUPERVISOR)
    await db.groups.add_member(
        group.id, other.id, role="specialist", domain="memory", capabilities=["memory"]
    )
    members = await db.groups.members(group.id)
    assert [(m.agent_id, m.role) for m in members] == [
        (flux.id, MemberRole.SUPERVISOR),
        (other.id, MemberRole.SPECIALIST),
    ]
    assert members[1].capabilities == ["memory"]
    await db.groups.add_member(group.id, other.id)
    assert (await db.groups.memberships(other.id))[0].role is MemberRole.REGULAR
    with pytest.raises(InvalidValue, match="domain"):
        await db.groups.add_member(group.id, other.id, role="specialist")
    with pytest.raises(NotFound):
        await db.groups.add_member(group.id, "agent_nobody")
    await db.groups.remove_member(group.id, other.id)
    with pytest.raises(NotFound):
        await db.groups.remove_member(group.id, other.id)
    changed = await db.groups.update(group.id, pattern_type="voting", pattern_config={"quorum": 2})
    assert await db.groups.list() == [changed]
    await db.groups.delete(group.id)
    assert await db.groups.count() == 0
