"""The runs in a file, whichever of the known forms it has.

Files of lines are read piece by piece; the others are one JSON value and are read whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from pattern_db.errors import ImportFailed
from pattern_db.models import Json
from pattern_db.validation import check_known

from .lines import MAX_LINE_BYTES, Lines
from .reading import BOM, Source, parse
from .trajectory_formats import (
    Found,
    Trajectory,
    from_episode,
    from_messages,
    from_swe_agent,
    from_tau,
    from_tau2,
    object_in,
)

FORMATS: dict[str, Callable[[Found], Trajectory]] = {
    "episodes": from_episode,
    "tau-bench": from_tau,
    "tau2-bench": from_tau2,
    "swe-agent": from_swe_agent,
    "messages": from_messages,
}
"""What can be imported, and what understands it."""
_SHOWN_BY = {
    "tau2-bench": "simulations",
    "tau-bench": "traj",
    "swe-agent": "trajectory",
    "messages": "messages",
    "episodes": "steps",
}
"""The key that tells a form from the others, in the order in which they are tried."""


class Piece(msgspec.Struct):
    """Some runs of a file, how far reading is (``done`` of ``total``, bytes or runs), and why what
    comes after them cannot be read, if it cannot."""

    runs: list[Trajectory]
    done: int
    total: int
    replaced: int = 0
    failure: ImportFailed | None = None


def pieces(source: Source, format: str | None = None) -> Iterator[Piece]:
    """The runs of a file in their order. Blocks; run it in a thread.

    Without a ``format`` (one of ``FORMATS``) the file shows it. Raises ``ImportFailed`` for a file
    that is none of them, ``InvalidValue`` for an unknown format.
    """
    if format is not None:
        check_known("format", [format], FORMATS)
    if _is_lines(source):
        yield from _of_lines(source, format)
    else:
        yield from _of_document(source, format)


def _is_lines(source: Source) -> bool:
    """Whether every line is an object of its own, by the first that is not blank."""
    with source.open() as file:
        line = b" "
        while line and not line.strip():
            line = file.readline(MAX_LINE_BYTES + 1)
        if len(line) > MAX_LINE_BYTES:
            return False
        try:
            value = parse(line.strip().removeprefix(BOM)).value
        except ValueError:
            return bool(line.strip().removeprefix(BOM).startswith(b"{")) and _goes_on(file)
        return isinstance(value, dict) and "simulations" not in value


def _goes_on(file: Any) -> bool:
    """Whether the next line begins an object at its margin: then the broken one was a line."""
    return bool(file.readline(MAX_LINE_BYTES).startswith(b"{"))


def _of_lines(source: Source, format: str | None) -> Iterator[Piece]:
    lines = Lines(source, what="the run")
    try:
        while chunk := lines.next_chunk():
            piece = Piece([], lines.bytes_read, lines.size, chunk.replaced, chunk.failure)
            for line in chunk.lines:
                try:
                    piece.runs.append(_run(Found(source, line.place, line.fields), format))
                except ImportFailed as error:
                    piece.failure = error
                    break
            yield piece
            if piece.failure is not None:
                return
    finally:
        lines.close()


def _of_document(source: Source, format: str | None) -> Iterator[Piece]:
    parsed = source.read_json()
    found = list(_objects(source, parsed.value))
    piece = Piece([], len(found), len(found), parsed.replaced)
    for each in found:
        try:
            piece.runs.append(_run(each, format))
        except ImportFailed as error:
            piece.failure = error
            break
    yield piece


def _objects(source: Source, value: Any) -> Iterator[Found]:
    """The objects of a file that are runs."""
    if isinstance(value, dict) and "simulations" in value:
        yield from _simulations(source, value)
    elif isinstance(value, dict):
        yield Found(source, "the run", value)
    elif isinstance(value, list) and value and isinstance(value[0], dict) and "role" in value[0]:
        yield Found(source, "the run", {"messages": value})
    else:
        for number, each in enumerate(source.expect(list, value, "its start", "the runs"), 1):
            place = f"run {number}"
            yield Found(source, place, source.expect(dict, each, place, "the run"))


def _simulations(source: Source, value: Json) -> Iterator[Found]:
    """The simulations of a τ²-bench file, with what it says of their tasks, domain and agent."""
    tasks = source.expect(list, value.get("tasks") or [], "`tasks`", "the tasks")
    by_id = {str(task.get("id")): task for task in tasks if isinstance(task, dict)}
    shared = {
        "tasks": by_id,
        "domain": object_in(value, "info", "environment_info").get("domain_name"),
        "agent": object_in(value, "info", "agent_info").get("llm"),
    }
    simulations = source.expect(list, value["simulations"], "`simulations`", "the runs")
    for number, each in enumerate(simulations, 1):
        place = f"simulation {number}"
        yield Found(source, place, source.expect(dict, each, place, "the run"), shared)


def _run(found: Found, format: str | None) -> Trajectory:
    return FORMATS[format or _format_of(found)](found)


def _format_of(found: Found) -> str:
    if found.shared:
        return "tau2-bench"
    for format, key in _SHOWN_BY.items():
        if key in found.value:
            return format
    known = ", ".join(f"`{key}`" for key in _SHOWN_BY.values())
    raise found.source.failure(found.place, f"this is no run of a known form (none of {known})")
