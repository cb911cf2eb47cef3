"""``pattern memory``."""

from __future__ import annotations

import pytest

from .conftest import Pattern


def texts(pattern: Pattern, block: str = "human") -> list[str]:
    return [v["content"] for v in pattern("memory", "history", block, "--json").json]


@pytest.fixture
def human(flux: str, pattern: Pattern) -> str:
    """The id of a block with the label ``human``."""
    return str(pattern("memory", "add", "human", "Ada climbs.", "--json").json["id"])


def test_a_block_is_added_with_all_that_is_said_about_it(flux: str, pattern: Pattern) -> None:
    block = pattern(
        *("memory", "add", "human", "Ada climbs.", "--type", "core", "--description", "Who Ada is"),
        *("--pinned", "--permission", "read_only", "--char-limit", "20"),
        *("--metadata", '{"tags": ["person"]}', "--json"),
    ).json
    assert (block["label"], block["content"], block["block_type"]) == (
        *("human", "Ada climbs.", "core"),
    )
    assert (block["pinned"], block["permission"], block["char_limit"]) == (True, "read_only", 20)
    assert (block["description"], block["metadata"]) == ("Who Ada is", {"tags": ["person"]})


def test_a_block_may_begin_empty(flux: str, pattern: Pattern) -> None:
    assert pattern("memory", "add", "notes", "--json").json["content"] == ""


def test_a_text_that_looks_like_an_option_goes_after_two_dashes(
    flux: str, pattern: Pattern
) -> None:
    assert pattern("memory", "add", "a", "--json", "--", "--db").json["content"] == "--db"
    assert pattern("memory", "edit", "a", "--json", "--", "-").json["content"] == "-"
    assert pattern("memory", "append", "a", "--json", "--", "--json").json["content"] == "-\n--json"


def test_texts_come_from_standard_input_too(flux: str, pattern: Pattern) -> None:
    run = pattern
    assert run("memory", "add", "a", "-", "--json", stdin="one\n").json["content"] == "one"
    assert run("memory", "append", "a", "-", "--json", stdin="two\n\n").json["content"] == (
        "one\ntwo\n"
    )
    assert run("memory", "edit", "a", "--stdin", "--json", stdin="Zoë").json["content"] == "Zoë"


def test_an_edit_changes_what_is_given_and_keeps_the_rest(human: str, pattern: Pattern) -> None:
    before = pattern("memory", "show", human, "--json").json
    after = pattern(
        *("memory", "edit", "human", "--label", "ada", "--description", "Who", "--type", "core"),
        *("--pinned", "--permission", "admin", "--char-limit", "99", "--metadata", "{}", "--json"),
    ).json
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {
        *("label", "description", "block_type", "pinned", "permission", "char_limit"),
        *("updated_at", "revision"),
    }
    assert pattern("memory", "edit", "ada", "--no-pinned", "--json").json["pinned"] is False


def test_an_edit_of_nothing_is_wrong_usage(human: str, pattern: Pattern) -> None:
    ran = pattern("memory", "edit", "human")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "pattern: There is nothing to change; give a new text or an option.\n"


def test_a_text_given_twice_is_wrong_usage(human: str, pattern: Pattern) -> None:
    ran = pattern("memory", "edit", "human", "text", "-", stdin="more")
    assert ran.code == 2
    assert "given twice" in ran.err


def test_history_undo_and_redo(human: str, pattern: Pattern) -> None:
    pattern("memory", "edit", "human", "Ada paints.")
    pattern("memory", "append", "human", "Ada sings.")
    assert texts(pattern) == ["Ada climbs.", "Ada paints.", "Ada paints.\nAda sings."]
    assert pattern("memory", "undo", "human").out == f"human ({human}) shows version 2.\n"
    shown = pattern("memory", "history", "human").out
    assert "version 2" in next(line for line in shown.splitlines() if line.endswith("shown now"))
    assert pattern("memory", "redo", "human", "--json").json["version"] == 3
    nothing = pattern("memory", "redo", "human")
    assert (nothing.code, "nothing to redo" in nothing.err) == (1, True)


