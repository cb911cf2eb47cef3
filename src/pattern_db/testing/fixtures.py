"""The store that every test gets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from ..engines.base import Store
from ..schema import all_tables
from .subject import Subject


@pytest_asyncio.fixture
async def store(subject: Subject) -> AsyncIterator[Store]:
    """A store with every table, empty; holds nothing open after the test, and closes twice."""
    opened = await subject.open()
    try:
        await opened.create(all_tables())
        yield opened
        left = list(subject.leaks(opened))
    finally:
        await opened.close()
    await opened.close()
    assert not left
