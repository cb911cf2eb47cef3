"""What verbs print: JSON for machines; tables, entries and records for people.

On a terminal there is colour and long lines end with an ellipsis; elsewhere it is plain text.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from .options import Output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

T = TypeVar("T")

SNIPPET_CHARS = 100
_INDENT = " " * 4
_FILE_WIDTH = 10_000
_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), "\N{REPLACEMENT CHARACTER}")
_HARMLESS = {code: mark for code, mark in _CONTROLS.items() if chr(code) not in "\n\t"}


class Column(NamedTuple):
    """One column of a table: its head, and the cell of an item."""

    head: str
    cell: Callable[[Any], str]


class Entry(NamedTuple):
    """An item in two lines or more: a line of facts, then text."""

    facts: Sequence[str]
    text: str
    notes: Sequence[str] = ()


def document(value: Any) -> None:
    """One JSON document, times in ISO 8601."""
    encoded = msgspec.json.encode(value, enc_hook=float)
    sys.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")


def answer(options: Output, value: Any, sentence: str) -> None:
    """A value for machines, a sentence for people."""
    if options.json:
        document(value)
    else:
        line(sentence)


def line(text: str = "", style: str = "") -> None:
    """One line of text, as it is."""
    if style:
        _console().print(_safe(text, style), soft_wrap=True)
    else:
        sys.stdout.write(text.translate(_CONTROLS) + "\n")


def block(text: str) -> None:
    """A text of many lines; a file or a pipe gets it exactly."""
    sys.stdout.write((text.translate(_HARMLESS) if sys.stdout.isatty() else text) + "\n")


def one_more(limit: int) -> int:
    """How many items to ask for so that ``listing`` knows whether there are more."""
    return min(limit + 1, 100_000)


def listing(
    options: Output,
    items: Sequence[T],
    limit: int,
    show: Callable[[Sequence[T]], None],
    *,
    key: Callable[[T], object] | None = None,
    nothing: str = "nothing there",
) -> None:
    """At most ``limit`` of the items, and how to see those after them."""
    page = items[:limit]
    if options.json:
        document(page)
        return
    if not page:
        line(f"({nothing})")
        return
    show(page)
    if len(items) > limit:
        last: Any = page[-1]
        line(f"… more: --after {key(last) if key else last.id}", "dim")


def table(columns: Sequence[Column]) -> Callable[[Sequence[Any]], None]:
    """Prints items as rows; the last column is shortened to fit a terminal."""

    def show(items: Sequence[Any]) -> None:
        from rich.table import Table

        console = _console()
        made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
        for column in columns:
            made.add_column(column.head.upper(), no_wrap=column is not columns[-1])
        for item in items:
            made.add_row(*(_safe(column.cell(item)) for column in columns))
        _print_trimmed(console, made)

    return show


def entries(make: Callable[[T], Entry]) -> Callable[[Sequence[T]], None]:
    """Prints items as entries."""

    def show(items: Sequence[T]) -> None:
        for item in items:
            entry(make(item))

    return show


def entry(shown: Entry) -> None:
    """One entry: facts, the beginning of its text, and notes."""
    line("  ".join(fact for fact in shown.facts if fact), "bold")
    for text in (shorten(shown.text, room(len(_INDENT))), *shown.notes):
        line(f"{_INDENT}{text}")


def record(facts: Iterable[tuple[str, object]], text: str = "") -> None:
    """The facts of one thing, a line each, and its text in full. Empty facts are left out."""
    shown = [(name, _plain(value)) for name, value in facts if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        line(f"{name:<{width}}  {value}")
    if text:
        line()
        block(text)


def facts_of(struct: msgspec.Struct, *, without: Sequence[str] = ()) -> list[tuple[str, object]]:
    """The fields of a model as facts."""
    names = (name for name in struct.__struct_fields__ if name not in without)
    return [(name.replace("_", " "), getattr(struct, name)) for name in names]


def shorten(text: str, width: int = SNIPPET_CHARS) -> str:
    """The beginning of a text, on one line."""
    flat = " ".join(text[: width * 20].split())
    return flat if len(flat) <= width else flat[: width - 1].rstrip() + "…"


def room(taken: int) -> int:
    """How many characters of a snippet fit on a line of which some are taken."""
    if not sys.stdout.isatty():
        return SNIPPET_CHARS
    return min(SNIPPET_CHARS, max(20, shutil.get_terminal_size().columns - taken))


def when(moment: datetime) -> str:
    """A time as people here read it."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def count(number: int, thing: str) -> str:
    """``1 message``, ``2 messages``."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def size(n_bytes: int) -> str:
    """A size in the unit that suits it."""
    value = float(n_bytes)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} GiB"


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone().isoformat(timespec="seconds")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    return str(value)


def _safe(text: str, style: str = "") -> Text:
    """Stored text never drives the terminal: control characters are shown as marks."""
    from rich.text import Text

    return Text(text.translate(_CONTROLS), style=style, no_wrap=True, overflow="ellipsis")


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, width=_FILE_WIDTH)


def _print_trimmed(console: Console, made: Any) -> None:
    """Print without the spaces that fill lines up to the width of their column."""
    with console.capture() as captured:
        console.print(made)
    sys.stdout.write(
        "".join(f"{row.rstrip()}\n" for row in captured.get().removesuffix("\n").split("\n"))
    )
