"""``pattern episode``: what past episodes say about a task, a run or an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pattern_db.models import OutcomeKind

from . import output
from .choosing import agent_id
from .episode import app as app
from .found import show_hits
from .options import DEFAULTS, Options
from .output import Column
from .session import opened
from .values import Limit

if TYPE_CHECKING:
    from pattern_db.repositories.advice import Answer

_Columns = Sequence[Column]
_NEXT = (
    Column("tool", lambda tool: tool.tool),
    Column("chance", lambda tool: f"{tool.probability:.0%}"),
    Column("seen", lambda tool: str(tool.times)),
    Column("for instance", lambda tool: _first(tool.episodes)),
)
_PLAN = (
    Column("tool", lambda planned: planned.tool),
    Column("likely", lambda planned: "yes" if planned.is_likely else ""),
    Column("chance", lambda planned: f"{planned.probability:.0%}"),
    Column("for instance", lambda planned: _first(planned.episodes)),
)
_REMEDY = (
    Column("tool", lambda remedy: remedy.tool or "(the end)"),
    Column("chance", lambda remedy: f"{remedy.probability:.0%}"),
    Column("seen", lambda remedy: str(remedy.times)),
    Column("resolved", lambda remedy: str(remedy.resolved)),
    Column("for instance", lambda remedy: _first(remedy.episodes)),
)


def _first(ids: Sequence[str]) -> str:
    return ids[0] if ids else ""


def _show(options: Options, answer: Answer[Any], columns: _Columns, drawn_from: str) -> None:
    if options.json:
        output.document(answer)
    elif not answer.items:
        output.line(f"({answer.reason})")
    else:
        output.table(columns)(answer.items)
        output.line(f"drawn from {output.count(answer.runs, drawn_from)}", "dim")


@app.command
async def recall(
    task: str,
    /,
    *,
    domain: str | None = None,
    outcome: OutcomeKind | None = None,
    agent: str | None = None,
    limit: Limit = 5,
    explain: bool = False,
    options: Options = DEFAULTS,
) -> None:
    """Show past episodes worth reading before a task, unlike each other.

    Parameters
    ----------
    task
        What is to be done.
    domain
        Only episodes of this domain.
    outcome
        Only episodes that ended so.
    agent
        The id or the name of the agent that asks.
    limit
        How many at most.
    explain
        Show how alike the tasks are.
    """
    async with opened(options, embeds=True) as db:
        asking = None if agent is None else await agent_id(db, agent)
        hits = await db.episodes.recall(
            task, domain=domain, outcome=outcome, agent_id=asking, limit=limit
        )
    if options.json:
        output.document(hits)
    elif not hits.items:
        output.line(f"({hits.reason})")
    else:
        show_hits(options, hits.items, explain=explain)


@app.command
async def plan(
    task: str,
    /,
    *,
    domain: str | None = None,
    among: list[str] | None = None,
    agent: str | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Show the tools that a task will probably need.

    Parameters
    ----------
    task
        What is to be done.
    domain
        Only by episodes of this domain.
    among
        Only this tool; may be given several times.
    agent
        The id or the name of the agent that asks.
    """
    async with opened(options, embeds=True) as db:
        asking = None if agent is None else await agent_id(db, agent)
        found = await db.episodes.plan(task, domain=domain, among=among, agent_id=asking)
    _show(options, found, _PLAN, "successful episode")


@app.command
async def next(episode: str, /, *, limit: Limit = 5, options: Options = DEFAULTS) -> None:
    """Show the tools that may come next in an episode.

    Parameters
    ----------
    episode
        The id of the episode.
    limit
        How many at most.
    """
    async with opened(options) as db:
        found = await db.episodes.next_step(episode, limit=limit)
    _show(options, found, _NEXT, "episode")


@app.command
async def outlook(episode: str, /, *, finished: bool = False, options: Options = DEFAULTS) -> None:
    """Tell whether an episode probably succeeded.

    Parameters
    ----------
    episode
        The id of the episode.
    finished
        No step is to come: say something, though nobody has completed it yet.
    """
    async with opened(options) as db:
        found = await db.episodes.outlook(episode, finished=finished)
    if found.probability is None:
        output.answer(options, found, f"({found.reason})")
        return
    rate = f"{found.base_rate:.0%} of {output.count(found.runs, 'episode')} did"
    evidence = ", ".join(filter(None, [_first(found.in_favour), _first(found.against)]))
    output.answer(
        options, found, f"Succeeded with {found.probability:.0%} ({rate}; compare {evidence})."
    )


@app.command
async def on_error(
    tool: str,
    message: str,
    /,
    *,
    domain: str | None = None,
    limit: Limit = 5,
    options: Options = DEFAULTS,
) -> None:
    """Show what was done next after errors like this one.

    Parameters
    ----------
    tool
        The tool that failed.
    message
        What it said.
    domain
        The domain it failed in.
    limit
        How many at most.
    """
    async with opened(options) as db:
        found = await db.episodes.on_error(tool, message, domain=domain, limit=limit)
    _show(options, found, _REMEDY, "error")
