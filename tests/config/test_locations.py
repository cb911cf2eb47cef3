"""Where a database is, as a path or a URL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pattern_db.config import load
from pattern_db.config.urls import SCHEMES
from pattern_db.errors import ConfigError

from .conftest import CANARY, refusal, refused

HERE = "<here>"


@pytest.mark.parametrize(
    ("source", "engine", "location"),
    [
        ("mind.db", "sqlite", f"{HERE}/mind.db"),
        ("./a/../mind.db", "sqlite", f"{HERE}/mind.db"),
        ("/data/mind.db", "sqlite", "/data/mind.db"),
        ("what?.db", "sqlite", f"{HERE}/what?.db"),
        ("100%.db", "sqlite", f"{HERE}/100%.db"),
        ("a:b.db", "sqlite", f"{HERE}/a:b.db"),
        ("./localhost:80", "sqlite", f"{HERE}/localhost:80"),
        (":memory:", "sqlite", ":memory:"),
        ("sqlite::memory:", "sqlite", ":memory:"),
        ("sqlite://:memory:", "sqlite", ":memory:"),
        ("sqlite:///:memory:", "sqlite", ":memory:"),
        ("sqlite:///data/mind.db", "sqlite", "/data/mind.db"),
        ("sqlite:////data/mind.db", "sqlite", "/data/mind.db"),
        ("sqlite://mind.db", "sqlite", f"{HERE}/mind.db"),
        ("sqlite://./a/mind.db", "sqlite", f"{HERE}/a/mind.db"),
        ("sqlite:mind.db", "sqlite", f"{HERE}/mind.db"),
        ("SQLite://Mind.db", "sqlite", f"{HERE}/Mind.db"),
        ("sqlite:///data/what%3F%20now.db", "sqlite", "/data/what? now.db"),
        ("turso://mind.db", "turso", f"{HERE}/mind.db"),
        ("turso:///data/a%20b.db?sync=1", "turso", "/data/a b.db"),
        ("turso://:memory:", "turso", ":memory:"),
        ("surrealkv://mind", "surreal", f"{HERE}/mind"),
        ("surrealkv:///data/a%20b?versioned=true", "surreal", "/data/a%20b"),
        ("mem://", "surreal", ":memory:"),
    ],
)
def test_embedded_locations(source: str, engine: str, location: str) -> None:
    loaded = load(source, environ={}).database
    assert (loaded.engine, loaded.type) == (engine, "embedded")
    assert loaded.location == location.replace(HERE, os.getcwd())
    assert (loaded.url is None) == (engine == "sqlite")
    assert load(url=source, environ={}).database == loaded
    assert load(environ={"PATTERN_DATABASE__URL": source}).database == loaded


@pytest.mark.parametrize(
    ("source", "engine"),
    [
        ("postgresql://db.example/mind", "postgres"),
        ("postgres://ada:pw@db.example:5432/mind?sslmode=require", "postgres"),
        ("postgresql://one:5432,two:5433/mind", "postgres"),
        ("postgresql:///mind", "postgres"),
        ("ws://localhost:8000", "surreal"),
        ("wss://db.example/rpc", "surreal"),
        ("http://[::1]:8000", "surreal"),
        ("https://db.example", "surreal"),
    ],
)
def test_servers(source: str, engine: str) -> None:
    loaded = load(source, environ={}).database
    assert (loaded.engine, loaded.type, loaded.url, loaded.path) == (engine, "remote", source, None)
    with pytest.raises(ConfigError, match="has no path"):
        _ = loaded.location


def test_a_scheme_may_be_written_in_capitals() -> None:
    assert load("WS://Host", environ={}).database.url == "ws://Host"
    assert load("MEM:", environ={}).database.url == "mem://"


@pytest.mark.parametrize("source", ["mysql://h/db", "file:///x.db", "file:x.db", "sqllite://x.db"])
def test_an_unknown_scheme_is_answered_with_the_known_ones(source: str) -> None:
    message = refusal(source)
    assert all(f"{scheme}://" in message for scheme in SCHEMES)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("a\0b", "NUL"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("turso://?x=1", "names no file"),
        ("surrealkv://", "names no file"),
        (f"sqlite:///x.db?key={CANARY}", "parameters"),
        ("ws://", "names no server"),
        (f"ws://ada:{CANARY}@", "names no server"),
        (f"ws://ada:{CANARY}/x@host", "names no server"),
        (f"http://host:{CANARY}", "names no server"),
        (f"http://[{CANARY}", "names no server"),
        ("ws:localhost", "names no server"),
        ("postgresql:mind", "names no server"),
        ("localhost:8000", "without a scheme"),
        (3, "a path, a URL or a Config"),
        (b"mind.db", "a path, a URL or a Config"),
    ],
)
def test_places_that_are_none(source: Any, problem: str) -> None:
    assert problem in refusal(source)


def test_a_path_object_is_always_a_path() -> None:
    assert load(Path("localhost:80"), environ={}).database.location.endswith("/localhost:80")
    assert load(url=Path("a.db"), environ={}).database.location.endswith("/a.db")


def test_a_path_that_is_a_url_is_refused() -> None:
    assert "name it database.url" in refused('[database]\npath="sqlite:///x.db"')


def test_path_and_url_may_agree_but_not_disagree() -> None:
    url = f"sqlite://{os.getcwd()}/a.db"
    assert load(path="a.db", url=url, environ={}).database.location == os.path.abspath("a.db")
    assert "different databases" in refusal(path="b.db", url=url)
    assert "different databases" in refused('[database]\npath="a.db"\nurl="ws://h"')
    assert "given twice" in refusal("a.db", path="a.db")
    assert "given twice" in refusal("a.db", url="ws://h")
