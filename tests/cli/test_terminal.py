"""What a terminal gets that a file does not: colour, its own width, and progress."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pattern_db.cli import output, progress

from .conftest import Pattern

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*3[0-7]m")


def on_terminal(*argv: str, columns: int = 80, **environment: str) -> str:
    """What ``pattern`` prints to a terminal of this width."""
    reading, writing = pty.openpty()
    env = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", **environment}
    command = [sys.executable, "-m", "pattern_db", *argv]
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.DEVNULL, env=env) as process:
        os.close(writing)
        shown = b""
        try:
            while chunk := os.read(reading, 65536):
                shown += chunk
        except OSError:  # the way Linux says that the other side is closed
            pass
        finally:
            os.close(reading)
    assert process.returncode == 0
    return shown.decode()


@pytest.fixture
def long_text(flux: str, pattern: Pattern) -> str:
    text = "Ada moved to Oslo. " * 30
    pattern("message", "add", text, "--speaker", "Ada")
    pattern("memory", "add", "human", f"{text}\x1b[2J\nsecond line")
    return text


def test_a_terminal_gets_snippets_of_its_width_and_emphasis(long_text: str) -> None:
    shown = on_terminal("message", "list", columns=60)
    assert "\x1b[1m" in shown
    lines = ESCAPE.sub("", shown).splitlines()
    assert lines[1].endswith("…")
    assert len(lines[1]) <= 60


def test_a_table_fits_the_terminal(flux: str, pattern: Pattern) -> None:
    pattern("agent", "create", "Vega", "--description", "words " * 100)
    lines = ESCAPE.sub("", on_terminal("agent", "list", columns=100)).splitlines()
    assert lines[-1].rstrip().endswith("…")
    assert max(map(len, lines)) <= 100


def test_a_text_is_shown_whole_and_cannot_drive_the_terminal(long_text: str) -> None:
    shown = on_terminal("memory", "show", "human")
    assert long_text in shown
    assert "\ufffd[2J\r\nsecond line" in shown


@pytest.mark.slow
def test_colour_can_be_refused(pattern: Pattern) -> None:
    pattern("demo", "--keep", "demo.db")
    assert COLOUR.search(on_terminal("demo", "--all"))
    assert not COLOUR.search(on_terminal("demo", "--all", NO_COLOR="1"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal_as_stderr(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A standard error that is a terminal. Not a fixture: pytest sets stderr after those."""
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    return shown


def test_what_takes_longer_than_a_second_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_as_stderr(monkeypatch)
    monkeypatch.setattr(progress, "_PATIENCE_S", -1.0)
    with progress.bar("importing") as update:
        assert update is not None
        update(1, 2)
    assert "importing" in terminal.getvalue()
    with progress.bars_of_steps() as steps:
        steps("ingest", 1, 2)
        steps("ask", 1, 2)
    assert "ingest" in terminal.getvalue()
    assert "ask" in terminal.getvalue()


def test_what_is_quick_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_as_stderr(monkeypatch)
    with progress.bar("importing") as update:
        assert update is not None
        update(1, 2)
    assert terminal.getvalue() == ""


def test_without_a_terminal_there_is_no_progress() -> None:
    with progress.bar("importing") as update:
        assert update is None
    with progress.bars_of_steps() as steps:
        steps("ingest", 1, 2)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("short", "short"),
        ("two\n\n lines\t", "two lines"),
        ("x" * 10, "x" * 10),
        ("x" * 11, "x" * 9 + "…"),
        ("12345678 9012", "12345678…"),
        ("", ""),
    ],
)
def test_a_long_text_is_shortened_to_one_line(text: str, shown: str) -> None:
    assert output.shorten(text, 10) == shown


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 40, "3,072.0 GiB"),
    ],
)
def test_a_size_has_a_unit_that_suits_it(n_bytes: int, shown: str) -> None:
    assert output.size(n_bytes) == shown


def test_a_file_gets_a_text_exactly(flux: str, pattern: Pattern, tmp_path: Path) -> None:
    pattern("memory", "add", "human", "tab\there \x1b[1m end")
    assert pattern("memory", "show", "human").out.endswith("\n\ntab\there \x1b[1m end\n")
