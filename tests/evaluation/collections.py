"""Small collections in the forms of Cranfield and BEIR, with judgements that disagree with words.

Both ask what "slender wing flutter" is: of the documents that hold these words A has all three and
the grade 1, B has one and the grade 3, and C is irrelevant, so that with A before B

    nDCG@1 = 1/3        nDCG@10 = (1 + 3 / log2 3) / (3 + 1 / log2 3) = .7967
"""

from __future__ import annotations

from math import log2
from pathlib import Path
from typing import Any

from tests.transfer.files import written

A_BEFORE_B = (1 + 3 / log2(3)) / (3 + 1 / log2(3))

CRANFIELD = """\
.I 1
.T
flutter of a
slender wing .
.A
ada
.B
j. ae. scs. 25, 1958, 324.
.W
a slender wing shows
flutter in a stream .
.A
damaged
.B
lines go on .
.I 2
.T
heat conduction
.W
heat goes through slabs behind the wing .
.I 3
.T
.A
.B
.W
.I 4
.W
tides of the baltic sea .
"""
QUERIES = """\
.I 001
.W
slender wing
flutter .
.I 007
.W
tides of the sea
.I 300
.W
nobody judged this
"""
GRADED = "1 0 1 1\r\n1 0 2 3\r\n1 0 4 0\r\n2 0 4 2\r\n2 0 3 2\r\n"
CODED = "1 1 4\n1 2 2\n2 4 3\n2 3 3"


def cranfield(folder: Path, **files: str | None) -> Path:
    """A folder with Cranfield's files; ``None`` leaves one out, other texts replace it."""
    named = {
        "cran.all.1400": files.get("documents", CRANFIELD),
        "cran.qry": files.get("queries", QUERIES),
        "QRelsCorrectedforTRECeval": files.get("graded", GRADED),
        "cranqrel": files.get("coded"),
    }
    folder.mkdir(exist_ok=True)
    for name, text in named.items():
        if text is not None:
            (folder / name).write_text(text, newline="")
    return folder


def document(id: str, text: str = "", title: str = "") -> dict[str, Any]:
    return {"_id": id, "title": title, "text": text}


CORPUS = [
    document("A", "a slender wing in a stream", "Flutter"),
    document("wingless", "heat goes through slabs behind the wing"),
    document("q1", "slender wing flutter"),
    document("empty"),
    document("C", "tides of the sea"),
]
ASKED = [
    {"_id": "q1", "text": "slender wing flutter"},
    {"_id": "q2", "text": "tides of the sea"},
    {"_id": "q3", "text": "nobody judged this"},
    {"_id": "q4", "text": "nothing is relevant"},
]
HEAD = "query-id\tcorpus-id\tscore\n"
JUDGED = f"{HEAD}q1\tA\t1\nq1\twingless\t3\nq1\tC\t0\nq2\tC\t1\nq2\tempty\t1\nq4\tA\t0\n"


def beir(
    folder: Path,
    *,
    corpus: list[Any] | None = None,
    queries: list[Any] | None = None,
    judged: str = JUDGED,
    split: str = "test",
) -> Path:
    """A folder in the layout of BEIR."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    written(folder, "corpus.jsonl", CORPUS if corpus is None else corpus)
    written(folder, "queries.jsonl", ASKED if queries is None else queries)
    (folder / "qrels" / f"{split}.tsv").write_text(judged)
    return folder
