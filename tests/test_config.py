"""Settings: their sources, their precedence, their errors, and that no secret leaves them."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pattern_db import config
from pattern_db.config import Config, DatabaseConfig, EmbeddingConfig, Secret, check, describe, load
from pattern_db.config.expansion import expand
from pattern_db.config.names import variable_of
from pattern_db.config.settings import KEYS, SECRETS
from pattern_db.config.sources import argument_layer
from pattern_db.config.urls import SCHEMES, redacted
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


# --- defaults


def test_without_anything_it_is_a_file_here_and_the_local_provider() -> None:
    loaded = load(environ={})
    assert loaded.database.location == os.path.abspath("pattern.db")
    assert loaded.database.engine == "sqlite"
    assert loaded.database.type == "embedded"
    assert loaded.database.durability == "full"
    assert loaded.database.busy_timeout_s == 5.0
    assert 2 <= loaded.database.readers <= 4
    assert loaded.database.migrate
    assert not loaded.database.strict_mode
    assert loaded.embeddings.provider == "local"
    assert loaded.embeddings.timeout_s == 60
    assert loaded.embeddings.mode == "inline"
    assert set(origins(loaded).values()) == {"default"}


def test_the_environment_is_the_process_s_unless_another_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATTERN_DATABASE__READERS", "3")
    assert load().database.readers == 3
    assert load(environ={"PATTERN_DATABASE__READERS": "4"}).database.readers == 4


# --- the seeds' forms


def test_the_embedded_form_of_the_seeds() -> None:
    loaded = configured('[database]\ntype="embedded"\npath="./pattern.db"\nstrict_mode=false')
    assert loaded.database.location == os.path.abspath("pattern.db")
    assert loaded.database.engine == "sqlite"


def test_the_remote_form_of_the_seeds() -> None:
    loaded = configured(
        """
        [database]
        type = "remote"
        url = "ws://localhost:8000"
        username = "root"
        password = "root"
        namespace = "pattern"
        database = "main"
        """
    ).database
    assert (loaded.engine, loaded.type, loaded.url) == ("surreal", "remote", "ws://localhost:8000")
    assert (loaded.namespace, loaded.database, loaded.username) == ("pattern", "main", "root")
    assert loaded.password == Secret("root")


def test_the_remote_form_of_the_seeds_with_variables() -> None:
    loaded = configured(
        """
        [database]
        type = "remote"
        url = "${SURREALDB_URL}"
        username = "${SURREALDB_USER}"
        password = "${SURREALDB_PASS}"
        """,
        SURREALDB_URL="wss://db.example",
        SURREALDB_USER="ada",
        SURREALDB_PASS=CANARY,
    ).database
    assert (loaded.url, loaded.username) == ("wss://db.example", "ada")
    assert loaded.password == Secret(CANARY)


def test_the_embedding_forms_of_the_seeds() -> None:
    local = configured('[embeddings]\nprovider="candle"\nmodel="BAAI/bge-small-en-v1.5"')
    assert local.embeddings.provider == "candle"
    cloud = configured(
        '[embeddings]\nprovider="openai"\nmodel="text-embedding-3-small"\n'
        'api_key="${OPENAI_API_KEY}"',
        OPENAI_API_KEY=CANARY,
    ).embeddings
    assert (cloud.model, cloud.api_key) == ("text-embedding-3-small", Secret(CANARY))


NESTED = """
[database.embedded]
path = "mind.db"
[database.remote]
url = "ws://localhost:8000"
namespace = "pattern"
"""


@pytest.mark.parametrize("name", ["type", "backend"])
def test_nested_tables_are_chosen_by_type(name: str) -> None:
    assert configured(f'[database]\n{name}="embedded"\n{NESTED}').database.engine == "sqlite"
    remote = configured(f'[database]\n{name}="remote"\n{NESTED}').database
    assert (remote.url, remote.namespace) == ("ws://localhost:8000", "pattern")


def test_nested_tables_are_chosen_by_a_variable_before_the_file() -> None:
    text = f'[database]\ntype="embedded"\n{NESTED}'
    chosen = configured(text, PATTERN_DATABASE__TYPE="remote").database
    assert chosen.url == "ws://localhost:8000"


def test_one_nested_table_needs_no_type() -> None:
    assert configured('[database.embedded]\npath="a.db"').database.location.endswith("a.db")
    assert configured('[database.remote]\nurl="ws://h"').database.type == "remote"


def test_two_nested_tables_need_a_type() -> None:
    assert "choose one with `type`" in refused(NESTED)


def test_a_setting_in_both_places_is_given_twice() -> None:
    message = refused('[database]\npath="a.db"\n[database.embedded]\npath="b.db"')
    assert "database.embedded.path" in message
    assert "given before" in message


def test_the_unused_nested_table_is_checked_too() -> None:
    text = '[database]\ntype="embedded"\n[database.embedded]\npath="a"\n[database.remote]\n'
    assert "database.remote.ulr" in refused(text + 'ulr="ws://h"')
    assert "SECRET_URL" in refused(text + 'url="${SECRET_URL}"')


# --- precedence


def test_each_source_beats_the_one_below() -> None:
    toml("[database]\nreaders=2\nbusy_timeout_s=1\nmigrate=false")
    environ = {"PATTERN_DATABASE__READERS": "3", "PATTERN_DATABASE__BUSY_TIMEOUT_S": "2"}
    loaded = load(environ=environ, readers=4)
    assert loaded.database.readers == 4
    assert loaded.database.busy_timeout_s == 2
    assert loaded.database.migrate is False
    found = origins(loaded)
    assert found["database.readers"] == "argument"
    assert found["database.busy_timeout_s"] == "PATTERN_DATABASE__BUSY_TIMEOUT_S"
    assert found["database.migrate"] == os.path.abspath("pattern.toml")
    assert found["database.durability"] == "default"


def test_the_file_is_the_argument_s_then_the_variable_s_then_here_then_home(home: Path) -> None:
    named = [
        toml("[database]\nreaders=11", "argument.toml"),
        toml("[database]\nreaders=12", "variable.toml"),
        toml("[database]\nreaders=13", "pattern.toml"),
        toml("[database]\nreaders=14", home / ".config/pattern/config.toml"),
    ]
    variable = {"PATTERN_CONFIG": "variable.toml"}
    found = [
        load(config_file="argument.toml", environ=variable),
        load(environ=variable),
        load(environ={"PATTERN_CONFIG": ""}),
    ]
    named[2].unlink()
    found.append(load(environ={}))
    assert [loaded.database.readers for loaded in found] == [11, 12, 13, 14]


def test_no_file_is_read_when_the_empty_device_is_named() -> None:
    toml("[database]\nreaders=13")
    assert load(config_file=os.devnull, environ={}).database.readers != 13


def test_a_source_beats_the_location_of_file_and_environment() -> None:
    toml('[database]\ntype="remote"\nurl="ws://one"')
    environ = {"PATTERN_DATABASE__URL": "postgresql://two/db"}
    assert load(environ=environ).database.engine == "postgres"
    assert load(environ=environ).database.type == "remote"
    loaded = load("mind.db", environ=environ).database
    assert (loaded.engine, loaded.type, loaded.url) == ("sqlite", "embedded", None)
    assert loaded.location == os.path.abspath("mind.db")


def test_a_type_without_a_location_does_not_stand_in_the_way_of_a_path() -> None:
    toml('[database]\ntype="remote"')
    environ = {"PATTERN_DATABASE__URL": "ws://two"}
    for variables in ({}, environ):
        assert load("mind.db", environ=variables).database.type == "embedded"


SERVER = (
    '[database]\nurl="ws://one"\nusername="ada"\npassword="canary-hunter2"\nnamespace="tenant"\n'
)


def test_a_login_is_not_sent_to_another_server() -> None:
    toml(SERVER)
    loaded = load("ws://two", environ={}).database
    assert (loaded.username, loaded.password) == (None, None)
    assert loaded.namespace == "tenant"


def test_a_login_stays_when_the_same_server_is_named_again() -> None:
    toml(SERVER)
    loaded = load("ws://one", environ={}).database
    assert (loaded.username, loaded.password) == ("ada", Secret(CANARY))


def test_a_login_from_above_the_replaced_location_goes_too() -> None:
    toml('[database]\nurl="ws://one"')
    login = {"PATTERN_DATABASE__USERNAME": "ada", "PATTERN_DATABASE__PASSWORD": CANARY}
    assert load(environ=login).database.username == "ada"
    assert load("ws://two", environ=login).database.username is None


def test_a_login_that_names_no_server_is_for_every_one() -> None:
    login = {"PATTERN_DATABASE__USERNAME": "ada", "PATTERN_DATABASE__PASSWORD": CANARY}
    loaded = load("ws://two", environ=login).database
    assert (loaded.username, loaded.password) == ("ada", Secret(CANARY))
    toml('[database]\ntype="remote"\nusername="bob"\npassword="x"')
    environ = {"PATTERN_DATABASE__URL": "ws://two"}
    assert load(environ=environ).database.username == "bob"


def test_what_a_file_says_of_a_server_is_left_out_when_a_path_is_opened() -> None:
    toml(SERVER)
    loaded = load("mind.db", environ={}).database
    assert loaded == load("mind.db", environ={}, config_file=os.devnull).database


def test_an_encryption_key_holds_for_every_file_and_is_left_out_for_a_server() -> None:
    toml(f'[database]\npath="one.db"\nkey="{CANARY}"')
    assert load("two.db", environ={}).database.key == Secret(CANARY)
    assert load("ws://one", environ={}).database.key is None


def test_a_provider_from_above_replaces_what_was_said_of_another() -> None:
    toml(
        '[embeddings]\nprovider="openai"\nmodel="text-embedding-3-small"\ndimensions=512\n'
        f'api_key="{CANARY}"\ntimeout_s=5'
    )
    for loaded in (
        load(environ={"PATTERN_EMBEDDINGS__PROVIDER": "none"}),
        load(environ={}, embeddings="none"),
        load(environ={"PATTERN_EMBEDDINGS__MODEL": "m"}, embeddings={"provider": "none"}),
    ):
        assert loaded.embeddings == EmbeddingConfig(provider="none", timeout_s=5)
    again = load(environ={"PATTERN_EMBEDDINGS__PROVIDER": "openai"}).embeddings
    assert again.model == "text-embedding-3-small"


# --- ${VAR}


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)
values = st.text(max_size=40)


@given(values)
def test_text_without_references_is_itself(text: str) -> None:
    plain = text.replace("${", "")
    while "${" in plain:
        plain = plain.replace("${", "")
    assert expand(plain, {}, subject="k") == plain


@given(values)
def test_escaped_text_expands_to_itself(text: str) -> None:
    assert expand(text.replace("${", "$${"), {}, subject="k") == text


@given(
    names, values, st.text(alphabet="ab }{:-.", max_size=9), st.text(alphabet="xy}{:-", max_size=9)
)
def test_a_value_is_put_in_as_it_is(name: str, value: str, before: str, after: str) -> None:
    assert (
        expand(f"{before}${{{name}}}{after}", {name: value}, subject="k") == before + value + after
    )


@given(names, values.filter(lambda text: "}" not in text))
def test_a_default_is_for_what_is_unset_or_empty(name: str, default: str) -> None:
    text = f"${{{name}:-{default}}}"
    assert expand(text, {}, subject="k") == default
    assert expand(text, {name: ""}, subject="k") == default
    assert expand(text, {name: "v"}, subject="k") == "v"


@given(st.lists(st.tuples(names, values), max_size=4))
def test_every_reference_is_replaced(pairs: list[tuple[str, str]]) -> None:
    environ = dict(pairs)
    text = "/".join(f"${{{name}}}" for name in environ)
    assert expand(text, environ, subject="k") == "/".join(environ.values())


@given(values)
def test_expansion_answers_or_refuses_and_never_fails_otherwise(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(expand(text, {}, subject="k"), str)


@pytest.mark.parametrize(
    "text", ["${", "${}", "${A", "${A B}", "${1A}", "${A:x}", "${-}", "${A-b}"]
)
def test_a_broken_reference_is_refused(text: str) -> None:
    message = refused(f'[database]\npath="{CANARY}{text}"')
    assert "database.path" in message
    assert "`${VARIABLE}`" in message


def test_a_missing_variable_is_named_with_its_key() -> None:
    message = refused(f'[embeddings]\napi_key="{CANARY}${{NOT_THERE}}"')
    assert "embeddings.api_key" in message
    assert "NOT_THERE" in message
    assert os.path.abspath("pattern.toml") in message


def test_a_missing_variable_is_an_error_even_where_it_would_not_be_used() -> None:
    toml('[database]\nurl="${NOT_THERE}"')
    assert "NOT_THERE" in refusal("mind.db")


def test_expanded_text_becomes_a_number_or_truth_value() -> None:
    loaded = configured(
        '[database]\nreaders="${N}"\nmigrate="${M:-false}"\nbusy_timeout_s="${T}"', N="7", T="0.5"
    ).database
    assert (loaded.readers, loaded.migrate, loaded.busy_timeout_s) == (7, False, 0.5)


def test_only_the_file_expands_references() -> None:
    assert load("${A}.db", environ={}).database.location.endswith("${A}.db")
    environ = {"PATTERN_DATABASE__PATH": "${A}.db"}
    assert load(environ=environ).database.location.endswith("${A}.db")
    assert configured('[database]\npath="$${A}.db"').database.location.endswith("/${A}.db")


# --- paths


def test_paths_start_where_they_were_written(tmp_path: Path, home: Path) -> None:
    other = tmp_path / "other"
    file = toml('[database]\npath="data/a.db"\n[embeddings]\ncache_dir="c"', other / "p.toml")
    loaded = load(config_file=file, environ={})
    assert loaded.database.location == str(other / "data/a.db")
    assert loaded.embeddings.cache_dir == str(other / "c")
    environ = {"PATTERN_DATABASE__PATH": "e.db", "PATTERN_EMBEDDINGS__CACHE_DIR": "~/c"}
    loaded = load(config_file=file, environ=environ)
    assert loaded.database.location == os.path.abspath("e.db")
    assert loaded.embeddings.cache_dir == str(home / "c")


def test_url_paths_in_a_file_start_at_the_file(tmp_path: Path) -> None:
    file = toml('[database]\nurl="surrealkv://kv"', tmp_path / "other/p.toml")
    loaded = load(config_file=file, environ={}).database
    assert loaded.url == f"surrealkv://{tmp_path}/other/kv"


def test_the_home_directory_is_expanded_everywhere(home: Path) -> None:
    expected = str(home / "a.db")
    assert load("~/a.db", environ={}).database.location == expected
    assert load(Path("~/a.db"), environ={}).database.location == expected
    assert load("sqlite://~/a.db", environ={}).database.location == expected
    assert load(environ={"PATTERN_DATABASE__PATH": "~/a.db"}).database.location == expected
    assert configured('[database]\npath="~/a.db"').database.location == expected


def test_a_loaded_location_stays_when_the_directory_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded = load(environ={})
    monkeypatch.chdir(tmp_path)
    assert load(loaded, environ={}) == loaded
    assert loaded.database.location == str(tmp_path / "here/pattern.db")


# --- locations

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


# --- what load takes


def test_none_is_not_given() -> None:
    assert load(None, environ={}, key=None, url=None, embeddings=None) == load(environ={})
    toml("[database]\nreaders=9")
    assert load(environ={}, readers=None).database.readers == 9
    assert load(environ={}, embeddings={"model": None}).embeddings.model is None


def test_embeddings_are_a_name_a_dict_or_a_config() -> None:
    toml('[embeddings]\nprovider="fastembed"\nmodel="m"\ntimeout_s=5')
    by_name = load(environ={}, embeddings="ollama").embeddings
    assert (by_name.provider, by_name.model, by_name.timeout_s) == ("ollama", None, 5)
    by_dict = load(environ={}, embeddings={"model": "n"}).embeddings
    assert (by_dict.provider, by_dict.model) == ("fastembed", "n")
    assert load(environ={}, embeddings=EmbeddingConfig()).embeddings == EmbeddingConfig()


def test_a_config_is_complete_by_itself() -> None:
    toml("[database]\nreaders=9")
    made = Config(database=DatabaseConfig(path="a.db", readers=3))
    loaded = load(made, environ={"PATTERN_DATABASE__READERS": "8"}, durability="relaxed")
    assert (loaded.database.readers, loaded.database.durability) == (3, "relaxed")
    assert origins(loaded)["database.readers"] == "argument"
    assert "give one of them" in refusal(made, config_file="pattern.toml")


def test_a_config_made_by_hand_is_checked_and_its_url_is_understood() -> None:
    loaded = load(Config(DatabaseConfig(url="postgresql://h/db")), environ={})
    assert loaded.database.type == "remote"
    assert "takes no login" in refusal(Config(DatabaseConfig(url=f"ws://a:{CANARY}@h")))
    assert DatabaseConfig(url="postgresql://h/db").engine == "postgres"
    assert DatabaseConfig(url="a.db").location == os.path.abspath("a.db")
    assert DatabaseConfig(path="a.db").location == os.path.abspath("a.db")
    assert DatabaseConfig().location == os.path.abspath("pattern.db")
    with pytest.raises(ConfigError, match="unknown scheme"):
        _ = DatabaseConfig(url="mysql://h").engine


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"path": ":memory:", "key": "k"},
        {"url": "ws://h", "username": "u", "password": "p", "embeddings": "none"},
        {
            "url": "turso://a b?x=1",
            "readers": 9,
            "embeddings": {"provider": "ollama", "model": "m"},
        },
        {"url": "surrealkv://a", "embeddings": {"provider": "openai", "api_key": "k"}},
    ],
)
def test_loading_what_was_loaded_changes_nothing(settings: dict[str, Any]) -> None:
    loaded = load(environ={}, **settings)
    again = load(loaded, environ={})
    assert again == loaded
    assert hash(again) == hash(loaded)
    assert describe(again) == describe(loaded)


def test_another_location_over_a_loaded_config() -> None:
    loaded = load("ws://h", username="u", password=CANARY, environ={})
    moved = load(loaded, path="a.db", environ={}).database
    assert (moved.engine, moved.type, moved.username) == ("sqlite", "embedded", None)


def test_configs_are_immutable_values() -> None:
    loaded = load(environ={})
    assert loaded == load(environ={}) != load(environ={}, readers=9)
    assert loaded != "config"
    with pytest.raises(AttributeError):
        loaded.database.readers = 3  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(loaded)) == loaded
    assert copy.deepcopy(loaded) == loaded


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


# --- the module


def test_the_public_names_are_sorted_and_there() -> None:
    assert config.__all__ == sorted(config.__all__)
    assert all(hasattr(config, name) for name in config.__all__)


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, msgspec, pathlib, pattern_db; before = set(sys.modules); "
        "import pattern_db.config; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {name for name in loaded if not name.startswith("pattern_db.")}


@given(
    st.dictionaries(
        st.sampled_from([*KEYS, "database.x", "other.y"]),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.binary()
        ),
        max_size=4,
    )
)
def test_any_arguments_give_a_config_or_a_config_error(settings: dict[str, object]) -> None:
    arguments: dict[str, Any] = {}
    for key, value in settings.items():
        section, _, name = key.partition(".")
        target = arguments if section != "embeddings" else arguments.setdefault("embeddings", {})
        target[name] = value
    try:
        loaded = load(config_file=os.devnull, environ={}, **arguments)
    except ConfigError:
        return
    assert load(loaded, environ={}) == loaded
