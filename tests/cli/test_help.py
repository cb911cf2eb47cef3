"""What ``--help`` promises, and that it is there at once."""

from __future__ import annotations

import dataclasses
import dis
import inspect
import subprocess
import sys
from types import CodeType
from typing import Any, get_args

import pytest

from pattern_db import (
    BlockType,
    Complexity,
    EpisodeStatus,
    MemberRole,
    OutcomeKind,
    PatternKind,
    PatternType,
    Permission,
    Role,
    TaskType,
)
from pattern_db.cli.app import app
from pattern_db.cli.evaluate import Measuring, Modes
from pattern_db.cli.found import Narrowing
from pattern_db.cli.options import Options
from pattern_db.cli.transfer import Format
from pattern_db.cli.transfer import Kind as FileKind
from pattern_db.cli.values import Kind, Mode
from pattern_db.embeddings.indexing import SEARCHABLE
from pattern_db.evaluation.asking import ModeChoice
from pattern_db.search.options import MODES
from pattern_db.transfer import FORMATS, KINDS

from .conftest import Pattern
from .verbs import VERBS, parameters

PROMISED = {
    *("demo", "init", "status", "search", "import"),
    *(f"eval {benchmark}" for benchmark in ("locomo", "cranfield", "beir", "episodes")),
    *(f"agent {verb}" for verb in ("create", "list", "show", "delete")),
    *(f"user {verb}" for verb in ("create", "list", "show", "delete")),
    *(f"group {verb}" for verb in ("create", "list", "show", "delete")),
    *("group add-member", "group remove-member"),
    *(f"memory {verb}" for verb in ("add", "list", "show", "edit", "append", "search", "history")),
    *(f"memory {verb}" for verb in ("undo", "redo", "share", "unshare", "delete")),
    *(f"message {verb}" for verb in ("add", "list", "search", "archive", "repair")),
    *(f"episode {verb}" for verb in ("start", "step", "complete", "fail", "abstain", "resume")),
    *(f"episode {verb}" for verb in ("checkpoint", "list", "show", "search", "metrics")),
    *(f"episode {verb}" for verb in ("archive", "delete")),
    *(f"episode {verb}" for verb in ("recall", "plan", "next", "outlook", "on-error")),
    *(f"learn {verb}" for verb in ("list", "show", "recommend", "feedback", "decay")),
    *(f"db {verb}" for verb in ("migrate", "status", "optimize", "vacuum", "reembed")),
    *("db copy", "db compare", "db sync"),
    *(f"tenant {verb}" for verb in ("create", "list", "drop", "migrate")),
    *("config show", "config check"),
}
EVERYWHERE = {"--db", "--embeddings", "--json", "--debug"}


def test_the_verbs_are_those_that_were_promised() -> None:
    assert set(VERBS) == PROMISED


@pytest.mark.parametrize("words", VERBS)
def test_every_verb_says_what_it_does_and_what_its_options_mean(
    words: str, pattern: Pattern
) -> None:
    shown = pattern(*words.split(), "--help")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith(f"Usage: pattern {words}")
    assert VERBS[words].help.strip()
    undescribed = [a.name for a in parameters(VERBS[words]) if not (a.parameter.help or "").strip()]
    assert undescribed == []


@pytest.mark.parametrize("words", VERBS)
def test_every_verb_takes_the_options_that_all_take(words: str) -> None:
    names = {name for argument in parameters(VERBS[words]) for name in argument.names}
    assert names >= EVERYWHERE


@pytest.mark.parametrize("words", VERBS)
def test_every_verb_reads_every_option_it_takes(words: str) -> None:
    function = VERBS[words].default_command
    assert set(inspect.signature(function).parameters) <= _names_read(function.__code__)


def test_every_way_to_narrow_a_search_and_to_measure_it_is_used() -> None:
    fields = {field.name for field in dataclasses.fields(Narrowing)}
    assert fields == _attributes_read(Narrowing.asked.__code__) & fields | {"explain"}
    asked = {field.name for field in dataclasses.fields(Measuring)}
    assert asked == _attributes_read(Measuring.asked.__code__) & asked
    assert {field.name for field in dataclasses.fields(Options)} == {
        name.removeprefix("--") for name in EVERYWHERE | {"--tenant"}
    }


def _names_read(code: CodeType) -> set[str]:
    """The local names that a function or one inside it reads."""
    loads = {i.argval for i in dis.get_instructions(code) if i.opname.startswith("LOAD_")}
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {name for name in loads if isinstance(name, str)}.union(*map(_names_read, inner))


def _attributes_read(code: CodeType) -> set[Any]:
    return {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_ATTR"}


def test_choices_are_those_of_python() -> None:
    assert set(get_args(Kind)) == set(SEARCHABLE)
    assert set(get_args(Mode)) == set(MODES)
    assert set(get_args(FileKind)) == {*KINDS, "episodes"}
    assert set(get_args(Format)) == set(FORMATS)
    assert get_args(Modes) == get_args(ModeChoice)
    assert set(get_args(Modes)) == {*MODES, "all"}


@pytest.mark.parametrize(
    ("words", "option", "kind"),
    [
        ("message add x", "--role", Role),
        ("memory add x", "--type", BlockType),
        ("memory add x", "--permission", Permission),
        ("group create x", "--pattern", PatternType),
        ("episode start x", "--type", TaskType),
        ("episode start x", "--complexity", Complexity),
        ("episode list", "--status", EpisodeStatus),
        ("episode list", "--outcome", OutcomeKind),
        ("learn list", "--type", PatternKind),
        ("group add-member x y", "--role", MemberRole),
    ],
)
def test_choices_are_written_as_python_and_json_write_them(
    words: str, option: str, kind: Any
) -> None:
    for member in kind:
        _, bound, _ = app.parse_args([*words.split(), option, member.value])
        assert member in bound.kwargs.values()


def test_the_first_words_say_where_to_begin(pattern: Pattern) -> None:
    for line in ((), ("--help",)):
        shown = pattern(*line)
        assert "pattern demo" in shown.out
        assert "--db" in shown.out
    assert pattern("memory").out.startswith("Usage: pattern memory COMMAND")


def test_help_and_version_load_neither_numbers_nor_models_nor_a_driver() -> None:
    script = (
        "import sys; from pattern_db.cli import main; main(sys.argv[1:]); "
        "print(sorted({'numpy', 'onnxruntime', 'tokenizers', 'apsw'} & set(sys.modules)))"
    )
    for argument in ("--help", "--version"):
        command = [sys.executable, "-c", script, argument]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        assert ran.stdout.splitlines()[-1] == "[]"


def test_the_version_is_that_of_the_package(pattern: Pattern) -> None:
    import pattern_db

    assert pattern("--version").out == f"pattern-db {pattern_db.__version__}\n"
