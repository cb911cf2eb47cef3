"""Memory blocks as they were: what a search ``as_of`` a time in the past adds.

A block that did not change since is found as ever. One that did is loaded with the version of its
text that was the newest then, scored by its words, and embedded for this search alone. A block that
was deleted since was known then, and is found; one that was deleted before is not. What has no
versions (label, description, metadata, attachments that ended) counts as it is now, and an undo is
known only as long as nothing changed after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import msgspec

from ..engines.base import Store
from ..filters import Filter, NotInQuery
from ..models import BlockVersion, MemoryBlock, SharedBlock
from ..query import param, select
from ..schema import columns_of

MOST_CHANGED = 500
"""How many blocks that changed since are looked at; of more, those that changed last."""
MOST_EMBEDDED = 20
"""How many earlier texts are embedded for one search, those first that hold more of its words."""

_B, _V, _S = columns_of(MemoryBlock), columns_of(BlockVersion), columns_of(SharedBlock)
_ATTACHED = select(SharedBlock).where(
    _S.agent_id.in_(param("agent_ids")), _S.attached_at <= param("as_of")
)


def theirs() -> Filter:
    """The block belonged to one of the agents, or was shared with one of them by then."""
    return _B.agent_id.in_(param("agent_ids")) | ~NotInQuery("id", _ATTACHED, "block_id")


_CHANGED = (
    select(MemoryBlock)
    .where(_B.created_at <= param("as_of"), _B.updated_at > param("as_of"), theirs())
    .order_by(_B.updated_at, _B.id, descending=True)
    .limit(MOST_CHANGED)
)
_VERSION_THEN = (
    select(BlockVersion)
    .where(_V.block_id == param("block_id"), _V.created_at <= param("as_of"))
    .order_by(_V.version, descending=True)
    .limit(1)
)


class PastBlock(msgspec.Struct, frozen=True):
    """A block as it was; ``stored`` says whether the vectors in the database are of this text."""

    block: MemoryBlock
    stored: bool


async def changed_blocks(
    store: Store,
    agent_ids: Sequence[str],
    as_of: datetime,
    condition: Filter | None,
    params: dict[str, object],
) -> list[PastBlock]:
    """The blocks that changed since, as they were, of those that meet a condition today."""
    query = _CHANGED if condition is None else _CHANGED.where(condition)
    scope = {"agent_ids": agent_ids, "as_of": as_of}
    blocks: list[MemoryBlock] = await store.execute(query, **params | scope)
    found = await asyncio.gather(*(_then(store, block, as_of) for block in blocks))
    return [past for past in found if past is not None]


async def _then(store: Store, block: MemoryBlock, as_of: datetime) -> PastBlock | None:
    versions = await store.execute(_VERSION_THEN, block_id=block.id, as_of=as_of)
    if not versions:
        return None
    (version,) = versions
    was = msgspec.structs.replace(
        block,
        content=version.content,
        version=version.version,
        last_version=version.version,
        updated_at=version.created_at,
        is_active=True,
    )
    return PastBlock(was, stored=block.is_active and block.content == version.content)