def test_history_says_how_to_see_the_rest(human: str, pattern: Pattern) -> None:
    pattern("memory", "edit", "human", "Ada paints.")
    assert pattern("memory", "history", "human", "--limit", "1").out.endswith("more: --after 1\n")
    rest = pattern("memory", "history", "human", "--limit", "1", "--after", "1", "--json").json
    assert [version["content"] for version in rest] == ["Ada paints."]


def test_a_permission_that_asks_for_consent_gets_it(flux: str, pattern: Pattern) -> None:
    pattern("memory", "add", "human", "Ada climbs.", "--permission", "human")
    refused = pattern("memory", "edit", "human", "Ada paints.")
    assert (refused.code, "consent" in refused.err) == (1, True)
    assert pattern("memory", "edit", "human", "Ada paints.", "--consent").code == 0
    assert pattern("memory", "append", "human", "And sings.", "--consent").code == 0
    assert texts(pattern)[-1] == "Ada paints.\nAnd sings."


def test_blocks_are_listed_by_type_and_pin(human: str, pattern: Pattern) -> None:
    pattern("memory", "add", "log", "x", "--type", "log", "--pinned")

    def labels(*options: str) -> list[str]:
        return [b["label"] for b in pattern("memory", "list", *options, "--json").json]

    assert labels() == ["human", "log"]
    assert labels("--type", "log") == labels("--pinned") == labels("--after", human) == ["log"]
    assert labels("--no-pinned") == ["human"]


def test_lists_shorten_a_text_and_show_does_not(flux: str, pattern: Pattern) -> None:
    text = "Ada climbs.\n" * 300
    pattern("memory", "add", "human", text)
    listed = pattern("memory", "list").out
    assert len(listed) < 250
    assert listed.endswith("…\n")
    assert text in pattern("memory", "show", "human").out


def test_a_block_is_shared_searched_listed_and_taken_away(
    two_agents: tuple[str, str], pattern: Pattern
) -> None:
    flux, vega = two_agents
    block = pattern("memory", "add", "human", "Ada climbs.", "--agent", flux, "--json").json["id"]
    share = ("memory", "share", "human", "Vega", "--agent", "Flux", "--permission", "append")
    assert pattern(*share, "--json").json["permission"] == "append"
    found = pattern("memory", "search", "climbs", "--agent", "Vega", "--json").json
    assert [hit["item"]["id"] for hit in found] == [block]
    (shared,) = pattern("memory", "list", "--shared", "--agent", "Vega", "--json").json
    assert (shared["block"]["id"], shared["permission"]) == (block, "append")
    assert f"append, of {flux}" in pattern("memory", "list", "--shared", "--agent", "Vega").out
    assert f"shared with   {vega}, append\n" in pattern("memory", "show", block).out
    unshare = ("memory", "unshare", block, "Vega")
    assert pattern(*unshare, "--json").json == {"block_id": block, "agent_id": vega}
    assert pattern("memory", "list", "--shared", "--agent", "Vega", "--json").json == []
    again = pattern(*unshare)
    assert (again.code, "no shared block" in again.err) == (1, True)


def test_a_deleted_block_is_gone(human: str, pattern: Pattern) -> None:
    assert pattern("memory", "delete", "human", "--json").json == {"deleted": human}
    assert pattern("memory", "list").out == "(no memory blocks)\n"
    assert pattern("memory", "show", human).code == 1


def test_a_block_that_is_too_long_is_refused(flux: str, pattern: Pattern) -> None:
    ran = pattern("memory", "add", "human", "Ada climbs.", "--char-limit", "5")
    assert ran.code == 1
    assert "it has 11 characters, this block holds 5" in ran.err
