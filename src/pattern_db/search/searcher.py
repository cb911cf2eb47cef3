"""A search from question to hits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ..embeddings.indexing import SEARCHABLE, Indexer
from ..embeddings.provider import Vector
from ..embeddings.texts import shown_text
from ..engines.base import Store
from ..errors import NotFound, Unsupported
from ..filters import Filter, NotInQuery
from ..models import Agent, BatchStatus, Conversation, Message, MessageBatch, SharedBlock
from ..query import Get, param, select
from ..schema import Table, columns_of, table_of
from ..validation import MAX_QUERY_CHARS, check_text
from .options import Hit, Mode, SearchOptions, agents_of

if TYPE_CHECKING:
    from .ranking import Candidate

CANDIDATES = 250
"""How many items each side offers for ranking."""
NEIGHBOURS_OF = 100
"""For how many of the best candidates the turns beside them are offered too."""
REACH = 2
"""How far beside, in turns."""
NAMED_BY = 100
"""How many of the turns that the text search finds tell who speaks."""

_AGENT, _CONVERSATION = Get(table_of(Agent)), Get(table_of(Conversation))
_M, _B = columns_of(Message), columns_of(MessageBatch)
_MESSAGES = table_of(Message)
_OPEN_BATCHES = (
    select(MessageBatch)
    .where(_B.agent_id.in_(param("agent_ids")), _B.status == BatchStatus.OPEN)
    .only(_B.id)
    .limit(100_000)
)
_IN_BATCHES = select(Message).where(_M.batch_id.in_(param("batches"))).only(_M.id).limit(100_000)
_SPEAKERS = select(Message).where(_M.id.in_(param("ids"))).only(_M.speaker).limit(1_000)
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


class _Vectors:
    """The vectors of a question, each form of it embedded once."""

    def __init__(self, indexer: Indexer):
        self._indexer = indexer
        self._asked: dict[str, asyncio.Task[Vector | None]] = {}

    async def of(self, text: str) -> Vector | None:
        """The vector of one form of the question."""
        if text not in self._asked:
            self._asked[text] = asyncio.ensure_future(self._indexer.embed_query(text))
        return await self._asked[text]


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
        ranked = ranking.rank(question, offered, mode=mode, limit=options.limit)
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
        vectors = _Vectors(self._indexer)
        hidden = await self._incomplete(agent_ids) if "message" in options.kinds else []
        found: dict[str, _Found] = {}
        for kind in options.kinds:
            scope = options.condition(SEARCHABLE[kind])
            if scope is not None:
                found[kind] = _Found(SEARCHABLE[kind], *scope)
        await asyncio.gather(
            *(
                self._gather(agent_ids, f, query, terms, vectors, mode, hidden)
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
        query: str,
        terms: Sequence[str],
        vectors: _Vectors,
        mode: Mode,
        hidden: Sequence[str],
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
        text = await self._text_search(found, terms, scope, mode)
        vector = None
        if mode != "keyword" and space is not None:
            vector = await vectors.of(await self._asked(found, query, text))
        near: list[tuple[str, float]] = []
        if vector is not None and space is not None:
            near = await self._store.vector_search(found.table, vector, space=space, **scope)
        if mode == "semantic":
            text = []
        found.text, found.dense = dict(text), dict(near)
        found.items = await self._load(agent_ids, found.table, [*{**found.text, **found.dense}])
        if found.table is _MESSAGES:
            await self._add_neighbours(found, hidden)
        if vector is not None and space is not None:
            rest = [id for id in found.items if id not in found.dense]
            found.dense |= await self._store.vector_scores(
                found.table, vector, space=space, agent_ids=agent_ids, ids=rest
            )

    async def _text_search(
        self, found: _Found, terms: Sequence[str], scope: dict[str, Any], mode: Mode
    ) -> list[tuple[str, float]]:
        if mode != "semantic":
            return await self._store.text_search(found.table, terms, **scope)
        if found.table is not _MESSAGES:
            return []
        return await self._store.text_search(found.table, terms, **{**scope, "limit": NAMED_BY})

    async def _asked(self, found: _Found, query: str, text: Sequence[tuple[str, float]]) -> str:
        """The query as it is embedded: for messages without the names of those who speak."""
        if found.table is not _MESSAGES or not text:
            return query
        from .question import without_names

        ids = [id for id, _ in text[:NAMED_BY]]
        rows = await self._store.execute(_SPEAKERS, ids=ids)
        return without_names(query, {row[0] for row in rows if row[0]})

    async def _load(self, agent_ids: Sequence[str], table: Table, ids: list[str]) -> dict[str, Any]:
        assert table.text is not None
        if not ids:
            return {}
        rows = await self._store.execute(
            self._by_ids[table.text.kind], ids=ids, agent_ids=agent_ids
        )
        return {row.id: row for row in rows}

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
        found.items |= {row.id: row for row in rows if row.id not in hidden}


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
