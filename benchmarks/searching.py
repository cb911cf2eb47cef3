"""Searching: by vector, by text and both, and making the vectors."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager

import apsw
import numpy as np

import pattern_db
from growth import Texts, recall_at_10, searching_alone
from harness import SEED, Result, Stopwatch, compare
from pattern_db import PatternDB
from pattern_db.engines.sqlite.text import match_expression

DIMENSIONS = 384
WORDS = 20_000
TURN = 14


class Random:
    """A provider of random unit vectors: what is measured is not the model."""

    model_id = "random"
    dimensions = DIMENSIONS
    max_batch = 10_000

    def __init__(self) -> None:
        self._rng = np.random.default_rng(SEED)

    def _some(self, count: int):
        vectors = self._rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    async def embed(self, text: str):
        return self._some(1)[0]

    async def embed_batch(self, texts: Sequence[str]):
        return self._some(len(texts))

    async def embed_query(self, text: str):
        return self._some(1)[0]

    def split(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]

    async def close(self) -> None:
        pass


def parts(rounds: int, *, quick: bool) -> list[Awaitable[list[Result]]]:
    """The measurements of this module."""
    return [
        scoped(rounds, agents=10, each=1000 if quick else 10_000),
        single(rounds, each=25_000 if quick else 100_000),
        hybrid(rounds, agents=5 if quick else 30, each=2000 if quick else 10_000),
    ]


@asynccontextmanager
async def filled(
    agents: int, each: int, provider=Random
) -> AsyncIterator[tuple[PatternDB, list[str], list[str]]]:
    """A database of agents with messages of Zipf-distributed words; also some words to ask for."""
    rng = random.Random(SEED)
    words = [f"w{n:05d}" for n in range(WORDS)]
    weights = [1 / (n + 10) for n in range(WORDS)]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "mind.db")
        async with pattern_db.open(path, embeddings=provider()) as db:
            ids = []
            for n in range(agents):
                agent = await db.agents.create(name=f"agent {n}")
                ids.append(agent.id)
                for start in range(0, each, 5000):
                    turns = [
                        {"role": "user", "content": " ".join(rng.choices(words, weights, k=TURN))}
                        for _ in range(min(5000, each - start))
                    ]
                    await db.messages.append_many(agent.id, turns)
            asked = [" ".join(rng.choices(words, weights, k=6)) for _ in range(20)]
            yield db, ids, asked


async def ingest(rounds: int, count: int) -> list[Result]:
    """Text in, vectors and full-text rows durable: against the bare model on the same texts."""
    from pattern_db.embeddings import create_provider
    from pattern_db.embeddings.minilm import MiniLM

    rng = random.Random(SEED)
    vocabulary = [
        "I",
        "you",
        "we",
        "moved",
        "climbed",
        "painted",
        "dog",
        "house",
        "Oslo",
        "river",
        "coffee",
        "late",
    ]
    texts = [" ".join(rng.choices(vocabulary, k=rng.randrange(4, 60))) for _ in range(count)]
    bare, provider = MiniLM(), create_provider("local")
    await provider.embed("load it")

    async def floor() -> float:
        with Stopwatch() as watch:
            tokens = sorted(bare.token_ids([f"Ada: {text}" for text in texts]), key=len)
            for start in range(0, len(tokens), 32):
                bare.vectors(tokens[start : start + 32])
        return watch.seconds / count

    async def ours() -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "mind.db")
            async with pattern_db.open(path, embeddings=_Kept(provider)) as db:
                agent = await db.agents.create(name="Flux")
                turns = [{"role": "user", "speaker": "Ada", "content": text} for text in texts]
                with Stopwatch() as watch:
                    await db.messages.append_many(agent.id, turns)
        return watch.seconds / count

    return [
        await compare(
            "ingest with embeddings",
            unit="a text",
            floor=floor,
            ours=ours,
            at_most=1 / 0.9,
            rounds=rounds,
            note="floor: the bare ONNX session on length-sorted batches of 32",
        )
    ]


class _Kept:
    """A provider that survives the closing of a database."""

    def __init__(self, inner) -> None:
        for name in ("model_id", "dimensions", "max_batch", "embed", "embed_batch", "embed_query"):
            setattr(self, name, getattr(inner, name))
        self.split = inner.split

    async def close(self) -> None:
        pass


async def scoped(rounds: int, *, agents: int, each: int) -> list[Result]:
    """Semantic search in one agent's scope."""
    async with filled(agents, each) as (db, ids, asked):
        scope = ids[agents // 2]
        space = db.embeddings.space
        rows = apsw.Connection(db.config.database.location).execute(
            "SELECT vector FROM embeddings WHERE agent_id = ?", (scope,)
        )
        matrix = np.stack([np.frombuffer(row[0], "<f4") for row in rows])
        vector = await db.embeddings.embed_query("x")
        table = _messages()

        async def floor() -> float:
            with Stopwatch() as watch:
                for _ in asked:
                    scores = matrix @ vector
                    best = np.argpartition(scores, -10)[-10:]
                    best[np.argsort(-scores[best])].tolist()
            return watch.seconds / len(asked)

        async def ours() -> float:
            with Stopwatch() as watch:
                for _ in asked:
                    await db.store.vector_search(
                        table, vector, space=space, agent_ids=[scope], limit=10
                    )
            return watch.seconds / len(asked)

        result = await compare(
            f"vector search, {agents * each:,} x {DIMENSIONS}, {agents} agents, one agent's scope",
            unit="a search",
            floor=floor,
            ours=ours,
            at_most=3,
            rounds=rounds,
        )
        found = await db.store.vector_search(
            table, vector, space=space, agent_ids=[scope], limit=10
        )
        scores = np.sort(matrix @ vector)[::-1][:10]
        exact = np.allclose([score for _, score in found], scores, atol=1e-6)
        result.note = f"recall@10 = {1.0 if exact else 0.0}"
        return [result]


async def single(rounds: int, *, each: int) -> list[Result]:
    """Semantic search of one large agent, against its segment searched by hand."""
    async with filled(1, each, Texts) as (db, (agent,), _):
        await db.optimize()
        path = db.config.database.location
        asked = Texts(SEED + 1).some(100)
        alone, _ = searching_alone(path, agent)
        scope = {"space": db.embeddings.space, "agent_ids": [agent], "limit": 10}
        table = _messages()

        async def floor() -> float:
            with Stopwatch() as watch:
                for question in asked:
                    alone(question)
            return watch.seconds / len(asked)

        async def ours() -> float:
            with Stopwatch() as watch:
                for question in asked:
                    await db.store.vector_search(table, question, **scope)
            return watch.seconds / len(asked)

        result = await compare(
            f"vector search, {each:,} x {DIMENSIONS}, one agent",
            unit="a search",
            floor=floor,
            ours=ours,
            at_most=3,
            rounds=rounds,
        )
        found = [await db.store.vector_search(table, question, **scope) for question in asked]
        recall = recall_at_10(path, agent, asked, found)
        result.note = f"floor: usearch on the same segment; recall@10 = {recall:.3f}"
        return [result]


async def hybrid(rounds: int, *, agents: int, each: int) -> list[Result]:
    """Hybrid search, vector given, against scoped FTS5 alone."""
    async with filled(agents, each) as (db, ids, asked):
        scope = ids[agents // 2]
        connection = apsw.Connection(db.config.database.location)
        connection.pragma("cache_size", -65_536)
        number = connection.execute("SELECT pk FROM agents WHERE id = ?", (scope,)).fetchone()[0]
        sql = (
            "SELECT rowid, bm25(messages_text, 0.0) AS score FROM messages_text "
            "WHERE messages_text MATCH ? ORDER BY score LIMIT 50"
        )

        async def floor() -> float:
            with Stopwatch() as watch:
                for question in asked:
                    match = match_expression(question.split(), [f"a{number}"])
                    connection.execute(sql, (match,)).fetchall()
            return watch.seconds / len(asked)

        async def ours() -> float:
            with Stopwatch() as watch:
                for question in asked:
                    await db.search(scope, question, limit=10, kinds=["message"])
            return watch.seconds / len(asked)

        return [
            await compare(
                f"hybrid search, vector given, {agents * each:,} messages, {agents} agents",
                unit="a search",
                floor=floor,
                ours=ours,
                at_most=2,
                rounds=rounds,
                note="floor: scoped FTS5 alone",
            )
        ]


def _messages():
    from pattern_db.models import Message
    from pattern_db.schema import table_of

    return table_of(Message)
