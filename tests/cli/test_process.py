"""Real processes: the console, its signals and its pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pattern_db
from pattern_db.cli import session

from .conftest import Pattern

pytestmark = pytest.mark.slow

PATTERN = [sys.executable, "-m", "pattern_db"]


def run(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PATTERN, *argv],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


def test_a_life_of_processes() -> None:
    assert run("status").stderr.endswith("run `pattern init` first.\n")
    assert run("init").returncode == 0
    assert run("agent", "create", "Flux").returncode == 0
    assert run("message", "add", "I moved to Oslo.", "--speaker", "Zoë").returncode == 0
    found = run("search", "Oslo")
    assert (found.returncode, found.stderr) == (0, "")
    assert "Zoë" in found.stdout


def test_the_command_is_installed_under_its_name() -> None:
    from importlib.metadata import entry_points

    for script in entry_points(group="console_scripts", name="pattern"):
        assert script.value == "pattern_db.cli:main"
        assert callable(script.load())


def test_a_reader_that_goes_away_is_no_error(
    flux: str, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # what is left in the buffer matters
    pattern("memory", "add", "human", "x" * 5000)
    for verb in (["memory", "show", "human"], ["memory", "list"], ["config", "show"], ["--help"]):
        reading, writing = os.pipe()
        os.close(reading)
        with subprocess.Popen([*PATTERN, *verb], stdout=writing, stderr=subprocess.PIPE) as process:
            os.close(writing)
            _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (1, b""), verb


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_behind_stdout_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [*PATTERN, "config", "show"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (1, "pattern: No space left on device\n")


def test_a_terminal_without_unicode_gets_escapes(flux: str, pattern: Pattern) -> None:
    pattern("message", "add", "Knedlík ✓")
    ran = run("message", "list", PYTHONIOENCODING="ascii")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Knedl\\xedk \\u2713" in ran.stdout


@pytest.fixture
def _plain_ctrl_c() -> Iterator[None]:
    """Python's own handler, whatever an earlier test left in its place."""
    left = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, left)


@pytest.mark.usefixtures("_plain_ctrl_c")
def test_ctrl_c_ends_work_without_a_word(
    mind: Path, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(session, "require_database", interrupt)
    before = signal.getsignal(signal.SIGINT)
    assert pattern("message", "add", "text") == (130, "", "")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("_plain_ctrl_c")
def test_ctrl_c_ends_the_wait_for_a_text_at_once(
    mind: Path, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited_on = []

    class Keyboard:
        def read(self) -> str:
            signal.raise_signal(signal.SIGINT)
            waited_on.append(True)
            return "text"

    monkeypatch.setattr("io.StringIO", lambda _text: Keyboard())
    before = signal.getsignal(signal.SIGINT)
    assert pattern("message", "add", "-") == (130, "", "")
    assert waited_on == []
    assert signal.getsignal(signal.SIGINT) is before


def test_main_runs_the_command_line_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pattern_db.cli import main

    monkeypatch.setattr("sys.argv", ["pattern", "--version"])
    main()
    assert capsys.readouterr().out == f"pattern-db {pattern_db.__version__}\n"
