"""Users, agents, and groups of agents."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ..errors import InvalidValue, NotFound
from ..models import (
    Agent,
    AgentGroup,
    AgentStatus,
    GroupMember,
    Json,
    MemberRole,
    PatternType,
    User,
)
from ..query import Bound, Insert, delete, param, select
from ..schema import columns_of, table_of
from ..validation import build, check_enum, check_id
from .content import listed
from .merging import UNFOUNDED
from .repository import DEFAULT_LIMIT, Repository, given

_M = columns_of(GroupMember)
_ADD_MEMBER = Insert(table_of(GroupMember), on_conflict="replace")
_REMOVE_MEMBER = delete(GroupMember).where(
    _M.group_id == param("group_id"), _M.agent_id == param("agent_id")
)
_MEMBERS = (
    select(GroupMember)
    .where(_M.group_id == param("group_id"))
    .order_by(_M.joined_at, _M.agent_id)
    .limit(100_000)
)
_GROUPS_OF = (
    select(GroupMember)
    .where(_M.agent_id == param("agent_id"))
    .order_by(_M.joined_at, _M.group_id)
    .limit(100_000)
)


class UserWithAgents(msgspec.Struct, frozen=True, kw_only=True):
    """A user and the live agents that work for them."""

    user: User
    agents: list[Agent]


class Users(Repository[User]):
    """The people whom agents work for."""

    model = User
    prefix = "user"

    async def create(
        self,
        *,
        name: str = "",
        settings: Json | None = None,
        metadata: Json | None = None,
        id: str | None = None,
    ) -> User:
        """Add a user. Raises ``AlreadyExists`` if the id is taken."""
        now = self._clock()
        row = self._build(
            id=self._new_id(id, now),
            name=name,
            settings=settings or {},
            metadata=metadata or {},
            created_at=now,
            updated_at=now,
        )
        return await self._insert(row)  # type: ignore[no-any-return]

    async def update(
        self,
        id: str,
        *,
        name: str | UnsetType = UNSET,
        settings: Json | UnsetType = UNSET,
        metadata: Json | UnsetType = UNSET,
    ) -> User:
        """Change what is given; gives the user as it is now. Raises ``NotFound``."""
        await self.require(id)
        return await self._change(id, given(name=name, settings=settings, metadata=metadata))  # type: ignore[no-any-return]

    async def list(
        self, *, limit: int = DEFAULT_LIMIT, after: str | None = None, include_deleted: bool = False
    ) -> builtins.list[User]:
        """Users in the order of their creation, after the one with the id ``after``."""
        return await self._list(limit=limit, after=after, include_deleted=include_deleted)

    async def count(self, *, include_deleted: bool = False) -> int:
        """How many users there are."""
        return await self._count(include_deleted=include_deleted)

    async def get_with_agents(self, id: str) -> UserWithAgents | None:
        """A user with their live agents; ``None`` if there is no such user."""
        user = await self.get(id)
        if user is None:
            return None
        agents = Agents(self._context)
        return UserWithAgents(user=user, agents=await agents.get_by_user(id))

    def _purges(self, found: User) -> builtins.list[Bound]:
        return [*super()._purges(found), UNFOUNDED()]


class Agents(Repository[Agent]):
    """Agents: what they are told to be, how they are set up, the state they keep."""

    model = Agent
    prefix = "agent"

    async def create(
        self,
        *,
        name: str,
        user_id: str | None = None,
        agent_type: str = "assistant",
        description: str = "",
        system_prompt: str = "",
        model_provider: str | None = None,
        model_name: str | None = None,
        config: Json | None = None,
        state: Json | None = None,
        enabled_tools: Sequence[str] = (),
        tool_rules: Sequence[Json] = (),
        status: AgentStatus | str = AgentStatus.ACTIVE,
        metadata: Json | None = None,
        id: str | None = None,
    ) -> Agent:
        """Add an agent. Raises ``NotFound`` if there is no such user."""
        if isinstance(name, str) and not name.strip():
            raise InvalidValue("name", "an agent needs a name.")
        now = self._clock()
        row = self._build(
            id=self._new_id(id, now),
            user_id=user_id,
            name=name,
            agent_type=agent_type,
            description=description,
            system_prompt=system_prompt,
            model_provider=model_provider,
            model_name=model_name,
            config=config or {},
            state=state or {},
            enabled_tools=listed("enabled_tools", enabled_tools),
            tool_rules=listed("tool_rules", tool_rules),
            status=status,
            metadata=metadata or {},
            created_at=now,
            updated_at=now,
        )
        return await self._insert(row)  # type: ignore[no-any-return]

    async def update(
        self,
        id: str,
        *,
        name: str | UnsetType = UNSET,
        user_id: str | None | UnsetType = UNSET,
        agent_type: str | UnsetType = UNSET,
        description: str | UnsetType = UNSET,
        system_prompt: str | UnsetType = UNSET,
        model_provider: str | None | UnsetType = UNSET,
        model_name: str | None | UnsetType = UNSET,
        config: Json | UnsetType = UNSET,
        state: Json | UnsetType = UNSET,
        enabled_tools: Sequence[str] | UnsetType = UNSET,
        tool_rules: Sequence[Json] | UnsetType = UNSET,
        status: AgentStatus | str | UnsetType = UNSET,
        metadata: Json | UnsetType = UNSET,
    ) -> Agent:
        """Change what is given; gives the agent as it is now. Raises ``NotFound``."""
        await self.require(id)
        changes = given(
            name=name,
            user_id=user_id,
            agent_type=agent_type,
            description=description,
            system_prompt=system_prompt,
            model_provider=model_provider,
            model_name=model_name,
            config=config,
            state=state,
            enabled_tools=enabled_tools,
            tool_rules=tool_rules,
            status=status,
            metadata=metadata,
        )
        return await self._change(id, changes)  # type: ignore[no-any-return]

    async def update_state(self, id: str, state: Json) -> Agent:
        """Replace the state an agent keeps."""
        return await self.update(id, state=state)

    async def list(
        self,
        *,
        user_id: str | None = None,
        status: AgentStatus | str | None = None,
        name: str | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
        include_deleted: bool = False,
    ) -> builtins.list[Agent]:
        """Agents in the order of their creation, after the one with the id ``after``."""
        return await self._list(
            limit=limit,
            after=after,
            include_deleted=include_deleted,
            user_id=user_id,
            status=None if status is None else check_enum("status", AgentStatus, status),
            name=name,
        )

    async def get_by_user(self, user_id: str) -> builtins.list[Agent]:
        """Every live agent of a user."""
        return await self._list(limit=100_000, user_id=user_id)

    async def count(
        self,
        *,
        user_id: str | None = None,
        status: AgentStatus | str | None = None,
        include_deleted: bool = False,
    ) -> int:
        """How many agents there are."""
        return await self._count(
            include_deleted=include_deleted,
            user_id=user_id,
            status=None if status is None else check_enum("status", AgentStatus, status),
        )

    def _purges(self, found: Agent) -> builtins.list[Bound]:
        return [*super()._purges(found), UNFOUNDED()]


class Groups(Repository[AgentGroup]):
    """Agents that work together."""

    model = AgentGroup
    prefix = "group"

    async def create(
        self,
        *,
        name: str,
        description: str = "",
        pattern_type: PatternType | str = PatternType.ROUND_ROBIN,
        pattern_config: Json | None = None,
        metadata: Json | None = None,
        id: str | None = None,
    ) -> AgentGroup:
        """Add a group."""
        now = self._clock()
        row = self._build(
            id=self._new_id(id, now),
            name=name,
            description=description,
            pattern_type=pattern_type,
            pattern_config=pattern_config or {},
            metadata=metadata or {},
            created_at=now,
            updated_at=now,
        )
        return await self._insert(row)  # type: ignore[no-any-return]

    async def update(
        self,
        id: str,
        *,
        name: str | UnsetType = UNSET,
        description: str | UnsetType = UNSET,
        pattern_type: PatternType | str | UnsetType = UNSET,
        pattern_config: Json | UnsetType = UNSET,
        metadata: Json | UnsetType = UNSET,
    ) -> AgentGroup:
        """Change what is given; gives the group as it is now. Raises ``NotFound``."""
        await self.require(id)
        changes = given(
            name=name,
            description=description,
            pattern_type=pattern_type,
            pattern_config=pattern_config,
            metadata=metadata,
        )
        return await self._change(id, changes)  # type: ignore[no-any-return]

    async def list(
        self, *, limit: int = DEFAULT_LIMIT, after: str | None = None, include_deleted: bool = False
    ) -> builtins.list[AgentGroup]:
        """Groups in the order of their creation, after the one with the id ``after``."""
        return await self._list(limit=limit, after=after, include_deleted=include_deleted)

    async def count(self, *, include_deleted: bool = False) -> int:
        """How many groups there are."""
        return await self._count(include_deleted=include_deleted)

    async def add_member(
        self,
        group_id: str,
        agent_id: str,
        *,
        role: MemberRole | str = MemberRole.REGULAR,
        domain: str | None = None,
        capabilities: Sequence[str] = (),
    ) -> GroupMember:
        """Put an agent into a group, or change its place there; a specialist needs a domain."""
        await self.require(group_id)
        row = build(
            GroupMember,
            {
                "group_id": group_id,
                "agent_id": agent_id,
                "role": role,
                "domain": domain,
                "capabilities": listed("capabilities", capabilities),
                "joined_at": self._clock(),
            },
        )
        if (row.role is MemberRole.SPECIALIST) != (row.domain is not None):
            raise InvalidValue("domain", "a specialist needs one, and nobody else has one.")
        member: GroupMember = await self._store.execute(_ADD_MEMBER, row=row)
        return member

    async def remove_member(self, group_id: str, agent_id: str) -> None:
        """Take an agent out of a group. Raises ``NotFound``."""
        key: dict[str, Any] = {"group_id": group_id, "agent_id": agent_id}
        if await self._store.execute(_REMOVE_MEMBER, **key) == 0:
            raise NotFound("group member", agent_id)

    async def members(self, group_id: str) -> builtins.list[GroupMember]:
        """Who is in a group, in the order of joining. Raises ``NotFound``."""
        await self.require(group_id)
        found: builtins.list[GroupMember] = await self._store.execute(_MEMBERS, group_id=group_id)
        return found

    async def memberships(self, agent_id: str) -> builtins.list[GroupMember]:
        """The places of an agent in all its groups."""
        found: builtins.list[GroupMember] = await self._store.execute(
            _GROUPS_OF, agent_id=check_id("agent_id", agent_id)
        )
        return found
