"""Settings that cannot be: names, values, files and combinations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pattern_db.config import Config, DatabaseConfig, EmbeddingConfig, Secret, load
from pattern_db.config.names import variable_of
from pattern_db.config.settings import KEYS
from pattern_db.errors import ConfigError

from .conftest import CANARY, origins, refusal, refused, toml

# --- names that are not settings


@pytest.mark.parametrize(
    ("text", "name", "near"),
    [
        ('[database]\npth="x"', "database.pth", "database.path"),
        ("[database]\nbusy_timeout=5", "database.busy_timeout", "database.busy_timeout_s"),
        ('[embeddings]\nmodell="x"', "embeddings.modell", "embeddings.model"),
        ("[embedings]", "embedings", "embeddings"),
        ('path="x"', "path", "database.path"),
        ("[[agents]]", "agents", "database, embeddings"),
        ("[database]\nzzzzzz=1", "database.zzzzzz", "busy_timeout_s"),
        ('[database.embedded]\npaht="x"', "database.embedded.paht", "database.path"),
        ('[database.cluster]\nx="x"', "database.cluster", "database"),
    ],
)
def test_an_unknown_name_in_a_file(text: str, name: str, near: str) -> None:
    message = refused(text)
    assert message.startswith(f"{name} ({os.path.abspath('pattern.toml')}) is not a ")
    assert near in message


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("PATTERN_DATABASE__PTH", "PATTERN_DATABASE__PATH"),
        ("PATTERN_EMBEDDING__MODEL", "PATTERN_EMBEDDINGS__MODEL"),
        ("PATTERN_DATABASE__REMOTE__URL", "PATTERN_DATABASE__URL"),
        ("pattern_database__pth", "PATTERN_DATABASE__PATH"),
        ("PATTERN___", "pattern config show"),
    ],
)
def test_an_unknown_variable(variable: str, near: str) -> None:
    message = refusal(environ={variable: CANARY})
    assert variable in message
    assert near in message


def test_a_variable_without_two_underscores_is_no_setting() -> None:
    loaded = load(environ={"PATTERN_TEST_DATA": "x", "PATTERN_WHATEVER": "x", "OTHER__KEY": "x"})
    assert loaded == load(environ={})


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("durabilty", "durability"),
        ("embedding_model", "embeddings"),
        ("embeding", "embeddings"),
        ("qqqq", "busy_timeout_s"),
    ],
)
def test_an_unknown_argument(name: str, near: str) -> None:
    message = refusal(**{name: CANARY})
    assert message.startswith(f"{name} is not an argument")
    assert near in message


def test_an_unknown_embedding_argument() -> None:
    message = refusal(embeddings={"modell": CANARY})
    assert "embeddings.modell (argument)" in message
    assert "embeddings.model?" in message
    assert "a dict or an EmbeddingConfig" in refusal(embeddings=3)


# --- values

WRONG = [
    ("database.type", "cluster", '"embedded" or "remote"'),
    ("database.path", 3, "path of a file"),
    ("database.url", [], "URL"),
    ("database.strict_mode", "perhaps", "true or false"),
    ("database.strict_mode", 1, "true or false"),
    ("database.durability", "half", '"full" or "relaxed"'),
    ("database.durability", 1, '"full" or "relaxed"'),
    ("database.busy_timeout_s", -1, "from 0 to"),
    ("database.busy_timeout_s", float("nan"), "from 0 to"),
    ("database.busy_timeout_s", float("inf"), "from 0 to"),
    ("database.busy_timeout_s", True, "from 0 to"),
    ("database.readers", 0, "from 1 to 64"),
    ("database.readers", 2.5, "from 1 to 64"),
    ("database.readers", True, "from 1 to 64"),
    ("database.readers", 10**30, "from 1 to 64"),
    ("database.key", 12345, "a string"),
    ("database.password", {"canary-hunter2": 1}, "a string"),
    ("embeddings.provider", "gemini", "local, none, fastembed"),
    ("embeddings.provider", "canary-hunter2", "local, none, fastembed"),
    ("embeddings.api_key", ["canary-hunter2"], "a string"),
    ("embeddings.base_url", "localhost:11434", "http:// or https://"),
    ("embeddings.dimensions", 0, "from 1 to"),
    ("embeddings.timeout_s", 0, "above 0"),
    ("embeddings.mode", "later", '"inline" or "queued"'),
    ("database.key", "", "is empty"),
    ("database.key", "a\0canary-hunter2", "NUL"),
    ("embeddings.model", " ", "is empty"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), WRONG)
def test_a_wrong_argument(key: str, value: object, allowed: str) -> None:
    section, _, name = key.partition(".")
    given = {name: value} if section == "database" else {"embeddings": {name: value}}
    message = refusal(**given)
    assert f"{name} (argument)" in message
    assert allowed in message


@pytest.mark.parametrize(("key", "value", "allowed"), WRONG)
def test_a_wrong_config_made_by_hand(key: str, value: Any, allowed: str) -> None:
    section, _, name = key.partition(".")
    made = (
        Config(database=DatabaseConfig(**{name: value}))
        if section == "database"
        else Config(embeddings=EmbeddingConfig(**{name: value}))
    )
    if value == KEYS[key].default:
        assert load(made, environ={}) == load(Config(), environ={})
        return
    assert allowed in refusal(made)


@pytest.mark.parametrize(
    ("key", "written", "allowed"),
    [
        ("database.type", '"cluster"', '"embedded" or "remote"'),
        ("database.path", "3", "path of a file"),
        ("database.migrate", '"true"', "true or false"),
        ("database.migrate", "1", "true or false"),
        ("database.readers", '"4"', "from 1 to 64"),
        ("database.readers", "2026-01-01", "from 1 to 64"),
        ("database.readers", "{}", "from 1 to 64"),
        ("database.busy_timeout_s", "nan", "from 0 to"),
        ("database.key", "0x1234", "a string"),
        ("database.password", '["canary-hunter2"]', "a string"),
        ("database.path", '""', "is empty"),
        ("embeddings.api_key", '"${EMPTY}"', "is empty"),
        ("database.readers", '"${WORD}"', "from 1 to 64"),
    ],
)
def test_a_wrong_value_in_a_file(key: str, written: str, allowed: str) -> None:
    section, _, name = key.partition(".")
    message = refused(f"[{section}]\n{name} = {written}", EMPTY="", WORD=CANARY)
    assert f"{key} ({os.path.abspath('pattern.toml')})" in message
    assert allowed in message


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("database.migrate", CANARY, "true or false"),
        ("database.migrate", "", "true or false"),
        ("database.readers", "four", "from 1 to 64"),
        ("database.readers", "2.5", "from 1 to 64"),
        ("database.readers", "9" * 5000, "from 1 to 64"),
        ("database.busy_timeout_s", "nan", "from 0 to"),
        ("database.key", "", "is empty"),
        ("embeddings.provider", "null", "local, none"),
    ],
)
def test_a_wrong_variable(key: str, value: str, allowed: str) -> None:
    variable = variable_of(key)
    message = refusal(environ={variable: value})
    assert f"{key} ({variable})" in message
    assert allowed in message


def test_variables_become_numbers_and_truth_values_in_any_case() -> None:
    loaded = load(
        environ={
            "PATTERN_DATABASE__MIGRATE": "FALSE",
            "PATTERN_DATABASE__STRICT_MODE": "Yes",
            "pattern_database__readers": "7",
            "PATTERN_DATABASE__BUSY_TIMEOUT_S": "1.5",
            "PATTERN_DATABASE__DURABILITY": "RELAXED",
            "PATTERN_EMBEDDINGS__DIMENSIONS": "384",
            "PATTERN_EMBEDDINGS__MODEL": "null",
        }
    )
    assert loaded.database.migrate is False
    assert loaded.database.strict_mode is True
    assert (loaded.database.readers, loaded.database.busy_timeout_s) == (7, 1.5)
    assert loaded.database.durability == "relaxed"
    assert (loaded.embeddings.dimensions, loaded.embeddings.model) == (384, "null")


def test_a_variable_in_two_spellings_is_refused() -> None:
    environ = {"PATTERN_DATABASE__READERS": "7", "pattern_database__readers": "8"}
    assert "given before" in refusal(environ=environ)


def test_every_setting_has_a_variable() -> None:
    for key, spec in KEYS.items():
        assert spec.allowed
        with pytest.raises(ConfigError, match=variable_of(key)):
            load(environ={variable_of(key): "\0"})


# --- files that cannot be read


def test_a_syntax_error_names_file_and_line() -> None:
    message = refused(f'[database]\npath="x"\nkey = {CANARY}\n')
    assert f"{os.path.abspath('pattern.toml')}, line 3," in message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[database]\nkey = "canary-hunter2', 2),
        ("[database]\n[database]", 2),
        ("a=" + "[" * 9999, 1),
    ],
)
def test_other_syntax_errors_have_a_line_too(text: str, line: int) -> None:
    assert f", line {line}," in refused(text)


def test_a_number_too_long_to_read_is_a_config_error() -> None:
    assert "is not TOML" in refused("[database]\nreaders=" + "9" * 5000)


def test_text_that_is_not_utf8_names_the_line() -> None:
    Path("pattern.toml").write_bytes(b'[database]\npath="\xff"')
    assert ", line 2, is not UTF-8" in refusal()


def test_a_byte_order_mark_is_skipped() -> None:
    Path("pattern.toml").write_bytes(b"\xef\xbb\xbf[database]\nreaders=9")
    assert load(environ={}).database.readers == 9


def test_a_file_that_was_named_must_be_there() -> None:
    assert "No such file" in refusal(config_file="gone.toml")
    assert "PATTERN_CONFIG" in refusal(environ={"PATTERN_CONFIG": "gone.toml"})
    assert "cannot be read" in refusal(config_file=".")
    assert "cannot be read" in refusal(config_file="a\0b")


def test_a_section_that_is_no_table() -> None:
    assert "must be a table" in refused("database=3")
    assert "must be a table" in refused("[[embeddings]]")


# --- combinations


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"type": "embedded", "url": "ws://h"}, 'write "remote"'),
        ({"type": "embedded", "url": "postgresql://h/db"}, 'write "remote"'),
        ({"type": "remote"}, "no database.url"),
        ({"type": "remote", "path": "x.db"}, 'write "embedded"'),
        ({"type": "remote", "url": "x.db"}, 'write "embedded"'),
        ({"type": "remote", "url": "mem://"}, 'write "embedded"'),
        ({"url": "ws://h", "key": CANARY}, "database.key (argument) encrypts"),
        ({"url": "turso://x", "key": CANARY}, "database.key (argument) encrypts"),
        ({"path": "x", "namespace": "n"}, "database.namespace (argument) is not for"),
        ({"path": "x", "database": "n"}, "database.database (argument) is not for"),
        ({"path": "x", "username": "n"}, "database.username (argument) is not for"),
        ({"path": "x", "password": CANARY}, "database.password (argument) is not for"),
        ({"username": "n"}, "database.username (argument) is not for"),
        ({"url": "turso://x", "namespace": "n"}, "is not for"),
        ({"url": "ws://h", "username": "ada"}, "go together"),
        ({"url": "mem://", "password": CANARY}, "go together"),
        ({"url": f"ws://ada:{CANARY}@h"}, "takes no login"),
        ({"url": f"postgresql://ada:{CANARY}@h", "password": CANARY}, "remove one of the two"),
        ({"url": "postgresql://ada@h/db", "username": "bob"}, "remove one of the two"),
        ({"embeddings": "openai"}, "OPENAI_API_KEY"),
        ({"embeddings": "cohere"}, "COHERE_API_KEY or CO_API_KEY"),
        ({"embeddings": {"api_key": CANARY}}, "embeddings.api_key (argument) is for"),
        ({"embeddings": {"provider": "candle", "base_url": "http://h"}}, "is for openai"),
        ({"embeddings": {"provider": "none", "model": "m"}}, "no use with provider none"),
    ],
)
def test_what_cannot_be_together(settings: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "postgresql://ada@h/db", "password": CANARY},
        {"url": "postgresql://h/db", "username": "ada", "namespace": "tenant"},
        {"url": "turso://x.db", "password": CANARY},
        {"url": "mem://", "namespace": "n", "database": "d"},
        {"type": "embedded", "url": "surrealkv://x"},
        {"path": ":memory:", "key": CANARY},
        {"embeddings": {"provider": "ollama", "base_url": "http://h:11434", "api_key": CANARY}},
    ],
)
def test_what_can_be_together(settings: dict[str, Any]) -> None:
    load(environ={}, **settings)


def test_a_setting_above_the_location_that_has_no_use_is_an_error() -> None:
    toml('[database]\nurl="ws://h"')
    message = refusal(environ={"PATTERN_DATABASE__KEY": CANARY})
    assert "database.key (PATTERN_DATABASE__KEY) encrypts" in message


@pytest.mark.parametrize(
    ("provider", "variable"),
    [("openai", "OPENAI_API_KEY"), ("cohere", "COHERE_API_KEY"), ("cohere", "CO_API_KEY")],
)
def test_a_provider_s_own_variable_gives_its_key(provider: str, variable: str) -> None:
    loaded = load(embeddings=provider, environ={variable: CANARY})
    assert loaded.embeddings.api_key == Secret(CANARY)
    assert origins(loaded)["embeddings.api_key"] == variable
    assert "needs a key" in refusal(embeddings=provider, environ={variable: ""})
