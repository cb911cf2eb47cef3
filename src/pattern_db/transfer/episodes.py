"""Importing the runs of agents that other programs kept."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from pattern_db.clock import monotonic
from pattern_db.embeddings.indexing import Mode
from pattern_db.errors import AlreadyExists, ImportFailed, InvalidValue
from pattern_db.ids import derived_id
from pattern_db.service import PatternDB
from pattern_db.validation import check_known

from .reading import Source
from .trajectories import FORMATS, Piece, pieces
from .trajectory_formats import Trajectory

Progress = Callable[[int, int], None]


class EpisodesReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an import of runs did.

    ``agents`` are their ids; ``present`` counts the episodes that were there already, ``skipped``
    what was left out or changed on purpose, by reason.
    """

    agents: list[str]
    written: int
    present: int
    skipped: dict[str, int]
    seconds: float


async def import_episodes(
    db: PatternDB,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    domain: str | None = None,
    agent_id: str | None = None,
    agent_name: str | None = None,
    user_id: str | None = None,
    embed: Mode | None = None,
    progress: Progress | None = None,
) -> EpisodesReport:
    """Import a file of runs as finished episodes, learned from as if they had been recorded here.

    ``format`` is one of ``FORMATS``; without it the file shows which. ``domain`` is that of runs
    that do not say theirs. They belong to the agent ``agent_id``, or else to one named
    ``agent_name`` or as the file names it (the model), made for ``user_id`` if need be. Importing a
    file again, also after an import that was stopped, adds only what is new in it. ``progress``
    hears (done, total).

    Raises ``ImportFailed`` with the place for a file that is not what it should be; the runs before
    that place are kept. Raises ``InvalidValue``, ``NotFound`` (agent, user), ``EmbeddingFailed``.
    """
    if format is not None:
        check_known("format", [format], FORMATS)
    if agent_id is not None:
        await db.agents.require(agent_id)
    if user_id is not None:
        await db.users.require(user_id)
    source = Source(Path(path))
    taking = _Taking(db, source, domain, agent_id, agent_name, user_id, embed)
    started = monotonic()
    reading = pieces(source, format)
    while (piece := await asyncio.to_thread(next, reading, None)) is not None:
        await taking.take(piece)
        if progress is not None:
            progress(piece.done, piece.total)
        if piece.failure is not None:
            raise piece.failure
    return taking.report(monotonic() - started)


class _Taking:
    """One import while it runs."""

    def __init__(
        self,
        db: PatternDB,
        source: Source,
        domain: str | None,
        agent_id: str | None,
        agent_name: str | None,
        user_id: str | None,
        embed: Mode | None,
    ):
        self._db = db
        self._source = source
        self._domain = domain
        self._agent_id = agent_id
        self._agent_name = agent_name
        self._user_id = user_id
        self._embed = embed
        self._agents: dict[str, str] = {}
        self._written = self._present = 0
        self._skipped: Counter[str] = Counter()

    def report(self, seconds: float) -> EpisodesReport:
        """What was done until now."""
        return EpisodesReport(
            agents=list(dict.fromkeys(self._agents.values())),
            written=self._written,
            present=self._present,
            skipped=dict(+self._skipped),
            seconds=seconds,
        )

    async def take(self, piece: Piece) -> None:
        """Write what is new of some runs."""
        self._skipped["unstorable characters replaced"] += piece.replaced
        self._skipped["texts cut to what is stored of one"] += sum(r.cut for r in piece.runs)
        for name, runs in groupby(piece.runs, key=lambda run: run.agent):
            await self._keep(await self._agent(name), list(runs))

    async def _keep(self, agent_id: str, runs: Sequence[Trajectory]) -> None:
        written = 0
        try:
            written = await self._import(agent_id, runs)
        except InvalidValue:
            for run in runs:
                try:
                    written += await self._import(agent_id, [run])
                except InvalidValue as error:
                    problem = str(error).rstrip(".")
                    raise self._source.failure(run.place, problem) from error
        self._written += written
        self._present += len(runs) - written

    async def _import(self, agent_id: str, runs: Sequence[Trajectory]) -> int:
        usual = {} if self._domain is None else {"domain": self._domain}
        given = [{**usual, **run.fields} for run in runs]
        return len(await self._db.episodes.import_many(agent_id, given, embed=self._embed))

    async def _agent(self, name: str) -> str:
        """The agent the caller chose, else the one of that name; gives its id."""
        name = self._agent_name or name
        if name not in self._agents:
            self._agents[name] = self._agent_id or await self._own(name)
        return self._agents[name]

    async def _own(self, name: str) -> str:
        id = derived_id("agent", "episodes", self._user_id or "", name)
        try:
            await self._db.agents.create(name=name, user_id=self._user_id, id=id)
        except AlreadyExists:
            if await self._db.agents.get(id) is None:
                raise ImportFailed(
                    f"{self._source.name}: its agent {id!r} was deleted; restore or purge that "
                    "agent, or name another one."
                ) from None
        except InvalidValue as error:
            raise self._source.failure("its agent", str(error).rstrip(".")) from error
        return id
