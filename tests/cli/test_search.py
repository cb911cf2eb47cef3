"""``pattern search``, ``message search`` and ``memory search``."""

from __future__ import annotations

import pytest

from .conftest import Pattern


@pytest.fixture
def life(flux: str, pattern: Pattern) -> str:
    """What Flux knows about Oslo; gives its id."""
    for day, (speaker, role, text, metadata) in enumerate(
        [
            ("Ada", "user", "I moved to Oslo.", '{"tags": ["home", "news"], "level": 3}'),
            ("Tomas", "user", "Oslo is cold.", '{"tags": ["home"], "level": "3"}'),
            ("Ada", "assistant", "Oslo it is.", '{"city": "Oslo"}'),
        ],
        1,
    ):
        pattern(
            *("message", "add", text, "--speaker", speaker, "--role", role),
            *("--at", f"2025-05-0{day}", "--metadata", metadata),
        )
    pattern("memory", "add", "human", "Ada lives in Oslo.", "--metadata", '{"level": 3}')
    return flux


def found(pattern: Pattern, *options: str, verb: tuple[str, ...] = ("search",)) -> set[str]:
    hits = pattern(*verb, "Oslo", *options, "--json").json
    return {hit["item"]["content"] for hit in hits}


ALL = {"I moved to Oslo.", "Oslo is cold.", "Oslo it is.", "Ada lives in Oslo."}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ALL),
        (["--kind", "memory"], {"Ada lives in Oslo."}),
        (["--kind", "memory", "--kind", "message"], ALL),
        (["--kind", "archival"], set()),
        (["--role", "assistant"], {"Oslo it is."}),
        (["--speaker", "Ada"], {"I moved to Oslo.", "Oslo it is."}),
        (["--speaker", "Ada", "--speaker", "Tomas"], ALL - {"Ada lives in Oslo."}),
        (["--kind", "message", "--since", "2025-05-02"], {"Oslo is cold.", "Oslo it is."}),
        (["--since", "2025-05-01", "--until", "2025-05-02"], {"I moved to Oslo."}),
        (["--tag", "home"], {"I moved to Oslo.", "Oslo is cold."}),
        (["--tag", "home", "--tag", "news"], {"I moved to Oslo."}),
        (["--where", "level=3"], {"I moved to Oslo.", "Ada lives in Oslo."}),
        (["--where", 'level="3"'], {"Oslo is cold."}),
        (["--where", "city=Oslo"], {"Oslo it is."}),
        (["--where", "city=Oslo", "--where", "level=3"], set()),
        (["--mode", "keyword", "--role", "user"], {"I moved to Oslo.", "Oslo is cold."}),
        (["--speaker", "ADA"], {"I moved to Oslo.", "Oslo it is."}),
        (["--where", 'level={"$gte": 3}'], {"I moved to Oslo.", "Ada lives in Oslo."}),
        (["--where", 'city={"$in": ["Oslo", "Rome"]}'], {"Oslo it is."}),
        (["--where", 'level={"$ne": 3}'], {"Oslo is cold."}),
        (["--as-of", "2025-05-02T12:00"], {"I moved to Oslo.", "Oslo is cold."}),
        (["--diversity", "0.5"], ALL),
        (["--agent", "Flux", "--agent", "Flux"], ALL),
        (["--skip-archived"], ALL),
    ],
)
def test_a_search_is_narrowed(
    life: str, pattern: Pattern, options: list[str], expected: set[str]
) -> None:
    assert found(pattern, *options) == expected


def test_messages_and_memory_are_searched_alone(life: str, pattern: Pattern) -> None:
    assert found(pattern, verb=("memory", "search")) == {"Ada lives in Oslo."}
    options = ("--speaker", "Ada", "--role", "user", "--agent", "Flux")
    assert found(pattern, *options, verb=("message", "search")) == {"I moved to Oslo."}


