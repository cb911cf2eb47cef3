"""``pattern memory``: labelled texts that agents keep, with their history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import App, Parameter

from pattern_db.models import DEFAULT_CHAR_LIMIT, BlockType, Permission

from . import output
from .choosing import agent_id, agent_ids, choose_block
from .found import ANYTHING, Narrowing, show_hits
from .options import DEFAULTS, Options
from .output import Entry
from .session import opened
from .values import JsonObject, Limit, Stdin, UsageError, required_text, text_of

if TYPE_CHECKING:
    from pattern_db.models import BlockVersion, MemoryBlock, SharedBlock
    from pattern_db.repositories import SharedMemory

app = App("memory", help="Memory blocks: labelled texts that agents keep.")

Pinned = Annotated[bool, Parameter(negative="--no-pinned")]


@app.command
async def add(
    label: str,
    content: str | None = None,
    /,
    *,
    stdin: Stdin = False,
    agent: str | None = None,
    type: BlockType = BlockType.WORKING,
    description: str = "",
    pinned: bool = False,
    permission: Permission = Permission.READ_WRITE,
    char_limit: int = DEFAULT_CHAR_LIMIT,
    metadata: JsonObject | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Add a memory block to an agent.

    Parameters
    ----------
    label
        What the block is about; no other block of the agent has it.
    content
        Its text. A text that looks like an option goes after --.
    stdin
        Read the content from standard input.
    agent
        The id or the name of the agent; not needed if there is only one.
    type
        When the block is shown to the model.
    description
        What belongs into it, in a sentence.
    pinned
        Always show it to the model.
    permission
        What agents may do to it.
    char_limit
        How many characters it holds at most.
    metadata
        A JSON object to keep with it.
    """
    text = text_of(content, stdin=stdin) or ""
    async with opened(options, embeds=True) as db:
        block = await db.memory.create(
            await agent_id(db, agent),
            label=label,
            content=text,
            description=description,
            block_type=type,
            char_limit=char_limit,
            permission=permission,
            pinned=pinned,
            metadata=metadata,
        )
    output.answer(options, block, f"Added memory block {block.label} ({block.id}).")


@app.command(name="list")
async def list_(
    *,
    agent: str | None = None,
    type: BlockType | None = None,
    pinned: Pinned | None = None,
    shared: bool = False,
    limit: Limit = 50,
    after: str | None = None,
    options: Options = DEFAULTS,
) -> None:
    """List an agent's memory blocks, the oldest first.

    Parameters
    ----------
    agent
        The id or the name of the agent; not needed if there is only one.
    type
        Only those of this type.
    pinned
        Only those that are pinned, or that are not.
    shared
        Not its own but those that others share with it, all of them.
    limit
        How many at most.
    after
        Go on after the block with this id.
    """
    async with opened(options) as db:
        owner = await agent_id(db, agent)
        if shared:
            _list_shared(options, await db.memory.shared_with(owner))
            return
        blocks = await db.memory.list(
            owner,
            block_type=type,
            pinned=pinned,
            limit=output.one_more(limit),
            after=after,
        )
    output.listing(options, blocks, limit, output.entries(_entry), nothing="no memory blocks")


def _list_shared(options: Options, shared: list[SharedMemory]) -> None:
    def entry(memory: SharedMemory) -> Entry:
        facts, text, _ = _entry(memory.block)
        return Entry([*facts, f"{memory.permission}, of {memory.block.agent_id}"], text)

    show = output.entries(entry)
    output.listing(options, shared, len(shared), show, nothing="no memory blocks")


def _entry(block: MemoryBlock) -> Entry:
    pinned = "pinned" if block.pinned else ""
    facts = [block.label, block.block_type, output.when(block.updated_at), block.id, pinned]
    return Entry(facts, block.content)


