"""``pattern eval``: how well and how fast memories are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from cyclopts import App, Parameter

from . import output, progress
from .options import EVERYWHERE, PLAIN, Output
from .values import Numbers

if TYPE_CHECKING:
    from pattern_db.evaluation import DocumentReport, LocomoReport

app = App("eval", help="Evaluations: how well and how fast memories are found.")

R = TypeVar("R")
Modes = Literal["hybrid", "semantic", "keyword", "all"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What is measured, and where."""

    mode: Modes = "hybrid"
    """How to search: by words and meaning, by meaning, by words, or the three side by side."""
    ablate: bool = False
    """Compare the three modes, and hybrid search without each part of its score."""
    db: Annotated[str | None, Parameter(metavar="URL", group=EVERYWHERE)] = None
    """Where to keep the database, and to find it again; else it is removed at the end."""
    embeddings: Annotated[str | None, Parameter(metavar="NAME", group=EVERYWHERE)] = None
    """The embedding provider, such as local, none or openai."""

    def asked(self) -> dict[str, Any]:
        """The same in the terms of the functions of ``pattern_db.evaluation``."""
        given = {"embeddings": self.embeddings} if self.embeddings is not None else {}
        return {"mode": self.mode, "ablate": self.ablate, "database": self.db, **given}


USUAL = Measuring()


@app.command
async def locomo(
    files: Annotated[list[str], Parameter(metavar="FILE")],
    /,
    *,
    k: Annotated[Numbers, Parameter(show_default="1,5,10,20,50")] = (1, 5, 10, 20, 50),
    measuring: Measuring = USUAL,
    options: Output = PLAIN,
) -> None:
    """Measure evidence recall@k on conversations of the LoCoMo benchmark.

    Parameters
    ----------
    files
        Files of the benchmark.
    k
        For which k.
    """
    from pattern_db.evaluation import evaluate_locomo

    with progress.bars_of_steps() as update:
        report = await evaluate_locomo(files, ks=k, progress=update, **measuring.asked())
    _show(options, report)


@app.command
async def cranfield(
    folder: Annotated[str, Parameter(metavar="DIR")],
    /,
    *,
    k: Annotated[Numbers, Parameter(show_default="1,5,10,20,50,100")] = (1, 5, 10, 20, 50, 100),
    measuring: Measuring = USUAL,
    options: Output = PLAIN,
) -> None:
    """Measure nDCG@k and recall@k on the Cranfield collection.

    Parameters
    ----------
    folder
        The folder with cran.all.1400, cran.qry and QRelsCorrectedforTRECeval or cranqrel.
    k
        For which k.
    """
    from pattern_db.evaluation import evaluate_cranfield

    with progress.bars_of_steps() as update:
        report = await evaluate_cranfield(folder, ks=k, progress=update, **measuring.asked())
    _show(options, report)


@app.command
async def beir(
    folder: Annotated[str, Parameter(metavar="DIR")],
    /,
    *,
    split: str = "test",
    k: Annotated[Numbers, Parameter(show_default="1,5,10,20,50,100")] = (1, 5, 10, 20, 50, 100),
    measuring: Measuring = USUAL,
    options: Output = PLAIN,
) -> None:
    """Measure nDCG@k and recall@k on a collection in the layout of BEIR.

    Parameters
    ----------
    folder
        The folder with corpus.jsonl, queries.jsonl and qrels.
    split
        Which judgements: those in qrels/SPLIT.tsv.
    k
        For which k.
    """
    from pattern_db.evaluation import evaluate_beir

    with progress.bars_of_steps() as update:
        report = await evaluate_beir(
            folder, split=split, ks=k, progress=update, **measuring.asked()
        )
    _show(options, report)


@app.command
async def episodes(
    files: Annotated[list[str], Parameter(metavar="FILE")],
    /,
    *,
    seeds: Annotated[Numbers, Parameter(show_default="0,1,2")] = (0, 1, 2),
    quick: bool = False,
    db: Annotated[str | None, Parameter(metavar="DIR", group=EVERYWHERE)] = None,
    embeddings: Annotated[str, Parameter(metavar="NAME", group=EVERYWHERE)] = "local",
    options: Output = PLAIN,
) -> None:
    """Measure advice from past episodes, on runs that say how they went and whom they were for.

    Parameters
    ----------
    files
        Files of runs, as `pattern import episodes` takes them.
    seeds
        How the families are divided into folds, once for each.
    quick
        Leave out what is repeated on shuffled runs, where nothing may be foreseen.
    db
        The folder for the databases of the folds, which are removed; else where temporary files go.
    embeddings
        The embedding provider, such as local, none or openai.
    """
    from pattern_db.evaluation import evaluate_episodes, render_episodes

    with progress.bars_of_steps() as update:
        report = await evaluate_episodes(
            files,
            seeds=seeds,
            guards=not quick,
            embeddings=embeddings,
            folder=db,
            progress=update,
        )
    _print(options, report, render_episodes)


def _show(options: Output, report: LocomoReport | DocumentReport) -> None:
    from pattern_db.evaluation import render

    _print(options, report, render)


def _print(options: Output, report: R, render: Callable[[R], str]) -> None:
    if options.json:
        output.document(report)
    else:
        output.block(render(report).rstrip("\n"))
