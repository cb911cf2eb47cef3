"""Cranfield: 1,400 abstracts on aerodynamics and 225 queries (Cleverdon, 1960s).

``cran.all.1400`` and ``cran.qry`` mark what follows by lines: ``.I`` a number, ``.T`` a title,
``.A`` authors, ``.B`` where it was published, ``.W`` the text. Judgements name queries by their
place in the file, 1 to 225, because the numbers at ``.I`` have gaps. They come as
``QRelsCorrectedforTRECeval`` (query, 0, document, grade) or as the older ``cranqrel`` (query,
document, code), whose codes are no grades: 1 is better than 4, and -1, one per query, is best.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec

from pattern_db.embeddings import EmbeddingProvider
from pattern_db.errors import ImportFailed
from pattern_db.transfer.reading import Source
from pattern_db.transfer.run import CHUNK

from .asking import FilePath, ModeChoice, Progress, checked_ks, opened, ways_of
from .documents import (
    DOCUMENT_KS,
    LARGEST_K,
    MAX_NUMBER_CHARS,
    Collection,
    Document,
    Page,
    Query,
    evaluate_collection,
    titled,
)
from .report import DocumentReport

DOCUMENTS, QUERIES = "cran.all.1400", "cran.qry"
JUDGEMENTS = ("QRelsCorrectedforTRECeval", "cranqrel")
"""The files of judgements, the better one first."""

GRADES = {-1: 5, 1: 4, 2: 3, 3: 2, 4: 1, 5: 0}
"""The grade of each code of ``cranqrel``, as ``QRelsCorrectedforTRECeval`` has it."""

_MARK = re.compile(r"\.([IABTW])\s*(.*)")


async def evaluate_cranfield(
    folder: FilePath,
    *,
    ks: Sequence[int] = DOCUMENT_KS,
    embeddings: str | EmbeddingProvider | None = None,
    mode: ModeChoice = "hybrid",
    ablate: bool = False,
    database: FilePath | None = None,
    progress: Progress | None = None,
) -> DocumentReport:
    """nDCG@k and recall@k on the Cranfield collection in a folder.

    The folder holds ``cran.all.1400``, ``cran.qry`` and the judgements: one of ``JUDGEMENTS``, or
    the one file with "qrel" in its name. ``ks`` are 1 to 999. ``mode="all"`` compares the three
    modes, ``ablate`` also hybrid search without each part of its score. Without ``database`` a
    temporary one is used; in one that is given, what was stored before is not stored again. Raises
    ``ImportFailed`` for a missing or malformed file, ``InvalidValue``, and what
    ``pattern_db.open`` and ``search`` raise.
    """
    wanted_ks, ways = checked_ks(ks, at_most=LARGEST_K), ways_of(mode, ablate=ablate)
    collection = await asyncio.to_thread(_collection, Path(folder))
    tell = progress or (lambda _step, _done, _total: None)
    async with opened(database, embeddings, ways) as db:
        return await evaluate_collection(db, collection, ways, wanted_ks, tell)


def _collection(folder: Path) -> Collection:
    """The collection in a folder. Blocks."""
    corpus, asked = Source(folder / DOCUMENTS), Source(folder / QUERIES)
    for source in (corpus, asked):
        _check_there(folder, source.path.name)
    judged = Source(folder / _judgements(folder))
    documents = _documents(corpus)
    texts = [entry.text for entry in _entries(asked)]
    return Collection(
        kind="cranfield",
        name="Cranfield",
        corpus=corpus,
        files=[corpus, asked, judged],
        queries=_queries(judged, texts, {document.id for document in documents}),
        pages=partial(_pages, documents),
    )


def _check_there(folder: Path, name: str) -> None:
    if not folder.is_dir():
        raise ImportFailed(f"There is no folder {folder}; name the one that holds {name}.")
    if not (folder / name).is_file():
        raise ImportFailed(f"There is no {name} in {folder}; name the folder that holds it.")


def _judgements(folder: Path) -> str:
    """The name of the file of judgements."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for name in JUDGEMENTS:
        if name in names:
            return name
    like = [name for name in names if "qrel" in name.lower()]
    if len(like) > 1:
        raise ImportFailed(
            f"Several files in {folder} may hold the judgements ({', '.join(like)}); call the "
            f"right one {JUDGEMENTS[0]} or {JUDGEMENTS[1]}."
        )
    if not like:
        raise ImportFailed(f"There are no judgements in {folder}; add {' or '.join(JUDGEMENTS)}.")
    return like[0]


