"""What a search promises holds on every engine.

The engines only differ in which candidates they give, which `test_scopes.py` and the conformance
suite ask of each; what becomes of them is asked of two.
"""

from pathlib import Path

import pytest

from tests.conftest import located


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return located(request, tmp_path)


@pytest.fixture
def path(location: str) -> str:
    return location
