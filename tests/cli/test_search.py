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
