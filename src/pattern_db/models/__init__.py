"""The data model: every entity as a msgspec Struct. This is its only declaration.

Models are frozen and hold plain JSON values, which cannot form cycles; ``gc=False`` keeps them out
of the garbage collector's rounds.
"""

from .memory import (
    DEFAULT_CHAR_LIMIT,
    ArchivalEntry,
    BlockType,
    BlockVersion,
    MemoryBlock,
    Permission,
    SharedBlock,
)
from .messages import (
    ArchiveSummary,
    BatchStatus,
    BatchType,
    Conversation,
    Message,
    MessageBatch,
    Role,
    ToolCall,
    ToolCallRecord,
    ToolResponse,
)
from .people import (
    Agent,
    AgentGroup,
    AgentStatus,
    Constellation,
    ConstellationStatus,
    GroupMember,
    Json,
    MemberRole,
    PatternType,
    User,
)
from .system import (
    SYSTEM_ID,
    AuditRecord,
    Embedding,
    EmbeddingSpace,
    MigrationRecord,
    QueuedEmbedding,
    SystemMetadata,
)

__all__ = [
    "DEFAULT_CHAR_LIMIT",
    "SYSTEM_ID",
    "Agent",
    "AgentGroup",
    "AgentStatus",
    "ArchivalEntry",
    "ArchiveSummary",
    "AuditRecord",
    "BatchStatus",
    "BatchType",
    "BlockType",
    "BlockVersion",
    "Constellation",
    "ConstellationStatus",
    "Conversation",
    "Embedding",
    "EmbeddingSpace",
    "GroupMember",
    "Json",
    "MemberRole",
    "MemoryBlock",
    "Message",
    "MessageBatch",
    "MigrationRecord",
    "PatternType",
    "Permission",
    "QueuedEmbedding",
    "Role",
    "SharedBlock",
    "SystemMetadata",
    "ToolCall",
    "ToolCallRecord",
    "ToolResponse",
    "User",
]
