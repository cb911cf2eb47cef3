"""A search from question to hits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from ..embeddings.indexing import SEARCHABLE, Indexer
from ..embeddings.provider import Vector
from ..embeddings.texts import said_text, shown_text
from ..engines.base import Store
from ..errors import NotFound, Unsupported
from ..filters import Filter, NotInQuery
from ..models import (
    Agent,
    BatchStatus,
    Conversation,
    Embedding,
    MemoryBlock,
    Message,
    MessageBatch,
    SharedBlock,
)
from ..query import Get, param, select
from ..schema import Table, columns_of, table_of
from ..validation import MAX_QUERY_CHARS, check_text
from .options import Hit, Mode, SearchOptions, agents_of
from .past import MOST_EMBEDDED, changed_blocks

if TYPE_CHECKING:
    from .ranking import Candidate, Ranked

CANDIDATES = 250
"""How many items each side offers for ranking."""
NEIGHBOURS_OF = 100
"""For how many of the best candidates the turns beside them are offered too."""
REACH = 2
"""How far beside, in turns."""

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
_E = columns_of(Embedding)
_VECTORS = (
    select(Embedding)
    .where(_E.item_id.in_(param("ids")), _E.kind == param("kind"), _E.space == param("space"))
    .only(_E.item_id, _E.vector)
    .limit(100_000)
)
_SHARED = select(SharedBlock).where(columns_of(SharedBlock).agent_id.in_(param("agent_ids")))
_BESIDE = (
    select(Message)
    .where(
        _M.conversation_id == param("conversation_id"),
        _M.agent_id == param("agent_id"),
        _M.ordinal.in_(param("ordinals")),
        _M.is_deleted == False,  # noqa: E712
    )
    .limit(10_000)
)


class _Found(msgspec.Struct):
    """What is known of the candidates of one kind while a search goes on."""

    table: Table
    condition: Filter | None
    params: dict[str, Any]
    text: dict[str, float] = {}
    dense: dict[str, float] = {}
    items: dict[str, Any] = {}
    earlier: dict[str, list[Vector]] = {}
    """Items whose vectors in the database are not of the text that counts, with vectors of it."""


class Searcher:
    """Searches one database."""

    def __init__(self, store: Store, indexer: Indexer):
        self._store = store
        self._indexer = indexer
        self._by_ids = {
            kind: select(table.model).where(
                table.column("id").in_(param("ids")), _live(table), *_mine(table)
            )
            for kind, table in SEARCHABLE.items()
        }

    async def search(
        self, agent_id: str | Sequence[str], query: str, options: SearchOptions
    ) -> list[Hit]:
        """See ``PatternDB.search``."""
        check_text("query", query, at_most=MAX_QUERY_CHARS)
        agent_ids = agents_of(agent_id)
        await self._check_scope(agent_ids, options)
        if options.mode == "semantic" and self._indexer.provider is None:
            raise Unsupported(
                "Semantic search needs an embedding provider; set embeddings.provider, or use "
                'mode="keyword".'
            )
        if not query.strip():
            return []
        from . import ranking  # numpy: not before it is needed

        mode: Mode = options.mode if self._indexer.provider is not None else "keyword"
        terms = ranking.match_terms(ranking.analyze(query))
        found = await self._candidates(agent_ids, query, terms, options, mode)
        offered = _offered(found)
        speakers = {candidate.speaker for candidate in offered if candidate.speaker}
        question = ranking.analyze(query, speakers)
        ranked = ranking.rank(
            question, offered, mode=mode, limit=None if options.diversity else options.limit
        )
        if options.diversity:
            ranked = await self._diverse(ranked, found, options)
        items = {(kind, id): item for kind, f in found.items() for id, item in f.items.items()}
        return [
            Hit(
                item=items[best.candidate.kind, best.candidate.item_id],
                kind=best.candidate.kind,
                score=best.score,
                why=best.why,
                mode=mode,
            )
            for best in ranked
        ]

    async def _check_scope(self, agent_ids: Sequence[str], options: SearchOptions) -> None:
        """Raises ``NotFound`` for an agent that is not there or not active, or a conversation."""
        for agent_id in agent_ids:
            agent = await self._store.execute(_AGENT, id=agent_id)
            if agent is None or not agent.is_active:
                raise NotFound("agent", agent_id)
        talk = options.conversation_id
        if talk is not None and await self._store.execute(_CONVERSATION, id=talk) is None:
            raise NotFound("conversation", talk)

    async def _candidates(
        self,
        agent_ids: Sequence[str],
        query: str,
        terms: Sequence[str],
        options: SearchOptions,
        mode: Mode,
    ) -> dict[str, _Found]:
        vector = await self._indexer.embed_query(query) if mode != "keyword" else None
        hidden = await self._incomplete(agent_ids) if "message" in options.kinds else []
        found: dict[str, _Found] = {}
        for kind in options.kinds:
            scope = options.condition(SEARCHABLE[kind])
            if scope is not None:
                condition, params = scope
                params["agent_ids"] = agent_ids
                found[kind] = _Found(SEARCHABLE[kind], condition, params)
        await asyncio.gather(
            *(
                self._gather(agent_ids, f, terms, vector, mode, hidden, options)
                for f in found.values()
            )
        )
        return found

    async def _incomplete(self, agent_ids: Sequence[str]) -> list[str]:
        """Messages of batches that are still open: half a batch is not found."""
        batches = await self._store.execute(_OPEN_BATCHES, agent_ids=agent_ids)
        if not batches:
            return []
        rows = await self._store.execute(_IN_BATCHES, batches=[batch[0] for batch in batches])
        return [row[0] for row in rows]

    async def _gather(
        self,
        agent_ids: Sequence[str],
        found: _Found,
        terms: Sequence[str],
        vector: Any,
        mode: Mode,
        hidden: Sequence[str],
        options: SearchOptions,
    ) -> None:
        """Fill in the candidates of one kind, their scores and rows."""
        scope: dict[str, Any] = {
            "agent_ids": agent_ids,
            "limit": CANDIDATES,
            "condition": found.condition,
            "params": found.params,
            "exclude": hidden,
        }
        space = self._indexer.space
        dense = vector is not None and space is not None
        text, near = await asyncio.gather(
            self._store.text_search(found.table, terms, **scope)
            if mode != "semantic"
            else _nothing(),
            self._store.vector_search(found.table, vector, space=space, **scope)
            if dense and space is not None
            else _nothing(),
        )
        found.text, found.dense = dict(text), dict(near)
        found.items = await self._load(found, [*{**found.text, **found.dense}], options.as_of)
        if found.table is _MESSAGES:
            await self._add_neighbours(found, hidden)
        if found.table is _BLOCKS and options.as_of is not None:
            await self._add_changed(agent_ids, found, terms, vector, mode, options)
        if dense and space is not None:
            rest = [id for id in found.items if id not in found.dense | found.earlier]
            found.dense |= await self._store.vector_scores(
                found.table, vector, space=space, agent_ids=agent_ids, ids=rest
            )

    async def _load(self, found: _Found, ids: list[str], as_of: datetime | None) -> dict[str, Any]:
        """The rows of these ids that may be found and say something."""
        assert found.table.text is not None
        if not ids:
            return {}
        query = self._by_ids[found.table.text.kind]
        if as_of is not None and found.condition is not None:
            query = query.where(found.condition)  # a block may have changed a moment ago
        rows = await self._store.execute(query, **{**found.params, "ids": ids})
        return {row.id: row for row in rows if _says_something(row)}

    async def _add_changed(
        self,
        agent_ids: Sequence[str],
        found: _Found,
        terms: Sequence[str],
        vector: Vector | None,
        mode: Mode,
        options: SearchOptions,
    ) -> None:
        """Add the blocks that changed since, as they were."""
        assert options.as_of is not None
        scope = options.condition(found.table, without=("as_of", "since", "until"))
        assert scope is not None, "what the blocks can meet they can meet without its times"
        changed = [
            past
            for past in await changed_blocks(self._store, agent_ids, options.as_of, *scope)
            if options.covers(past.block.updated_at) and _says_something(past.block)
        ]
        if not changed:
            return
        from . import words

        blocks = {past.block.id: past.block for past in changed}
        items = found.items | blocks
        texts = {id: shown_text(item) for id, item in items.items()}
        scores = words.word_scores(terms, texts)
        earlier = [past.block for past in changed if not past.stored]
        earlier.sort(key=lambda block: -scores.get(block.id, 0.0))
        found.earlier = {block.id: [] for block in earlier}
        if vector is not None:
            await self._embed_earlier(earlier[:MOST_EMBEDDED], found, vector)
        if mode != "semantic":
            found.text = scores
        known = found.text.keys() | found.dense.keys() | {p.block.id for p in changed if p.stored}
        found.items = {id: item for id, item in items.items() if id in known}

    async def _embed_earlier(
        self, blocks: Sequence[MemoryBlock], found: _Found, vector: Vector
    ) -> None:
        """Vectors of texts that the database has none of, and how near they are."""
        import numpy as np

        for row in await self._indexer.embed_unstored(blocks):
            piece = np.frombuffer(row.vector, "<f4")
            found.earlier[row.item_id].append(piece)
            near = float(piece @ vector)
            found.dense[row.item_id] = max(near, found.dense.get(row.item_id, -1.0))

    async def _diverse(
        self, ranked: Sequence[Ranked], found: dict[str, _Found], options: SearchOptions
    ) -> list[Ranked]:
        """The best of the ranked that differ from each other, in the order they are chosen."""
        from . import diversity, words

        pool = ranked[: max(CANDIDATES, options.limit)]
        vectors = await self._vectors_of(pool, found)
        chosen = diversity.select(
            [each.score for each in pool],
            [vectors.get((each.candidate.kind, each.candidate.item_id)) for each in pool],
            [words.telling_words(each.candidate.text) for each in pool],
            diversity=options.diversity,
            limit=options.limit,
        )
        return [pool[place] for place in chosen]

    async def _vectors_of(
        self, pool: Sequence[Ranked], found: dict[str, _Found]
    ) -> dict[tuple[str, str], Vector]:
        """The vector of each item that has one, by its kind and id."""
        import numpy as np

        from . import diversity

        pieces: dict[tuple[str, str], list[Vector]] = {}
        for kind, of_kind in found.items():
            ids = {each.candidate.item_id for each in pool if each.candidate.kind == kind}
            stored = list(ids - of_kind.earlier.keys())
            if self._indexer.space is not None and stored:
                rows = await self._store.execute(
                    _VECTORS, kind=kind, space=self._indexer.space, ids=stored
                )
                for id, vector in rows:
                    pieces.setdefault((kind, id), []).append(np.frombuffer(vector, "<f4"))
            pieces |= {(kind, id): of_kind.earlier[id] for id in ids & of_kind.earlier.keys()}
        return {key: diversity.mean_vector(given) for key, given in pieces.items() if given}

    async def _add_neighbours(self, found: _Found, hidden: Sequence[str]) -> None:
        """Offer the turns beside the best candidates too."""
        best = sorted(found.text, key=found.text.__getitem__, reverse=True)[:NEIGHBOURS_OF]
        best += sorted(found.dense, key=found.dense.__getitem__, reverse=True)[:NEIGHBOURS_OF]
        wanted: dict[tuple[str, str | None], set[int]] = {}
        for id in best:
            if (message := found.items.get(id)) is not None:
                beside = range(message.ordinal - REACH, message.ordinal + REACH + 1)
                wanted.setdefault(_thread(message), set()).update(beside)
        known = {(_thread(m), m.ordinal) for m in found.items.values()}
        for thread, ordinals in wanted.items():
            missing = [o for o in ordinals if (thread, o) not in known and o >= 0]
            await self._add(found, thread, missing, hidden)

    async def _add(
        self,
        found: _Found,
        thread: tuple[str, str | None],
        ordinals: list[int],
        hidden: Sequence[str],
    ) -> None:
        if not ordinals:
            return
        agent_id, conversation = thread
        query = _BESIDE if found.condition is None else _BESIDE.where(found.condition)
        rows = await self._store.execute(
            query,
            **{
                **found.params,
                "conversation_id": conversation,
                "agent_id": agent_id,
                "ordinals": ordinals,
            },
        )
        found.items |= {
            row.id: row for row in rows if row.id not in hidden and _says_something(row)
        }


def _says_something(item: Any) -> bool:
    """A block without a text has nothing to find, only a name."""
    said = said_text(item) if isinstance(item, Message) else item.content
    return bool(said.strip())


def _thread(message: Message) -> tuple[str, str | None]:
    """Whose conversation a message belongs to: ordinals count within it."""
    return message.agent_id, message.conversation_id


def _live(table: Table) -> Filter:
    """The row is not hidden: it may have been since the indexes were asked."""
    assert table.text is not None
    hidden, value = table.text.hidden
    return table.column(hidden) != value


def _mine(table: Table) -> list[Filter]:
    """The row belongs to the agent, or is still shared with it."""
    assert table.text is not None
    own = table.column(table.text.owner).in_(param("agent_ids"))
    if table.text.shared_through is None:
        return [own]
    return [own | ~NotInQuery("id", _SHARED, "block_id")]


async def _nothing() -> list[tuple[str, float]]:
    return []


def _offered(found: dict[str, _Found]) -> list[Candidate]:
    return [
        _candidate(kind, f, id, item) for kind, f in found.items() for id, item in f.items.items()
    ]


def _candidate(kind: str, found: _Found, id: str, item: Any) -> Candidate:
    from .ranking import Candidate

    said = isinstance(item, Message)
    return Candidate(
        item_id=id,
        kind=kind,
        text_score=found.text.get(id, 0.0),
        dense_score=found.dense.get(id),
        conversation="\n".join((item.agent_id, item.conversation_id or "")) if said else None,
        ordinal=item.ordinal or 0 if said else 0,
        speaker=item.speaker if said else None,
        text=shown_text(item),
        created_at=item.created_at,
    )
