"""Settings: where they come from, and which of them counts."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pattern_db import config
from pattern_db.config import Config, DatabaseConfig, EmbeddingConfig, Secret, describe, load
from pattern_db.config.settings import KEYS
from pattern_db.errors import ConfigError

from .conftest import CANARY, configured, origins, refusal, refused, toml

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
