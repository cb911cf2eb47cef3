"""``pattern eval``: how well and how fast memories are found."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from . import output, progress
from .options import EVERYWHERE, PLAIN, Output
from .values import Mode, Numbers

app = App("eval", help="Evaluations: how well and how fast memories are found.")


@app.command
async def locomo(
    files: Annotated[list[str], Parameter(metavar="FILE")],
    /,
    *,
    k: Annotated[Numbers, Parameter(show_default="1,5,10,20,50")] = (1, 5, 10, 20, 50),
    mode: Mode = "hybrid",
    db: Annotated[str | None, Parameter(metavar="URL", group=EVERYWHERE)] = None,
    embeddings: Annotated[str | None, Parameter(metavar="NAME", group=EVERYWHERE)] = None,
    options: Output = PLAIN,
) -> None:
    """Measure evidence recall@k on conversations of the LoCoMo benchmark.

    Parameters
    ----------
    files
        Files of the benchmark.
    k
        For which k.
    mode
        How to search: by words and meaning, by meaning, or by words.
    db
        Where to keep the database; else it is removed at the end.
    embeddings
        The embedding provider, such as local, none or openai.
    """
    from pattern_db.evaluation import evaluate_locomo, render

    given = {"embeddings": embeddings} if embeddings is not None else {}
    with progress.bars_of_steps() as update:
        report = await evaluate_locomo(
            files, ks=k, mode=mode, database=db, progress=update, **given
        )
    if options.json:
        output.document(report)
    else:
        output.block(render(report).rstrip("\n"))
