"""The audit trail of tools that were run."""

from __future__ import annotations

import builtins
from typing import Any

from ..models import ToolCallRecord
from .repository import DEFAULT_LIMIT, Repository


class ToolCalls(Repository[ToolCallRecord]):
    """What agents ran, with what, and what came of it."""

    model = ToolCallRecord
    prefix = "toolcall"

    async def create(
        self,
        agent_id: str,
        *,
        tool_name: str,
        parameters: Any = None,
        result: Any = None,
        error: str | None = None,
        duration_ms: float | None = None,
        conversation_id: str | None = None,
        message_id: str | None = None,
        call_id: str | None = None,
        id: str | None = None,
    ) -> ToolCallRecord:
        """Record that a tool was run; ``duration_ms`` in milliseconds."""
        now = self._clock()
        row = self._build(
            id=self._new_id(id, now),
            agent_id=agent_id,
            tool_name=tool_name,
            parameters=parameters,
            result=result,
            error=error,
            duration_ms=duration_ms,
            conversation_id=conversation_id,
            message_id=message_id,
            call_id=call_id,
            created_at=now,
        )
        return await self._insert(row)  # type: ignore[no-any-return]

    async def list(
        self,
        agent_id: str | None = None,
        *,
        tool_name: str | None = None,
        conversation_id: str | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
        newest_first: bool = False,
    ) -> builtins.list[ToolCallRecord]:
        """Records in the order of their time, after the one with the id ``after``."""
        return await self._list(
            limit=limit,
            after=after,
            newest_first=newest_first,
            agent_id=agent_id,
            tool_name=tool_name,
            conversation_id=conversation_id,
        )

    async def count(self, agent_id: str | None = None, *, tool_name: str | None = None) -> int:
        """How many records there are."""
        return await self._count(agent_id=agent_id, tool_name=tool_name)
