"""Damaged files are imported or refused with a sentence; nothing else escapes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pattern_db
from pattern_db import ImportFailed
from pattern_db.transfer import KINDS, import_file

from .files import dump
from .mutations import as_bytes, damaged, damaged_bytes
from .test_importing import FILES

pytestmark = pytest.mark.slow


async def import_or_refuse(kind: str, data: bytes) -> None:
    """Import these bytes twice; a success must be the same twice, a refusal one sentence."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILES[kind][0]
        file.write_bytes(data)
        async with pattern_db.open(f"{folder}/mind.db", embeddings="none") as db:
            refusal = None
            try:
                report = await import_file(db, kind, file)
            except ImportFailed as error:
                refusal = str(error)
            if refusal is not None:
                assert refusal.startswith(file.name)
                assert "\n" not in refusal
                return
            before = await dump(db)
            again = await import_file(db, kind, file)
            assert again.messages_written == 0
            assert again.messages_present == report.messages_written + report.messages_present
            assert await dump(db) == before


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
async def test_files_with_damaged_values(kind: str, data: st.DataObject) -> None:
    await import_or_refuse(kind, as_bytes(kind, data.draw(damaged(FILES[kind][1]))))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
async def test_files_with_damaged_bytes(kind: str, data: st.DataObject) -> None:
    await import_or_refuse(kind, data.draw(damaged_bytes(as_bytes(kind, FILES[kind][1]))))
