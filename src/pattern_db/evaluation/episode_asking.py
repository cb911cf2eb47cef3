"""Asking an open database for advice on runs that it does not hold, one fold at a time.

Runs are imported as users import them, and asked about as an agent would ask: an episode is
started, its steps are appended one after the other, and before each the next one is asked for.
"""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np

import pattern_db
from pattern_db.embeddings.provider import EmbeddingProvider, Matrix, Vector
from pattern_db.episodes.planning import f1
from pattern_db.episodes.runs import overlap, path_of
from pattern_db.ids import derived_id
from pattern_db.service import PatternDB

from .episode_baselines import (
    Markov,
    WordRetrieval,
    constant_plan,
    success_by_length,
    typical,
    usual_remedies,
)
from .episode_trials import CALLS, Trial

SHARES = (0.1, 0.25, 0.5, 1.0)
"""How much of the stored families there is when the next steps are asked for (M6)."""
SHOWN, LIKELIEST = 3, 3
JUDGED_CALLS, BEGINNING = 60, 4


class NextRow(msgspec.Struct, frozen=True):
    """One step that was to be foreseen (M1, M6): whether it was the first, or among three."""

    family: str
    domain: str
    seed: int
    first: bool
    among: bool
    simple_first: bool
    simple_among: bool


class PlanRow(msgspec.Struct, frozen=True):
    """One plan (M2), by F1 against what the benchmark says is needed."""

    family: str
    domain: str
    seed: int
    planned: float
    constant: float


class RecallRow(msgspec.Struct, frozen=True):
    """One recall (M3), by the best overlap among three."""

    family: str
    domain: str
    seed: int
    recalled: float
    words: float
    typical: float
    random: float


class OutlookRow(msgspec.Struct, frozen=True):
    """One outlook (M4) on a finished run; ``early`` is that on its first four calls."""

    family: str
    domain: str
    seed: int
    group: tuple[str, int, int]
    succeeded: bool
    probability: float
    by_length: float
    base_rate: float
    early: float | None = None


class ErrorRow(msgspec.Struct, frozen=True):
    """One error (M5): whether what came next was among three."""

    family: str
    domain: str
    seed: int
    among: bool
    simple_among: bool


class Asked(msgspec.Struct):
    """What was asked of the folds of some seeds. ``leaks`` counts evidence of the asked family."""

    next_steps: dict[float, list[NextRow]]
    plans: list[PlanRow] = []
    recalls: list[RecallRow] = []
    outlooks: list[OutlookRow] = []
    errors: list[ErrorRow] = []
    leaks: int = 0

    @classmethod
    def nothing(cls) -> Asked:
        """Nothing yet."""
        return cls({share: [] for share in SHARES})

    @classmethod
    def of(cls, parts: Sequence[Asked]) -> Asked:
        """All of some parts."""
        return cls(
            {share: [row for part in parts for row in part.next_steps[share]] for share in SHARES},
            plans=[row for part in parts for row in part.plans],
            recalls=[row for part in parts for row in part.recalls],
            outlooks=[row for part in parts for row in part.outlooks],
            errors=[row for part in parts for row in part.errors],
            leaks=sum(part.leaks for part in parts),
        )


class Wanted(msgspec.Struct, frozen=True):
    """Which advice is asked for, at which shares of the store the next steps."""

    shares: tuple[float, ...] = SHARES
    next_steps: bool = True
    plans: bool = True
    recalls: bool = True
    outlooks: bool = True
    errors: bool = True


class KnownVectors:
    """A provider that has embedded every text once before, for many short-lived databases."""

    max_batch = 1_000

    def __init__(self, model_id: str, vectors: Mapping[str, Vector]):
        self._vectors = vectors
        self.model_id = model_id
        self.dimensions = len(next(iter(vectors.values())))

    async def embed(self, text: str) -> Vector:
        """See ``EmbeddingProvider``."""
        return self._vectors[text]

    async def embed_batch(self, texts: Sequence[str]) -> Matrix:
        """See ``EmbeddingProvider``."""
        if not texts:
            return np.zeros((0, self.dimensions), np.float32)
        return np.stack([self._vectors[text] for text in texts])

    async def embed_query(self, text: str) -> Vector:
        """See ``EmbeddingProvider``."""
        return self._vectors[text]

    def split(self, text: str) -> list[tuple[int, int]]:
        """See ``EmbeddingProvider``."""
        return [(0, len(text))]

    async def close(self) -> None:
        """See ``EmbeddingProvider``."""


