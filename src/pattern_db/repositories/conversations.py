"""Conversations: threads of messages."""

from __future__ import annotations

import builtins
from datetime import datetime

from msgspec import UNSET, UnsetType

from ..errors import Conflict
from ..models import Conversation, Json, Message
from ..query import Bound, delete, param, select
from ..schema import columns_of
from .repository import DEFAULT_LIMIT, Repository, given, pause

_M = columns_of(Message)
_MESSAGES = select(Message).where(_M.conversation_id == param("conversation_id"))
_ERASE = delete(Message).where(_M.conversation_id == param("conversation_id"))
_ATTEMPTS = 20


class Conversations(Repository[Conversation]):
    """The conversations of agents."""

    model = Conversation
    prefix = "conv"

    async def create(
        self,
        agent_id: str,
        *,
        title: str = "",
        user_id: str | None = None,
        context: Json | None = None,
        metadata: Json | None = None,
        created_at: datetime | None = None,
        id: str | None = None,
    ) -> Conversation:
        """Begin a conversation. Raises ``NotFound`` if there is no such agent or user."""
        now = self._clock()
        row = self._build(
            id=self._new_id(id, now),
            agent_id=agent_id,
            user_id=user_id,
            title=title,
            context=context or {},
            metadata=metadata or {},
            created_at=created_at or now,
            updated_at=now,
        )
        return await self._insert(row)  # type: ignore[no-any-return]

    async def list(
        self,
        agent_id: str | None = None,
        *,
        user_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
        newest_first: bool = False,
        include_deleted: bool = False,
    ) -> builtins.list[Conversation]:
        """Conversations in the order of their time, after the one with the id ``after``."""
        return await self._list(
            limit=limit,
            after=after,
            newest_first=newest_first,
            include_deleted=include_deleted,
            agent_id=agent_id,
            user_id=user_id,
        )

    async def count(
        self,
        agent_id: str | None = None,
        *,
        user_id: str | None = None,
        include_deleted: bool = False,
    ) -> int:
        """How many conversations there are."""
        return await self._count(
            include_deleted=include_deleted, agent_id=agent_id, user_id=user_id
        )

    async def update(
        self,
        id: str,
        *,
        title: str | UnsetType = UNSET,
        context: Json | UnsetType = UNSET,
        metadata: Json | UnsetType = UNSET,
        ended_at: datetime | None | UnsetType = UNSET,
    ) -> Conversation:
        """Change what is given; gives the conversation as it is now. Raises ``NotFound``."""
        await self.require(id)
        changes = given(title=title, context=context, metadata=metadata, ended_at=ended_at)
        return await self._change(id, changes)  # type: ignore[no-any-return]

    async def end(self, id: str) -> Conversation:
        """Mark a conversation as over. Raises ``NotFound``."""
        return await self.update(id, ended_at=self._clock())

    async def purge(self, id: str) -> None:
        """Erase a conversation, its messages and their vectors, for good. Raises ``NotFound``."""
        for attempt in range(_ATTEMPTS):
            found = await self.require(id, include_deleted=True)
            messages = await self._store.execute(_MESSAGES, conversation_id=id)
            removals: builtins.list[Bound] = [
                bound for message in messages for bound in self._indexer.removals_for(message)
            ]
            erased = _ERASE(conversation_id=id).expect(len(messages))
            audit = self._audit("purge", subject_id=id, details={"entity": self.entity})
            try:
                await self._store.write([*removals, erased, *self._purges(found), audit])
            except Conflict:
                await pause(attempt)
                continue
            return
        raise Conflict("This conversation is being written all the time; try again later.")
