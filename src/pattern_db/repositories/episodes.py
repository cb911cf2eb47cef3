"""Episodes: what agents do, step by step, and how it went."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ..embeddings.indexing import Mode
from ..episodes import summary
from ..errors import AlreadyExists, Conflict, InvalidValue, LimitExceeded, QueryFailed
from ..ids import new_id
from ..models import (
    Abstained,
    Complexity,
    Episode,
    EpisodeStatus,
    EpisodeSummary,
    Failure,
    Json,
    Outcome,
    ResultKind,
    Step,
    TaskType,
)
from ..query import Added, Get, Insert, param, update
from ..schema import columns_of, table_of
from ..search import Hit, SearchOptions
from ..validation import check_id, parse_time
from .advice import Advice
from .checkpoints import Checkpoints
from .episode_changes import EpisodeChanges
from .episode_values import (
    MAX_EPISODE_BYTES,
    MAX_STEPS,
    context_of,
    name_of,
    outcome_of,
    size_of,
    step_of,
    tags_of,
    task_of,
)
from .experienced import experienced
from .recording import Recording
from .relationships import Relationships
from .repository import Context, pause
from .retention import Retention
from .trajectories import Progress, Trajectories

_E = columns_of(Episode)
_APPEND = update(
    Episode, "updated_at", step_count=Added(1), version=Added(1), size_bytes=Added(param("size"))
).where(
    _E.id == param("id"),
    _E.status == EpisodeStatus.ACTIVE,
    _E.is_active == True,  # noqa: E712
    _E.step_count < MAX_STEPS,
    _E.size_bytes <= param("room"),
)
_ADD_STEP = Insert(table_of(Step))
_SUMMARY = Get(table_of(EpisodeSummary))
_ATTEMPTS, _ALONE_AFTER = 20, 2


class Episodes(EpisodeChanges, Advice):
    """The episodes of agents."""

    model = Episode
    prefix = "ep"

    def __init__(self, context: Context):
        super().__init__(context)
        self.retention = Retention(context)
        self.relationships = Relationships(context)
        self.checkpoints = Checkpoints(context)
        self._trajectories = Trajectories(context, self)

    # recording

    def record(self, agent_id: str, *, task: str, **episode: Any) -> Recording:
        """An episode to record in ``async with``; takes what ``start`` takes."""
        return Recording(self, agent_id, {"task": task, **episode})

    async def start(
        self,
        agent_id: str,
        *,
        task: str,
        domain: str = "general",
        task_type: TaskType | str = TaskType.OTHER,
        language: str | None = None,
        framework: str | None = None,
        complexity: Complexity | str = Complexity.MODERATE,
        context: str | Json | None = None,
        tags: Sequence[str] | None = None,
        metadata: Json | None = None,
        parent_id: str | None = None,
        id: str | None = None,
        created_at: Any = None,
        embed: Mode | None = None,
    ) -> Episode:
        """Begin an episode, as one durable write with the vector of its task.

        Raises ``NotFound`` for an agent or parent that is not there, ``InvalidValue`` naming a
        field that cannot be.
        """
        episode = self._new(
            agent_id,
            task=task,
            domain=domain,
            task_type=task_type,
            language=language,
            framework=framework,
            complexity=complexity,
            context=context,
            tags=tags,
            metadata=metadata,
            parent_id=parent_id,
            id=id,
            created_at=created_at,
        )
        return await self._begin(episode, embed)

    async def _begin(self, episode: Episode, embed: Mode | None = None) -> Episode:
        vectors = await self._indexer.writes_for([episode], mode=embed, fresh=True)
        await self._store.write([self.queries.insert(row=episode), *vectors])
        self._wake(embed)
        return episode

    def _new(self, agent_id: str, **fields: Any) -> Episode:
        now = self._clock()
        checked = {
            "id": self._new_id(fields.pop("id", None), now),
            "task": task_of(fields.pop("task")),
            "context": context_of(fields.pop("context", None)),
            "tags": tags_of(fields.pop("tags", None)),
            "created_at": parse_time("created_at", fields.pop("created_at", None) or now),
        }
        for name in ("domain", "language", "framework"):
            if fields.get(name) is not None:
                checked[name] = name_of(name, fields.pop(name))
        told = {name: value for name, value in fields.items() if value is not None}
        made: Episode = self._build(
            agent_id=check_id("agent_id", agent_id), updated_at=now, **checked, **told
        )
        return msgspec.structs.replace(made, searchable=summary.searchable_text(made, ()))

    async def step(
        self,
        episode_id: str,
        *,
        action: str | None = None,
        tool: str | None = None,
        parameters: Any = None,
        result: Any = None,
        success: bool | None = None,
        error: str | None = None,
        result_kind: ResultKind | str | None = None,
        duration_ms: float | None = None,
        tokens: int | None = None,
        metadata: Json | None = None,
        timestamp: Any = None,
    ) -> Step:
        """Append what was done just now; durable when this returns, and numbered by the database.

        ``action`` or ``tool`` must be given. A ``result`` that is no text is kept as JSON. A step
        that failed without naming an ``error`` has its result for one. Raises ``InvalidValue`` for
        an episode that has ended, ``LimitExceeded`` past 1,000 steps or 10 MB, ``NotFound``.
        """
        now = self._clock()
        step = step_of(
            {
                "id": new_id("step", now),
                "episode_id": check_id("episode_id", episode_id),
                "action": action,
                "tool_name": tool,
                "parameters": parameters,
                "result": result,
                "success": success,
                "error_message": error,
                "result_kind": result_kind,
                "duration_ms": duration_ms,
                "tokens_used": tokens,
                "metadata": metadata or {},
                "timestamp": now if timestamp is None else parse_time("timestamp", timestamp),
            }
        )
        size = size_of(step)
        counting = _APPEND(id=episode_id, updated_at=now, size=size, room=MAX_EPISODE_BYTES - size)
        try:
            _, stored = await self._store.write([counting.expect(1), _ADD_STEP(row=step)])
        except Conflict:
            raise await self._refusal(episode_id) from None
        return stored  # type: ignore[no-any-return]

    async def _refusal(self, episode_id: str) -> Exception:
        """Why a step was not taken."""
        episode = await self._active(episode_id)
        if episode.step_count >= MAX_STEPS:
            return LimitExceeded("steps", f"an episode has at most {MAX_STEPS}; complete it.")
        return LimitExceeded("steps", f"together they have at most {MAX_EPISODE_BYTES} bytes.")

    async def _active(self, episode_id: str) -> Episode:
        episode = await self.require(episode_id)
        if episode.status is not EpisodeStatus.ACTIVE:
            raise InvalidValue(
                "status", f"episode {episode_id} is {episode.status.value}; resume it to go on."
            )
        return episode

    # ending

    async def complete(self, episode_id: str, outcome: Outcome | Json | str) -> Episode:
        """End an episode; gives it as it was read back.

        Outcome, patterns learned, reward, reflection, quality, summary and index are one durable
        write: all of it shows, or nothing. Other finished episodes may go by the rules of
        ``retention``. Raises ``InvalidValue`` if it has ended already, ``NotFound``.
        """
        how = outcome_of(outcome)
        for attempt in range(_ATTEMPTS):
            try:
                if attempt < _ALONE_AFTER:
                    return await self._complete(episode_id, how)
                async with self._store.transaction(alone=True):
                    return await self._complete(episode_id, how)
            except (Conflict, AlreadyExists):  # others learned the same, or a step was added
                await pause(attempt)
        raise Conflict("This episode is being changed all the time; try again later.")

    async def _complete(self, episode_id: str, outcome: Outcome) -> Episode:
        episode = await self._active(episode_id)
        steps = await self._completion.steps_of(episode_id)
        if isinstance(outcome, Abstained) and outcome.stopped_at_step is None:
            outcome = msgspec.structs.replace(outcome, stopped_at_step=len(steps))
        done = await self._completion.of(episode, steps, outcome, self._clock())
        writes = [done.ending, *done.writes]
        if isinstance(outcome, Abstained):
            writes.append(await self.checkpoints.adding(done.episode, steps, is_abstention=True))
        writes += await self.retention.evictions(keep=episode_id, more=1)
        await self._store.write(writes)
        return await self._read_back(done.episode)

    async def _read_back(self, written: Episode) -> Episode:
        stored = await self.get(written.id)
        if stored is None or stored.version > written.version:
            return written  # others went on from it
        if stored != written:
            raise QueryFailed(f"Episode {written.id} reads back other than it was written.")
        return stored

    async def fail(self, episode_id: str, reason: str, *, error: str | None = None) -> Episode:
        """End an episode as failed; as ``complete`` with ``Failure``."""
        return await self.complete(episode_id, Failure(reason, error))

    async def abstain(
        self, episode_id: str, reason: str, *, signals: Sequence[str] | None = None
    ) -> Episode:
        """End an episode that was given up on purpose, with a checkpoint to resume it from."""
        return await self.complete(episode_id, Abstained(reason, signals=[*(signals or ())]))

    async def resume(
        self, id: str, *, agent_id: str | None = None, metadata: Json | None = None
    ) -> Episode:
        """Begin an episode that goes on where another one, or a checkpoint (by its id), stopped.

        It has the same task and circumstances, and ``resumed_from_id``; what was done and learned
        so far is in ``checkpoints.handoff`` of it. ``agent_id`` hands it to another agent. An
        episode that is still active is not resumed: go on with it by its id.
        """
        point = None if (await self.get(id)) is not None else await self.checkpoints.require(id)
        before = await self.require(id if point is None else point.episode_id)
        if point is None and before.status is EpisodeStatus.ACTIVE:
            raise InvalidValue("status", f"episode {id} is still active; go on with it.")
        if point is None:
            point = await self.checkpoints.create(before.id, "resumed")
        now = self._clock()
        episode: Episode = self._build(
            id=self._new_id(None, now),
            agent_id=before.agent_id if agent_id is None else check_id("agent_id", agent_id),
            created_at=now,
            updated_at=now,
            resumed_from_id=before.id,
            metadata=before.metadata if metadata is None else metadata,
            **{name: getattr(before, name) for name in _KEPT},
        )
        return await self._begin(
            msgspec.structs.replace(episode, searchable=summary.searchable_text(episode, ()))
        )

    async def import_many(
        self,
        agent_id: str,
        trajectories: Iterable[Mapping[str, Any]],
        *,
        embed: Mode | None = None,
        progress: Progress | None = None,
    ) -> builtins.list[Episode]:
        """Take in episodes that have ended elsewhere; gives those that were not there yet.

        Each is a dict of what ``start`` takes, its ``steps`` (dicts of what ``step`` takes), its
        ``outcome``, perhaps ``completed_at``, and an ``id`` or a ``key`` of its own that an id is
        made of: importing twice changes nothing. Each is one durable write, learned from as
        ``complete`` does. All are checked before the first is written.
        """
        written = await self._trajectories.take_in(
            agent_id, trajectories, embed=embed, progress=progress
        )
        self._wake(embed)
        return written

    # reading

    async def steps(
        self, episode_id: str, *, limit: int = MAX_STEPS, after: int = 0
    ) -> builtins.list[Step]:
        """The steps of an episode in their order, those after the number ``after``."""
        await self.require(episode_id)
        return await self._steps(episode_id, limit=limit, after=after)

    async def summary(self, episode_id: str) -> EpisodeSummary | None:
        """What an episode was about, in a few words; ``None`` before it is completed."""
        await self.require(episode_id)
        found: EpisodeSummary | None = await self._store.execute(_SUMMARY, episode_id=episode_id)
        return found

    async def search(
        self, query: str, *, agent_id: str | Sequence[str] | None = None, **options: Any
    ) -> builtins.list[Hit]:
        """The episodes that answer a question best, of some agents or of all.

        They are found by task, context, tags, steps, outcome and reflection. Takes the options of
        ``PatternDB.search`` except ``kinds``; ``domain``, ``task_type`` and ``outcome`` among them.
        """
        asked = SearchOptions.of(options, kind="episode")
        searcher = self._context.searcher
        if agent_id is not None:
            return await searcher.search(agent_id, query, asked)
        return await searcher.among(await experienced(self._store), query, asked)


_KEPT = (
    "task",
    "task_type",
    "domain",
    "language",
    "framework",
    "complexity",
    "context",
    "tags",
    "parent_id",
)
"""What an episode that goes on has of the one before it."""
