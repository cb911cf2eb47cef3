"""``pattern message``: what was said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyclopts import App

from pattern_db.models import Role

from . import output
from .choosing import agent_id, agent_ids
from .found import ANYTHING, BY_ANYONE, Narrowing, Said, show_hits
from .options import DEFAULTS, Options
from .output import Entry
from .session import opened
from .values import JsonObject, Limit, Moment, Stdin, required_text

if TYPE_CHECKING:
    from pattern_db.models import Message

app = App("message", help="Messages: what was said.")


@app.command
async def add(
    content: str | None = None,
    /,
    *,
    stdin: Stdin = False,
    agent: str | None = None,
    role: Role = Role.USER,
    speaker: str | None = None,
    conversation: str | None = None,
    at: Moment | None = None,
    source: str | None = None,
    metadata: JsonObject | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Store a message.

    Parameters
    ----------
    content
        What was said. A text that looks like an option goes after --.
    stdin
        Read the content from standard input.
    agent
        The id or the name of the agent; not needed if there is only one.
    role
        What the message is to the model.
    speaker
        The name of who said it.
    conversation
        The id of the conversation it belongs to.
    at
        When it was said, if not now.
    source
        Where it comes from.
    metadata
        A JSON object to keep with it.
    """
    text = required_text(content, stdin=stdin)
    async with opened(options, embeds=True) as db:
        message = await db.messages.append(
            await agent_id(db, agent),
            role=role,
            content=text,
            speaker=speaker,
            conversation_id=conversation,
            created_at=at,
            source=source,
            metadata=metadata,
        )
    output.answer(options, message, f"Stored message {message.id}.")


@app.command(name="list")
async def list_(
    *,
    agent: str | None = None,
    conversation: str | None = None,
    role: Role | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    newest: bool = False,
    archived: bool = False,
    incomplete: bool = False,
    limit: Limit = 20,
    after: str | None = None,
    options: Options = DEFAULTS,
) -> None:
    """List messages in their order.

    Parameters
    ----------
    agent
        The id or the name of the agent; not needed if there is only one.
    conversation
        Only those of the conversation with this id.
    role
        Only those of this role.
    since
        Only those from this time on.
    until
        Only those from before this time.
    newest
        The newest first.
    archived
        Those that are archived too.
    incomplete
        Those of batches that wait for a tool too.
    limit
        How many at most.
    after
        Go on after the message with this id.
    """
    async with opened(options) as db:
        messages = await db.messages.list(
            await agent_id(db, agent),
            conversation_id=conversation,
            role=role,
            since=since,
            until=until,
            newest_first=newest,
            include_archived=archived,
            include_incomplete=incomplete,
            limit=output.one_more(limit),
            after=after,
        )
    output.listing(options, messages, limit, output.entries(_entry), nothing="no messages")


def _entry(message: Message) -> Entry:
    who = message.speaker or message.role
    archived = "archived" if message.is_archived else ""
    facts = [output.when(message.created_at), who, message.id, archived]
    return Entry(facts, message.content or message.tool_text or "")


@app.command
async def search(
    query: str,
    /,
    *,
    agent: list[str] | None = None,
    said: Said = BY_ANYONE,
    narrowing: Narrowing = ANYTHING,
    options: Options = DEFAULTS,
) -> None:
    """Find the messages that answer a question best.

    Parameters
    ----------
    query
        A question, or words.
    agent
        The id or the name of the agent; not needed if there is only one. May be given several
        times, to search several.
    """
    async with opened(options, embeds=True) as db:
        hits = await db.messages.search(
            await agent_ids(db, agent), query, **said.asked(), **narrowing.asked()
        )
    show_hits(options, hits, explain=narrowing.explain)


@app.command
async def archive(before: str, /, *, agent: str | None = None, options: Options = DEFAULTS) -> None:
    """Archive the messages before one: they leave lists and contexts and are still found.

    Parameters
    ----------
    before
        The id of the first message that stays.
    agent
        The id or the name of the agent; not needed if there is only one.
    """
    async with opened(options) as db:
        archived = await db.messages.archive_before(await agent_id(db, agent), before)
    output.answer(options, {"archived": archived}, f"Archived {output.count(archived, 'message')}.")


@app.command
async def repair(*, agent: str | None = None, options: Options = DEFAULTS) -> None:
    """Close the batches that a crash left open.

    Parameters
    ----------
    agent
        The id or the name of an agent; without it, those of all agents.
    """
    async with opened(options) as db:
        one = await agent_id(db, agent) if agent is not None else None
        batches = await db.messages.repair(one)
    closed = len(batches)
    output.answer(options, batches, f"Repaired {closed:,} {'batch' if closed == 1 else 'batches'}.")
