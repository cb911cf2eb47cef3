"""``pattern search``: everything an agent knows, by question."""

from __future__ import annotations

from pattern_db.models import Role

from .choosing import agent_ids
from .found import ANYTHING, Narrowing, show_hits
from .options import DEFAULTS, Options
from .session import opened
from .values import Kind


async def search(
    query: str,
    /,
    *,
    agent: list[str] | None = None,
    kind: list[Kind] | None = None,
    role: list[Role] | None = None,
    speaker: list[str] | None = None,
    conversation: str | None = None,
    skip_archived: bool = False,
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
    role
        Only messages of this role; may be given several times.
    speaker
        Only what this speaker said, in any case; may be given several times.
    conversation
        Only messages of the conversation with this id.
    skip_archived
        Leave out messages that were archived.
    """
    async with opened(options, embeds=True) as db:
        hits = await db.search(
            await agent_ids(db, agent),
            query,
            kinds=kind,
            roles=role,
            speakers=speaker,
            conversation_id=conversation,
            include_archived=not skip_archived,
            **narrowing.asked(),
        )
    show_hits(options, hits, explain=narrowing.explain)
