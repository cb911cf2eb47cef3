"""``pattern learn``: what was learned, what is recommended, and what came of that."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import App, Parameter, validators

from pattern_db.models import OutcomeKind, Pattern, PatternKind

from . import output
from .choosing import agent_id
from .options import DEFAULTS, Options
from .output import Column, Entry
from .session import opened
from .values import Limit

app = App("learn", help="Patterns: what was learned from episodes.")

Share = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))]


def _told(pattern: Pattern) -> str:
    """What a pattern says, in its own words."""
    said = msgspec.to_builtins(pattern.pattern_data)
    parts = (
        f"{name}: {', '.join(value) if isinstance(value, list) else value}"
        for name, value in said.items()
        if name != "type" and value not in (None, [], False)
    )
    return "; ".join(parts)


_TABLE = output.table(
    [
        Column("id", lambda pattern: pattern.id),
        Column("type", lambda pattern: pattern.pattern_type.value),
        Column("seen", lambda pattern: str(pattern.occurrences)),
        Column("success", lambda pattern: f"{pattern.success_rate:.0%}"),
        Column("sure of", lambda pattern: f"{pattern.confidence:.0%}"),
        Column("domain", lambda pattern: output.shorten(pattern.domain, 20)),
        Column("pattern", lambda pattern: output.shorten(_told(pattern))),
    ]
)


@app.command(name="list")
async def list_(
    *,
    type: PatternKind | None = None,
    domain: str | None = None,
    min_success: Share | None = None,
    limit: Limit = 20,
    after: str | None = None,
    options: Options = DEFAULTS,
) -> None:
    """List patterns: the oldest first, or with --min-success the best first.

    Parameters
    ----------
    type
        Only those of this type.
    domain
        Only those of this domain.
    min_success
        Only those with at least this success rate, from 0 to 1; the best first.
    limit
        How many at most.
    after
        Go on after the pattern with this id.
    """
    async with opened(options) as db:
        patterns = await db.patterns.list(
            pattern_type=type,
            domain=domain,
            min_success_rate=min_success,
            limit=output.one_more(limit),
            after=after,
        )
    output.listing(options, patterns, limit, _TABLE, nothing="no patterns")


@app.command
async def show(pattern: str, /, *, options: Options = DEFAULTS) -> None:
    """Show a pattern, and the episodes that are its evidence.

    Parameters
    ----------
    pattern
        The id of the pattern.
    """
    async with opened(options) as db:
        found = await db.patterns.require(pattern)
        evidence = await db.patterns.evidence(pattern)
        effectiveness = db.patterns.effectiveness(found)
    if options.json:
        output.document({"pattern": found, "effectiveness": effectiveness, "evidence": evidence})
        return
    output.line(_told(found), "bold")
    hidden = ["pattern_data", "version", "content_key"]
    facts = [*output.facts_of(found, without=hidden), ("effectiveness", f"{effectiveness:.2f}")]
    output.record(facts)
    for piece in evidence:
        went = f"{piece.outcome_kind.value:<9}"
        output.line(f"    {output.when(piece.created_at)}  {went}  {piece.episode_id}")


@app.command
async def recommend(
    task: str,
    /,
    *,
    domain: str | None = None,
    agent: str | None = None,
    episode: str | None = None,
    limit: Limit = 5,
    options: Options = DEFAULTS,
) -> None:
    """Recommend patterns for a task; tell what came of them with `pattern learn feedback`.

    Parameters
    ----------
    task
        What is to be done.
    domain
        Only from episodes of this domain.
    agent
        The id or the name of the agent that asks.
    episode
        The id of the episode in which it asks.
    limit
        How many at most.
    """
    async with opened(options, embeds=True) as db:
        tips = await db.patterns.recommend(
            task,
            domain=domain,
            agent_id=None if agent is None else await agent_id(db, agent),
            episode_id=episode,
            limit=limit,
        )
    if options.json:
        output.document(tips)
        return
    if not tips.items:
        output.line(f"({tips.reason})")
        return
    for tip in tips:
        facts = [f"{tip.score:.2f}", tip.pattern.pattern_type.value, tip.pattern.id]
        seen = output.count(tip.pattern.occurrences, "episode")
        notes = [f"seen in {seen}, such as {tip.evidence[0]}"]
        output.entry(Entry(facts, _told(tip.pattern), notes))
    output.line(f"session {tips.session_id}", "dim")


@app.command
async def feedback(
    session: str,
    outcome: OutcomeKind,
    /,
    *,
    applied: Annotated[list[str] | None, Parameter(negative=())] = None,
    rating: Share | None = None,
    note: str | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Tell what came of a recommendation; a second word replaces the first.

    Parameters
    ----------
    session
        The id that `pattern learn recommend` printed last.
    outcome
        How it went.
    applied
        The id of a pattern that was used; may be given several times.
    rating
        How good the advice was, from 0 to 1.
    note
        What else there is to say.
    """
    async with opened(options) as db:
        kept = await db.patterns.feedback(
            session, outcome=outcome, applied=applied or [], rating=rating, note=note
        )
    used = output.count(len(kept.applied), "pattern")
    output.answer(options, kept, f"Kept: {kept.outcome_kind.value} with {used} applied.")


@app.command
async def decay(*, below: Share = 0.3, dry_run: bool = False, options: Options = DEFAULTS) -> None:
    """Erase patterns that have become of no use.

    Parameters
    ----------
    below
        Those whose effectiveness, from 0 to 1, is less than this.
    dry_run
        Only say which ones.
    """
    async with opened(options) as db:
        gone = await db.patterns.decay(below=below, dry_run=dry_run)
    word = "Would erase" if dry_run else "Erased"
    output.answer(options, {"erased": gone}, f"{word} {output.count(len(gone), 'pattern')}.")
