"""What search must find on real conversations that nobody here wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pattern_db.evaluation import evaluate_locomo


@pytest.mark.slow
async def test_the_evidence_of_locomo_is_found(real_data: Callable[[str], Path]) -> None:
    report = await evaluate_locomo(real_data("locomo/locomo-dev.json"))
    assert report.overall.questions > 700
    assert report.overall.recall[10] >= 0.74
    assert report.overall.recall[1] >= 0.40
