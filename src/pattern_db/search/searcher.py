"""A search from question to hits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..clock import Clock
from ..embeddings.indexing import SEARCHABLE, Indexer
from ..engines.base import Store
from ..errors import NotFound, Unsupported
from ..models import (
    Agent,
    BatchStatus,
    Conversation,
    MemoryBlock,
    Message,
    MessageBatch,
)
from ..query import Get, param, select
from ..schema import columns_of, table_of
from ..validation import MAX_QUERY_CHARS, check_text
from .gathering import Asked, Found, Gatherer, Vectors, candidates_for
from .options import Hit, Mode, SearchOptions, agents_of

if TYPE_CHECKING:
    from .ranking import Ranked

_AGENT, _CONVERSATION = Get(table_of(Agent)), Get(table_of(Conversation))
_M, _B = columns_of(Message), columns_of(MessageBatch)
_MESSAGES, _BLOCKS = table_of(Message), table_of(MemoryBlock)
_OPEN_BATCHES = (
    select(MessageBatch)
    .where(_B.agent_id.in_(param("agent_ids")), _B.status == BatchStatus.OPEN)
    .only(_B.id)
    .limit(100_000)
)
_IN_BATCHES = select(Message).where(_M.batch_id.in_(param("batches"))).only(_M.id).limit(100_000)


class Searcher:
    """Searches one database."""

    def __init__(self, store: Store, indexer: Indexer, clock: Clock):
        self._store = store
        self._indexer = indexer
        self._clock = clock
        self._gatherer = Gatherer(store, indexer)

    async def search(
        self,
        agent_id: str | Sequence[str],
        query: str,
        options: SearchOptions,
        *,
        weights: Mapping[str, float] | None = None,
    ) -> list[Hit]:
        """See ``PatternDB.search``; ``weights`` are those of ``ranking.rank``."""
        agent_ids = agents_of(agent_id)
        await self._check_scope(agent_ids, options)
        return await self.among(agent_ids, query, options, weights=weights)

    async def among(
        self,
        agent_ids: Sequence[str],
        query: str,
        options: SearchOptions,
        *,
        weights: Mapping[str, float] | None = None,
    ) -> list[Hit]:
        """The same for any number of agents that are there."""
        check_text("query", query, at_most=MAX_QUERY_CHARS)
        if options.mode == "semantic" and self._indexer.provider is None:
            raise Unsupported(
                "Semantic search needs an embedding provider; set embeddings.provider, or use "
                'mode="keyword".'
            )
        if not query.strip() or not agent_ids:
            return []
        from . import ranking  # numpy: not before it is needed

        mode: Mode = options.mode if self._indexer.provider is not None else "keyword"
        asked = Asked(
            agent_ids=agent_ids,
            query=query,
            terms=ranking.match_terms(ranking.analyze(query)),
            mode=mode,
            options=options,
            hidden=await self._incomplete(agent_ids) if "message" in options.kinds else [],
            vectors=Vectors(self._indexer),
        )
        found = await self._candidates(asked)
        offered = [candidate for of_kind in found.values() for candidate in of_kind.candidates()]
        speakers = {candidate.speaker for candidate in offered if candidate.speaker}
        question = ranking.analyze(query, speakers, now=options.as_of or self._clock())
        limit = None if options.diversity else options.limit
        ranked = ranking.rank(question, offered, mode=mode, limit=limit, weights=weights)
        if options.diversity:
            ranked = await self._diverse(ranked, found, options)
        return await self._hits(asked, found, ranked)

    async def _hits(
        self, asked: Asked, found: dict[str, Found], ranked: Sequence[Ranked]
    ) -> list[Hit]:
        """The ranked with their models; what was removed a moment ago is left out."""
        items: dict[tuple[str, str], Any] = {}
        for kind, of_kind in found.items():
            ids = [r.candidate.item_id for r in ranked if r.candidate.kind == kind]
            wanted = [id for id in ids if id not in of_kind.past]
            models = await self._gatherer.load(asked, of_kind, wanted) if wanted else {}
            items |= {(kind, id): item for id, item in {**models, **of_kind.past}.items()}
        hits = []
        for best in ranked:
            kind = best.candidate.kind
            item = items.get((kind, best.candidate.item_id))
            if item is not None:
                hits.append(
                    Hit(item=item, kind=kind, score=best.score, why=best.why, mode=asked.mode)
                )
        return hits

    async def _diverse(
        self, ranked: list[Ranked], found: dict[str, Found], options: SearchOptions
    ) -> list[Ranked]:
        """The best of the ranked that differ from each other, in the order they are chosen."""
        from . import diversity

        return await diversity.choose(
            self._store,
            ranked[: candidates_for(options, options.mode)],
            space=self._indexer.space,
            earlier={kind: of_kind.earlier for kind, of_kind in found.items()},
            diversity=options.diversity,
            limit=options.limit,
        )

    async def _check_scope(self, agent_ids: Sequence[str], options: SearchOptions) -> None:
        """Raises ``NotFound`` for an agent that is not there or not active, or a conversation."""
        for agent_id in agent_ids:
            agent = await self._store.execute(_AGENT, id=agent_id)
            if agent is None or not agent.is_active:
                raise NotFound("agent", agent_id)
        talk = options.conversation_id
        if talk is not None and await self._store.execute(_CONVERSATION, id=talk) is None:
            raise NotFound("conversation", talk)

    async def _candidates(self, asked: Asked) -> dict[str, Found]:
        found: dict[str, Found] = {}
        for kind in asked.options.kinds:
            scope = asked.options.condition(SEARCHABLE[kind])
            if scope is not None:
                condition, params = scope
                found[kind] = Found(
                    SEARCHABLE[kind], condition, {**params, "agent_ids": asked.agent_ids}
                )
        await asyncio.gather(*(self._gatherer.gather(asked, f) for f in found.values()))
        return found

    async def _incomplete(self, agent_ids: Sequence[str]) -> list[str]:
        """Messages of batches that are still open: half a batch is not found."""
        batches = await self._store.execute(_OPEN_BATCHES, agent_ids=agent_ids)
        if not batches:
            return []
        rows = await self._store.execute(_IN_BATCHES, batches=[batch[0] for batch in batches])
        return [row[0] for row in rows]
