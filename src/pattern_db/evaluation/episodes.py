"""How useful advice from stored episodes is: metrics M1–M6 and guards G1–G6.

What is measured and how is in docs/explanation/learning.md. Runs are divided by family, five folds,
three seeds; no run of a family is stored when one of it is asked about. Each figure has the 95 %
interval that drawing families again gives; baselines are computed on the same folds.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pattern_db.clock import monotonic
from pattern_db.embeddings import EmbeddingProvider, create_provider
from pattern_db.embeddings.provider import Vector
from pattern_db.episodes.runs import overlap
from pattern_db.errors import InvalidValue
from pattern_db.repositories.advice import Answer
from pattern_db.transfer.reading import Source

from .asking import FilePath, Progress
from .episode_asking import Asked, Wanted, empty_database
from .episode_jobs import SAME_TASK, Job, Shared, run_jobs
from .episode_measures import Measure, area_under_curve, measures_of
from .episode_trials import FOLDS, Trial, changing_tools, folds, read_trials
from .report import Environment

SEEDS = (0, 1, 2)
_STEPS = Wanted((1.0,), plans=False, recalls=False, outlooks=False, errors=False)
_STEPS_AND_RECALLS = msgspec.structs.replace(_STEPS, recalls=True)
_OUTLOOKS = msgspec.structs.replace(_STEPS, next_steps=False, outlooks=True)
_DRAWS = 20


class Guard(msgspec.Struct, frozen=True):
    """Something that must hold if the figures mean anything."""

    name: str
    what: str
    holds: bool
    found: str


class EpisodesReport(msgspec.Struct, frozen=True, kw_only=True):
    """What ``evaluate_episodes`` found.

    ``files`` are names without folders. ``curve`` has for each share of the stored families how
    often the next step was foreseen, and how often Markov-2 does.
    """

    files: list[str]
    runs: int
    families: int
    embedding_model: str | None
    seeds: list[int]
    measures: list[Measure]
    guards: list[Guard]
    curve: list[tuple[float, float, float]]
    seconds: float
    environment: Environment

    @property
    def passes(self) -> bool:
        """Whether every "must" is met and every guard holds."""
        return all(m.must for m in self.measures) and all(g.holds for g in self.guards)


async def evaluate_episodes(
    paths: FilePath | Iterable[FilePath],
    *,
    seeds: Sequence[int] = SEEDS,
    guards: bool = True,
    embeddings: str | EmbeddingProvider = "local",
    folder: FilePath | None = None,
    progress: Progress | None = None,
) -> EpisodesReport:
    """Measure advice on files of runs that say how they went and whom they were for.

    Forms are those that ``import_episodes`` knows. Every fold has a temporary database of its own,
    in ``folder`` or else where temporary files go.
    ``guards=False`` leaves out what is repeated on shuffled runs. ``progress`` hears ("ask", done,
    total). Raises ``ImportFailed`` for a file that cannot be measured, ``InvalidValue``,
    ``EmbeddingFailed``.
    """
    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not listed:
        raise InvalidValue("paths", "name at least one file.")
    if not seeds:
        raise InvalidValue("seeds", "give at least one.")
    started = monotonic()
    sources = [Source(Path(path)) for path in listed]
    trials = await asyncio.to_thread(read_trials, sources)
    shared = await _shared(sources, trials, embeddings)
    if folder is not None:
        shared.folder = os.fspath(folder)
        await asyncio.to_thread(os.makedirs, folder, exist_ok=True)
    jobs = [Job(seed, n, Wanted()) for seed in seeds for n in range(FOLDS)]
    further = _guard_jobs(seeds) if guards else {}
    asked = await _ask(shared, jobs, further, progress)
    real = Asked.of(asked[None])
    return EpisodesReport(
        files=[source.name for source in sources],
        runs=len(trials),
        families=len({trial.family for trial in trials}),
        embedding_model=shared.model_id,
        seeds=list(seeds),
        measures=measures_of(real),
        guards=[*_judged(trials, seeds[0], real, asked), await _silence(shared)] if guards else [],
        curve=[
            (share, _mean([r.first for r in rows]), _mean([r.simple_first for r in rows]))
            for share, rows in real.next_steps.items()
        ],
        seconds=monotonic() - started,
        environment=Environment.here(),
    )


async def _shared(
    sources: Sequence[Source], trials: list[Trial], embeddings: str | EmbeddingProvider
) -> Shared:
    """What the folds share; every task is embedded once."""
    model_id, vectors = None, dict[str, Vector]()
    if embeddings != "none":
        own = create_provider(embeddings) if isinstance(embeddings, str) else None
        provider = embeddings if own is None else own
        assert not isinstance(provider, str)
        try:
            texts = list(dict.fromkeys([SAME_TASK, *(trial.task for trial in trials)]))
            vectors = dict(zip(texts, await provider.embed_batch(texts), strict=True))
            model_id = provider.model_id
        finally:
            if own is not None:
                await own.close()
    raw = {text: vector.astype("<f4").tobytes() for text, vector in vectors.items()}
    return Shared(trials, changing_tools(sources, trials), model_id, raw)


def _guard_jobs(seeds: Sequence[int]) -> dict[str, list[Job]]:
    first = seeds[0]
    return {
        "shuffled tasks": [
            Job(first, n, _STEPS_AND_RECALLS, "shuffled tasks") for n in range(FOLDS)
        ],
        "equal tasks": [Job(first, n, _STEPS, "equal tasks") for n in range(FOLDS)],
        "permuted outcomes": [
            Job(seed, n, _OUTLOOKS, "permuted outcomes") for seed in seeds for n in range(FOLDS)
        ],
        "again": [Job(first, 0, Wanted())],
    }


async def _ask(
    shared: Shared,
    jobs: Sequence[Job],
    further: dict[str, list[Job]],
    progress: Progress | None,
) -> dict[str | None, list[Asked]]:
    """What was asked, by what it is for; ``None`` is the measurement itself."""
    parts: dict[str | None, Sequence[Job]] = {None: jobs}
    parts.update(further)
    total, done = sum(map(len, parts.values())), 0

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress("ask", done, total)

    found = iter(await run_jobs(shared, [job for part in parts.values() for job in part], tell))
    return {name: [next(found) for _ in part] for name, part in parts.items()}


def _judged(
    trials: Sequence[Trial], seed: int, real: Asked, asked: dict[str | None, list[Asked]]
) -> list[Guard]:
    shuffled, equal = Asked.of(asked["shuffled tasks"]), Asked.of(asked["equal tasks"])
    permuted = Asked.of(asked["permuted outcomes"])
    others = _mean([row.first for row in shuffled.next_steps[1.0]])
    none = _mean([row.first for row in equal.next_steps[1.0]])
    words = _mean([row.words for row in shuffled.recalls])
    chance = _chance_overlap(trials, seed)
    recalled = _mean([row.recalled for row in shuffled.recalls])
    really = _mean([row.recalled for row in real.recalls if row.seed == seed])
    area = area_under_curve(permuted.outlooks, lambda row: row.probability)
    early = [row for row in real.outlooks if row.early is not None]
    begun = area_under_curve(early, lambda row: row.early or 0.0)
    leaks = real.leaks
    same = asked["again"][0] == asked[None][0]
    return [
        Guard(
            "G1",
            "next step with the texts of others ≤ without texts + .01",
            others <= none + 0.01,
            f"{others:.3f} against {none:.3f}",
        ),
        Guard(
            "G1",
            "the nearest of the texts of others serve as any run does, ± .02",
            abs(words - chance) <= 0.02,
            f"{words:.3f} against {chance:.3f} (recall: {recalled:.3f}, real {really:.3f})",
        ),
        Guard(
            "G2",
            "outlook on permuted outcomes has an AUC in .43 … .57",
            0.43 <= area <= 0.57,
            f"{area:.3f}",
        ),
        Guard("G4", "the same runs give the same answers", same, "equal" if same else "different"),
        Guard("G5", "no evidence is of the family asked about", not leaks, f"{leaks} pieces"),
        Guard("G6", "AUC of an outlook after four calls (only shown)", True, f"{begun:.3f}"),
    ]


async def _silence(shared: Shared) -> Guard:
    """G3: an empty database gives no advice, and says why."""
    trial = shared.trials[0]
    async with empty_database(shared.provider, shared.folder) as db:
        agent = await db.agents.create(name=trial.agent)
        episode = await db.episodes.start(agent.id, task=trial.task, domain=trial.domain)
        answers: list[Answer[Any]] = [
            await db.episodes.recall(trial.task, domain=trial.domain),
            await db.episodes.plan(trial.task, domain=trial.domain),
            await db.episodes.next_step(episode.id),
            await db.episodes.on_error("tool", "it failed", domain=trial.domain),
        ]
        outlook = await db.episodes.outlook(episode.id, finished=True)
    silent = all(len(answer) == 0 and answer.reason for answer in answers)
    holds = silent and outlook.probability is None and outlook.reason is not None
    return Guard("G3", "an empty database gives no advice", holds, "none" if holds else "some")


def _chance_overlap(trials: Sequence[Trial], seed: int) -> float:
    """The best overlap of any three successful runs of other families (G1)."""
    chance, found = random.Random(seed), []
    for stored, queries in folds(trials, seed):
        well = [trials[place] for place in stored if trials[place].succeeded]
        for query in (trials[place] for place in queries):
            pool = [trial.path for trial in well if trial.domain == query.domain]
            for _ in range(_DRAWS if query.succeeded and pool else 0):
                drawn = chance.sample(pool, min(3, len(pool)))
                found.append(max(overlap(path, query.path) for path in drawn))
    return _mean(found)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
