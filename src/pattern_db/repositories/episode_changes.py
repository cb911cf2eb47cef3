"""What is changed of an episode beside its steps: its words, its place, that it is there."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from functools import partial

import msgspec
from msgspec import UNSET, UnsetType

from ..embeddings.indexing import Mode
from ..episodes import summary
from ..models import Complexity, Episode, EpisodeStatus, Json, PatternEvidence
from ..query import Bound, delete, param
from ..schema import columns_of
from .completing import Completion
from .episode_lists import EpisodeLists
from .episode_values import context_of, tags_of, task_of
from .merging import UNFOUNDED
from .repository import Context, given, retried

_FORGET = delete(PatternEvidence).where(columns_of(PatternEvidence).episode_id == param("id"))


class EpisodeChanges(EpisodeLists):
    """Changing episodes."""

    model = Episode
    prefix = "ep"

    def __init__(self, context: Context):
        super().__init__(context)
        self._completion = Completion(context)

    async def update(
        self,
        id: str,
        *,
        task: str | UnsetType = UNSET,
        context: str | Json | None | UnsetType = UNSET,
        language: str | None | UnsetType = UNSET,
        framework: str | None | UnsetType = UNSET,
        complexity: Complexity | str | UnsetType = UNSET,
        tags: Sequence[str] | UnsetType = UNSET,
        metadata: Json | UnsetType = UNSET,
    ) -> Episode:
        """Change what is said of an episode; its domain and type are fixed, as its index is.

        ``tags=[]`` removes all tags. Raises ``NotFound``.
        """
        changes = given(
            task=task,
            context=context,
            language=language,
            framework=framework,
            complexity=complexity,
            tags=tags,
            metadata=metadata,
        )
        for name, check in (("task", task_of), ("context", context_of), ("tags", tags_of)):
            if name in changes:
                changes[name] = check(changes[name])
        after: Episode = await retried(partial(self._update, id, changes), self.entity)
        self._wake(None)
        return after

    async def _update(self, id: str, changes: Json) -> Episode:
        before = await self.require(id)
        after: Episode = self._changed(before, {**changes, "version": before.version + 1})
        steps = await self._completion.steps_of(id) if before.completed_at else ()
        after = msgspec.structs.replace(after, searchable=summary.searchable_text(after, steps))
        vectors = [] if after.task == before.task else await self._indexer.writes_for([after])
        await self._store.write([self._saving(before, after, [*changes, "searchable"]), *vectors])
        return after

    def _saving(self, before: Episode, after: Episode, changed: Sequence[str]) -> Bound:
        touched = [*dict.fromkeys([*changed, "version", "updated_at"])]
        statement = self.queries.update(touched, guards=["version", "is_active"])
        values = {name: getattr(after, name) for name in touched}
        seen = {"seen_version": before.version, "seen_is_active": before.is_active}
        return statement(id=after.id, **seen, **values).expect(1)

    async def archive(self, id: str) -> Episode:
        """Put an episode away: it takes no steps any more, and is still found. Idempotent."""
        return await retried(partial(self._archive, id), self.entity)

    async def _archive(self, id: str) -> Episode:
        before = await self.require(id)
        if before.status is EpisodeStatus.ARCHIVED:
            return before
        return await self._move(before, EpisodeStatus.ARCHIVED, before.status)

    async def unarchive(self, id: str) -> Episode:
        """Undo ``archive``: the status is what it was before."""
        return await retried(partial(self._unarchive, id), self.entity)

    async def _unarchive(self, id: str) -> Episode:
        before = await self.require(id)
        if before.archived_from is None:
            return before
        return await self._move(before, before.archived_from, None)

    async def _move(
        self, before: Episode, status: EpisodeStatus, archived_from: EpisodeStatus | None
    ) -> Episode:
        changes = {"status": status, "archived_from": archived_from}
        after: Episode = self._changed(before, {**changes, "version": before.version + 1})
        await self._store.write([self._saving(before, after, [*changes])])
        return after

    async def _deactivate(self, id: str) -> None:
        await retried(partial(self._set_active, id, active=False), self.entity)

    async def _reactivate(self, found: Episode) -> Episode:
        after = await retried(partial(self._set_active, found.id, active=True), self.entity)
        self._wake(None)
        return after

    async def _set_active(self, id: str, *, active: bool) -> Episode:
        before = await self.require(id, include_deleted=True)
        changes = {"is_active": active, "version": before.version + 1}
        after: Episode = self._changed(before, changes)
        vectors = (
            await self._indexer.writes_for([after])
            if active
            else self._indexer.removals_for(before)
        )
        await self._store.write([self._saving(before, after, ["is_active"]), *vectors])
        return after

    def _purges(self, found: Episode) -> builtins.list[Bound]:
        return [
            *self._indexer.removals_for(found),
            _FORGET(id=found.id),
            self.queries.purge(id=found.id),
            UNFOUNDED(),
        ]

    def _wake(self, embed: Mode | None) -> None:
        if (embed or self._indexer.mode) == "queued":
            self._indexer.wake()
