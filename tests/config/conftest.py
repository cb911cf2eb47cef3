"""What tests of settings share: an empty home, files with a text, and what is refused."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

import pytest

from pattern_db.config import Config, describe, load
from pattern_db.errors import ConfigError

CANARY = "canary-hunter2"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and an empty current directory, so that no setting comes from outside."""
    place = tmp_path / "home"
    here = tmp_path / "here"
    place.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(here)
    for variable in ("OPENAI_API_KEY", "COHERE_API_KEY", "CO_API_KEY", *_pattern_variables()):
        monkeypatch.delenv(variable, raising=False)
    return place


def _pattern_variables() -> list[str]:
    return [variable for variable in os.environ if variable.upper().startswith("PATTERN_")]


def toml(text: str, path: str | Path = "pattern.toml") -> Path:
    """A configuration file with this text."""
    file = Path(path).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def configured(text: str, **environ: str) -> Config:
    """What ``load`` makes of a file with this text and these variables."""
    toml(text)
    return load(environ=environ)


def refusal(*args: Any, **kwargs: Any) -> str:
    """The message of the ``ConfigError`` that ``load`` raises: one sentence, without the canary."""
    kwargs.setdefault("environ", {})
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    trace = "".join(traceback.format_exception(caught.value, limit=0))
    assert CANARY not in trace
    message = str(caught.value)
    assert message[-1] in ".?"
    assert "\n" not in message
    return message


def refused(text: str, **environ: str) -> str:
    """The message about a file with this text."""
    toml(text)
    return refusal(environ=environ)


def origins(loaded: Config) -> dict[str, str]:
    return {shown.key: shown.origin for shown in describe(loaded)}


def shown(loaded: Config) -> dict[str, str]:
    return {entry.key: entry.value for entry in describe(loaded)}
