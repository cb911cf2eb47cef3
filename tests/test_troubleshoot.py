"""The messages that the page about messages quotes are those of the program."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "howto" / "troubleshoot.md"


def texts() -> Iterator[str]:
    """Every string in the source; what is filled in is an ellipsis."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                )


def test_every_quoted_message_is_one_of_ours() -> None:
    quoted = [
        line.removeprefix("> ")
        for line in PAGE.read_text("utf-8").splitlines()
        if line.startswith("> ")
    ]
    ours = set(texts())
    assert len(quoted) > 15
    assert [message for message in quoted if message not in ours] == []


def test_every_verb_it_names_exists() -> None:
    from tests.cli.verbs import VERBS

    pages = (
        PAGE,
        *(PAGE.with_name(name) for name in ("migrate.md", "multi-tenant.md", "scale-out.md")),
    )
    for page in pages:
        for words in re.findall(r"pattern ((?:db|tenant|config) [a-z]+)", page.read_text("utf-8")):
            assert words in VERBS, (page.name, words)
