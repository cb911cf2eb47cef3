"""Which agents have episodes."""

from __future__ import annotations

from ..engines.base import Store
from ..models import Agent, Episode
from ..query import Get, param, select
from ..schema import columns_of, table_of

_E = columns_of(Episode)
_NEXT = (
    select(Episode)
    .where(_E.agent_id > param("after"))
    .order_by(_E.agent_id)
    .only(_E.agent_id)
    .limit(1)
)
_AGENT = Get(table_of(Agent))


async def experienced(store: Store, *, most: int = 100_000, first: str | None = None) -> list[str]:
    """The active agents that have episodes, by id, one question of the index each; ``first`` is
    named first."""
    found: list[str] = [] if first is None else [first]
    after = ""
    while len(found) < most and (rows := await store.execute(_NEXT, after=after)):
        ((after,),) = rows
        if after != first and (agent := await store.execute(_AGENT, id=after)) and agent.is_active:
            found.append(after)
    return found
