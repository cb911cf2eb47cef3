"""What was said: conversations, messages in batches, summaries, and the audit of tool calls."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Annotated, Any

import msgspec

from ..schema import Counted, Index, Reference, TextIndex, table
from .people import Json


class Role(enum.StrEnum):
    """What a message is to the model."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class BatchType(enum.StrEnum):
    """What started a cycle of request and response."""

    USER_REQUEST = "user_request"
    AGENT_TO_AGENT = "agent_to_agent"
    SYSTEM_TRIGGER = "system_trigger"
    CONTINUATION = "continuation"


class BatchStatus(enum.StrEnum):
    """``open`` batches are in the making and are not shown; ``repaired`` ones were cut short."""

    OPEN = "open"
    COMPLETE = "complete"
    REPAIRED = "repaired"


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A request to run a tool, answered by the response with the same ``call_id``."""

    call_id: str
    name: str
    arguments: Any = None


class ToolResponse(msgspec.Struct, frozen=True, gc=False):
    """The answer to a tool call."""

    call_id: str
    content: str = ""
    is_error: bool = False


@table(
    "conversations",
    entity="conversation",
    indexes=(Index(("agent_id", "created_at", "id")), Index(("user_id",))),
)
class Conversation(msgspec.Struct, frozen=True, gc=False):
    """A thread of messages of one agent, perhaps with one user."""

    id: str
    agent_id: Annotated[str, Reference("agents")]
    created_at: datetime
    updated_at: datetime
    user_id: Annotated[str, Reference("users", "set null")] | None = None
    title: str = ""
    context: Json = {}
    metadata: Json = {}
    is_active: bool = True
    ended_at: datetime | None = None


@table(
    "message_batches",
    entity="batch",
    indexes=(Index(("agent_id", "status", "first_position")), Index(("conversation_id",))),
)
class MessageBatch(msgspec.Struct, frozen=True, gc=False):
    """One cycle of request and response.

    ``pending`` are the call ids without a response, ``message_count`` the sequence number of the
    next message, ``version`` the count of changes. A batch that was not opened explicitly
    ``closes_itself`` once its calls are answered and an assistant or a tool spoke last.
    """

    id: str
    agent_id: Annotated[str, Reference("agents")]
    created_at: datetime
    conversation_id: Annotated[str, Reference("conversations")] | None = None
    batch_type: BatchType = BatchType.USER_REQUEST
    status: BatchStatus = BatchStatus.OPEN
    pending: list[str] = []
    message_count: int = 0
    first_position: int | None = None
    last_position: int | None = None
    closes_itself: bool = False
    version: int = 1
    completed_at: datetime | None = None


@table(
    "messages",
    entity="message",
    indexes=(
        Index(("agent_id", "position"), unique=True),
        Index(("conversation_id", "agent_id", "ordinal")),
        Index(("batch_id", "sequence_in_batch"), unique=True),
    ),
    text=TextIndex(
        kind="message",
        columns=("speaker", "content", "tool_text"),
        hidden=("is_deleted", True),
    ),
)
class Message(msgspec.Struct, frozen=True, gc=False):
    """One thing that was said.

    ``position`` orders an agent's messages in time (a snowflake of ``created_at``), ``ordinal``
    counts within a conversation and is assigned by the database. ``content`` is the text;
    ``parts`` are its structured parts when it came in parts. ``tool_text`` is what a text search
    finds of tool calls and responses. Archived messages left the context but are still found;
    deleted ones are tombstones and are not.
    """

    id: str
    agent_id: Annotated[str, Reference("agents")]
    position: int
    role: Role
    created_at: datetime
    updated_at: datetime
    conversation_id: Annotated[str, Reference("conversations")] | None = None
    ordinal: Annotated[int, Counted(("agent_id", "conversation_id"))] | None = None
    batch_id: Annotated[str, Reference("message_batches")] | None = None
    sequence_in_batch: int | None = None
    batch_type: BatchType | None = None
    speaker: str | None = None
    content: str = ""
    parts: list[Json] | None = None
    tool_calls: list[ToolCall] = []
    tool_responses: list[ToolResponse] = []
    tool_text: str | None = None
    source: str | None = None
    metadata: Json = {}
    is_archived: bool = False
    is_deleted: bool = False


@table(
    "archive_summaries",
    entity="archive summary",
    indexes=(Index(("agent_id", "start_position")), Index(("previous_summary_id",))),
)
class ArchiveSummary(msgspec.Struct, frozen=True, gc=False):
    """A summary of archived messages (depth 0), or of summaries of the depth below."""

    id: str
    agent_id: Annotated[str, Reference("agents")]
    summary: str
    start_position: int
    end_position: int
    message_count: int
    created_at: datetime
    previous_summary_id: Annotated[str, Reference("archive_summaries", "set null")] | None = None
    depth: int = 0
    metadata: Json = {}


@table(
    "tool_calls",
    entity="tool call",
    indexes=(
        Index(("agent_id", "created_at", "id")),
        Index(("conversation_id",)),
        Index(("message_id",)),
    ),
)
class ToolCallRecord(msgspec.Struct, frozen=True, gc=False):
    """The audit row of a tool that was run."""

    id: str
    agent_id: Annotated[str, Reference("agents")]
    tool_name: str
    created_at: datetime
    conversation_id: Annotated[str, Reference("conversations", "set null")] | None = None
    message_id: Annotated[str, Reference("messages", "set null")] | None = None
    call_id: str | None = None
    parameters: Any = None
    result: Any = None
    error: str | None = None
    duration_ms: float | None = None
