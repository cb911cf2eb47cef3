"""An episode while it is recorded."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import PatternError
from ..models import Checkpoint, Episode, EpisodeStatus, Failure, Outcome, Step

if TYPE_CHECKING:
    from .episodes import Episodes

log = logging.getLogger("pattern_db.episodes")


class Recording:
    """What ``async with db.episodes.record(…) as episode`` gives.

    Left without completing, the episode stays active, and whoever knows its id can go on with it.
    Left by an error it has failed, with that error; a cancellation leaves it active.
    """

    def __init__(self, episodes: Episodes, agent_id: str, given: dict[str, Any]):
        self._episodes = episodes
        self._agent_id = agent_id
        self._given = given
        self._episode: Episode | None = None

    async def __aenter__(self) -> Recording:
        self._episode = await self._episodes.start(self._agent_id, **self._given)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if not isinstance(error, Exception) or self.episode.status is not EpisodeStatus.ACTIVE:
            return
        failure = Failure(reason=type(error).__name__, error=str(error)[:1000].replace("\0", ""))
        try:
            await self.complete(failure)
        except PatternError as problem:  # the error of the block says more
            log.warning("episode %s could not be marked as failed: %s", self.id, problem)

    @property
    def id(self) -> str:
        """The id of the episode."""
        return self.episode.id

    @property
    def episode(self) -> Episode:
        """The episode as it was started or completed."""
        assert self._episode is not None, "a recording is entered first"
        return self._episode

    async def step(self, **step: Any) -> Step:
        """See ``Episodes.step``."""
        return await self._episodes.step(self.id, **step)

    async def complete(self, outcome: Outcome | dict[str, Any] | str) -> Episode:
        """See ``Episodes.complete``."""
        self._episode = await self._episodes.complete(self.id, outcome)
        return self._episode

    async def fail(self, reason: str, *, error: str | None = None) -> Episode:
        """See ``Episodes.fail``."""
        self._episode = await self._episodes.fail(self.id, reason, error=error)
        return self._episode

    async def abstain(self, reason: str, *, signals: list[str] | None = None) -> Episode:
        """See ``Episodes.abstain``."""
        self._episode = await self._episodes.abstain(self.id, reason, signals=signals)
        return self._episode

    async def checkpoint(self, reason: str = "", *, note: str | None = None) -> Checkpoint:
        """See ``Checkpoints.create``."""
        return await self._episodes.checkpoints.create(self.id, reason, note=note)
