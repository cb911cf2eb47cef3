"""The embedding spaces of two databases, which number them each for itself."""

from __future__ import annotations

from pattern_db.clock import utc_now
from pattern_db.engines.base import Store
from pattern_db.errors import AlreadyExists, CopyFailed
from pattern_db.models import SYSTEM_ID, Embedding, EmbeddingSpace, SystemMetadata
from pattern_db.query import Get, Insert, select, update
from pattern_db.schema import columns_of, table_of

Model = tuple[str | None, int | None]
"""The name of a model and the length of its vectors; both ``None`` where there is none yet."""

_SPACES = select(EmbeddingSpace).order_by(columns_of(EmbeddingSpace).id)
_ADD = Insert(table_of(EmbeddingSpace))
_METADATA = Get(table_of(SystemMetadata))
_NAME = update(SystemMetadata, "embedding_model", "embedding_dimensions", "updated_at").where(
    columns_of(SystemMetadata).id == SYSTEM_ID
)
_ANY_VECTOR = select(Embedding).only(columns_of(Embedding).item_id).limit(1)


async def model_of(store: Store) -> Model:
    """The model of a database's vectors."""
    metadata: SystemMetadata = await store.execute(_METADATA, id=SYSTEM_ID)
    return metadata.embedding_model, metadata.embedding_dimensions


async def numbers_in(destination: Store, source: Store) -> dict[int, int]:
    """The number in the destination of each space of the source that both have."""
    there = {(s.model, s.dimensions): s.id for s in await destination.execute(_SPACES)}
    ours: list[EmbeddingSpace] = await source.execute(_SPACES)
    return {s.id: there[key] for s in ours if (key := (s.model, s.dimensions)) in there}


async def adopt(destination: Store, source: Store) -> dict[int, int]:
    """Give the destination the model and the spaces of the source; gives their numbers there.

    Nothing is changed if the source has no vectors. Raises ``CopyFailed`` if the destination has
    vectors of another model.
    """
    if not await source.execute(_ANY_VECTOR):
        return {}
    ours, theirs = await model_of(source), await model_of(destination)
    if ours != theirs and await destination.execute(_ANY_VECTOR):
        raise CopyFailed(
            f"The source was embedded with {ours[0]!r} and the destination with {theirs[0]!r}; "
            "copy without embeddings, and the destination makes its own."
        )
    for space in await source.execute(_SPACES):
        await _add(destination, space)
    if ours != theirs:
        await destination.execute(
            _NAME, embedding_model=ours[0], embedding_dimensions=ours[1], updated_at=utc_now()
        )
    return await numbers_in(destination, source)


async def _add(store: Store, space: EmbeddingSpace) -> None:
    """Make a space unless it is there, under the next free number."""
    while True:
        there: list[EmbeddingSpace] = await store.execute(_SPACES)
        if any((s.model, s.dimensions) == (space.model, space.dimensions) for s in there):
            return
        number = max((known.id for known in there), default=0) + 1
        row = EmbeddingSpace(number, space.model, space.dimensions, space.created_at)
        try:
            await store.execute(_ADD, row=row)
        except AlreadyExists:
            continue  # somebody made one at the same time