def test_several_agents_are_searched(life: str, pattern: Pattern) -> None:
    sol = pattern("agent", "create", "Sol", "--json").json["id"]
    pattern("message", "add", "Sol likes Oslo.", "--agent", "Sol")
    pattern("memory", "add", "city", "Oslo is home.", "--agent", sol)
    both = ("--agent", "Flux", "--agent", "Sol")
    assert found(pattern, *both) == ALL | {"Sol likes Oslo.", "Oslo is home."}
    assert found(pattern, *both, verb=("memory", "search")) == {
        "Ada lives in Oslo.",
        "Oslo is home.",
    }
    assert "Sol likes Oslo." in found(pattern, *both, verb=("message", "search"))
    ran = pattern("search", "Oslo", "--agent", "Flux", "--agent", "Nobody")
    assert ran.code == 1
    assert "Nobody" in ran.err


def test_what_was_archived_can_be_left_out(flux: str, pattern: Pattern) -> None:
    for text in ("Oslo, once.", "Oslo, now."):
        last = pattern("message", "add", text, "--json").json["id"]
    pattern("message", "archive", last)
    for verb in (("search",), ("message", "search")):
        assert found(pattern, verb=verb) == {"Oslo, once.", "Oslo, now."}
        assert found(pattern, "--skip-archived", verb=verb) == {"Oslo, now."}


@pytest.mark.parametrize(
    "options", [["--diversity", "2"], ["--as-of", "soon"], ["--diversity", "x"]]
)
def test_what_cannot_be_asked_is_wrong_usage(
    life: str, pattern: Pattern, options: list[str]
) -> None:
    assert pattern("search", "Oslo", *options).code == 2


def test_an_operator_there_is_not_is_named(life: str, pattern: Pattern) -> None:
    ran = pattern("search", "Oslo", "--where", 'level={"$near": 3}')
    assert ran.code == 1
    assert "'$near'" in ran.err


def test_a_limit_is_kept_and_the_best_comes_first(life: str, pattern: Pattern) -> None:
    hits = pattern("search", "who moved to Oslo", "--limit", "2", "--json").json
    scores = [hit["score"] for hit in hits]
    assert hits[0]["item"]["content"] == "I moved to Oslo."
    assert scores == sorted(scores, reverse=True)
    assert len(hits) == 2


def test_the_parts_of_a_score_are_explained(life: str, pattern: Pattern) -> None:
    (hit,) = pattern("search", "moved", "--limit", "1", "--json").json
    assert hit["mode"] == "keyword"
    head, text, why = pattern("search", "moved", "--limit", "1", "--explain").out.splitlines()
    assert head.startswith(f"{hit['score']:.2f}  message  2025-05-01 00:00  Ada  msg_")
    assert text == "    I moved to Oslo."
    assert why.startswith(f"    {hit['score']:.3f} = ")
    for part, value in hit["why"].items():
        assert f"{part} {value:.3f}" in why
    assert "=" not in pattern("search", "moved", "--limit", "1").out


def test_nothing_found_is_said_and_is_no_failure(life: str, pattern: Pattern) -> None:
    for query in ("zebra", "", '"unbalanced AND (', "--limit"):
        ran = pattern("search", "--kind", "archival", "--", query)
        assert (ran.code, ran.out) == (0, "(nothing found)\n")
    assert pattern("search", "zebra", "--json").json == []


def test_meaning_needs_a_model(life: str, pattern: Pattern) -> None:
    ran = pattern("search", "Oslo", "--mode", "semantic")
    assert ran.code == 1
    assert ran.err.startswith("pattern: Semantic search needs an embedding provider; ")


def test_meaning_is_found_with_the_bundled_model(flux: str, pattern: Pattern) -> None:
    for text in ("The dentist is closed on Mondays.", "She adores her little cat."):
        pattern("message", "add", text, "--embeddings", "local")
    (hit,) = pattern(
        *("search", "pets", "--mode", "semantic", "--limit", "1", "--json"),
        *("--embeddings", "local"),
    ).json
    assert hit["item"]["content"] == "She adores her little cat."
    assert hit["mode"] == "semantic"


@pytest.mark.parametrize("where", ["level", "=3", ""])
def test_a_condition_has_a_key_and_a_value(life: str, pattern: Pattern, where: str) -> None:
    ran = pattern("search", "Oslo", "--where", where)
    assert ran.code == 2
    assert ran.err == f'pattern: "{where}" is no condition; write --where key=value.\n'
