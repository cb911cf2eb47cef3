"""Memory blocks: labelled texts with versions, permissions and attachments."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ..embeddings.indexing import Mode
from ..errors import Conflict, InvalidValue, LimitExceeded, NotFound, PermissionDenied
from ..models import (
    DEFAULT_CHAR_LIMIT,
    BlockType,
    BlockVersion,
    Json,
    MemoryBlock,
    Permission,
    SharedBlock,
)
from ..query import Bound, Get, Insert, delete, param, select, update
from ..schema import columns_of, table_of
from ..search import Hit, SearchOptions
from ..validation import build, check_enum, check_id, check_limit, check_text
from .permissions import Act, check, effective
from .repository import DEFAULT_LIMIT, Repository, given, pause

_V, _S, _B = columns_of(BlockVersion), columns_of(SharedBlock), columns_of(MemoryBlock)
_VERSION = Get(table_of(BlockVersion))
_ADD_VERSION = Insert(table_of(BlockVersion))
_VERSIONS = (
    select(BlockVersion)
    .where(_V.block_id == param("block_id"))
    .order_by(_V.version)
    .limit(param("limit"))
)
_VERSIONS_AFTER = _VERSIONS.where(_V.version > param("after"))
_CHILDREN = (
    select(BlockVersion)
    .where(_V.block_id == param("block_id"), _V.parent_version == param("parent"))
    .order_by(_V.version, descending=True)
    .limit(1)
)
_BY_LABEL = (
    select(MemoryBlock)
    .where(_B.agent_id == param("agent_id"), _B.label == param("label"), _B.is_active == True)  # noqa: E712
    .limit(1)
)
_ATTACHMENT = Get(table_of(SharedBlock))
_ATTACH = Insert(table_of(SharedBlock), on_conflict="replace")
_DETACH = delete(SharedBlock).where(
    _S.block_id == param("block_id"), _S.agent_id == param("agent_id")
)
_SAME_ATTACHMENT = update(SharedBlock, "permission").where(
    _S.block_id == param("block_id"),
    _S.agent_id == param("agent_id"),
    _S.permission == param("permission"),
)
_ATTACHMENTS = select(SharedBlock).where(_S.block_id == param("block_id")).order_by(_S.attached_at)
_ATTACHED_TO = select(SharedBlock).where(_S.agent_id == param("agent_id")).order_by(_S.attached_at)
_LIVE_BY_IDS = (
    select(MemoryBlock)
    .where(_B.id.in_(param("ids")), _B.is_active == True)  # noqa: E712
    .order_by(_B.created_at, _B.id)
)
_TEXT = frozenset({"content", "label", "description"})
_ATTEMPTS = 20


class SharedMemory(msgspec.Struct, frozen=True, kw_only=True):
    """A block of somebody else's, and what may be done to it."""

    block: MemoryBlock
    permission: Permission


