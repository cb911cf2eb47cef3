"""Which agent or block a name on the command line means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pattern_db.errors import NotFound, PatternError

if TYPE_CHECKING:
    from pattern_db.models import Agent, MemoryBlock
    from pattern_db.service import PatternDB

_SHOWN = 10


class UnclearAgentError(PatternError):
    """It is not clear which agent is meant; the message lists those that can be."""


async def choose_agent(db: PatternDB, given: str | None) -> Agent:
    """The agent with this id or name; without one, the only agent there is.

    Raises ``NotFound``, or ``UnclearAgentError``.
    """
    found = await find_agent(db, given) if given is not None else await _only_agent(db)
    if found is None:
        raise NotFound("agent", given or "")
    return found


async def agent_id(db: PatternDB, given: str | None) -> str:
    """The id of the agent that ``choose_agent`` finds."""
    return (await choose_agent(db, given)).id


async def agent_ids(db: PatternDB, given: list[str] | None) -> list[str]:
    """The ids of the agents with these ids or names; without any, the only agent there is."""
    if not given:
        return [await agent_id(db, None)]
    return [await agent_id(db, each) for each in given]


async def find_agent(db: PatternDB, given: str) -> Agent | None:
    """The agent with this id or name, if there is one.

    Raises ``UnclearAgentError`` if several have the name.
    """
    if (found := await db.agents.get(given)) is not None:
        return found
    named = await db.agents.list(name=given, limit=_SHOWN + 1)
    if len(named) > 1:
        raise UnclearAgentError(f"Several agents have this name; give an id: {_listed(named)}.")
    return named[0] if named else None


async def _only_agent(db: PatternDB) -> Agent:
    agents = await db.agents.list(limit=_SHOWN + 1)
    if not agents:
        raise UnclearAgentError("There is no agent yet; run `pattern agent create NAME` first.")
    if len(agents) > 1:
        raise UnclearAgentError(
            f"There are several agents; choose one by --agent: {_listed(agents)}."
        )
    return agents[0]


def _listed(agents: list[Agent]) -> str:
    shown = ", ".join(f"{agent.name} ({agent.id})" for agent in agents[:_SHOWN])
    return shown if len(agents) <= _SHOWN else f"{shown} and more (`pattern agent list`)"


async def choose_block(db: PatternDB, given: str, agent: str | None) -> MemoryBlock:
    """The block with this id, or the one of an agent with this label. Raises ``NotFound``."""
    found = await db.memory.get(given)
    if found is None and not given.startswith(f"{db.memory.prefix}_"):
        found = await db.memory.by_label(await agent_id(db, agent), given)
    if found is None:
        raise NotFound("memory block", given)
    return found
