"""``pattern demo``: the main job on a bundled conversation."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pattern_db.errors import InvalidValue

from . import output, progress
from .options import EVERYWHERE, PLAIN, Output
from .session import existing, file_of

if TYPE_CHECKING:
    from pattern_db.config import Config
    from pattern_db.demo import Answer, DemoReport, Found, Ingested

_SHOWN_HITS = 3


async def demo(
    *,
    keep: Annotated[str | None, Parameter(name=("--keep", "--db"), metavar="PATH")] = None,
    all: bool = False,
    embeddings: Annotated[str | None, Parameter(metavar="NAME", group=EVERYWHERE)] = None,
    options: Output = PLAIN,
) -> None:
    """Ingest a bundled conversation, ask it questions, and show what is found how fast.

    Parameters
    ----------
    keep
        Where to keep the database; else it is removed at the end.
    all
        Show every question, not a handful.
    embeddings
        The embedding provider, such as local, none or openai.
    """
    from pattern_db.demo import run_demo
    from pattern_db.service import open as open_database

    async with _place(keep, embeddings) as config, open_database(config) as db:
        with progress.waiting("reading and asking"):
            report = await run_demo(db)
    if options.json:
        output.document(report)
        return
    _show_ingested(report)
    for answer in report.answers if all else _one_of_each(report.answers):
        _show_answer(answer)
    _show_summary(report)
    _show_next(keep, embeddings)


@contextlib.asynccontextmanager
async def _place(keep: str | None, embeddings: str | None) -> AsyncIterator[Config]:
    """The settings of a new database: at ``keep``, or in a directory that is removed."""
    from pattern_db.config import load

    if keep is None:
        with tempfile.TemporaryDirectory(prefix="pattern-demo-") as directory:
            yield load(os.path.join(directory, "demo.db"), embeddings=embeddings)
        return
    config = load(keep, embeddings=embeddings)
    if existing(config):
        raise InvalidValue("--keep", f"there is a file at {file_of(config)} already; name another.")
    yield config


def _one_of_each(answers: list[Answer]) -> list[Answer]:
    """The first question of every sort."""
    firsts: dict[str, Answer] = {}
    for answer in answers:
        firsts.setdefault(answer.about, answer)
    return list(firsts.values())


def _show_ingested(report: DemoReport) -> None:
    output.line(report.title, "bold")
    output.line(_ingested(report.ingested))


def _ingested(done: Ingested) -> str:
    model = f"embedded by {done.model}" if done.model else "not embedded: keyword search only"
    return (
        f"{output.count(done.turns, 'turn')} of {output.count(done.sessions, 'session')} stored "
        f"in {done.seconds:.2f} s ({done.texts_per_s:,.0f} texts/s, {model})."
    )


def _show_answer(answer: Answer) -> None:
    output.line()
    output.line(f"{answer.question}  ({answer.ms:.1f} ms)", "bold")
    for hit in answer.found[:_SHOWN_HITS]:
        output.line(_hit(hit), "green" if hit.is_evidence else "")


def _hit(hit: Found) -> str:
    mark = "✓" if hit.is_evidence else " "
    facts = f"  {mark} {hit.score:.2f}  {hit.date}  {hit.speaker}: "
    return facts + output.shorten(hit.text, output.room(len(facts)))


def _show_summary(report: DemoReport) -> None:
    recall = ", ".join(f"recall@{k} {share:.0%}" for k, share in report.recall.items())
    output.line()
    output.line("✓ marks the turns that hold the answer.", "dim")
    output.line(
        f"All {len(report.answers)} questions: evidence {recall}; "
        f"{report.p50_ms:.1f} ms a question (p50), embedding it included."
    )


def _show_next(keep: str | None, embeddings: str | None) -> None:
    output.line()
    output.line("What to try next", "bold")
    provider = f" --embeddings {shlex.quote(embeddings)}" if embeddings else ""
    for command in _kept(keep) if keep else _NEW:
        output.line(f"  {command.replace('pattern', _program(), 1)}{provider}")


def _program() -> str:
    """How this command is typed: by its path where no search path leads to it."""
    name = Path(sys.argv[0])
    if name.name != "pattern" or shutil.which("pattern") is not None:
        return "pattern"
    return shlex.quote(os.path.relpath(name))


def _kept(keep: str) -> list[str]:
    db = f"--db {shlex.quote(keep)}"
    return [
        f'pattern search "Who looks after the dog in June?" {db}',
        f'pattern search "penicillin" --mode keyword --explain {db}',
        f"pattern message list --limit 5 {db}",
        f"pattern status {db}",
    ]


_NEW = [
    "pattern demo --keep demo.db",
    "pattern init mind.db",
    "pattern agent create Flux --db mind.db",
    'pattern message add "I moved to Oslo in May." --speaker Ada --db mind.db',
    'pattern search "Where does Ada live?" --db mind.db',
]