class Fold:
    """One fold in a database of its own."""

    def __init__(
        self,
        db: PatternDB,
        trials: Sequence[Trial],
        changing: Mapping[str, frozenset[str]],
        *,
        seed: int,
        number: int,
    ):
        self._db = db
        self._trials = trials
        self._changing = changing
        self._seed = seed
        self._number = number
        self._families: dict[str, str] = {}
        self._agents: dict[str, str] = {}
        self._stored: dict[str, list[Trial]] = defaultdict(list)

    async def run(
        self,
        stored: Sequence[int],
        asked: Sequence[int],
        into: Asked,
        wanted: Wanted,
    ) -> None:
        """Fill the database family by family, and ask on the way and at the end."""
        families = sorted({self._trials[i].family for i in stored})
        random.Random(100 + self._seed).shuffle(families)
        queries = [self._trials[i] for i in asked]
        there = 0
        for share in wanted.shares:
            upto = max(1, round(share * len(families)))
            new = set(families[there:upto])
            there = upto
            await self._store([self._trials[i] for i in stored if self._trials[i].family in new])
            for query in queries:
                judged = wanted.outlooks and share == wanted.shares[-1]
                if judged or wanted.next_steps:
                    await self._ask_steps(
                        query, into, share, foreseen=wanted.next_steps, judged=judged
                    )
        await self._ask_rest(queries, into, wanted)

    async def _store(self, trials: Sequence[Trial]) -> None:
        by_agent: dict[str, list[Trial]] = defaultdict(list)
        for trial in trials:
            by_agent[trial.agent].append(trial)
            self._stored[trial.domain].append(trial)
        for name, own in by_agent.items():
            agent_id = await self._agent(name)
            written = await self._db.episodes.import_many(agent_id, [t.fields for t in own])
            for episode, trial in zip(written, own, strict=True):
                self._families[episode.id] = trial.family

    async def _agent(self, name: str) -> str:
        if name not in self._agents:
            id = derived_id("agent", name)  # the same in every database, and so are the answers
            self._agents[name] = (await self._db.agents.create(name=name, id=id)).id
        return self._agents[name]

    async def _start(self, query: Trial) -> str:
        agent_id = await self._agent(query.agent)
        episode = await self._db.episodes.start(agent_id, task=query.task, domain=query.domain)
        return episode.id

    async def _append(self, episode_id: str, call: tuple[str, bool, str]) -> None:
        tool, failed, _ = call
        await self._db.episodes.step(episode_id, tool=tool, success=not failed)

    # M1, M6, M4

    async def _ask_steps(
        self, query: Trial, into: Asked, share: float, *, foreseen: bool, judged: bool
    ) -> None:
        episode_id = await self._start(query)
        markov = Markov([trial.path for trial in self._stored[query.domain]])
        before: list[str] = []
        early = None
        for place, call in enumerate(query.calls[:CALLS]):
            if foreseen and (not before or before[-1] != call[0]):
                into.next_steps[share].append(
                    await self._next(query, into, episode_id, call[0], markov.ranked(before))
                )
                before.append(call[0])
            if judged and place == BEGINNING:
                early = await self._probability(query, into, episode_id)
            await self._append(episode_id, call)
        if judged:
            for call in query.calls[CALLS:JUDGED_CALLS]:
                await self._append(episode_id, call)
            into.outlooks.append(await self._outlook(query, into, episode_id, early))

    async def _next(
        self, query: Trial, into: Asked, episode_id: str, tool: str, simple: Sequence[str]
    ) -> NextRow:
        advice = await self._db.episodes.next_step(episode_id, limit=LIKELIEST)
        ranked = [next.tool for next in advice]
        self._watch(query, into, [id for next in advice for id in next.episodes])
        return NextRow(
            query.family,
            query.domain,
            self._seed,
            ranked[:1] == [tool],
            tool in ranked,
            list(simple[:1]) == [tool],
            tool in simple[:LIKELIEST],
        )

    async def _outlook(
        self, query: Trial, into: Asked, episode_id: str, early: float | None
    ) -> OutlookRow:
        stored = self._stored[query.domain]
        lengths = [len(trial.calls[:JUDGED_CALLS]) for trial in stored]
        succeeded = [trial.succeeded for trial in stored]
        base = float(np.mean(succeeded)) if stored else 0.5
        by_length = success_by_length(lengths, succeeded) if stored else None
        length = len(query.calls[:JUDGED_CALLS])
        return OutlookRow(
            query.family,
            query.domain,
            self._seed,
            (query.file, self._seed, self._number),
            query.succeeded,
            await self._probability(query, into, episode_id),
            base if by_length is None else by_length.probability(length),
            base,
            early,
        )

    async def _probability(self, query: Trial, into: Asked, episode_id: str) -> float:
        outlook = await self._db.episodes.outlook(episode_id, finished=True)
        self._watch(query, into, [*outlook.in_favour, *outlook.against])
        if outlook.probability is None:
            stored = self._stored[query.domain]
            return float(np.mean([trial.succeeded for trial in stored])) if stored else 0.5
        return outlook.probability

    # M2, M3, M5

    async def _ask_rest(self, queries: Sequence[Trial], into: Asked, wanted: Wanted) -> None:
        for domain in sorted({query.domain for query in queries}):
            own = [query for query in queries if query.domain == domain]
            well = [query for query in own if query.succeeded]
            stored = [trial for trial in self._stored[domain] if trial.succeeded]
            if wanted.plans and stored:
                await self._ask_plans(domain, well, stored, into)
            if wanted.recalls and stored:
                await self._ask_recalls(domain, well, stored, into)
        if wanted.errors:
            await self._ask_errors(queries, into)

    async def _ask_plans(
        self, domain: str, queries: Sequence[Trial], stored: Sequence[Trial], into: Asked
    ) -> None:
        changing = self._changing[domain]
        constant = constant_plan([trial.needed & changing for trial in stored])
        for query in queries:
            plan = await self._db.episodes.plan(query.task, domain=domain, among=changing)
            self._watch(query, into, [id for planned in plan for id in planned.episodes])
            chosen = {planned.tool for planned in plan if planned.is_likely}
            needed = query.needed & changing
            into.plans.append(
                PlanRow(query.family, domain, self._seed, f1(chosen, needed), f1(constant, needed))
            )

    async def _ask_recalls(
        self, domain: str, queries: Sequence[Trial], stored: Sequence[Trial], into: Asked
    ) -> None:
        words = WordRetrieval([trial.task for trial in stored])
        fixed = typical([trial.path for trial in stored], SHOWN)
        chance = random.Random(self._seed)
        for query in queries:
            hits = await self._db.episodes.recall(
                query.task, domain=domain, outcome="success", limit=SHOWN
            )
            self._watch(query, into, [hit.item.id for hit in hits])
            path = query.path

            def best(places: Sequence[int], path: Sequence[str] = path) -> float:
                return max((overlap(stored[i].path, path) for i in places), default=0.0)

            into.recalls.append(
                RecallRow(
                    query.family,
                    domain,
                    self._seed,
                    max(
                        (overlap(path_of(tuple(h.item.tools[:CALLS])), path) for h in hits),
                        default=0.0,
                    ),
                    best(words.nearest(query.task, SHOWN)),
                    best(fixed),
                    best(chance.sample(range(len(stored)), min(SHOWN, len(stored)))),
                )
            )

    async def _ask_errors(self, queries: Sequence[Trial], into: Asked) -> None:
        usual = usual_remedies([trial for own in self._stored.values() for trial in own])
        for query in queries:
            for tool, message, after in query.incidents:
                advice = await self._db.episodes.on_error(
                    tool, message, domain=query.domain, limit=LIKELIEST
                )
                self._watch(query, into, [id for remedy in advice for id in remedy.episodes])
                simple = [tool, *(other for other in usual if other != tool)][:LIKELIEST]
                into.errors.append(
                    ErrorRow(
                        query.family,
                        query.domain,
                        self._seed,
                        after in [remedy.tool for remedy in advice],
                        after in simple,
                    )
                )

    def _watch(self, query: Trial, into: Asked, ids: Sequence[str]) -> None:
        """No evidence may be of the family that is asked about (G5)."""
        into.leaks += sum(self._families[id] == query.family for id in ids)


@asynccontextmanager
async def empty_database(
    provider: EmbeddingProvider | None, inside: str | None = None
) -> AsyncIterator[PatternDB]:
    """A database for one fold, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="pattern-eval-", dir=inside) as folder:
        path = Path(folder) / "fold.db"
        async with pattern_db.open(path, embeddings=provider or "none", durability="relaxed") as db:
            yield db
