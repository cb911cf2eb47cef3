"""What search must find in real conversations and documents that nobody here wrote: in some of them.
The figures of all are in docs/explanation/search.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pattern_db.evaluation import evaluate_cranfield, evaluate_locomo

CONVERSATIONS = 2
QUERIES = 90


@pytest.mark.slow
async def test_the_evidence_of_locomo_is_found(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    conversations = msgspec.json.decode(real_data("locomo/locomo-dev.json").read_bytes())
    some = tmp_path / "some.json"
    some.write_bytes(msgspec.json.encode(conversations[:CONVERSATIONS]))
    report = await evaluate_locomo(some)
    assert report.overall.questions > 200
    assert report.overall.recall[10] >= 0.78
    assert report.overall.recall[1] >= 0.42


@pytest.mark.slow
async def test_words_and_meaning_together_find_more_documents_than_either(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    report = await evaluate_cranfield(_some(real_data("cranfield"), tmp_path), mode="all")
    ndcg = {ranking.name: ranking.overall.ndcg[10] for ranking in report.rankings}
    assert ndcg["hybrid"] >= max(ndcg["keyword"], ndcg["semantic"]) + 0.02


def _some(folder: Path, into: Path) -> Path:
    """The first queries, and the documents that any judgement of them names."""
    name = "cranqrel"
    judged = [line.split() for line in (folder / name).read_text().splitlines()]
    kept = [line for line in judged if int(line[0]) <= QUERIES]
    (into / name).write_text("".join(" ".join(line) + "\n" for line in kept))
    for file, wanted in (("cran.qry", None), ("cran.all.1400", {line[1] for line in kept})):
        entries = re.split(r"(?m)^(?=\.I )", (folder / file).read_text())[1:]
        if wanted is None:
            entries = entries[:QUERIES]
        else:
            entries = [entry for entry in entries if entry.split()[1] in wanted]
        (into / file).write_text("".join(entries))
    return into
