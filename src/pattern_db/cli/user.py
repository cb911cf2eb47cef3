"""``pattern user``: the people whom agents work for."""

from __future__ import annotations

from cyclopts import App

from pattern_db.errors import NotFound

from . import output
from .options import DEFAULTS, Options
from .output import Column
from .session import opened
from .values import JsonObject, Limit

app = App("user", help="Users: the people whom agents work for.")

_TABLE = output.table(
    [
        Column("id", lambda user: user.id),
        Column("created", lambda user: output.when(user.created_at)),
        Column("name", lambda user: output.shorten(user.name)),
    ]
)


@app.command
async def create(
    name: str, /, *, metadata: JsonObject | None = None, options: Options = DEFAULTS
) -> None:
    """Add a user.

    Parameters
    ----------
    name
        What they are called.
    metadata
        A JSON object to keep with them.
    """
    async with opened(options) as db:
        user = await db.users.create(name=name, metadata=metadata)
    output.answer(options, user, f"Created user {user.name} ({user.id}).")


@app.command(name="list")
async def list_(
    *, limit: Limit = 50, after: str | None = None, options: Options = DEFAULTS
) -> None:
    """List users, the oldest first.

    Parameters
    ----------
    limit
        How many at most.
    after
        Go on after the user with this id.
    """
    async with opened(options) as db:
        users = await db.users.list(limit=output.one_more(limit), after=after)
    output.listing(options, users, limit, _TABLE, nothing="no users")


@app.command
async def show(user: str, /, *, options: Options = DEFAULTS) -> None:
    """Show a user and the agents that work for them.

    Parameters
    ----------
    user
        The id of the user.
    """
    async with opened(options) as db:
        found = await db.users.get_with_agents(user)
    if found is None:
        raise NotFound("user", user)
    if options.json:
        output.document(found)
        return
    agents = ", ".join(f"{agent.name} ({agent.id})" for agent in found.agents)
    output.record([*output.facts_of(found.user, without=["is_active"]), ("agents", agents)])


@app.command
async def delete(user: str, /, *, options: Options = DEFAULTS) -> None:
    """Deactivate a user: no longer listed. Nothing is erased.

    Parameters
    ----------
    user
        The id of the user.
    """
    async with opened(options) as db:
        await db.users.delete(user)
    output.answer(options, {"deleted": user}, f"Deactivated user {user}.")
