"""Advice drawn from the episodes that are stored, each answer with its evidence.

The same store and the same question give the same answer. What each is worth on real runs is in
docs/explanation/learning.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from ..episodes.errors import Incident, Remedy, remedies
from ..episodes.extraction import content_key
from ..episodes.wording import error_signature
from ..filters import InRows
from ..models import (
    Episode,
    EpisodeStatus,
    ErrorResolution,
    OutcomeKind,
    Pattern,
    ResultKind,
    Step,
    ToolSequence,
)
from ..query import param, select
from ..schema import columns_of
from ..search import Hit
from ..validation import check_enum, check_limit, check_text
from .episode_lists import EpisodeLists
from .episode_values import MAX_RESULT_CHARS, MAX_STEPS, name_of, task_of
from .past_runs import PastRuns, Task
from .repository import Context

if TYPE_CHECKING:
    from ..episodes.next_step import Next
    from ..episodes.planning import Planned
    from ..episodes.runs import Run

T = TypeVar("T")
_KNOWN_ENDS = (OutcomeKind.SUCCESS, OutcomeKind.FAILURE)
ALIKE, ANY = 200, 300
"""How many of the latest errors of the same tool and kind, and of any, are looked at."""
_E, _S, _P = columns_of(Episode), columns_of(Step), columns_of(Pattern)
_TOOLS = (
    select(Step)
    .where(_S.episode_id == param("episode_id"))
    .order_by(_S.step_number)
    .only(_S.tool_name)
    .limit(MAX_STEPS)
)
_FAILED = (_S.episode_id, _S.step_number, _S.tool_name, _S.error_signature)
_ALIKE = (
    select(Step)
    .where(_S.tool_name == param("tool"), _S.error_signature == param("signature"))
    .order_by(_S.id, descending=True)
    .only(*_FAILED)
    .limit(ALIKE)
)
_ANY = (
    select(Step)
    .where(_S.result_kind == ResultKind.ERROR)
    .order_by(_S.id, descending=True)
    .only(*_FAILED)
    .limit(ANY)
)
_AFTER = (
    select(Step)
    .where(InRows(("episode_id", "step_number"), param("places")))
    .only(_S.episode_id, _S.step_number, _S.tool_name)
    .limit(param("limit"))
)
_WORKED = (
    select(Step)
    .where(
        _S.episode_id.in_(param("ids")),
        _S.tool_name == param("tool"),
        _S.success == True,  # noqa: E712
    )
    .only(_S.episode_id, _S.step_number)
    .limit(ALIKE * MAX_STEPS)
)
_ENDED = (
    select(Episode)
    .where(
        _E.id.in_(param("ids")),
        _E.completed_at != None,  # noqa: E711
        _E.is_active == True,  # noqa: E712
    )
    .only(_E.id, _E.domain)
    .limit(param("limit"))
)
_BY_IDS = (
    select(Episode)
    .where(_E.id.in_(param("ids")), _E.is_active == True)  # noqa: E712
    .limit(param("limit"))
)
_KNOWN = (
    select(Pattern)
    .where(_P.content_key.in_(param("keys")))
    .only(_P.content_key, _P.id)
    .limit(param("limit"))
)


class Answer(msgspec.Struct, Generic[T], frozen=True):
    """Advice, best first, and the number of past ``runs`` (or errors) it was drawn from.

    Empty, it has the ``reason``.
    """

    items: list[T]
    runs: int = 0
    reason: str | None = None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> T:
        return self.items[place]


class Outlook(msgspec.Struct, frozen=True):
    """How a run probably went; ``probability`` is ``None`` where ``reason`` says why not.

    ``base_rate`` is the share of successes among the ``runs`` it was compared with; ``in_favour``
    are the successful ones that say most for it, ``against`` the failed ones that say most against.
    """

    probability: float | None = None
    base_rate: float | None = None
    runs: int = 0
    in_favour: list[str] = []
    against: list[str] = []
    reason: str | None = None


class Advice(EpisodeLists):
    """What past episodes say about a task, a run or an error."""

    def __init__(self, context: Context):
        super().__init__(context)
        self._past = PastRuns(context)

    async def recall(
        self,
        task: str,
        *,
        domain: str | None = None,
        outcome: OutcomeKind | str | None = None,
        agent_id: str | None = None,
        limit: int = 5,
    ) -> Answer[Hit]:
        """Past episodes worth reading before a task, and unlike each other.

        Among the ended ones with the nearest tasks (or whose words match) they are those whose way
        of doing it the others agree with most, and come as they are chosen, not by score: that is
        half the agreement of the others and half the likeness of the task. ``outcome="success"``
        shows only such. ``agent_id`` is who asks: that agent's episodes are looked at even where
        there are very many agents.
        """
        wanted = None if outcome is None else check_enum("outcome", OutcomeKind, outcome)
        asked, most = await self._task(task, domain, agent_id, wanted), check_limit(limit)
        runs = await self._past.of(asked)
        eligible = [wanted is None or run.outcome is wanted for run in runs]
        if not any(eligible):
            return Answer([], len(runs), _nothing(asked.domain, wanted))
        from ..episodes.recall import consensus

        likeness = _likeness(_now(asked), runs)
        chosen = consensus(runs, likeness, eligible, limit=most)
        ids = [runs[place].id for place, _ in chosen]
        rows = await self._store.execute(_BY_IDS, ids=ids, limit=len(ids))
        found = {episode.id: episode for episode in rows}
        return Answer(
            [
                Hit(
                    item=found[runs[place].id],
                    kind="episode",
                    score=(agreement + float(likeness[place])) / 2,
                    why={"agreement": agreement / 2, "likeness": float(likeness[place]) / 2},
                    mode="hybrid" if asked.vector is not None else "keyword",
                )
                for place, agreement in chosen
                if runs[place].id in found
            ],
            len(runs),
        )

    async def plan(
        self,
        task: str,
        *,
        domain: str | None = None,
        among: Collection[str] | None = None,
        agent_id: str | None = None,
    ) -> Answer[Planned]:
        """The tools that a task will probably need, by the successful runs for similar ones.

        Those that belong together are ``is_likely``; the rest is there with its probability.
        ``among`` are the only tools to say anything about, such as those that change something. A
        run counts with ``metadata["needed_tools"]``, if it has them, else with what it used.
        """
        asked = await self._task(task, domain, agent_id, OutcomeKind.SUCCESS)
        asked = msgspec.structs.replace(asked, alone=True)
        runs = [run for run in await self._past.of(asked) if run.succeeded]
        if not runs:
            return Answer([], 0, _nothing(asked.domain, OutcomeKind.SUCCESS))
        from ..episodes.planning import plan_tools

        planned = plan_tools(runs, _likeness(_now(asked), runs), among=among)
        reason = None if planned else "The successful runs for similar tasks used no such tool."
        return Answer(planned, len(runs), reason)

    async def next_step(self, episode_id: str, *, limit: int = 5) -> Answer[Next]:
        """The tools that may come next in an episode, other than the one it used last.

        Drawn from ended runs in its domain that came to the same point, above all by their last
        steps, and from those for similar tasks. ``patterns`` are the known sequences that a tool
        would complete.
        """
        most = check_limit(limit)
        episode = await self.require(episode_id)
        now = await self._run(episode)
        runs = await self._past.of(_of(episode, now))
        if not runs:
            return Answer([], 0, _nothing(episode.domain))
        from ..episodes.next_step import rank_next
        from ..episodes.runs import path_of

        ranked = rank_next(now, runs, _likeness(now, runs), limit=most)
        if not ranked:
            return Answer([], len(runs), "No run there went on with another tool.")
        last = list(path_of(now.tools)[-2:])
        keys = {
            next.tool: content_key(ToolSequence([*last, next.tool]), episode.domain)
            for next in ranked
            if len(last) == 2
        }
        known = await self._known(keys.values())
        return Answer(
            [
                msgspec.structs.replace(next, patterns=known.get(keys.get(next.tool, ""), []))
                for next in ranked
            ],
            len(runs),
        )

    async def outlook(self, episode_id: str, *, finished: bool = False) -> Outlook:
        """Whether an episode probably succeeded, by the ended runs in its domain.

        Of an episode that goes on nothing is said, because nothing predicts then; ``finished`` says
        that no step is to come.
        """
        episode = await self.require(episode_id)
        if episode.status is EpisodeStatus.ACTIVE and not finished:
            return Outlook(reason="The run goes on; how it begins does not tell how it ends.")
        now = await self._run(episode)
        near = await self._past.of(_of(episode, now))
        runs = [run for run in near if run.succeeded is not None]
        if not runs:
            return Outlook(reason=_nothing(episode.domain, *_KNOWN_ENDS))
        from ..episodes.outlook import estimate

        found = estimate(now, runs)
        return Outlook(
            probability=found.probability,
            base_rate=found.base_rate,
            runs=len(runs),
            in_favour=[runs[place].id for place in found.in_favour],
            against=[runs[place].id for place in found.against],
        )

    async def on_error(
        self, tool: str, message: str, *, domain: str | None = None, limit: int = 5
    ) -> Answer[Remedy]:
        """What was done next after errors like this one, the likeliest first.

        Errors are alike if their messages are without numbers, ids and quoted texts. Each answer
        counts how often it was done then, and how often the tool worked later in that run;
        ``patterns`` are the known resolutions.
        """
        most = check_limit(limit)
        tool = name_of("tool", tool)
        signature = error_signature(check_text("message", message, at_most=MAX_RESULT_CHARS))
        where = None if domain is None else name_of("domain", domain)
        incidents = await self._incidents(tool, signature)
        ranked = remedies(where, tool, signature, incidents)[:most]
        if not ranked:
            return Answer([], 0, "No error is stored yet that something was done about.")
        domains = [where] if where is not None else sorted({i.domain for i in incidents})
        keys = {
            content_key(ErrorResolution(signature, tool, [remedy.tool]), each): remedy.tool
            for remedy in ranked
            if remedy.tool is not None
            for each in domains
        }
        known = await self._known(keys)
        found: dict[str | None, list[str]] = {}
        for key, ids in known.items():
            found.setdefault(keys[key], []).extend(ids)
        return Answer(
            [
                msgspec.structs.replace(remedy, patterns=sorted(found.get(remedy.tool, [])))
                for remedy in ranked
            ],
            len(incidents),
        )

    async def _incidents(self, tool: str, signature: str) -> list[Incident]:
        """The first error of each kind in each ended run, as far as they are looked at."""
        alike = await self._store.execute(_ALIKE, tool=tool, signature=signature)
        rows = [*alike, *await self._store.execute(_ANY)]
        first: dict[tuple[str, str | None, str | None], int] = {}
        for episode_id, number, failed, kind in rows:
            key = (episode_id, failed, kind)
            first[key] = min(number, first.get(key, number))
        ids = sorted({episode_id for episode_id, _, _ in first})
        if not ids:
            return []
        ended = dict(await self._store.execute(_ENDED, ids=ids, limit=len(ids)))
        places = [(id, number + 1) for (id, _, _), number in first.items()]
        after = await self._store.execute(_AFTER, places=places, limit=len(places))
        following = {(id, number): name for id, number, name in after}
        rows = await self._store.execute(_WORKED, ids=sorted({r[0] for r in alike}), tool=tool)
        worked: dict[str, int] = {}
        for id, number in rows:
            worked[id] = max(number, worked.get(id, 0))
        return [
            Incident(
                episode_id=id,
                domain=ended[id],
                tool=failed,
                signature=kind or "",
                next_tool=following.get((id, number + 1)),
                resolved=failed == tool and worked.get(id, 0) > number,
            )
            for (id, failed, kind), number in sorted(first.items(), key=str)
            if id in ended and failed is not None and _says(following, id, number)
        ]

    async def _known(self, keys: Collection[str]) -> dict[str, list[str]]:
        """The patterns with these contents."""
        if not keys:
            return {}
        rows = await self._store.execute(_KNOWN, keys=[*keys], limit=len(keys))
        return {key: [id] for key, id in rows}

    async def _task(
        self, text: str, domain: str | None, agent_id: str | None, outcome: OutcomeKind | None
    ) -> Task:
        checked = task_of(text)
        where = None if domain is None else name_of("domain", domain)
        vector = await self._indexer.embed_query(checked)
        return Task(checked, where, vector, agent_id, outcome)

    async def _run(self, episode: Episode) -> Run:
        """An episode as it is now; the tools of one that goes on are those of its steps."""
        from ..episodes.runs import Run

        tools = episode.tools
        if episode.completed_at is None:
            rows = await self._store.execute(_TOOLS, episode_id=episode.id)
            tools = [tool for (tool,) in rows if tool]
        vectors = await self._past.vectors([episode.id])
        return Run(
            id=episode.id,
            task=episode.task,
            tools=tuple(tools),
            agent_id=episode.agent_id,
            vector=vectors.get(episode.id),
        )


def _says(following: dict[tuple[str, int], Any], id: str, number: int) -> bool:
    """Whether it is known what came after a step: a tool, or the end of the run."""
    return following.get((id, number + 1), "") is not None


def _of(episode: Episode, now: Run) -> Task:
    return Task(
        episode.task,
        episode.domain,
        now.vector,
        episode.agent_id,
        exclude=episode.id,
        words=False,
    )


def _now(task: Task) -> Run:
    from ..episodes.runs import Run

    return Run(id="", task=task.text, vector=task.vector, agent_id=task.agent_id)


def _likeness(now: Run, runs: Sequence[Run]) -> Any:
    from ..episodes.runs import Likeness

    return Likeness([now, *runs]).to(0)[1:]


def _nothing(domain: str | None, *outcomes: OutcomeKind | None) -> str:
    where = "" if domain is None else f" in the domain {domain!r}"
    how = " or ".join(f"in {outcome.value}" for outcome in outcomes if outcome is not None)
    return f"No episode has ended{where}{f' {how}' if how else ''} yet."
