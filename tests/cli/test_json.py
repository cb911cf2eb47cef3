"""``--json`` of every verb is one JSON document on stdout, with times in ISO 8601."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation import collections
from tests.evaluation.trajectories import trajectories
from tests.rigs.turso import Server

from .conftest import Pattern
from .verbs import VERBS

LOCOMO = [
    {
        "sample_id": "conv-1",
        "conversation": {
            "speaker_a": "Ada",
            "speaker_b": "Tomas",
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                {"speaker": "Ada", "dia_id": "D1:1", "text": "I moved to Oslo."},
                {"speaker": "Tomas", "dia_id": "D1:2", "text": "How is the rain?"},
            ],
        },
        "qa": [
            {
                "question": "Where did Ada move?",
                "answer": "Oslo",
                "evidence": ["D1:1"],
                "category": 4,
            }
        ],
    }
]


def a_life(pattern: Pattern, turso_server: Server) -> Iterator[tuple[str, Any]]:
    """Every verb once, in an order that works: its words and the document it printed."""

    def run(words: str, *arguments: object) -> tuple[str, Any]:
        return words, pattern(*words.split(), *arguments, "--json").json

    Path("locomo.json").write_text(json.dumps(LOCOMO))
    yield run("init")
    yield run("config show")
    yield run("config check")
    words, user = run("user create", "Ada")
    yield words, user
    words, agent = run("agent create", "Flux", "--user", user["id"])
    yield words, agent
    words, other = run("agent create", "Vega")
    yield words, other
    words, group = run("group create", "Crew")
    yield words, group
    yield run("group add-member", group["id"], "Flux")
    yield run("group show", group["id"])
    yield run("group remove-member", group["id"], "Flux")
    for noun in ("user", "agent", "group"):
        yield run(f"{noun} list")
    yield run("user show", user["id"])
    yield run("agent show", "Flux")

    mine = ("--agent", "Flux")
    words, block = run("memory add", "human", "Ada climbs.", *mine)
    yield words, block
    yield run("memory edit", block["id"], "Ada paints.")
    yield run("memory append", block["id"], "And sings.")
    for verb in ("undo", "redo", "history", "show"):
        yield run(f"memory {verb}", block["id"])
    yield run("memory share", block["id"], "Vega")
    yield run("memory unshare", block["id"], "Vega")
    yield run("memory list", *mine)
    yield run("memory search", "paints", *mine)

    words, message = run("message add", "I moved to Oslo.", *mine)
    yield words, message
    yield run("message list", *mine)
    yield run("message search", "Oslo", *mine)
    yield run("search", "Oslo", *mine)
    yield run("message archive", message["id"], *mine)
    yield run("message repair")

    words, episode = run("episode start", "Fix the login test", *mine, "--domain", "web")
    yield words, episode
    told = ("--parameters", '{"path": "tests"}', "--duration-ms", "840", "--tool", "pytest")
    yield run("episode step", episode["id"], "run the tests", "--error", "1 failed", *told)
    run("episode step", episode["id"], "check it again", "--success", *told)
    run("episode step", episode["id"], "change it", "--tool", "edit", "--success")
    words, point = run("episode checkpoint", episode["id"], "lunch")
    yield words, point
    yield run("episode complete", episode["id"], "all green", "--artifact", "fix.patch")
    for verb in ("list", "metrics"):
        yield run(f"episode {verb}")
    yield run("episode show", episode["id"])
    yield run("episode search", "login", "--domain", "web")
    yield run("episode recall", "login", "--domain", "web")
    yield run("episode plan", "login", "--domain", "web", "--among", "pytest")
    yield run("episode on-error", "pytest", "1 failed", "--domain", "web")
    words, again = run("episode resume", point["id"])
    yield words, again
    yield run("episode abstain", again["episode"]["id"], "no key", "--signal", "403")
    yield run("episode archive", again["episode"]["id"])
    words, other = run("episode start", "Do it otherwise", *mine)
    yield run("episode next", other["id"])
    yield run("episode outlook", other["id"], "--finished")
    yield run("episode fail", other["id"], "no idea")
    yield run("episode delete", other["id"])
    words, patterns = run("learn list")
    yield words, patterns
    yield run("learn show", patterns[0]["id"])
    words, tips = run("learn recommend", "login test fails", "--domain", "web")
    yield words, tips
    used = tips["items"][0]["pattern"]["id"]
    yield run("learn feedback", tips["session_id"], "success", "--applied", used)
    yield run("learn decay", "--dry-run")

    yield run("import", "locomo", "locomo.json")
    yield run("status")
    yield run("db status")
    yield run("db migrate")
    yield run("db optimize")
    yield run("db vacuum")
    yield run("db reembed", "--embeddings", "local")
    synced = ("--db", f"turso://synced.db?sync={turso_server.url}")
    run("init", *synced)
    yield run("db sync", *synced)
    yield run("db copy", str(Path("pattern.db")), "copied.db", "--verify")
    yield run("db compare", str(Path("pattern.db")), "copied.db")
    yield run("tenant create", "ada")
    yield run("tenant list")
    yield run("tenant migrate")
    yield run("tenant drop", "ada", "--yes")
    yield run("memory delete", block["id"])
    yield run("group delete", group["id"])
    yield run("user delete", user["id"])
    yield run("agent delete", "Vega")
    yield run("demo")
    cranfield = collections.cranfield(Path("cranfield"))
    for words, measured in (
        ("eval locomo", "locomo.json"),
        ("eval cranfield", cranfield),
        ("eval beir", collections.beir(Path("beir"))),
    ):
        yield run(words, measured, "--embeddings", "none", "--mode", "keyword")
    told = ("--embeddings", "none", "--seeds", "0", "--quick")
    yield run("eval episodes", trajectories(Path()), *told)


def times(value: Any, name: str = "") -> Iterator[str]:
    """Every value that is named like a time."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from times(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from times(inner)
    elif isinstance(value, str) and name.endswith("_at"):
        yield value


@pytest.mark.slow
def test_every_verb_prints_one_json_document(pattern: Pattern, turso_server: Server) -> None:
    printed = list(a_life(pattern, turso_server))
    assert {words for words, _ in printed} == set(VERBS)
    found = [time for _, document in printed for time in times(document)]
    assert len(found) > 30
    assert all(datetime.fromisoformat(time).tzinfo is not None for time in found)


def test_json_holds_any_text_as_it_is(flux: str, pattern: Pattern) -> None:
    text = 'Zoë said "\\n" \u2028 \x1b[1m \U0001f600 {[,'
    pattern("message", "add", text)
    ran = pattern("message", "list", "--json")
    assert ran.json[0]["content"] == text
    assert "Zoë" in ran.out
