"""Episodes that others recorded, taken in as if they had been recorded here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from ..embeddings.indexing import Mode
from ..errors import AlreadyExists, Conflict, InvalidValue, LimitExceeded
from ..ids import derived_id, new_id
from ..models import Episode, Outcome, Step
from ..query import Bound, Insert, param, select
from ..schema import columns_of, table_of
from ..validation import check_id, check_known, parse_time
from .completing import Completion
from .episode_values import (
    MAX_EPISODE_BYTES,
    MAX_STEPS,
    outcome_of,
    size_of,
    step_of,
)
from .repository import Context, pause

if TYPE_CHECKING:
    from .episodes import Episodes

Progress = Callable[[int, int], None]

CHUNK = 64
"""How many tasks are embedded at once."""
_FIELDS = (
    *("id", "key", "task", "domain", "task_type", "language", "framework", "complexity"),
    *("context", "tags", "metadata", "created_at", "completed_at", "steps", "outcome"),
)
_STEP_FIELDS = {
    "action": "action",
    "tool": "tool_name",
    "parameters": "parameters",
    "result": "result",
    "success": "success",
    "error": "error_message",
    "result_kind": "result_kind",
    "duration_ms": "duration_ms",
    "tokens": "tokens_used",
    "metadata": "metadata",
    "timestamp": "timestamp",
}
_ATTEMPTS = 20
_E = columns_of(Episode)
_ADD, _ADD_STEP = Insert(table_of(Episode)), Insert(table_of(Step))
_EXISTING = select(Episode).where(_E.id.in_(param("ids"))).only(_E.id).limit(param("limit"))


class Told(msgspec.Struct, frozen=True):
    """A trajectory, checked: the episode as it began, its steps, how and when it ended."""

    episode: Episode
    steps: list[Step]
    outcome: Outcome
    completed_at: datetime


class Trajectories:
    """Takes in finished episodes, each as one durable write."""

    def __init__(self, context: Context, episodes: Episodes):
        self._store = context.store
        self._indexer = context.indexer
        self._completion = Completion(context)
        self._episodes = episodes

    async def take_in(
        self,
        agent_id: str,
        trajectories: Iterable[Mapping[str, Any]],
        *,
        embed: Mode | None,
        progress: Progress | None,
    ) -> list[Episode]:
        """See ``Episodes.import_many``."""
        if isinstance(trajectories, str | Mapping) or not isinstance(trajectories, Iterable):
            raise InvalidValue("trajectories", "it must be a list of dicts.")
        told = [self._told(agent_id, each, n) for n, each in enumerate(trajectories)]
        written: list[Episode] = []
        for start in range(0, len(told), CHUNK):
            chunk = await self._new(told[start : start + CHUNK])
            vectors = await self._vectors([each.episode for each in chunk], embed)
            for each in chunk:
                episode = await self._keep(each, vectors.get(each.episode.id, []))
                written += [] if episode is None else [episode]
            if progress is not None:
                progress(min(start + CHUNK, len(told)), len(told))
        return written

    def _told(self, agent_id: str, given: Mapping[str, Any], place: int) -> Told:
        if not isinstance(given, Mapping):
            raise InvalidValue("trajectories", f"number {place} is no dict.")
        check_known("trajectories", given, _FIELDS)
        fields = {name: value for name, value in given.items() if value is not None}
        steps, outcome = fields.pop("steps", []), outcome_of(fields.pop("outcome", None))
        completed_at, key = fields.pop("completed_at", None), fields.pop("key", None)
        if key is not None:
            fields.setdefault("id", derived_id("ep", agent_id, check_id("key", key)))
        if "task" not in fields:
            raise InvalidValue("task", f"trajectory {place} does not say what was to be done.")
        episode = self._episodes._new(agent_id, **fields)
        made = _steps(episode, steps)
        ended = _end(episode, made) if completed_at is None else completed_at
        ended = parse_time("completed_at", ended)
        if ended < episode.created_at:
            raise InvalidValue("completed_at", "an episode ends after its start.")
        size = sum(map(size_of, made))
        if size > MAX_EPISODE_BYTES:
            raise LimitExceeded(
                "steps", f"together they have {size} bytes, {MAX_EPISODE_BYTES} fit."
            )
        begun = msgspec.structs.replace(episode, step_count=len(made), size_bytes=size)
        return Told(begun, made, outcome, ended)

    async def _new(self, told: Sequence[Told]) -> list[Told]:
        """Those whose id is not there yet, each id once."""
        by_id = {each.episode.id: each for each in reversed(told)}
        rows = await self._store.execute(_EXISTING, ids=list(by_id), limit=len(by_id))
        there = {id for (id,) in rows}
        return [
            each for each in told if by_id[each.episode.id] is each and each.episode.id not in there
        ]

    async def _vectors(
        self, episodes: Sequence[Episode], embed: Mode | None
    ) -> dict[str, list[Bound]]:
        by_id: dict[str, list[Bound]] = {}
        for bound in await self._indexer.writes_for(episodes, mode=embed, fresh=True):
            by_id.setdefault(bound.params["row"].item_id, []).append(bound)
        return by_id

    async def _keep(self, told: Told, vectors: Sequence[Bound]) -> Episode | None:
        """The episode as it was written, or ``None`` if another import was faster."""
        for attempt in range(_ATTEMPTS):
            done = await self._completion.of(
                told.episode, told.steps, told.outcome, told.completed_at
            )
            row = msgspec.structs.replace(done.episode, version=1)
            steps = [_ADD_STEP(row=step) for step in told.steps]
            try:
                await self._store.write([_ADD(row=row), *steps, *done.writes, *vectors])
            except (Conflict, AlreadyExists):
                if not await self._new([told]):
                    return None
                await pause(attempt)
                continue
            return row
        raise Conflict("These episodes are being imported elsewhere; try again later.")


def _steps(episode: Episode, given: Any) -> list[Step]:
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise InvalidValue("steps", "it must be a list of dicts.")
    steps = []
    for number, fields in enumerate(given, start=1):
        if number > MAX_STEPS:
            raise LimitExceeded("steps", f"an episode has at most {MAX_STEPS}.")
        if not isinstance(fields, Mapping):
            raise InvalidValue("steps", f"step {number} is no dict.")
        check_known("steps", fields, _STEP_FIELDS)
        named = {_STEP_FIELDS[name]: value for name, value in fields.items() if value is not None}
        moment = parse_time("timestamp", named.pop("timestamp", episode.created_at))
        own = {
            "id": new_id("step", moment),
            "episode_id": episode.id,
            "timestamp": moment,
            "step_number": number,
        }
        steps.append(step_of({"metadata": {}, **named, **own}))
    return steps


def _end(episode: Episode, steps: Sequence[Step]) -> datetime:
    """When its last step ended, as far as its steps say."""
    took = timedelta(milliseconds=sum(step.duration_ms or 0.0 for step in steps))
    latest = max((step.timestamp for step in steps), default=episode.created_at)
    return max(episode.created_at + took, latest)
