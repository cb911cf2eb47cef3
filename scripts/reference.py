"""Write docs/reference/ from the code: the Python interface, the data model, the settings.

python scripts/reference.py
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pattern_db
from pattern_db import PatternDB, errors, evaluation, repositories, transfer
from pattern_db.config import Config, describe
from pattern_db.config.names import variable_of
from pattern_db.repositories.batches import Batches
from pattern_db.repositories.summaries import Summaries
from pattern_db.schema import Table, all_tables
from pattern_db.tenants import Tenants

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
REPOSITORIES = [
    ("db.users", repositories.Users),
    ("db.agents", repositories.Agents),
    ("db.groups", repositories.Groups),
    ("db.memory", repositories.Memory),
    ("db.archival", repositories.Archival),
    ("db.conversations", repositories.Conversations),
    ("db.messages", repositories.Messages),
    ("db.messages.batches", Batches),
    ("db.messages.summaries", Summaries),
    ("db.tool_calls", repositories.ToolCalls),
    ("db.tenants", Tenants),
]
_FUNCTION = re.compile(r"<function (\w+) at 0x[0-9a-f]+>")
MADE = "Written by `scripts/reference.py` from the code; do not edit.\n"


def doc(value: object) -> str:
    return inspect.getdoc(value) or ""


def signature(name: str, function: object) -> str:
    shown = str(inspect.signature(function))  # type: ignore[arg-type]
    for noise in ("self, ", "(self)", "builtins.", "'"):
        shown = shown.replace(noise, "()" if noise == "(self)" else "")
    return name + _FUNCTION.sub(r"\1", shown)


def methods(kind: type) -> list[str]:
    public = [
        (name, member)
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    ]
    return [f"- `{signature(name, member)}`\n\n{_indent(doc(member))}\n" for name, member in public]


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.splitlines())


def python_page() -> str:
    parts = [f"# Python\n\n{MADE}", f"## pattern_db.open\n\n`{signature('open', pattern_db.open)}`"]
    parts.append(doc(pattern_db.open))
    parts += [f"\n## PatternDB\n\n{doc(PatternDB)}\n", *methods(PatternDB)]
    for name, kind in REPOSITORIES:
        parts += [f"\n## {name}\n\n{doc(kind)}\n", *methods(kind)]
    for module in (evaluation, transfer):
        parts.append(f"\n## {module.__name__}\n\n{doc(module)}\n")
        for name in module.__all__:
            function = getattr(module, name)
            if inspect.isfunction(function):
                parts.append(f"- `{signature(name, function)}`\n\n{_indent(doc(function))}\n")
    parts.append(f"\n## Errors\n\n```text\n{errors.__doc__}```")
    return "\n".join(parts) + "\n"


def model_page() -> str:
    parts = [f"# The data model\n\n{MADE}"]
    for table in all_tables():
        parts += [f"\n## {table.name}\n", doc(table.model), "", *_columns(table), *_indexes(table)]
    return "\n".join(parts) + "\n"


def _columns(table: Table) -> list[str]:
    lines = ["| column | type | |", "|---|---|---|"]
    for column in table.columns:
        notes = ["may be absent"] if column.nullable else []
        if column.references:
            notes.append(f"→ {column.references.table} ({column.references.on_delete})")
        if column.ranks:
            notes.append(" < ".join(column.ranks))
        lines.append(f"| {column.name} | {column.type.value} | {'; '.join(notes)} |")
    return lines


def _indexes(table: Table) -> list[str]:
    lines = [f"\nKey: {', '.join(table.key)}."]
    for index in table.indexes:
        kind = "Unique" if index.unique else "Index"
        live = " among live rows" if index.live_only else ""
        lines.append(f"{kind}: {', '.join(index.columns)}{live}.")
    if table.text is not None:
        lines.append(f"Found by text and meaning: {', '.join(table.text.columns)}.")
    return lines


def settings_page() -> str:
    lines = [f"# Settings\n\n{MADE}", "| key | variable | default |", "|---|---|---|"]
    for key, value, _origin in describe(Config()):
        lines.append(f"| `{key}` | `{variable_of(key)}` | {value} |")
    return "\n".join(lines) + "\n"


PAGES = {"python.md": python_page, "data-model.md": model_page, "settings.md": settings_page}


def main() -> None:
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