class _Entry(msgspec.Struct):
    """What stands between two lines of ``.I``."""

    id: str
    place: str
    title: str = ""
    text: str = ""


def _entries(source: Source) -> Iterator[_Entry]:
    """The entries of a file in its order; lines that were wrapped are joined.

    The text goes on to the next ``.I``: other marks in it are damage (documents 240, 576, 578).
    """
    entry: _Entry | None = None
    section = ""
    for number, line in enumerate(source.read_text().splitlines(), 1):
        mark = _MARK.fullmatch(line.rstrip())
        if mark is not None and mark[1] == "I":
            if entry is not None:
                yield entry
            entry, section = _Entry(_number(source, mark[2], number), f"line {number}"), "I"
        elif entry is None:
            raise source.failure(f"line {number}", "expected a line such as `.I 1`")
        elif mark is not None and not mark[2]:
            section = section if section == "W" else mark[1]
        elif section == "T":
            entry.title = f"{entry.title} {line.strip()}".strip()
        elif section == "W":
            entry.text = f"{entry.text} {line.strip()}".strip()
    if entry is not None:
        yield entry


def _number(source: Source, text: str, line: int) -> str:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_CHARS):
        raise source.failure(f"line {line}", "expected a number after `.I`")
    return str(int(text))


def _documents(source: Source) -> list[Document]:
    documents: dict[str, Document] = {}
    for entry in _entries(source):
        if entry.id in documents:
            raise source.failure(entry.place, f"there is a document {entry.id} before this one")
        documents[entry.id] = Document(entry.id, titled(entry.title, entry.text), entry.place)
    return [*documents.values()]


def _pages(documents: Sequence[Document]) -> Iterator[Page]:
    for start in range(0, len(documents), CHUNK):
        page = documents[start : start + CHUNK]
        yield Page(page, start + len(page), len(documents))


def _queries(source: Source, texts: Sequence[str], documents: set[str]) -> list[Query]:
    grades: list[dict[str, int]] = [{} for _ in texts]
    for number, line in enumerate(source.read_text().splitlines(), 1):
        if not line.strip():
            continue
        query, document, grade = _judgement(source, number, line.split())
        if not 1 <= query <= len(texts):
            raise source.failure(
                f"line {number}", f"expected the number of a query, 1 to {len(texts)}"
            )
        if document not in documents:
            raise source.failure(f"line {number}", f"there is no document {document[:20]}")
        grades[query - 1][document] = grade
    return [
        Query(str(number), text, of)
        for number, (text, of) in enumerate(zip(texts, grades, strict=True), 1)
    ]


def _judgement(source: Source, line: int, fields: Sequence[str]) -> tuple[int, str, int]:
    """Query, document and grade; of four fields the last is a grade, of three a code."""
    try:
        numbers = [int(field if len(field) <= MAX_NUMBER_CHARS else "") for field in fields]
    except ValueError:
        numbers = []
    if len(numbers) == 4:
        return numbers[0], str(numbers[2]), numbers[3]
    if len(numbers) == 3 and numbers[2] in GRADES:
        return numbers[0], str(numbers[1]), GRADES[numbers[2]]
    raise source.failure(
        f"line {line}",
        "expected `query 0 document grade`, or `query document code` with a code of -1 to 5",
    )
