"""What is offered for ranking: the candidates of one kind, from an engine's two sides.

Only what ranking reads of a candidate is loaded here; hits are loaded whole when they are known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from ..embeddings.indexing import SEARCHABLE, Indexer
from ..embeddings.provider import Vector
from ..embeddings.texts import EMBEDDED_TEXT
from ..engines.base import Store
from ..filters import Filter, InRows, NotInQuery
from ..models import Episode, MemoryBlock, Message, SharedBlock
from ..query import Select, param, select
from ..schema import Table, columns_of, table_of
from .candidate import Candidate
from .options import Mode, SearchOptions
from .past import MOST_EMBEDDED, changed_blocks

CANDIDATES = 60
"""How many items each side offers for ranking at least."""
CANDIDATES_A_HIT = 3
"""How many for each hit that is asked for, if that is more."""
NEAREST = 50
"""How many are enough at least of what stands alone where its vector alone orders it, or twice the
hits asked for."""
NEIGHBOURS_OF = 30
"""For how many of the best, by the ranks they have on both sides, the turns beside them are offered
too at least: for as many as hits are asked for, if that is more."""
FUSED_AFTER = 20
"""The rank that the best of a side has then: reciprocal rank fusion, of Cormack et al. 2009."""
REACH = 2
"""How far beside, in turns."""
READ_OF_EPISODES_CHARS = 800
"""How much of what an episode is found by is ranked, beside its task."""
MOST_HEARD = 1000
"""Of how many scopes it is remembered who speaks in them."""
NAMED_BY = 100
"""How many of the turns that the text search finds tell who speaks."""

_M = columns_of(Message)
_EP = columns_of(Episode)
_MESSAGES, _BLOCKS, _EPISODES = table_of(Message), table_of(MemoryBlock), table_of(Episode)
_READ_OF_TURNS = (
    _M.id,
    _M.agent_id,
    _M.conversation_id,
    _M.ordinal,
    _M.speaker,
    _M.content,
    _M.tool_text,
    _M.created_at,
)
_READ_OF_EPISODES = (_EP.id, _EP.task, _EP.searchable, _EP.created_at)
_SHARED = select(SharedBlock).where(columns_of(SharedBlock).agent_id.in_(param("agent_ids")))
_BESIDE = (
    select(Message)
    .where(
        InRows(("conversation_id", "agent_id", "ordinal"), param("places")),
        _M.is_deleted == False,  # noqa: E712
    )
    .only(*_READ_OF_TURNS)
    .limit(param("limit"))
)
_BESIDE_ALONE = (
    select(Message)
    .where(
        _M.conversation_id == None,  # noqa: E711
        _M.agent_id == param("agent_id"),
        _M.ordinal.in_(param("ordinals")),
        _M.is_deleted == False,  # noqa: E712
    )
    .only(*_READ_OF_TURNS)
    .limit(param("limit"))
)

Thread = tuple[str, str | None]
"""An agent and a conversation: ordinals count within it."""
Scores = dict[str, float]


def candidates_for(options: SearchOptions, mode: Mode) -> int:
    """How many items each side offers; twice as many where there is one side only."""
    most = max(CANDIDATES, CANDIDATES_A_HIT * options.limit)
    return most if mode == "hybrid" else 2 * most


class Asked(msgspec.Struct, frozen=True):
    """What is asked of every kind."""

    agent_ids: Sequence[str]
    query: str
    terms: Sequence[str]
    mode: Mode
    options: SearchOptions
    hidden: Sequence[str]
    vectors: Vectors


class Found(msgspec.Struct):
    """The candidates of one kind. ``past`` holds those that are not as they are today; where their
    text has no vector in the database, ``earlier`` holds vectors made for this search."""

    table: Table
    condition: Filter | None
    params: dict[str, Any]
    text: Scores = {}
    dense: Scores = {}
    offered: dict[str, Candidate] = {}
    past: dict[str, MemoryBlock] = {}
    earlier: dict[str, list[Vector]] = {}

    def candidates(self) -> list[Candidate]:
        """Them with their scores."""
        text, dense = self.text.get, self.dense.get
        for id, candidate in self.offered.items():
            candidate.text_score = text(id, 0.0)
            candidate.dense_score = dense(id)
        return list(self.offered.values())


class Vectors:
    """The vectors of a question, each form of it embedded once."""

    def __init__(self, indexer: Indexer):
        self._indexer = indexer
        self._lock = asyncio.Lock()
        self._known: dict[str, Vector | None] = {}

    async def of(self, text: str) -> Vector | None:
        """The vector of one form of the question."""
        async with self._lock:
            if text not in self._known:
                self._known[text] = await self._indexer.embed_query(text)
            return self._known[text]


class Gatherer:
    """Gathers candidates from one database."""

    def __init__(self, store: Store, indexer: Indexer):
        self._store = store
        self._indexer = indexer
        self._heard: dict[frozenset[str], tuple[str, ...]] = {}
        self._by_ids = {kind: _by_ids(table) for kind, table in SEARCHABLE.items()}
        self._turns = self._by_ids["message"].only(*_READ_OF_TURNS)
        self._tasks = self._by_ids["episode"].only(*_READ_OF_EPISODES)

    async def gather(self, asked: Asked, found: Found) -> None:
        """Fill in the candidates of one kind, what ranking reads of them and their scores."""
        if found.table is _MESSAGES:
            vector = await self._gather_turns(asked, found)
        else:
            vector = await self._gather_alone(asked, found)
        rest = [id for id in found.offered if id not in found.dense and id not in found.earlier]
        if vector is not None and rest:
            found.dense |= await self._store.vector_scores(
                found.table, vector, space=self._space, agent_ids=asked.agent_ids, ids=rest
            )

    @property
    def _space(self) -> int:
        assert self._indexer.space is not None, "a question has a vector only where others have"
        return self._indexer.space

    async def _gather_turns(self, asked: Asked, found: Found) -> Vector | None:
        """Turns: who speaks in those found by text decides what is asked of the vectors.

        Both sides are asked at once where those who spoke at the last search tell that.
        """
        most = candidates_for(asked.options, asked.mode)
        by_words = self._by_words(asked, found, NAMED_BY if asked.mode == "semantic" else most)
        heard = self._heard.get(frozenset(asked.agent_ids))
        expected = None if heard is None else _unnamed(asked.query, heard)
        if expected is None:
            found.text = await by_words
        else:
            nearest = self._nearest(asked, found, expected, most)
            found.text, (vector, found.dense) = await asyncio.gather(by_words, nearest)
        found.offered = await self.read(asked, found, [*{**found.text, **found.dense}])
        speakers = _speakers(found)
        self._remember(asked, speakers)
        if (wanted := _unnamed(asked.query, speakers)) != expected:
            vector, found.dense = await self._nearest(asked, found, wanted, most)
            new = [id for id in found.dense if id not in found.offered]
            found.offered |= await self.read(asked, found, new)
        if asked.mode == "semantic":
            found.text = {}
        known = found.text.keys() | found.dense.keys()
        found.offered = {id: turn for id, turn in found.offered.items() if id in known}
        await self._add_neighbours(asked, found)
        return vector

    async def _nearest(
        self, asked: Asked, found: Found, query: str, limit: int
    ) -> tuple[Vector | None, Scores]:
        """The vector of one form of the question, and what is nearest to it."""
        vector = await self._vector(asked, query)
        return vector, await self._by_meaning(asked, found, vector, limit)

    def _remember(self, asked: Asked, speakers: Sequence[str]) -> None:
        scope = frozenset(asked.agent_ids)
        if scope not in self._heard and len(self._heard) >= MOST_HEARD:
            del self._heard[next(iter(self._heard))]
        self._heard[scope] = tuple(speakers)

    async def _gather_alone(self, asked: Asked, found: Found) -> Vector | None:
        """What stands alone: both sides at once."""
        vector = await self._vector(asked, asked.query)
        most = candidates_for(asked.options, asked.mode)
        by_meaning = asked.mode == "semantic"
        if by_meaning and not asked.options.diversity:
            most = max(NEAREST, 2 * asked.options.limit)
        found.text, found.dense = await asyncio.gather(
            self._by_words(asked, found, 0 if by_meaning else most),
            self._by_meaning(asked, found, vector, most),
        )
        found.offered = await self.read(asked, found, [*{**found.text, **found.dense}])
        if found.table is _BLOCKS and asked.options.as_of is not None:
            await self._add_changed(asked, found, vector)
        return vector

    async def _vector(self, asked: Asked, query: str) -> Vector | None:
        """The vector of one form of the question, where there are any."""
        if asked.mode == "keyword" or self._indexer.space is None:
            return None
        return await asked.vectors.of(query)

    async def _by_words(self, asked: Asked, found: Found, limit: int) -> Scores:
        if not limit:
            return {}
        return dict(
            await self._store.text_search(
                found.table, asked.terms, limit=limit, **_scope(asked, found)
            )
        )

    async def _by_meaning(
        self, asked: Asked, found: Found, vector: Vector | None, limit: int
    ) -> Scores:
        if vector is None:
            return {}
        return dict(
            await self._store.vector_search(
                found.table,
                vector,
                space=self._space,
                limit=limit,
                **_scope(asked, found),
            )
        )

    async def read(self, asked: Asked, found: Found, ids: list[str]) -> dict[str, Candidate]:
        """What ranking reads of these items, as far as they may be found and say something."""
        if not ids:
            return {}
        if found.table is _MESSAGES:
            return _turns(await self._rows(asked, found, self._turns, ids))
        if found.table is _EPISODES:
            return _tasks(await self._rows(asked, found, self._tasks, ids))
        items = await self.load(asked, found, ids)
        return {id: _alone(found, item) for id, item in items.items() if item.content.strip()}

    async def load(self, asked: Asked, found: Found, ids: Sequence[str]) -> dict[str, Any]:
        """The models of these items, as far as they may be found."""
        assert found.table.text is not None
        rows = await self._rows(asked, found, self._by_ids[found.table.text.kind], ids)
        return {row.id: row for row in rows}

    async def _rows(self, asked: Asked, found: Found, query: Select, ids: Sequence[str]) -> Any:
        if asked.options.as_of is not None and found.condition is not None:
            query = query.where(found.condition)  # a block may have changed a moment ago
        return await self._store.execute(query, **{**found.params, "ids": ids, "limit": len(ids)})

    # turns beside each other

    async def _add_neighbours(self, asked: Asked, found: Found) -> None:
        """Offer the turns beside the best candidates too."""
        known = {(turn.conversation, turn.ordinal) for turn in found.offered.values()}
        wanted: dict[str | None, list[tuple[str, int]]] = {}
        most = max(NEIGHBOURS_OF, asked.options.limit)
        for agent_id, conversation, ordinal in _beside(found, most):
            if ((agent_id, conversation), ordinal) not in known:
                wanted.setdefault(conversation, []).append((agent_id, ordinal))
        alone = wanted.pop(None, [])
        hidden = set(asked.hidden)
        places = [(c, agent, ordinal) for c, places in wanted.items() for agent, ordinal in places]
        rows = await self._neighbours(found, _BESIDE, len(places), places=places)
        for agent_id in {agent_id for agent_id, _ in alone}:
            ordinals = [ordinal for agent, ordinal in alone if agent == agent_id]
            rows += await self._neighbours(
                found, _BESIDE_ALONE, len(ordinals), agent_id=agent_id, ordinals=ordinals
            )
        found.offered |= _turns([row for row in rows if row[0] not in hidden])

    async def _neighbours(self, found: Found, query: Select, most: int, **where: Any) -> list[Any]:
        if not most:
            return []
        if found.condition is not None:
            query = query.where(found.condition)
        rows: list[Any] = await self._store.execute(query, **found.params, **where, limit=most)
        return rows

    # blocks as they were

    async def _add_changed(self, asked: Asked, found: Found, vector: Vector | None) -> None:
        """Add the blocks that changed since, as they were."""
        options = asked.options
        assert options.as_of is not None
        scope = options.condition(found.table, without=("as_of", "since", "until"))
        assert scope is not None, "what the blocks can meet they can meet without its times"
        changed = [
            past
            for past in await changed_blocks(self._store, asked.agent_ids, options.as_of, *scope)
            if options.covers(past.block.updated_at) and past.block.content.strip()
        ]
        if not changed:
            return
        from . import words

        found.past = {past.block.id: past.block for past in changed}
        offered = found.offered | {id: _alone(found, block) for id, block in found.past.items()}
        scores = words.word_scores(asked.terms, {id: item.text for id, item in offered.items()})
        earlier = [past.block for past in changed if not past.stored]
        earlier.sort(key=lambda block: -scores.get(block.id, 0.0))
        found.earlier = {block.id: [] for block in earlier}
        if vector is not None:
            await self._embed_earlier(earlier[:MOST_EMBEDDED], found, vector)
        if asked.mode != "semantic":
            found.text = scores
        known = found.text.keys() | found.dense.keys() | {p.block.id for p in changed if p.stored}
        found.offered = {id: item for id, item in offered.items() if id in known}

    async def _embed_earlier(
        self, blocks: Sequence[MemoryBlock], found: Found, vector: Vector
    ) -> None:
        """Vectors of texts that the database has none of, and how near they are."""
        import numpy as np

        for row in await self._indexer.embed_unstored(blocks):
            piece = np.frombuffer(row.vector, "<f4")
            found.earlier[row.item_id].append(piece)
            near = float(piece @ vector)
            found.dense[row.item_id] = max(near, found.dense.get(row.item_id, -1.0))


def _scope(asked: Asked, found: Found) -> dict[str, Any]:
    return {
        "agent_ids": asked.agent_ids,
        "condition": found.condition,
        "params": found.params,
        "exclude": asked.hidden,
    }


def _unnamed(query: str, speakers: Sequence[str]) -> str:
    """The question as it is embedded for turns: without those who speak in them."""
    if not speakers:
        return query
    from .question import without_names

    return without_names(query, speakers)


def _speakers(found: Found) -> list[str]:
    """Who speaks in the turns that words find best."""
    best = list(found.text)[:NAMED_BY]
    spoken = (found.offered[id].speaker for id in best if id in found.offered)
    return list(dict.fromkeys(speaker for speaker in spoken if speaker))


def _beside(found: Found, most: int) -> set[tuple[str, str | None, int]]:
    """The places beside the best candidates of both sides."""
    fused: dict[str, float] = {}
    for best_first in (found.text, found.dense):
        for rank, id in enumerate(best_first, FUSED_AFTER):
            fused[id] = fused.get(id, 0.0) + 1 / rank
    best = sorted(fused, key=fused.__getitem__, reverse=True)[:most]
    return {
        (*cast("Thread", turn.conversation), ordinal)
        for id in best
        if (turn := found.offered.get(id)) is not None
        for ordinal in range(max(turn.ordinal - REACH, 0), turn.ordinal + REACH + 1)
    }


def _turns(rows: Sequence[tuple[Any, ...]]) -> dict[str, Candidate]:
    """The turns of rows of ``_READ_OF_TURNS`` that say something."""
    turns = {}
    for id, agent_id, conversation, ordinal, speaker, content, tool_text, created_at in rows:
        text = f"{content}\n{tool_text}" if content and tool_text else content or tool_text
        if text and not text.isspace():
            thread: Thread = (agent_id, conversation)
            turns[id] = Candidate(id, "message", text, created_at, thread, ordinal or 0, speaker)
    return turns


def _tasks(rows: Sequence[tuple[Any, ...]]) -> dict[str, Candidate]:
    """The episodes of rows of ``_READ_OF_EPISODES``."""
    return {
        id: Candidate(id, "episode", f"{task}\n{rest[:READ_OF_EPISODES_CHARS]}", created_at)
        for id, task, rest, created_at in rows
    }


def _alone(found: Found, item: Any) -> Candidate:
    assert found.table.text is not None
    text = EMBEDDED_TEXT[type(item)](item)
    return Candidate(item.id, found.table.text.kind, text, item.created_at)


def _by_ids(table: Table) -> Select:
    """Items by id that are not hidden (they may have been since the indexes were asked) and belong
    to one of the agents, or are still shared with one."""
    assert table.text is not None
    hidden, value = table.text.hidden
    own: Filter = table.column(table.text.owner).in_(param("agent_ids"))
    if table.text.shared_through is not None:
        own |= ~NotInQuery("id", _SHARED, "block_id")
    return (
        select(table.model)
        .where(table.column("id").in_(param("ids")), table.column(hidden) != value, own)
        .limit(param("limit"))
    )
