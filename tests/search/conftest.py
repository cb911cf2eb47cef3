"""What a search promises holds on every engine."""

import pytest


@pytest.fixture
def path(location: str) -> str:
    return location
