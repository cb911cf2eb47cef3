"""What search must find on real conversations that nobody here wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pattern_db.evaluation import evaluate_cranfield, evaluate_locomo


@pytest.mark.slow
async def test_the_evidence_of_locomo_is_found(real_data: Callable[[str], Path]) -> None:
    report = await evaluate_locomo(real_data("locomo/locomo-dev.json"))
    assert report.overall.questions > 700
    assert report.overall.recall[10] >= 0.74
    assert report.overall.recall[1] >= 0.40


@pytest.mark.slow
async def test_words_and_meaning_together_find_more_documents_than_either(
    real_data: Callable[[str], Path],
) -> None:
    report = await evaluate_cranfield(real_data("cranfield"), mode="all")
    ndcg = {ranking.name: ranking.overall.ndcg[10] for ranking in report.rankings}
    assert ndcg["hybrid"] >= 0.54
    assert ndcg["hybrid"] >= max(ndcg["keyword"], ndcg["semantic"]) + 0.02
