"""Collections in the layout of BEIR (beir-cellar/beir).

``corpus.jsonl`` has a document a line (``_id``, ``title``, ``text``), ``queries.jsonl`` a query
(``_id``, ``text``), ``qrels/test.tsv`` a judgement after a line of heads (``query-id``,
``corpus-id``, ``score``), tabs between them. The corpus is streamed; memory grows with its ids.

As in BEIR a document with the id of the query is no hit: in some collections it is the query.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from pattern_db.embeddings import EmbeddingProvider
from pattern_db.errors import ImportFailed, InvalidValue
from pattern_db.transfer.lines import Line, Lines
from pattern_db.transfer.reading import Source
from pattern_db.validation import MAX_ID_CHARS

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

DOCUMENTS, QUERIES, JUDGEMENTS = "corpus.jsonl", "queries.jsonl", "qrels"


async def evaluate_beir(
    folder: FilePath,
    *,
    split: str = "test",
    ks: Sequence[int] = DOCUMENT_KS,
    embeddings: str | EmbeddingProvider | None = None,
    mode: ModeChoice = "hybrid",
    ablate: bool = False,
    database: FilePath | None = None,
    progress: Progress | None = None,
) -> DocumentReport:
    """nDCG@k and recall@k on a collection in the layout of BEIR.

    The judgements are ``qrels/<split>.tsv``, or ``qrels.tsv`` where there is no such folder. ``ks``
    are 1 to 999. ``mode="all"`` compares the three modes, ``ablate`` also hybrid search without
    each part of its score. Without ``database`` a temporary one is used; in one that is given, what
    was stored before is not stored again, so that an evaluation that was stopped goes on. Raises
    ``ImportFailed`` for a missing or malformed file, ``InvalidValue``, and what
    ``pattern_db.open`` and ``search`` raise.
    """
    wanted_ks, ways = checked_ks(ks, at_most=LARGEST_K), ways_of(mode, ablate=ablate)
    if not split or Path(split).name != split:
        raise InvalidValue("split", "name a split, such as test, dev or train.")
    collection = await asyncio.to_thread(_collection, Path(folder), split)
    tell = progress or (lambda _step, _done, _total: None)
    async with opened(database, embeddings, ways) as db:
        return await evaluate_collection(db, collection, ways, wanted_ks, tell)


def _collection(folder: Path, split: str) -> Collection:
    """The collection in a folder; its documents are read later. Blocks."""
    if not folder.is_dir():
        raise ImportFailed(f"There is no folder {folder}; name one that holds {DOCUMENTS}.")
    corpus, asked = Source(folder / DOCUMENTS), Source(folder / QUERIES)
    for source in (corpus, asked):
        if not source.path.is_file():
            raise ImportFailed(
                f"There is no {source.name} in {folder}; name a folder with {DOCUMENTS}, {QUERIES} "
                f"and {JUDGEMENTS}/."
            )
    judged = Source(_judgements(folder, split))
    name = folder.resolve().name
    return Collection(
        kind="beir",
        name=f"BEIR {name}" if split == "test" else f"BEIR {name} ({split})",
        corpus=corpus,
        files=[corpus, asked, judged],
        queries=_queries(asked, _grades(judged)),
        pages=partial(_pages, corpus),
        own_id_counts=False,
    )


def _judgements(folder: Path, split: str) -> Path:
    splits = folder / JUDGEMENTS
    if not splits.is_dir():
        alone = folder / f"{JUDGEMENTS}.tsv"
        if alone.is_file():
            return alone
        raise ImportFailed(f"There is no {JUDGEMENTS}/ and no {alone.name} in {folder}; add one.")
    path = splits / f"{split}.tsv"
    if not path.is_file():
        there = ", ".join(sorted(other.stem for other in splits.glob("*.tsv"))) or "none"
        raise ImportFailed(
            f"There is no {path.name} in {splits}; choose a split that is there ({there})."
        )
    return path


def _lines(source: Source, what: str) -> Iterator[tuple[list[Line], int, int]]:
    """The lines of a file in pages, and how many bytes of how many are read."""
    lines = Lines(source, what=what)
    try:
        while chunk := lines.next_chunk():
            if chunk.failure is not None:
                raise chunk.failure
            yield chunk.lines, lines.bytes_read, lines.size
    finally:
        lines.close()


def _pages(corpus: Source) -> Iterator[Page]:
    seen: set[str] = set()
    for lines, done, total in _lines(corpus, "the document"):
        yield Page([_document(corpus, line, seen) for line in lines], done, total)


def _document(source: Source, line: Line, seen: set[str]) -> Document:
    title, text = line.fields.get("title"), line.fields.get("text")
    return Document(
        _id(source, line, seen),
        titled(_text(source, line, "title", title), _text(source, line, "text", text)),
        line.place,
    )


def _text(source: Source, line: Line, field: str, value: object) -> str:
    return "" if value is None else source.expect(str, value, line.place, f"`{field}`")


def _id(source: Source, line: Line, seen: set[str]) -> str:
    """The line's ``_id``, which no line before it may have."""
    id = source.expect(str, line.fields.get("_id"), line.place, "`_id`")
    if not 1 <= len(id) <= MAX_ID_CHARS:
        raise source.failure(line.place, f"expected an `_id` of 1 to {MAX_ID_CHARS} characters")
    if id in seen:
        raise source.failure(line.place, "a line before this one has its `_id`")
    seen.add(id)
    return id


def _queries(source: Source, grades: Mapping[str, Mapping[str, int]]) -> list[Query]:
    """The queries of the split: those that were judged."""
    seen: set[str] = set()
    queries = [
        Query(id, source.expect(str, line.fields.get("text"), line.place, "`text`"), grades[id])
        for lines, _, _ in _lines(source, "the query")
        for line in lines
        if (id := _id(source, line, seen)) in grades
    ]
    if len(queries) < len(grades):
        missing = len(grades) - len(queries)
        raise source.failure(None, f"{missing} of the judged queries are not there")
    return queries


def _grades(source: Source) -> dict[str, dict[str, int]]:
    """The grades of each query's judged documents. The first line may be one of heads."""
    grades: dict[str, dict[str, int]] = {}
    for number, line in enumerate(source.read_text().splitlines(), 1):
        if not line.strip():
            continue
        query, document, grade = _judgement(source, number, line.split("\t"))
        if grade is not None:
            grades.setdefault(query, {})[document] = grade
    return grades


def _judgement(source: Source, line: int, fields: Sequence[str]) -> tuple[str, str, int | None]:
    """Query, document and grade; no grade in a line of heads, which is the first or none."""
    query, document, score = fields if len(fields) == 3 else ("", "", "")
    try:
        grade = int(score if len(score) <= MAX_NUMBER_CHARS else "")
    except ValueError:
        if line == 1 and len(fields) == 3:
            return query, document, None
        raise source.failure(
            f"line {line}",
            "expected query, document and a whole number as score, with tabs between them",
        ) from None
    return query, document, grade