@app.command
async def show(block: str, /, *, agent: str | None = None, options: Options = DEFAULTS) -> None:
    """Show a memory block: its text, and with whom it is shared.

    Parameters
    ----------
    block
        Its id, or its label.
    agent
        Whose block the label means; not needed if there is only one agent.
    """
    async with opened(options) as db:
        found = await choose_block(db, block, agent)
        shares = await db.memory.attachments(found.id)
    if options.json:
        output.document(_with_shares(found, shares))
        return
    facts = output.facts_of(found, without=["content", "is_active"])
    shared = [("shared with", f"{share.agent_id}, {share.permission}") for share in shares]
    output.record([*facts, *shared], found.content)


def _with_shares(block: MemoryBlock, shares: list[SharedBlock]) -> dict[str, Any]:
    return {**msgspec.structs.asdict(block), "shared_with": shares}


@app.command
async def edit(
    block: str,
    content: str | None = None,
    /,
    *,
    stdin: Stdin = False,
    agent: str | None = None,
    label: str | None = None,
    description: str | None = None,
    type: BlockType | None = None,
    pinned: Pinned | None = None,
    permission: Permission | None = None,
    char_limit: int | None = None,
    metadata: JsonObject | None = None,
    consent: bool = False,
    options: Options = DEFAULTS,
) -> None:
    """Change a memory block; a new text is a new version.

    Parameters
    ----------
    block
        Its id, or its label.
    content
        Its new text. A text that looks like an option goes after --.
    stdin
        Read the content from standard input.
    agent
        Whose block the label means; not needed if there is only one agent.
    label
        Its new label.
    description
        Its new description.
    type
        Its new type.
    pinned
        Pin it, or no longer.
    permission
        What agents may do to it from now on.
    char_limit
        How many characters it holds from now on.
    metadata
        A JSON object to keep with it from now on.
    consent
        The person whose consent its permission asks for has agreed.
    """
    changes = {
        "content": text_of(content, stdin=stdin),
        "label": label,
        "description": description,
        "block_type": type,
        "pinned": pinned,
        "permission": permission,
        "char_limit": char_limit,
        "metadata": metadata,
    }
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    if not given:
        raise UsageError("There is nothing to change; give a new text or an option.")
    async with opened(options, embeds=True) as db:
        found = await choose_block(db, block, agent)
        changed = await db.memory.update(found.id, **given, consent=consent)
    _answer_with(options, changed)


@app.command
async def append(
    block: str,
    text: str | None = None,
    /,
    *,
    stdin: Stdin = False,
    agent: str | None = None,
    consent: bool = False,
    options: Options = DEFAULTS,
) -> None:
    """Add a line to a memory block; a new version.

    Parameters
    ----------
    block
        Its id, or its label.
    text
        What to add. A text that looks like an option goes after --.
    stdin
        Read the text from standard input.
    agent
        Whose block the label means; not needed if there is only one agent.
    consent
        The person whose consent its permission asks for has agreed.
    """
    added = required_text(text, stdin=stdin)
    async with opened(options, embeds=True) as db:
        found = await choose_block(db, block, agent)
        changed = await db.memory.append(found.id, added, consent=consent)
    _answer_with(options, changed)


@app.command
async def search(
    query: str,
    /,
    *,
    agent: list[str] | None = None,
    narrowing: Narrowing = ANYTHING,
    options: Options = DEFAULTS,
) -> None:
    """Find the memory blocks that answer a question best, also those shared with the agent.

    Parameters
    ----------
    query
        A question, or words.
    agent
        The id or the name of the agent; not needed if there is only one. May be given several
        times, to search several.
    """
    async with opened(options, embeds=True) as db:
        hits = await db.memory.search(await agent_ids(db, agent), query, **narrowing.asked())
    show_hits(options, hits, explain=narrowing.explain)


