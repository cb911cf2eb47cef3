"""Who is there: users, their agents, and groups of agents."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Annotated, Any

import msgspec

from ..schema import Index, Reference, table

Json = dict[str, Any]


class AgentStatus(enum.StrEnum):
    """Whether an agent runs (``active``), is kept but not run, or is put away."""

    ACTIVE = "active"
    HIBERNATED = "hibernated"
    ARCHIVED = "archived"


class PatternType(enum.StrEnum):
    """How a group of agents works together."""

    ROUND_ROBIN = "round_robin"
    DYNAMIC = "dynamic"
    PIPELINE = "pipeline"
    SUPERVISOR = "supervisor"
    VOTING = "voting"
    SLEEPTIME = "sleeptime"


class MemberRole(enum.StrEnum):
    """What an agent is to its group."""

    OBSERVER = "observer"
    REGULAR = "regular"
    SPECIALIST = "specialist"
    SUPERVISOR = "supervisor"


class ConstellationStatus(enum.StrEnum):
    """Whether a constellation can be opened, is being made, or is being erased."""

    CREATING = "creating"
    ACTIVE = "active"
    DROPPING = "dropping"


@table("users", entity="user", indexes=(Index(("created_at", "id")),))
class User(msgspec.Struct, frozen=True, gc=False):
    """A partner: somebody whom agents work for."""

    id: str
    created_at: datetime
    updated_at: datetime
    name: str = ""
    settings: Json = {}
    metadata: Json = {}
    is_active: bool = True


@table(
    "agents",
    entity="agent",
    indexes=(Index(("user_id", "created_at", "id")), Index(("created_at", "id")), Index(("name",))),
)
class Agent(msgspec.Struct, frozen=True, gc=False):
    """An agent: what it is told to be, how it is set up, and the state it keeps."""

    id: str
    name: str
    created_at: datetime
    updated_at: datetime
    user_id: Annotated[str, Reference("users")] | None = None
    agent_type: str = "assistant"
    description: str = ""
    system_prompt: str = ""
    model_provider: str | None = None
    model_name: str | None = None
    config: Json = {}
    state: Json = {}
    enabled_tools: list[str] = []
    tool_rules: list[Json] = []
    status: AgentStatus = AgentStatus.ACTIVE
    metadata: Json = {}
    is_active: bool = True


@table("agent_groups", entity="group", indexes=(Index(("created_at", "id")),))
class AgentGroup(msgspec.Struct, frozen=True, gc=False):
    """Agents that work together after a coordination pattern."""

    id: str
    name: str
    created_at: datetime
    updated_at: datetime
    description: str = ""
    pattern_type: PatternType = PatternType.ROUND_ROBIN
    pattern_config: Json = {}
    metadata: Json = {}
    is_active: bool = True


@table(
    "group_members",
    entity="group member",
    key=("group_id", "agent_id"),
    indexes=(Index(("agent_id",)),),
)
class GroupMember(msgspec.Struct, frozen=True, gc=False):
    """The place of an agent in a group; a specialist names its domain."""

    group_id: Annotated[str, Reference("agent_groups")]
    agent_id: Annotated[str, Reference("agents")]
    joined_at: datetime
    role: MemberRole = MemberRole.REGULAR
    domain: str | None = None
    capabilities: list[str] = []


@table(
    "constellations",
    entity="tenant",
    indexes=(Index(("created_at", "id")), Index(("user_id",))),
)
class Constellation(msgspec.Struct, frozen=True, gc=False):
    """A tenant of this database: agents, memory and messages in a place of their own.

    ``id`` is its name, from which its file, schema or database follows; ``user_id`` the user of
    this database that it belongs to.
    """

    id: str
    created_at: datetime
    updated_at: datetime
    user_id: Annotated[str, Reference("users", "set null")] | None = None
    title: str = ""
    status: ConstellationStatus = ConstellationStatus.CREATING
    metadata: Json = {}
