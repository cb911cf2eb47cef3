"""``pattern db copy`` and ``pattern db compare``: two databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pattern_db.errors import NotFound, PatternError

from . import output, progress
from .choosing import find_agent
from .options import DEFAULTS, Options
from .output import Column
from .session import require_database, settings
from .values import UsageError

if TYPE_CHECKING:
    from pattern_db.service import PatternDB
    from pattern_db.transfer import Comparison, CopyReport, TableComparison


class NotEqualError(PatternError):
    """The comparison that was printed found a difference."""


async def copy(
    source: Annotated[str, Parameter(metavar="SRC")],
    destination: Annotated[str, Parameter(metavar="DST")],
    /,
    *,
    table: list[str] | None = None,
    agent: list[str] | None = None,
    no_embeddings: bool = False,
    overwrite: bool = False,
    verify: bool = False,
    options: Options = DEFAULTS,
) -> None:
    """Copy a database into another one, of any engine; stopped halfway, run it again.

    The destination is made and migrated if need be. What it has already is left alone, and an error
    names a row that it has with other values.

    Parameters
    ----------
    source
        The path or URL of a database, or a .toml file of settings.
    destination
        The same.
    table
        Only this table, and those that it refers to; may be given several times.
    agent
        Only the agent with this id or name and all that is its own; may be given several times.
    no_embeddings
        Leave the vectors out; the destination makes its own, with its own model.
    overwrite
        Replace rows that the destination has with other values.
    verify
        Compare both when it is done.
    """
    from pattern_db.transfer import copy_database

    async with _both(options, source, destination, create=True) as (left, right):
        agents = await _agents(left, agent)
        with progress.bar("copying") as update:
            report = await copy_database(
                left,
                right,
                tables=table,
                agents=agents,
                embeddings=not no_embeddings,
                overwrite=overwrite,
                verify=verify,
                progress=update,
            )
    if options.json:
        output.document(report)
    else:
        _show_copy(report)
    if report.comparison is not None:
        _fail_if_not_equal(report.comparison)


async def compare(
    source: Annotated[str, Parameter(metavar="SRC")],
    destination: Annotated[str, Parameter(metavar="DST")],
    /,
    *,
    table: list[str] | None = None,
    agent: list[str] | None = None,
    no_embeddings: bool = False,
    options: Options = DEFAULTS,
) -> None:
    """Compare two databases, value for value; changes nothing, and fails if SRC is not all in DST.

    Parameters
    ----------
    source
        The path or URL of a database, or a .toml file of settings.
    destination
        The same.
    table
        Only this table, and those that it refers to; may be given several times.
    agent
        Only the agent with this id or name and all that is its own; may be given several times.
    no_embeddings
        Leave the vectors out.
    """
    from pattern_db.transfer import compare_databases

    async with _both(options, source, destination, create=False) as (left, right):
        agents = await _agents(left, agent)
        with progress.bar("comparing") as update:
            found = await compare_databases(
                left,
                right,
                tables=table,
                agents=agents,
                embeddings=not no_embeddings,
                progress=update,
            )
    if options.json:
        output.document(found)
    else:
        _show_comparison(found)
    _fail_if_not_equal(found)


@asynccontextmanager
async def _both(
    options: Options, source: str, destination: str, *, create: bool
) -> AsyncIterator[tuple[PatternDB, PatternDB]]:
    """Both databases, open without a model. Only a destination that may be made is migrated."""
    from pattern_db.service import open as open_database

    if options.db is not None:
        raise UsageError("The databases are given as SRC and DST; leave --db out.")
    async with AsyncExitStack() as stack:
        opened = []
        for place, made in ((source, False), (destination, create)):
            config = settings(options, db=place)
            if not made:
                require_database(config)
            opening = open_database(config, embeddings="none", migrate=None if made else False)
            opened.append(await stack.enter_async_context(opening))
        yield opened[0], opened[1]


async def _agents(db: PatternDB, given: list[str] | None) -> list[str] | None:
    if given is None:
        return None
    found = [(name, await find_agent(db, name)) for name in given]
    for name, agent in found:
        if agent is None:
            raise NotFound("agent", name)
    return [agent.id for _, agent in found if agent is not None]


def _show_copy(report: CopyReport) -> None:
    written = output.count(sum(t.written for t in report.tables), "row")
    present = sum(t.present for t in report.tables)
    overwritten = sum(t.overwritten for t in report.tables)
    parts = [
        f"Copied {written}",
        f"{present:,} already there" if present else "",
        f"{overwritten:,} replaced" if overwritten else "",
    ]
    output.line(f"{', '.join(filter(None, parts))} ({report.seconds:.1f} s).")
    if report.comparison is not None:
        _show_comparison(report.comparison)


def _show_comparison(found: Comparison) -> None:
    filled = [table for table in found.tables if table.source_rows or table.extra]
    if not filled:
        output.line("(nothing there)")
        return
    _TABLES(filled)


def _result(table: TableComparison) -> str:
    parts = [
        f"{table.missing:,} missing" if table.missing else "",
        f"{table.different:,} different" if table.different else "",
        f"({', '.join(table.examples)})" if table.examples else "",
        "equal" if table.equal else "",
        f"and {table.extra:,} more there" if table.extra else "",
    ]
    return " ".join(filter(None, parts))


_TABLES = output.table(
    [
        Column("table", lambda table: table.table),
        Column("rows", lambda table: f"{table.source_rows:,}"),
        Column("arrived", lambda table: f"{table.destination_rows:,}"),
        Column("hash", lambda table: table.destination_hash[:12]),
        Column("result", _result),
    ]
)


def _fail_if_not_equal(found: Comparison) -> None:
    if found.equal:
        return
    wrong = ", ".join(table.table for table in found.tables if not table.equal)
    raise NotEqualError(f"The databases are not equal in {wrong}; copy again, or look at the rows.")