class Memory(Repository[MemoryBlock]):
    """The memory blocks of agents.

    ``as_agent`` names the agent that acts: it needs to own the block or have it shared, and the
    stricter permission counts. Without it the program acts for the owner: the block's own
    permission guards its text, and the program may change everything else.
    """

    model = MemoryBlock
    prefix = "mem"

    async def create(
        self,
        agent_id: str,
        *,
        label: str,
        content: str = "",
        description: str = "",
        block_type: BlockType | str = BlockType.WORKING,
        char_limit: int = DEFAULT_CHAR_LIMIT,
        permission: Permission | str = Permission.READ_WRITE,
        pinned: bool = False,
        metadata: Json | None = None,
        id: str | None = None,
        embed: Mode | None = None,
    ) -> MemoryBlock:
        """Add a block with its first version and its vector, as one durable write.

        Raises ``AlreadyExists`` if the agent has a live block of this label, ``LimitExceeded`` if
        the content is longer than ``char_limit``, ``NotFound`` if there is no such agent.
        """
        now = self._clock()
        block = self._build(
            id=self._new_id(id, now),
            agent_id=agent_id,
            label=label,
            content=content,
            description=description,
            block_type=block_type,
            char_limit=char_limit,
            permission=permission,
            pinned=pinned,
            metadata=metadata or {},
            created_at=now,
            updated_at=now,
        )
        _check_block(block)
        vectors = await self._indexer.writes_for([block], mode=embed, fresh=True)
        first = _version(block, None, None)
        await self._store.write([self.queries.insert(row=block), _ADD_VERSION(row=first), *vectors])
        self._wake(embed)
        return block  # type: ignore[no-any-return]

    async def by_label(self, agent_id: str, label: str) -> MemoryBlock | None:
        """The live block of an agent with this label; ``None`` if there is none."""
        found = await self._store.execute(
            _BY_LABEL, agent_id=check_id("agent_id", agent_id), label=check_text("label", label)
        )
        return found[0] if found else None

    async def list(
        self,
        agent_id: str | None = None,
        *,
        block_type: BlockType | str | None = None,
        pinned: bool | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
        include_deleted: bool = False,
    ) -> builtins.list[MemoryBlock]:
        """An agent's own blocks in the order of their creation, after the one with id ``after``."""
        return await self._list(
            limit=limit,
            after=after,
            include_deleted=include_deleted,
            agent_id=agent_id,
            block_type=None
            if block_type is None
            else check_enum("block_type", BlockType, block_type),
            pinned=pinned,
        )

    async def count(
        self,
        agent_id: str | None = None,
        *,
        block_type: BlockType | str | None = None,
        include_deleted: bool = False,
    ) -> int:
        """How many blocks there are."""
        return await self._count(
            include_deleted=include_deleted,
            agent_id=agent_id,
            block_type=None
            if block_type is None
            else check_enum("block_type", BlockType, block_type),
        )

    async def update(
        self,
        id: str,
        *,
        content: str | UnsetType = UNSET,
        label: str | UnsetType = UNSET,
        description: str | UnsetType = UNSET,
        block_type: BlockType | str | UnsetType = UNSET,
        char_limit: int | UnsetType = UNSET,
        permission: Permission | str | UnsetType = UNSET,
        pinned: bool | UnsetType = UNSET,
        metadata: Json | UnsetType = UNSET,
        as_agent: str | None = None,
        consent: bool = False,
        embed: Mode | None = None,
    ) -> MemoryBlock:
        """Change what is given; a new text is a new version and is embedded again, as one write.

        ``consent`` says that the partner or human agreed. Raises ``NotFound``,
        ``PermissionDenied``, ``LimitExceeded``, ``AlreadyExists`` (the label).
        """
        changes = given(
            content=content,
            label=label,
            description=description,
            block_type=block_type,
            char_limit=char_limit,
            permission=permission,
            pinned=pinned,
            metadata=metadata,
        )

        def change(block: MemoryBlock, attachment: SharedBlock | None) -> dict[str, Any]:
            if "content" in changes or attachment is not None:
                check(block, attachment, Act.OVERWRITE, consent=consent)
            return changes

        return await self._edit(id, change, as_agent=as_agent, embed=embed)

    async def append(
        self,
        id: str,
        text: str,
        *,
        separator: str = "\n",
        as_agent: str | None = None,
        consent: bool = False,
        embed: Mode | None = None,
    ) -> MemoryBlock:
        """Add text to the end of a block; a new version. Raises as ``update``."""
        check_text("text", text)

        def change(block: MemoryBlock, attachment: SharedBlock | None) -> dict[str, Any]:
            check(block, attachment, Act.APPEND, consent=consent)
            return {"content": f"{block.content}{separator if block.content else ''}{text}"}

        return await self._edit(id, change, as_agent=as_agent, embed=embed)

    async def history(
        self, id: str, *, limit: int = DEFAULT_LIMIT, after: int | None = None
    ) -> builtins.list[BlockVersion]:
        """Every version of a block's text, oldest first. Raises ``NotFound``."""
        await self.require(id, include_deleted=True)
        query = _VERSIONS if after is None else _VERSIONS_AFTER
        params: dict[str, Any] = {} if after is None else {"after": after}
        versions: builtins.list[BlockVersion] = await self._store.execute(
            query, block_id=id, limit=check_limit(limit), **params
        )
        return versions

    async def undo(self, id: str, *, as_agent: str | None = None) -> MemoryBlock:
        """Show the text that this one was made from. Raises ``InvalidValue`` at the first."""
        block = await self.require(id)
        present: BlockVersion | None = await self._store.execute(
            _VERSION, block_id=id, version=block.version
        )
        if present is None:
            raise NotFound(self.entity, id)
        if present.parent_version is None:
            raise InvalidValue("id", "there is nothing to undo in this block.")
        earlier = await self._store.execute(_VERSION, block_id=id, version=present.parent_version)
        return await self._show(block, earlier, as_agent=as_agent)

    async def redo(self, id: str, *, as_agent: str | None = None) -> MemoryBlock:
        """Show again what was undone last. A new text after an undo leaves nothing to redo."""
        block = await self.require(id)
        later = await self._store.execute(_CHILDREN, block_id=id, parent=block.version)
        if not later:
            raise InvalidValue("id", "there is nothing to redo in this block.")
        return await self._show(block, later[0], as_agent=as_agent)

    async def delete(self, id: str, *, as_agent: str | None = None) -> None:
        """Deactivate a block; its label is free again. Another agent needs ``admin`` for it."""
        block = await self.require(id)
        if as_agent is not None:
            check(block, await self._attachment(block, as_agent), Act.DELETE, consent=False)
        gone = self.queries.update(["is_active", "updated_at"], guards=["is_active"])
        await self._store.write(
            [
                gone(id=id, is_active=False, updated_at=self._clock(), seen_is_active=True).expect(
                    1
                ),
                *self._indexer.removals_for(block),
            ]
        )

    async def share(
        self, id: str, agent_id: str, *, permission: Permission | str = Permission.READ_ONLY
    ) -> SharedBlock:
        """Let another agent find and read a block, and do what the permission says."""
        block = await self.require(id)
        if agent_id == block.agent_id:
            raise InvalidValue("agent_id", "the block belongs to this agent already.")
        row = build(
            SharedBlock,
            {
                "block_id": id,
                "agent_id": agent_id,
                "permission": permission,
                "attached_at": self._clock(),
            },
        )
        await self._store.write([_DETACH(block_id=id, agent_id=agent_id), _ATTACH(row=row)])
        return row

    async def unshare(self, id: str, agent_id: str) -> None:
        """Take a block away from an agent it was shared with. Raises ``NotFound``."""
        if await self._store.execute(_DETACH, block_id=id, agent_id=agent_id) == 0:
            raise NotFound("shared block", id)

    async def attachments(self, id: str) -> builtins.list[SharedBlock]:
        """With whom a block is shared. Raises ``NotFound``."""
        await self.require(id)
        found: builtins.list[SharedBlock] = await self._store.execute(_ATTACHMENTS, block_id=id)
        return found

    async def shared_with(self, agent_id: str) -> builtins.list[SharedMemory]:
        """The live blocks that others share with an agent, and what it may do to each."""
        attached = await self._store.execute(_ATTACHED_TO, agent_id=check_id("agent_id", agent_id))
        by_id = {attachment.block_id: attachment for attachment in attached}
        blocks = await self._store.execute(_LIVE_BY_IDS, ids=builtins.list(by_id))
        return [SharedMemory(block=b, permission=effective(b, by_id[b.id])) for b in blocks]

    async def permission(self, id: str, agent_id: str) -> Permission:
        """What an agent may do to a block. Raises ``PermissionDenied`` if it may not even read."""
        block = await self.require(id)
        return effective(block, await self._attachment(block, agent_id))

    async def search(
        self, agent_id: str | Sequence[str], query: str, **options: Any
    ) -> builtins.list[Hit]:
        """The blocks that answer a question best: own ones and shared ones.

        Takes the options of ``PatternDB.search`` except ``kinds``.
        """
        return await self._context.searcher.search(
            agent_id, query, SearchOptions.of(options, kind="memory")
        )

    async def _attachment(self, block: MemoryBlock, agent_id: str | None) -> SharedBlock | None:
        """How a block came to an agent; ``None`` for its owner and for the program."""
        if agent_id is None or agent_id == block.agent_id:
            return None
        attachment: SharedBlock | None = await self._store.execute(
            _ATTACHMENT, block_id=block.id, agent_id=agent_id
        )
        if attachment is None:
            raise PermissionDenied(
                f"Block {block.id} is not shared with this agent; share it first."
            )
        return attachment

    async def _edit(
        self, id: str, change: Any, *, as_agent: str | None, embed: Mode | None
    ) -> MemoryBlock:
        """Read, change and write a block; once more if somebody else was faster."""
        for attempt in range(_ATTEMPTS):
            block = await self.require(id)
            attachment = await self._attachment(block, as_agent)
            changes = change(block, attachment)
            after: MemoryBlock = self._changed(block, changes)
            _check_block(after)
            parent = None
            if after.content != block.content:
                parent = block.version
                number = block.last_version + 1
                after = msgspec.structs.replace(after, version=number, last_version=number)
            try:
                return await self._write_edit(
                    block, after, changes, parent, attachment, as_agent, embed
                )
            except Conflict:
                await pause(attempt)
        raise Conflict("This block is being changed all the time; try again later.")

    async def _write_edit(
        self,
        before: MemoryBlock,
        after: MemoryBlock,
        changes: Mapping[str, Any],
        parent: int | None,
        attachment: SharedBlock | None,
        author: str | None,
        embed: Mode | None,
    ) -> MemoryBlock:
        after = msgspec.structs.replace(after, revision=before.revision + 1)
        counters = ["version", "last_version", "revision"]
        touched = builtins.list(dict.fromkeys([*self._touched(dict(changes)), *counters]))
        statement = self.queries.update(touched, guards=["revision", "is_active"])
        row = statement(
            id=before.id,
            seen_revision=before.revision,
            seen_is_active=True,
            **{name: getattr(after, name) for name in touched},
        )
        writes: builtins.list[Bound] = [row.expect(1), *_still_attached(attachment)]
        if parent is not None:
            writes.append(_ADD_VERSION(row=_version(after, parent, author)))
        if any(getattr(before, name) != getattr(after, name) for name in _TEXT):
            writes += await self._indexer.writes_for([after], mode=embed)
        await self._store.write(writes)
        self._wake(embed)
        return after

    async def _show(
        self, block: MemoryBlock, version: BlockVersion, *, as_agent: str | None
    ) -> MemoryBlock:
        """Make a version the one that shows."""
        attachment = await self._attachment(block, as_agent)
        check(block, attachment, Act.OVERWRITE, consent=False)
        changes = {"content": version.content, "version": version.version}
        after: MemoryBlock = self._changed(block, changes)
        _check_block(after)
        return await self._write_edit(block, after, changes, None, attachment, as_agent, None)

    async def _reactivate(self, found: MemoryBlock) -> MemoryBlock:
        after: MemoryBlock = self._changed(found, {"is_active": True})
        after = msgspec.structs.replace(after, revision=found.revision + 1)
        touched = ["is_active", "updated_at", "revision"]
        row = self.queries.update(touched, guards=["is_active", "revision"])(
            id=found.id,
            seen_is_active=False,
            seen_revision=found.revision,
            **{name: getattr(after, name) for name in touched},
        )
        await self._store.write([row.expect(1), *await self._indexer.writes_for([after])])
        self._wake(None)
        return after

    def _purges(self, found: MemoryBlock) -> builtins.list[Bound]:
        return [*self._indexer.removals_for(found), self.queries.purge(id=found.id)]

    def _wake(self, embed: Mode | None) -> None:
        if (embed or self._indexer.mode) == "queued":
            self._indexer.wake()


def _still_attached(attachment: SharedBlock | None) -> builtins.list[Bound]:
    """A write that changes nothing, and fails if the block was taken away meanwhile."""
    if attachment is None:
        return []
    key = {"block_id": attachment.block_id, "agent_id": attachment.agent_id}
    return [_SAME_ATTACHMENT(**key, permission=attachment.permission).expect(1)]


def _version(block: MemoryBlock, parent: int | None, author: str | None) -> BlockVersion:
    return BlockVersion(
        block_id=block.id,
        version=block.version,
        parent_version=parent,
        content=block.content,
        written_by=author,
        created_at=block.updated_at,
    )


def _check_block(block: MemoryBlock) -> None:
    if not block.label.strip():
        raise InvalidValue("label", "a block needs a label.")
    if block.char_limit < 1:
        raise InvalidValue("char_limit", "it must be at least 1.")
    if len(block.content) > block.char_limit:
        raise LimitExceeded(
            "content",
            f"it has {len(block.content)} characters, this block holds {block.char_limit}; shorten "
            "it, or raise char_limit.",
        )
