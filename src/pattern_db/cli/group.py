"""``pattern group``: agents that work together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from cyclopts import App

from pattern_db.models import MemberRole, PatternType

from . import output
from .choosing import agent_id
from .options import DEFAULTS, Options
from .output import Column
from .session import opened
from .values import JsonObject, Limit

if TYPE_CHECKING:
    from pattern_db.models import AgentGroup, GroupMember

app = App("group", help="Groups: agents that work together.")

_TABLE = output.table(
    [
        Column("name", lambda group: output.shorten(group.name, 40)),
        Column("pattern", lambda group: group.pattern_type),
        Column("id", lambda group: group.id),
        Column("description", lambda group: output.shorten(group.description)),
    ]
)


@app.command
async def create(
    name: str,
    /,
    *,
    pattern: PatternType = PatternType.ROUND_ROBIN,
    description: str = "",
    metadata: JsonObject | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Add a group.

    Parameters
    ----------
    name
        What it is called.
    pattern
        How its agents work together.
    description
        What it is for, in a sentence.
    metadata
        A JSON object to keep with it.
    """
    async with opened(options) as db:
        group = await db.groups.create(
            name=name, pattern_type=pattern, description=description, metadata=metadata
        )
    output.answer(options, group, f"Created group {group.name} ({group.id}).")


@app.command(name="list")
async def list_(
    *, limit: Limit = 50, after: str | None = None, options: Options = DEFAULTS
) -> None:
    """List groups, the oldest first.

    Parameters
    ----------
    limit
        How many at most.
    after
        Go on after the group with this id.
    """
    async with opened(options) as db:
        groups = await db.groups.list(limit=output.one_more(limit), after=after)
    output.listing(options, groups, limit, _TABLE, nothing="no groups")


@app.command
async def show(group: str, /, *, options: Options = DEFAULTS) -> None:
    """Show a group and its members.

    Parameters
    ----------
    group
        The id of the group.
    """
    async with opened(options) as db:
        found = await db.groups.require(group)
        members = await db.groups.members(group)
    if options.json:
        output.document(_with_members(found, members))
        return
    output.record(
        [
            *output.facts_of(found, without=["is_active"]),
            *(("member", _member(member)) for member in members),
        ]
    )


def _with_members(group: AgentGroup, members: list[GroupMember]) -> dict[str, Any]:
    return {**msgspec.structs.asdict(group), "members": members}


def _member(member: GroupMember) -> str:
    domain = f" for {member.domain}" if member.domain else ""
    able = f", able to {', '.join(member.capabilities)}" if member.capabilities else ""
    return f"{member.agent_id}, {member.role}{domain}{able}"


@app.command
async def delete(group: str, /, *, options: Options = DEFAULTS) -> None:
    """Deactivate a group: no longer listed. Nothing is erased.

    Parameters
    ----------
    group
        The id of the group.
    """
    async with opened(options) as db:
        await db.groups.delete(group)
    output.answer(options, {"deleted": group}, f"Deactivated group {group}.")


@app.command
async def add_member(
    group: str,
    agent: str,
    /,
    *,
    role: MemberRole = MemberRole.REGULAR,
    domain: str | None = None,
    capability: list[str] | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Put an agent into a group, or change its place there.

    Parameters
    ----------
    group
        The id of the group.
    agent
        The id or the name of the agent.
    role
        What it is to the group.
    domain
        What a specialist knows about; nobody else has one.
    capability
        Something it can do; may be given several times.
    """
    async with opened(options) as db:
        member = await db.groups.add_member(
            group,
            await agent_id(db, agent),
            role=role,
            domain=domain,
            capabilities=capability or (),
        )
    output.answer(options, member, f"Agent {member.agent_id} is in group {group} ({member.role}).")


@app.command
async def remove_member(group: str, agent: str, /, *, options: Options = DEFAULTS) -> None:
    """Take an agent out of a group.

    Parameters
    ----------
    group
        The id of the group.
    agent
        The id or the name of the agent.
    """
    async with opened(options) as db:
        members = {member.agent_id for member in await db.groups.members(group)}
        removed = agent if agent in members else await agent_id(db, agent)
        await db.groups.remove_member(group, removed)
    output.answer(options, {"removed": removed}, f"Agent {removed} is no longer in group {group}.")
