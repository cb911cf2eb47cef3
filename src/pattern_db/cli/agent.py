"""``pattern agent``: agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyclopts import App

from . import output
from .choosing import choose_agent
from .options import DEFAULTS, Options
from .output import Column
from .session import opened
from .values import JsonObject, Limit

if TYPE_CHECKING:
    from pattern_db.models import Agent

app = App("agent", help="Agents: who remembers.")

_TABLE = output.table(
    [
        Column("name", lambda agent: output.shorten(agent.name, 40)),
        Column("id", lambda agent: agent.id),
        Column("created", lambda agent: output.when(agent.created_at)),
        Column("description", lambda agent: output.shorten(agent.description)),
    ]
)


@app.command
async def create(
    name: str,
    /,
    *,
    user: str | None = None,
    type: str = "assistant",
    description: str = "",
    prompt: str = "",
    metadata: JsonObject | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Add an agent.

    Parameters
    ----------
    name
        What it is called.
    user
        The id of the user it works for.
    type
        What kind of agent it is.
    description
        What it is for, in a sentence.
    prompt
        Its system prompt.
    metadata
        A JSON object to keep with it.
    """
    async with opened(options) as db:
        agent = await db.agents.create(
            name=name,
            user_id=user,
            agent_type=type,
            description=description,
            system_prompt=prompt,
            metadata=metadata,
        )
    output.answer(options, agent, f"Created agent {agent.name} ({agent.id}).")


@app.command(name="list")
async def list_(
    *,
    user: str | None = None,
    limit: Limit = 50,
    after: str | None = None,
    options: Options = DEFAULTS,
) -> None:
    """List agents, the oldest first.

    Parameters
    ----------
    user
        Only those of the user with this id.
    limit
        How many at most.
    after
        Go on after the agent with this id.
    """
    async with opened(options) as db:
        agents = await db.agents.list(user_id=user, limit=output.one_more(limit), after=after)
    output.listing(options, agents, limit, _TABLE, nothing="no agents")


@app.command
async def show(agent: str, /, *, options: Options = DEFAULTS) -> None:
    """Show an agent.

    Parameters
    ----------
    agent
        Its id, or its name if no other has it.
    """
    async with opened(options) as db:
        found = await choose_agent(db, agent)
    if options.json:
        output.document(found)
    else:
        _show(found)


def _show(agent: Agent) -> None:
    output.record(
        output.facts_of(agent, without=["system_prompt", "is_active"]), agent.system_prompt
    )


@app.command
async def delete(agent: str, /, *, options: Options = DEFAULTS) -> None:
    """Deactivate an agent: it is no longer listed or searched. Nothing is erased.

    Parameters
    ----------
    agent
        Its id, or its name if no other has it.
    """
    async with opened(options) as db:
        found = await choose_agent(db, agent)
        await db.agents.delete(found.id)
    output.answer(options, {"deleted": found.id}, f"Deactivated agent {found.name} ({found.id}).")
