"""``pattern episode``: what agents did, step by step, and how it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from pattern_db.models import (
    Complexity,
    EpisodeStatus,
    OutcomeKind,
    Partial,
    Success,
    TaskType,
)

from . import output
from .choosing import agent_id, agent_ids
from .found import ANYTHING, Narrowing, show_hits
from .options import DEFAULTS, Options
from .output import Column
from .session import opened
from .timeline import show_episode
from .values import Json, JsonObject, Limit, Moment

if TYPE_CHECKING:
    from pattern_db.models import Episode

app = App("episode", help="Episodes: what agents did, step by step, and how it went.")

Several = Annotated[list[str] | None, Parameter(negative=())]


def _status(episode: Episode) -> str:
    ended = episode.outcome_kind
    return episode.status.value if ended is None else f"{episode.status.value} ({ended.value})"


def _reward(episode: Episode) -> str:
    return "" if episode.reward_score is None else f"{episode.reward_score:.2f}"


_TABLE = output.table(
    [
        Column("id", lambda episode: episode.id),
        Column("started", lambda episode: output.when(episode.created_at)),
        Column("status", _status),
        Column("steps", lambda episode: str(episode.step_count)),
        Column("reward", _reward),
        Column("domain", lambda episode: output.shorten(episode.domain, 20)),
        Column("task", lambda episode: output.shorten(episode.task)),
    ]
)


@app.command
async def start(
    task: str,
    /,
    *,
    agent: str | None = None,
    domain: str = "general",
    type: TaskType = TaskType.OTHER,
    language: str | None = None,
    framework: str | None = None,
    complexity: Complexity = Complexity.MODERATE,
    context: str | None = None,
    tag: Several = None,
    parent: str | None = None,
    metadata: JsonObject | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Begin an episode; go on with it by the id that is printed.

    Parameters
    ----------
    task
        What is to be done.
    agent
        The id or the name of the agent; not needed if there is only one.
    domain
        The field the task is in, such as web.
    type
        What kind of work it is.
    language
        The programming language.
    framework
        The framework.
    complexity
        How hard the task is held to be.
    context
        The circumstances, in words.
    tag
        A tag; may be given several times.
    parent
        The id of the episode that this one is a part of.
    metadata
        A JSON object to keep with it.
    """
    async with opened(options, embeds=True) as db:
        episode = await db.episodes.start(
            await agent_id(db, agent),
            task=task,
            domain=domain,
            task_type=type,
            language=language,
            framework=framework,
            complexity=complexity,
            context=context,
            tags=tag,
            parent_id=parent,
            metadata=metadata,
        )
    output.answer(options, episode, f"Started episode {episode.id}.")


