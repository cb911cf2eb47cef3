"""What agents may find: their own rows, and those shared with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ...filters import Filter
from ...schema import Table, TextIndex
from .codecs import record
from .compiler import Compiled, Statement
from .names import quoted

Rows = Callable[[Compiled, dict[str, Any]], Awaitable[Any]]


def same(value: Any) -> Any:
    """A result that is read as it is."""
    return value


def owned(statement: Statement, owner: str, agent_ids: Sequence[str]) -> str:
    """What belongs to one of the agents; of one alone the planner makes less work."""
    agents = [record("agents", agent_id) for agent_id in agent_ids]
    if len(agents) == 1:
        return f"{quoted(owner)} = {statement.value(agents[0])}"
    return f"{quoted(owner)} IN {statement.value(agents)}"


class Scope:
    """The rows of one table that one search may find."""

    def __init__(
        self,
        table: Table,
        *,
        agent_ids: Sequence[str],
        shared: Sequence[str],
        condition: Filter | None,
        params: dict[str, Any],
    ):
        assert table.text is not None
        self.table, self.text = table, table.text
        self.agent_ids, self.shared = list(agent_ids), list(shared)
        self.condition, self.params = condition, params

    def owned(self, statement: Statement) -> str:
        """The rows of the agents."""
        return owned(statement, self.text.owner, self.agent_ids)

    def mine(self, statement: Statement) -> str:
        """The same, and those shared with one of them."""
        if not self.shared:
            return self.owned(statement)
        shared = statement.value([record(self.table.name, id) for id in self.shared])
        return f"({self.owned(statement)} OR id IN {shared})"

    def live(self, statement: Statement) -> str:
        """Not hidden, and within the condition."""
        name, hidden = self.text.hidden
        shown = f"{quoted(name)} = {'false' if hidden else 'true'}"
        rest = "" if self.condition is None else f" AND {statement.condition(self.condition)}"
        return shown + rest


async def shared_with(rows: Rows, text: TextIndex, agent_ids: Sequence[str]) -> list[str]:
    """Ids of the rows that are shared with one of the agents."""
    if text.shared_through is None:
        return []
    agents = [record("agents", agent_id) for agent_id in agent_ids]
    source = f"SELECT VALUE block_id FROM {quoted(text.shared_through)} WHERE agent_id IN $_0_"
    found: list[str] = await rows(Compiled(f"({source})", (lambda _p: agents,), same, False), {})
    return found
