"""No secret leaves a setting; what ``show`` and ``check`` say."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pattern_db.config import Config, DatabaseConfig, EmbeddingConfig, Secret, check, describe, load
from pattern_db.config.settings import KEYS, SECRETS
from pattern_db.config.sources import argument_layer
from pattern_db.config.urls import redacted

from .conftest import CANARY, origins, refused, shown, toml

# --- secrets


def everything_secret() -> list[Config]:
    """Configurations with the canary wherever one may be."""
    file = toml(
        f'[database]\npath="a.db"\nkey="{CANARY}"\n[embeddings]\nprovider="openai"\n'
        f'api_key="{CANARY}"\nbase_url="https://ada:{CANARY}@proxy.example/v1?k={CANARY}"'
    )
    return [
        load(config_file=file, environ={}),
        load(url="ws://h", username="ada", password=CANARY, environ={}, config_file=os.devnull),
        load(f"postgresql://ada:{CANARY}@h/db?password={CANARY}", environ={}, embeddings="none"),
        load(f"postgresql://ada:x/{CANARY}?{CANARY}@h/db", environ={}, embeddings="none"),
        load(f"turso://x.db?authToken={CANARY}", environ={}, embeddings="none"),
        Config(
            DatabaseConfig(key=CANARY, password=CANARY),  # type: ignore[arg-type]
            EmbeddingConfig(api_key=CANARY),  # type: ignore[arg-type]
        ),
    ]


def test_a_secret_is_in_no_text_about_a_config() -> None:
    from rich.console import Console
    from rich.pretty import pretty_repr

    for loaded in everything_secret():
        screen = Console(file=io.StringIO(), width=400)
        screen.print(loaded)
        texts = [
            repr(loaded),
            str(loaded),
            f"{loaded!s}",
            pretty_repr(loaded),
            repr(describe(loaded)),
        ]
        texts += [repr(loaded.database), repr(loaded.embeddings), repr(check(loaded, environ={}))]
        texts += [screen.file.getvalue()]  # type: ignore[attr-defined]
        for text in texts:
            assert CANARY not in text


def test_an_encoder_does_not_write_a_secret_by_accident() -> None:
    made = DatabaseConfig(key=Secret(CANARY))
    for encode in (msgspec.json.encode, msgspec.msgpack.encode):
        with pytest.raises(TypeError):
            encode(made)


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret(CANARY)
    assert secret.reveal() == CANARY
    assert CANARY not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret(CANARY) != Secret("other")
    assert secret != CANARY
    assert not hasattr(secret, "__dict__")
    assert {secret: 1}[Secret(CANARY)] == 1
    assert load(key=secret, environ={}).database.key == secret


def test_a_secret_is_wrapped_from_the_moment_it_is_read() -> None:
    layer = argument_layer(None, {"key": CANARY, "embeddings": {"api_key": CANARY}})
    assert CANARY not in repr(layer)


def test_every_setting_that_holds_a_secret_is_known_to_be_one() -> None:
    secretive = ("password", "key", "api_key", "token", "secret")
    assert {key for key in KEYS if key.partition(".")[2] in secretive} == SECRETS


@pytest.mark.parametrize("key", sorted(SECRETS))
def test_a_secret_is_in_no_error_about_it(key: str) -> None:
    section, _, name = key.partition(".")
    for value in (
        f'["{CANARY}"]',
        f'"{CANARY}${{NOT_THERE}}"',
        f'"{CANARY}\\u0000"',
        f'"{CANARY}"',
    ):
        refused(f"[{section}]\n{name}={value}\n[database.embedded]\nnamespace='x'")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://h/db", "postgresql://h/db"),
        ("postgresql://ada@h/db", "postgresql://***@h/db"),
        ("postgresql://ada:p@ss@h/db", "postgresql://***@h/db"),
        ("postgresql://ada:p/ss@h/db", "postgresql://***@h/db"),
        (
            "postgresql://h/db?sslmode=require&password=x",
            "postgresql://h/db?sslmode=require&password=***",
        ),
        ("mysql://ada:x@h", "mysql://***@h"),
        ("turso:///a@b.db?authToken=x", "turso:///a@b.db?authToken=***"),
        ("surrealkv:///home/a@b", "surrealkv:///home/a@b"),
    ],
)
def test_redacted_urls(url: str, expected: str) -> None:
    assert redacted(url) == expected


@given(
    st.sampled_from(["postgresql", "ws", "https", "mysql"]),
    st.text(alphabet="ab:/?#@%&=", max_size=8),
    st.text(alphabet="ab:/?#@%&=", max_size=8),
)
def test_no_part_of_a_login_survives_redaction(scheme: str, before: str, after: str) -> None:
    assert CANARY not in redacted(f"{scheme}://ada:{before}{CANARY}{after}@host/db?x=1")


# --- show and check


def test_show_lists_every_setting_with_its_origin() -> None:
    toml(f'[database]\nkey="{CANARY}"')
    loaded = load(environ={"PATTERN_DATABASE__READERS": "3"}, durability="relaxed")
    assert [entry.key for entry in describe(loaded)] == list(KEYS)
    found = shown(loaded)
    assert found["database.key"] == "set"
    assert found["database.password"] == "not set"
    assert found["embeddings.api_key"] == "not set"
    assert found["embeddings.model"] == "not set"
    assert found["database.migrate"] == "true"
    assert found["database.readers"] == "3"
    assert found["database.path"] == os.path.abspath("pattern.db")
    assert origins(loaded)["database.key"] == os.path.abspath("pattern.toml")


def test_show_says_of_a_config_made_by_hand_what_was_changed() -> None:
    made = Config(DatabaseConfig(readers=9))
    assert origins(made)["database.readers"] == "argument"
    assert origins(made)["database.durability"] == "default"


def test_check_finds_nothing_wrong_with_the_defaults() -> None:
    assert check(load(environ={}), environ={}) == []
    assert check(load(":memory:", environ={}), environ={}) == []
    assert check(Config()) == []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"path": "gone/a.db"}, "does not exist; create it"),
        ({"path": "."}, "is a directory"),
        ({"url": "ws://db.example", "username": "a", "password": CANARY}, "unencrypted"),
        (
            {"embeddings": {"provider": "ollama", "base_url": "http://h", "api_key": CANARY}},
            "embeddings.base_url sends a secret",
        ),
    ],
)
def test_check_finds(settings: dict[str, Any], problem: str) -> None:
    found = check(load(environ={}, **settings), environ={})
    assert any(problem in sentence for sentence in found)


def test_check_does_not_mind_an_unencrypted_connection_to_this_machine() -> None:
    loaded = load("ws://localhost:8000", username="a", password="b", environ={})
    assert not any("unencrypted" in sentence for sentence in check(loaded, environ={}))


def test_check_names_the_pip_command_of_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = check(load("turso://a.db", environ={}, embeddings="candle"), environ={})
    assert any("pip install 'pattern-db[turso]'" in sentence for sentence in found)
    assert any("pip install 'pattern-db[fastembed]'" in sentence for sentence in found)


def test_check_reports_an_impossible_config_made_by_hand() -> None:
    (problem,) = check(Config(DatabaseConfig(type="remote")), environ={})
    assert "no database.url" in problem


def test_check_notices_a_variable_with_one_underscore() -> None:
    found = check(load(environ={}), environ={"PATTERN_DATABASE_PATH": "x", "PATTERN_CONFIG": "x"})
    (problem,) = found
    assert problem.startswith("The variable PATTERN_DATABASE_PATH is not read")
    assert "PATTERN_DATABASE__PATH" in problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_check_notices_a_directory_it_cannot_write_to() -> None:
    Path("locked").mkdir(mode=0o500)
    assert "cannot be written to" in check(load("locked/a.db", environ={}), environ={})[0]