@app.command
async def step(
    episode: str,
    action: str,
    /,
    *,
    tool: str | None = None,
    parameters: Json = None,
    result: str | None = None,
    success: bool = False,
    error: str | None = None,
    duration_ms: float | None = None,
    tokens: int | None = None,
    metadata: JsonObject | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Append what was done to an episode.

    Parameters
    ----------
    episode
        The id of the episode.
    action
        What was done.
    tool
        The tool that was used.
    parameters
        What the tool was given, as JSON.
    result
        What came of it.
    success
        It succeeded. With --error it failed; without either nobody knows.
    error
        The message of the error by which it failed.
    duration_ms
        How long it took, in milliseconds.
    tokens
        How many tokens it used.
    metadata
        A JSON object to keep with it.
    """
    async with opened(options) as db:
        made = await db.episodes.step(
            episode,
            action=action,
            tool=tool,
            parameters=parameters,
            result=result,
            success=True if success else None if error is None else False,
            error=error,
            duration_ms=duration_ms,
            tokens=tokens,
            metadata=metadata,
        )
    output.answer(options, made, f"Kept step {made.step_number}.")


@app.command
async def complete(
    episode: str,
    verdict: str = "",
    /,
    *,
    artifact: Several = None,
    done: Several = None,
    left: Several = None,
    options: Options = DEFAULTS,
) -> None:
    """End an episode that succeeded, or in part, and learn from it.

    Parameters
    ----------
    episode
        The id of the episode.
    verdict
        How it went, in a sentence.
    artifact
        Something it produced; may be given several times.
    done
        Something that was done; may be given several times.
    left
        Something that was not done: the episode succeeded in part. May be given several times.
    """
    partial = Partial(verdict, done or [], left or [])
    outcome = partial if done or left else Success(verdict, artifact or [])
    async with opened(options) as db:
        ended = await db.episodes.complete(episode, outcome)
    _ended(options, ended)


@app.command
async def fail(
    episode: str, reason: str, /, *, error: str | None = None, options: Options = DEFAULTS
) -> None:
    """End an episode that failed.

    Parameters
    ----------
    episode
        The id of the episode.
    reason
        Why it failed.
    error
        The message of the error.
    """
    async with opened(options) as db:
        ended = await db.episodes.fail(episode, reason, error=error)
    _ended(options, ended)


@app.command
async def abstain(
    episode: str, reason: str, /, *, signal: Several = None, options: Options = DEFAULTS
) -> None:
    """End an episode that was given up on purpose, with a checkpoint to resume it from.

    Parameters
    ----------
    episode
        The id of the episode.
    reason
        Why it was given up.
    signal
        Something that says so; may be given several times.
    """
    async with opened(options) as db:
        ended = await db.episodes.abstain(episode, reason, signals=signal)
    _ended(options, ended)


def _ended(options: Options, episode: Episode) -> None:
    reward = f"reward {episode.reward_score:.2f}, quality {episode.quality:.2f}"
    output.answer(options, episode, f"Episode {episode.id} is {_status(episode)}: {reward}.")


@app.command
async def checkpoint(
    episode: str,
    reason: str = "",
    /,
    *,
    note: str | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Keep where an episode stands, for whoever goes on with it.

    Parameters
    ----------
    episode
        The id of the episode.
    reason
        Why it stops here.
    note
        What else to know.
    """
    async with opened(options) as db:
        point = await db.episodes.checkpoints.create(episode, reason, note=note)
    output.answer(options, point, f"Kept checkpoint {point.id} after step {point.step_number}.")


@app.command
async def resume(id: str, /, *, agent: str | None = None, options: Options = DEFAULTS) -> None:
    """Begin an episode that goes on where another one or a checkpoint stopped.

    Parameters
    ----------
    id
        The id of the ended episode, or of a checkpoint.
    agent
        The id or the name of the agent that goes on, if it is another one.
    """
    async with opened(options, embeds=True) as db:
        other = None if agent is None else await agent_id(db, agent)
        episode = await db.episodes.resume(id, agent_id=other)
        handoff = await db.episodes.checkpoints.handoff(episode.id)
    if options.json:
        output.document({"episode": episode, "handoff": handoff})
        return
    output.line(f"Started episode {episode.id}.")
    output.record(output.facts_of(handoff, without=["patterns"]))


@app.command(name="list")
async def list_(
    *,
    agent: str | None = None,
    domain: str | None = None,
    type: TaskType | None = None,
    status: EpisodeStatus | None = None,
    outcome: OutcomeKind | None = None,
    tag: Several = None,
    since: Moment | None = None,
    until: Moment | None = None,
    limit: Limit = 20,
    after: str | None = None,
    options: Options = DEFAULTS,
) -> None:
    """List episodes, the newest first.

    Parameters
    ----------
    agent
        Only those of the agent with this id or name.
    domain
        Only those of this domain.
    type
        Only this kind of work.
    status
        Only those with this status.
    outcome
        Only those that went so.
    tag
        Only those with this tag; given several times, with all of them.
    since
        Only those that began at this time or later.
    until
        Only those that began before this time.
    limit
        How many at most.
    after
        Go on after the episode with this id.
    """
    async with opened(options) as db:
        episodes = await db.episodes.list(
            None if agent is None else await agent_id(db, agent),
            domain=domain,
            task_type=type,
            status=status,
            outcome=outcome,
            tags=tag,
            since=since,
            until=until,
            limit=output.one_more(limit),
            after=after,
            newest_first=True,
        )
    output.listing(options, episodes, limit, _TABLE, nothing="no episodes")


@app.command
async def show(episode: str, /, *, options: Options = DEFAULTS) -> None:
    """Show an episode: its facts, its steps as a timeline, and what was learned from it.

    Parameters
    ----------
    episode
        The id of the episode.
    """
    async with opened(options) as db:
        found = await db.episodes.require(episode)
        steps = await db.episodes.steps(episode)
        summary = await db.episodes.summary(episode)
        points = await db.episodes.checkpoints.list(episode)
        related = await db.episodes.relationships.list(episode)
    if options.json:
        parts: dict[str, Any] = {"summary": summary, "checkpoints": points}
        output.document({"episode": found, "steps": steps, **parts, "relationships": related})
    else:
        show_episode(found, steps, summary)


@app.command
async def search(
    query: str,
    /,
    *,
    agent: list[str] | None = None,
    domain: str | None = None,
    type: TaskType | None = None,
    outcome: OutcomeKind | None = None,
    skip_archived: bool = False,
    narrowing: Narrowing = ANYTHING,
    options: Options = DEFAULTS,
) -> None:
    """Find episodes by task, context, tags, steps, outcome and reflection.

    Parameters
    ----------
    query
        A question, or words.
    agent
        Only those of the agent with this id or name; may be given several times.
    domain
        Only those of this domain.
    type
        Only this kind of work.
    outcome
        Only those that went so.
    skip_archived
        Leave out episodes that were archived.
    """
    async with opened(options, embeds=True) as db:
        hits = await db.episodes.search(
            query,
            agent_id=await agent_ids(db, agent) if agent else None,
            domain=domain,
            task_type=type,
            outcome=outcome,
            include_archived=not skip_archived,
            **narrowing.asked(),
        )
    show_hits(options, hits, explain=narrowing.explain)


@app.command
async def metrics(
    *,
    agent: str | None = None,
    domain: str | None = None,
    since: Moment | None = None,
    limit: Limit = 1000,
    options: Options = DEFAULTS,
) -> None:
    """Show how the latest episodes and their tools went, read off their steps.

    Parameters
    ----------
    agent
        Only those of the agent with this id or name.
    domain
        Only those of this domain.
    since
        Only those that began at this time or later.
    limit
        How many of the latest at most.
    """
    async with opened(options) as db:
        found = await db.episodes.metrics(
            None if agent is None else await agent_id(db, agent),
            domain=domain,
            since=since,
            limit=limit,
        )
    if options.json:
        output.document(found)
        return
    output.record(output.facts_of(found, without=["tools"]))
    if found.tools:
        output.line()
        _TOOLS(found.tools)


def _optional(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


_TOOLS = output.table(
    [
        Column("uses", lambda tool: f"{tool.uses:,}"),
        Column("failed", lambda tool: f"{tool.failures:,}"),
        Column("success", lambda tool: _optional(tool.success_rate, ".0%")),
        Column("p50 ms", lambda tool: _optional(tool.p50_ms, ",.0f")),
        Column("p95 ms", lambda tool: _optional(tool.p95_ms, ",.0f")),
        Column("tool", lambda tool: tool.tool),
    ]
)


@app.command
async def archive(episode: str, /, *, undo: bool = False, options: Options = DEFAULTS) -> None:
    """Put an episode away: it takes no steps any more, and is still found.

    Parameters
    ----------
    episode
        The id of the episode.
    undo
        Take it back instead; it is then as it was before.
    """
    async with opened(options) as db:
        act = db.episodes.unarchive if undo else db.episodes.archive
        after = await act(episode)
    output.answer(options, after, f"Episode {after.id} is {after.status.value}.")


@app.command
async def delete(episode: str, /, *, purge: bool = False, options: Options = DEFAULTS) -> None:
    """Deactivate an episode: it is no longer listed or found. Nothing is erased.

    Parameters
    ----------
    episode
        The id of the episode.
    purge
        Erase it for good, with everything that only it has shown.
    """
    async with opened(options) as db:
        await (db.episodes.purge if purge else db.episodes.delete)(episode)
    word = "Erased" if purge else "Deactivated"
    output.answer(options, {"deleted": episode}, f"{word} episode {episode}.")
