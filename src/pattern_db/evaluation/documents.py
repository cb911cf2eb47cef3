"""nDCG@k and recall@k over a collection of documents with graded judgements.

Every document is an archival entry, its title before its text, of one agent that the corpus file
identifies; its id stands in the metadata, where no search looks. Each query with a relevant
document (a grade above 0) is asked as ``db.search(agent, query, kinds=["archival"], limit=k)``.
Recall@k is the share of its relevant documents among the first k hits, nDCG@k as in ``ndcg.py``;
both are means over queries. Judged documents that the corpus lacks count as not found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b

import msgspec

from pattern_db.clock import EPOCH, monotonic
from pattern_db.errors import ImportFailed
from pattern_db.ids import derived_id
from pattern_db.search import Hit
from pattern_db.search.options import MOST_HITS
from pattern_db.service import PatternDB
from pattern_db.transfer.reading import Source
from pattern_db.transfer.run import Options, Run
from pattern_db.validation import check_text

from .asking import (
    Inquiries,
    Inquiry,
    Judgement,
    Progress,
    Way,
    ask,
    complete_vectors,
)
from .ndcg import ndcg_at
from .recall import recall_at
from .report import DocumentReport, Environment

MAX_NUMBER_CHARS = 9
"""How long a number in a file of numbers may be."""

DOCUMENT_KS = (1, 5, 10, 20, 50, 100)
LARGEST_K = MOST_HITS - 1
"""One more hit may be asked for: the query's own document, which does not count."""

_ID = "document"


class Document(msgspec.Struct, frozen=True):
    """A document of a collection; ``text`` includes its title."""

    id: str
    text: str
    place: str


class Page(msgspec.Struct, frozen=True):
    """Some documents, how much of the corpus is read with them, and how much there is."""

    documents: Sequence[Document]
    done: int
    total: int


class Query(msgspec.Struct, frozen=True):
    """A query and the grades of the documents judged for it; above 0 is relevant."""

    id: str
    text: str
    grades: Mapping[str, int]


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """Documents, queries and judgements.

    ``corpus`` is the file that ``pages`` reads, ``files`` all files it is made of.
    ``own_id_counts`` is false where a document that has a query's id may be that query, so that
    finding it is no merit.
    """

    kind: str
    name: str
    corpus: Source
    files: Sequence[Source]
    queries: Sequence[Query]
    pages: Callable[[], Iterator[Page]]
    own_id_counts: bool = True


class _Ingested(msgspec.Struct):
    agent_id: str
    written: int = 0
    present: int = 0
    blank: int = 0
    seconds: float = 0.0


def titled(title: str, text: str) -> str:
    """The text of a document with a title; blank if both are."""
    return "\n".join(part for part in (title.strip(), text.strip()) if part)


async def evaluate_collection(
    db: PatternDB, collection: Collection, ways: Sequence[Way], ks: list[int], tell: Progress
) -> DocumentReport:
    """Store the documents that are not there yet, and ask the queries.

    Raises ``ImportFailed`` for a document that cannot be stored, or if no query has a relevant one.
    """
    asked = [query for query in collection.queries if _relevant(query)]
    if not asked:
        names = ", ".join(source.name for source in collection.files)
        raise ImportFailed(
            f"{names}: no query has a relevant document; check that they belong together."
        )
    ingested = await _ingest(db, collection, tell)
    first, *others = await ask(db, _inquiries(collection, asked, ingested, ks), ways, tell)
    provider = db.embeddings.provider
    without = len(collection.queries) - len(asked)
    return DocumentReport(
        **msgspec.structs.asdict(first),
        others=others,
        files=[source.name for source in collection.files],
        embedding_model=provider.model_id if provider is not None else None,
        ks=ks,
        skipped={"without a relevant document": without} if without else {},
        ingest_seconds=ingested.seconds,
        environment=Environment.here(),
        collection=collection.name,
        documents=ingested.written + ingested.present,
        blank_documents=ingested.blank,
        documents_per_s=ingested.written / ingested.seconds if ingested.written else None,
    )


def _relevant(query: Query) -> frozenset[str]:
    return frozenset(id for id, grade in query.grades.items() if grade > 0)


async def _ingest(db: PatternDB, collection: Collection, tell: Progress) -> _Ingested:
    """Store the documents page by page; what an earlier run stored is not stored again."""
    started = monotonic()
    run = Run(db, collection.corpus, Options(kind=collection.kind))
    digest = await asyncio.to_thread(_digest, collection.corpus)
    ingested = _Ingested(await run.agent(collection.name, digest))
    pages = collection.pages()
    while page := await asyncio.to_thread(next, pages, None):
        await _store(run, page.documents, ingested)
        tell("ingest", page.done, page.total)
    ingested.seconds = monotonic() - started
    if ingested.present:
        await complete_vectors(db)
    return ingested


def _digest(corpus: Source) -> str:
    """What identifies the corpus: two files of one name are two collections."""
    digest = blake2b(digest_size=16)
    with corpus.open() as file:
        while part := file.read(1024 * 1024):
            digest.update(part)
    return digest.hexdigest()


async def _store(run: Run, documents: Sequence[Document], ingested: _Ingested) -> None:
    told = [document for document in documents if document.text.strip()]
    for document in told:
        with run.at(document.place):
            check_text("text", document.text)
    written = await run.db.archival.create_many(
        ingested.agent_id,
        [
            {
                "id": derived_id("arch", ingested.agent_id, document.id),
                "content": document.text,
                "metadata": {_ID: document.id},
                "created_at": EPOCH,
            }
            for document in told
        ],
        skip_existing=True,
        embed="inline",
    )
    ingested.written += len(written)
    ingested.present += len(told) - len(written)
    ingested.blank += len(documents) - len(told)


def _inquiries(
    collection: Collection, asked: Sequence[Query], ingested: _Ingested, ks: Sequence[int]
) -> Inquiries:
    judge = partial(_judged, ks=ks, own_id_counts=collection.own_id_counts)
    return Inquiries(
        kind="archival",
        limit=max(ks) if collection.own_id_counts else max(ks) + 1,
        questions=[
            Inquiry(ingested.agent_id, query.text, partial(judge, query=query)) for query in asked
        ],
    )


def _judged(
    hits: Sequence[Hit], *, ks: Sequence[int], query: Query, own_id_counts: bool
) -> Judgement:
    found = [str(hit.item.metadata[_ID]) for hit in hits]
    if not own_id_counts:
        found = [id for id in found if id != query.id]
    return Judgement(
        recall=recall_at(ks, _relevant(query), found), ndcg=ndcg_at(ks, query.grades, found)
    )
