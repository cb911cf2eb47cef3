"""What an agent remembers: blocks, their versions and attachments, and archival entries."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Annotated

import msgspec

from ..schema import Index, Reference, TextIndex, table
from .people import Json

DEFAULT_CHAR_LIMIT = 5000


class BlockType(enum.StrEnum):
    """``core`` is always in the prompt, ``working`` when pinned, ``archival`` on request, ``log``
    its newest lines."""

    CORE = "core"
    WORKING = "working"
    ARCHIVAL = "archival"
    LOG = "log"


class Permission(enum.StrEnum):
    """What may be done to a block, from the strictest to the loosest.

    ``partner`` and ``human`` allow writing with that person's consent.
    """

    READ_ONLY = "read_only"
    PARTNER = "partner"
    HUMAN = "human"
    APPEND = "append"
    READ_WRITE = "read_write"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """0 for the strictest."""
        return list(Permission).index(self)


@table(
    "memory_blocks",
    entity="memory block",
    indexes=(
        Index(("agent_id", "label"), unique=True, live_only=True),
        Index(("agent_id", "created_at", "id")),
    ),
    text=TextIndex(
        kind="memory",
        columns=("label", "description", "content"),
        hidden=("is_active", False),
        shared_through="shared_block_agents",
    ),
)
class MemoryBlock(msgspec.Struct, frozen=True, gc=False):
    """A labelled text that an agent keeps and edits.

    ``label`` is unique among the live blocks of an agent. ``content`` is at most ``char_limit``
    characters. ``version`` is the version of the text that shows, ``last_version`` the newest one
    there is (they differ after an undo), ``revision`` counts every change of the row.
    """

    id: str
    agent_id: Annotated[str, Reference("agents")]
    label: str
    created_at: datetime
    updated_at: datetime
    description: str = ""
    content: str = ""
    block_type: BlockType = BlockType.WORKING
    char_limit: int = DEFAULT_CHAR_LIMIT
    permission: Permission = Permission.READ_WRITE
    pinned: bool = False
    metadata: Json = {}
    version: int = 1
    last_version: int = 1
    revision: int = 1
    is_active: bool = True


@table(
    "memory_block_history",
    entity="block version",
    key=("block_id", "version"),
)
class BlockVersion(msgspec.Struct, frozen=True, gc=False):
    """A text that a block had, which version it was made from, and who wrote it."""

    block_id: Annotated[str, Reference("memory_blocks")]
    version: int
    content: str
    created_at: datetime
    parent_version: int | None = None
    written_by: str | None = None


@table(
    "shared_block_agents",
    entity="shared block",
    key=("block_id", "agent_id"),
    indexes=(Index(("agent_id",)),),
)
class SharedBlock(msgspec.Struct, frozen=True, gc=False):
    """The attachment of a block to another agent. The stricter of its permission and the block's
    counts."""

    block_id: Annotated[str, Reference("memory_blocks")]
    agent_id: Annotated[str, Reference("agents")]
    attached_at: datetime
    permission: Permission = Permission.READ_ONLY


@table(
    "archival_entries",
    entity="archival entry",
    indexes=(Index(("agent_id", "created_at", "id")), Index(("parent_entry_id", "chunk_index"))),
    text=TextIndex(kind="archival", columns=("content",), hidden=("is_active", False)),
)
class ArchivalEntry(msgspec.Struct, frozen=True, gc=False):
    """A long-term note. The chunks of one long text name the first one as their parent."""

    id: str
    agent_id: Annotated[str, Reference("agents")]
    content: str
    created_at: datetime
    updated_at: datetime
    metadata: Json = {}
    parent_entry_id: Annotated[str, Reference("archival_entries")] | None = None
    chunk_index: int = 0
    is_active: bool = True