@app.command
async def history(
    block: str,
    /,
    *,
    agent: str | None = None,
    limit: Limit = 50,
    after: int | None = None,
    options: Options = DEFAULTS,
) -> None:
    """List every text that a memory block had, the oldest first.

    Parameters
    ----------
    block
        Its id, or its label.
    agent
        Whose block the label means; not needed if there is only one agent.
    limit
        How many at most.
    after
        Go on after this version.
    """
    async with opened(options) as db:
        found = await choose_block(db, block, agent)
        versions = await db.memory.history(found.id, limit=output.one_more(limit), after=after)

    def entry(version: BlockVersion) -> Entry:
        return _version(version, shown=found.version)

    output.listing(
        options, versions, limit, output.entries(entry), key=lambda version: version.version
    )


def _version(version: BlockVersion, *, shown: int) -> Entry:
    parent = f"from {version.parent_version}" if version.parent_version is not None else ""
    now = "shown now" if version.version == shown else ""
    facts = [
        f"version {version.version}",
        output.when(version.created_at),
        parent,
        version.written_by or "",
        now,
    ]
    return Entry(facts, version.content)


@app.command
async def undo(block: str, /, *, agent: str | None = None, options: Options = DEFAULTS) -> None:
    """Show the text that the present one was made from.

    Parameters
    ----------
    block
        Its id, or its label.
    agent
        Whose block the label means; not needed if there is only one agent.
    """
    async with opened(options, embeds=True) as db:
        found = await choose_block(db, block, agent)
        changed = await db.memory.undo(found.id)
    _answer_with(options, changed)


@app.command
async def redo(block: str, /, *, agent: str | None = None, options: Options = DEFAULTS) -> None:
    """Show again the text that was undone last.

    Parameters
    ----------
    block
        Its id, or its label.
    agent
        Whose block the label means; not needed if there is only one agent.
    """
    async with opened(options, embeds=True) as db:
        found = await choose_block(db, block, agent)
        changed = await db.memory.redo(found.id)
    _answer_with(options, changed)


def _answer_with(options: Options, block: MemoryBlock) -> None:
    output.answer(options, block, f"{block.label} ({block.id}) shows version {block.version}.")


@app.command
async def share(
    block: str,
    with_agent: str,
    /,
    *,
    agent: str | None = None,
    permission: Permission = Permission.READ_ONLY,
    options: Options = DEFAULTS,
) -> None:
    """Let another agent find and read a memory block.

    Parameters
    ----------
    block
        Its id, or its label.
    with_agent
        The id or the name of the other agent.
    agent
        Whose block the label means; not needed if there is only one agent.
    permission
        What the other agent may do; the stricter of this and the block's own permission counts.
    """
    async with opened(options) as db:
        found = await choose_block(db, block, agent)
        shared = await db.memory.share(
            found.id, await agent_id(db, with_agent), permission=permission
        )
    output.answer(
        options,
        shared,
        f"{found.label} ({found.id}) is shared with {shared.agent_id} ({shared.permission}).",
    )


@app.command
async def unshare(
    block: str, with_agent: str, /, *, agent: str | None = None, options: Options = DEFAULTS
) -> None:
    """Take a memory block away from an agent it was shared with.

    Parameters
    ----------
    block
        Its id, or its label.
    with_agent
        The id or the name of the other agent.
    agent
        Whose block the label means; not needed if there is only one agent.
    """
    async with opened(options) as db:
        found = await choose_block(db, block, agent)
        other = await agent_id(db, with_agent)
        await db.memory.unshare(found.id, other)
    output.answer(
        options,
        {"block_id": found.id, "agent_id": other},
        f"{found.label} ({found.id}) is no longer shared with {other}.",
    )


@app.command
async def delete(block: str, /, *, agent: str | None = None, options: Options = DEFAULTS) -> None:
    """Deactivate a memory block: no longer listed or found. Nothing is erased.

    Parameters
    ----------
    block
        Its id, or its label.
    agent
        Whose block the label means; not needed if there is only one agent.
    """
    async with opened(options) as db:
        found = await choose_block(db, block, agent)
        await db.memory.delete(found.id)
    output.answer(
        options, {"deleted": found.id}, f"Deactivated memory block {found.label} ({found.id})."
    )
