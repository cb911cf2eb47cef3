"""``pattern import``: chats and runs that other programs keep."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from pattern_db.errors import InvalidValue

from . import output, progress
from .choosing import find_agent
from .options import DEFAULTS, Options
from .session import opened

if TYPE_CHECKING:
    from pattern_db.service import PatternDB
    from pattern_db.transfer import EpisodesReport, ImportReport

Kind = Literal["locomo", "chatgpt", "jsonl", "episodes"]
Format = Literal["episodes", "tau-bench", "tau2-bench", "swe-agent", "messages"]


async def import_(
    kind: Kind,
    files: Annotated[list[str], Parameter(metavar="FILE")],
    /,
    *,
    agent: str | None = None,
    user: str | None = None,
    queue: bool = False,
    format: Format | None = None,
    domain: str | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Import chats or runs; importing a file again adds only what is new in it.

    Parameters
    ----------
    kind
        What the files are.
    files
        The files.
    agent
        The id or the name of the agent whose they become, made if need be; else the file says
        who.
    user
        The id of the user that new agents and conversations belong to.
    queue
        Store the texts now, and embed them later (`pattern db reembed`).
    format
        Of episodes: the form of the files, if they do not show it.
    domain
        Of episodes: the domain of those that do not say theirs.
    """
    from pattern_db.transfer import import_file

    _check_readable(files)
    if kind == "episodes":
        await _import_episodes(files, agent, user, format, domain, options, queue=queue)
        return
    if format is not None or domain is not None:
        raise InvalidValue("kind", "--format and --domain are for episodes only.")
    reports: list[ImportReport] = []
    async with opened(options, embeds=True, create=True) as db:
        target = await _target(db, agent)
        for file in files:
            with progress.bar(f"importing {os.path.basename(file)}") as update:
                report = await import_file(
                    db,
                    kind,
                    file,
                    **target,
                    user_id=user,
                    embed="queued" if queue else None,
                    progress=update,
                )
            reports.append(report)
            if not options.json:
                output.line(_sentence(file, report))
    if options.json:
        output.document(
            [_with_file(file, report) for file, report in zip(files, reports, strict=True)]
        )


async def _import_episodes(
    files: list[str],
    agent: str | None,
    user: str | None,
    format: Format | None,
    domain: str | None,
    options: Options,
    *,
    queue: bool,
) -> None:
    from pattern_db.transfer import import_episodes

    reports: list[EpisodesReport] = []
    async with opened(options, embeds=True, create=True) as db:
        for file in files:
            with progress.bar(f"importing {os.path.basename(file)}") as update:
                report = await import_episodes(
                    db,
                    file,
                    format=format,
                    domain=domain,
                    **await _target(db, agent),
                    user_id=user,
                    embed="queued" if queue else None,
                    progress=update,
                )
            reports.append(report)
            if not options.json:
                output.line(_sentence_of_episodes(file, report))
    if options.json:
        output.document(
            [_with_file(file, report) for file, report in zip(files, reports, strict=True)]
        )


def _sentence_of_episodes(file: str, report: EpisodesReport) -> str:
    done = [
        f"{output.count(report.written, 'episode')} written",
        f"{report.present:,} already there" if report.present else "",
        *(f"{reason}: {number:,}" for reason, number in report.skipped.items()),
    ]
    agents = output.count(len(report.agents), "agent")
    return f"{file}: {', '.join(filter(None, done))} ({agents}, {report.seconds:.1f} s)."


def _check_readable(files: Sequence[str]) -> None:
    """Raise ``OSError`` for a file that cannot be read, before anything is done."""
    for file in files:
        with open(file, "rb"):
            pass


async def _target(db: PatternDB, agent: str | None) -> dict[str, Any]:
    """Which agent the messages go to, in the terms of ``import_file``."""
    found = await find_agent(db, agent) if agent is not None else None
    return {"agent_id": found.id} if found is not None else {"agent_name": agent}


def _sentence(file: str, report: ImportReport) -> str:
    done = [
        f"{output.count(report.messages_written, 'message')} written",
        f"{report.messages_present:,} already there" if report.messages_present else "",
        *(f"{reason}: {number:,}" for reason, number in report.skipped.items()),
    ]
    conversations = output.count(report.conversations, "conversation")
    agents = output.count(len(report.agents), "agent")
    return (
        f"{file}: {', '.join(filter(None, done))} "
        f"({conversations} of {agents}, {report.seconds:.1f} s)."
    )


def _with_file(file: str, report: ImportReport | EpisodesReport) -> dict[str, Any]:
    return {"file": file, **msgspec.structs.asdict(report)}
