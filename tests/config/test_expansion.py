"""``${VAR}`` in a file."""

from __future__ import annotations

import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pattern_db.config import load
from pattern_db.config.expansion import expand
from pattern_db.errors import ConfigError

from .conftest import CANARY, configured, refusal, refused, toml

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
