"""``pattern search``: everything an agent knows, by question."""

from __future__ import annotations

from .choosing import agent_ids
from .found import ANYTHING, BY_ANYONE, Narrowing, Said, show_hits
from .options import DEFAULTS, Options
from .session import opened
from .values import Kind


async def search(
    query: str,
    /,
    *,
    agent: list[str] | None = None,
    kind: list[Kind] | None = None,
    said: Said = BY_ANYONE,
    narrowing: Narrowing = ANYTHING,
    options: Options = DEFAULTS,
) -> None:
    """Find what an agent knows that answers a question best.

    Parameters
    ----------
    query
        A question, or words.
    agent
        The id or the name of the agent; not needed if there is only one. May be given several
        times, to search several.
    kind
        Only things of this kind; may be given several times.
    """
    async with opened(options, embeds=True) as db:
        hits = await db.search(
            await agent_ids(db, agent),
            query,
            kinds=kind,
            **said.asked(),
            **narrowing.asked(),
        )
    show_hits(options, hits, explain=narrowing.explain)
