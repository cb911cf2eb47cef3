"""What the database keeps about itself: its embedding model, vectors, migrations and repairs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from ..schema import Index, Reference, table
from .people import Json

SYSTEM_ID = "system"


@table("system_metadata", entity="system metadata")
class SystemMetadata(msgspec.Struct, frozen=True, gc=False):
    """The one row that says what this database is. Model and dimensions are empty until the first
    vector is stored."""

    database_id: str
    created_at: datetime
    updated_at: datetime
    id: str = SYSTEM_ID
    embedding_model: str | None = None
    embedding_dimensions: int | None = None


@table("schema_migrations", entity="migration", key=("version",))
class MigrationRecord(msgspec.Struct, frozen=True, gc=False):
    """A migration that was applied."""

    version: int
    description: str
    checksum: str
    applied_at: datetime


@table(
    "embedding_spaces",
    entity="embedding space",
    indexes=(Index(("model", "dimensions"), unique=True),),
)
class EmbeddingSpace(msgspec.Struct, frozen=True, gc=False):
    """A model and the length of its vectors; only vectors of one space can be compared."""

    id: int
    model: str
    dimensions: int
    created_at: datetime


@table(
    "embeddings",
    entity="embedding",
    key=("item_id", "kind", "space", "chunk_index"),
    indexes=(Index(("space", "agent_id", "kind")), Index(("agent_id",))),
    logged_removals=True,
)
class Embedding(msgspec.Struct, frozen=True, gc=False):
    """The vector of a piece of an item's text.

    ``content_hash`` is the BLAKE2b-128 of the whole embedded text, ``vector`` float32
    little-endian of unit length. A text longer than the model's window has one row a chunk;
    ``start_char`` and ``end_char`` say which part of the text it is.
    """

    item_id: str
    kind: str
    space: Annotated[int, Reference("embedding_spaces")]
    chunk_index: int
    agent_id: Annotated[str, Reference("agents")]
    start_char: int
    end_char: int
    content_hash: bytes
    vector: bytes


@table(
    "embedding_queue",
    entity="queued embedding",
    key=("kind", "item_id"),
    indexes=(Index(("agent_id",)),),
)
class QueuedEmbedding(msgspec.Struct, frozen=True, gc=False):
    """An item whose text is stored and whose vector is still to be made.

    Each time it is queued it gets another ``token``, so that a vector of an earlier text is not
    taken for the one that is waited for.
    """

    kind: str
    item_id: str
    agent_id: Annotated[str, Reference("agents")]
    token: str
    queued_at: datetime


@table("audit_log", entity="audit record", indexes=(Index(("created_at", "id")),))
class AuditRecord(msgspec.Struct, frozen=True, gc=False):
    """Something that was done to the data as a whole: a repair, an import, a purge."""

    id: str
    action: str
    created_at: datetime
    agent_id: str | None = None
    subject_id: str | None = None
    details: Json = {}
