"""What the source must never contain, found in its syntax tree and not by searching its text."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import pattern_db

pytestmark = pytest.mark.slow

SOURCE = Path(pattern_db.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

UNSAFE_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
UNSAFE_ATTRIBUTES = {
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
    ("os", "system"),
    ("os", "popen"),
    ("pickle", "loads"),
    ("numpy", "load"),
    ("np", "load"),
}
SQL = re.compile(
    r"\b(SELECT\s|INSERT\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|CREATE\s+(TABLE|INDEX|TRIGGER|"
    r"VIRTUAL)|DROP\s+(TABLE|INDEX|TRIGGER)|ALTER\s+TABLE|PRAGMA\s|ATTACH\s|WHERE\s|"
    r"ORDER\s+BY|SAVEPOINT\s|ROLLBACK\s+TO)"
)


class Finding(NamedTuple):
    file: str
    line: int
    what: str


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def room(path: Path) -> str:
    """The first part of a file's place in the package: ``cli``, ``engines``, ``service.py``."""
    return path.relative_to(SOURCE).parts[0]


def found(rule: Callable[[ast.AST], str | None], files: list[Path] = FILES) -> list[Finding]:
    """Each node that a rule objects to."""
    return [
        Finding(path.relative_to(SOURCE).as_posix(), getattr(node, "lineno", 0), what)
        for path in files
        for node in ast.walk(tree(path))
        if (what := rule(node))
    ]


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name.split(".")[0] for alias in node.names)
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.split(".")[0]


def unsafe_import(node: ast.AST) -> str | None:
    return next((name for name in imported(node) if name in UNSAFE_MODULES), None)


def other_driver(node: ast.AST) -> str | None:
    return next((name for name in imported(node) if name in ("sqlite3", "aiosqlite")), None)


def unsafe_call(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    called = node.func
    if isinstance(called, ast.Name) and called.id in UNSAFE_CALLS:
        return called.id
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        pair = (called.value.id, called.attr)
        return ".".join(pair) if pair in UNSAFE_ATTRIBUTES else None
    return None


def a_shell(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    wanted = any(
        keyword.arg == "shell"
        and not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
        for keyword in node.keywords
    )
    return "shell" if wanted else None


def a_print(node: ast.AST) -> str | None:
    is_print = (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    )
    return "print" if is_print else None


def built_sql(node: ast.AST) -> str | None:
    """SQL put together from parts: f-strings, ``+``, ``%`` and ``format``."""
    parts: list[ast.AST] = []
    if isinstance(node, ast.JoinedStr):
        parts = list(node.values)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        parts = [node.left, node.right]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        joins = node.func.attr in ("format", "join", "replace")
        parts = [node.func.value, *node.args] if joins else []
    texts = [
        part.value
        for part in parts
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    is_sql = any(SQL.search(text) for text in texts)
    return next(iter(texts))[:60] if is_sql and len(texts) < len(parts) else None


def a_statement(node: ast.AST) -> str | None:
    """SQL as a whole text."""
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    begins = is_text and re.match(r"(SELECT|INSERT|UPDATE|DELETE|PRAGMA|CREATE|DROP)\s", node.value)
    return node.value[:60] if begins else None


def outside(*rooms: str) -> list[Path]:
    return [path for path in FILES if room(path) not in rooms]


def test_the_whole_package_is_read() -> None:
    assert len(FILES) > 60
    assert {"engines", "cli", "search", "repositories", "service.py"} <= {room(p) for p in FILES}


@pytest.mark.parametrize("rule", [unsafe_import, other_driver, unsafe_call, a_shell])
def test_the_source_has_no(rule: Callable[[ast.AST], str | None]) -> None:
    assert found(rule) == []


def test_only_the_command_line_and_the_demo_print() -> None:
    assert found(a_print, outside("cli", "demo")) == []


def test_only_engines_write_sql() -> None:
    assert found(built_sql, outside("engines")) == []
    assert found(a_statement, outside("engines")) == []


def test_only_engines_import_the_driver() -> None:
    def driver(node: ast.AST) -> str | None:
        return next((name for name in imported(node) if name == "apsw"), None)

    assert found(driver, outside("engines")) == []
    assert found(driver) != []


BAD = {
    unsafe_import: ["import pickle", "from marshal import loads", "import os, shelve"],
    other_driver: ["import sqlite3", "from sqlite3 import connect"],
    unsafe_call: ["eval(x)", "exec(x)", "yaml.load(x)", "os.system(x)", "np.load(x)"],
    a_shell: ["run(x, shell=True)", "run(x, shell=y)"],
    a_print: ["print(1)"],
    built_sql: [
        'f"SELECT * FROM {x}"',
        '"DELETE FROM x WHERE y = " + z',
        '"PRAGMA %s" % x',
        '"SELECT {}".format(x)',
        'f"a {b} WHERE c = {d}"',
    ],
    a_statement: ['"SELECT 1"', "'''UPDATE x SET y = 1'''"],
}
GOOD = {
    unsafe_import: ["import json", "from .pickle import x"],
    other_driver: ["import apsw"],
    unsafe_call: ["evaluate(x)", "store.execute(x)", "re.load(x)", "self.eval(x)"],
    a_shell: ["run(x)", "run(x, shell=False)"],
    a_print: ["console.print(1)", '"print(1)"'],
    built_sql: ['f"{x} was selected from {y}"', '"where is " + x', '"SELECT 1"', '", ".join(x)'],
    a_statement: ['"Select an agent."', '"UPDATED"'],
}


@pytest.mark.parametrize(
    ("rule", "source", "objects"),
    [
        (rule, source, objects)
        for cases, objects in ((BAD, True), (GOOD, False))
        for rule, sources in cases.items()
        for source in sources
    ],
)
def test_the_rules_find_what_they_are_for(
    rule: Callable[[ast.AST], str | None], source: str, objects: bool
) -> None:
    assert any(rule(node) for node in ast.walk(ast.parse(source))) == objects
