"""A whole database over a VFS of the rigs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pattern_db import PatternDB
from pattern_db.clock import utc_now
from pattern_db.config import load
from pattern_db.engines.sqlite import SqliteStore
from pattern_db.engines.sqlite.connection import Options
from pattern_db.service import Opening

from .tiny import TinyEmbeddings


@asynccontextmanager
async def open_over(
    path: str | os.PathLike[str], vfs: str | None, *, durability: str = "full"
) -> AsyncIterator[PatternDB]:
    """What ``pattern_db.open`` opens, with the engine on this VFS; closed at the end."""
    options = Options(str(Path(path)), vfs=vfs, durability=durability, busy_timeout_s=1.0)
    store = await SqliteStore.connect(options)
    opening = Opening(
        load(path, embeddings="none"), TinyEmbeddings(), clock=utc_now, allow_other_model=False
    )
    try:
        db = await opening._wire(store)
    except BaseException:
        await store.close()
        raise
    async with db:
        yield db
