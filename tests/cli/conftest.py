"""Running command lines inside the test's process, and databases to run them on."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pattern_db.cli import main


class Ran(NamedTuple):
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document it printed; fails if that is not all it printed."""
        assert (self.code, self.err) == (0, ""), self
        return json.loads(self.out)


Pattern = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory of its own, UTC, and no model unless a test asks for one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("PATTERN_EMBEDDINGS__PROVIDER", "none")


@pytest.fixture
def pattern(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Pattern:
    """Runs ``pattern`` with these arguments; ``stdin`` is what it can read."""

    def run(*argv: object, stdin: str = "") -> Ran:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = 0
        try:
            main([str(argument) for argument in argv])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run


@pytest.fixture
def mind(pattern: Pattern, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty database that every command line uses."""
    path = Path("mind.db").absolute()
    monkeypatch.setenv("PATTERN_DATABASE__PATH", str(path))
    assert pattern("init").code == 0
    return path


@pytest.fixture
def flux(mind: Path, pattern: Pattern) -> str:
    """The id of the one agent of ``mind``."""
    return str(pattern("agent", "create", "Flux", "--json").json["id"])


@pytest.fixture
def two_agents(flux: str, pattern: Pattern) -> tuple[str, str]:
    """The ids of Flux and Vega, who share ``mind``."""
    return flux, str(pattern("agent", "create", "Vega", "--json").json["id"])
