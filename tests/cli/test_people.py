"""``pattern agent``, ``pattern user`` and ``pattern group``."""

from __future__ import annotations

from pathlib import Path

from .conftest import Pattern


def test_an_agent_is_created_shown_listed_and_deleted(mind: Path, pattern: Pattern) -> None:
    ada = pattern("user", "create", "Ada", "--json").json["id"]
    made = pattern(
        *("agent", "create", "Flux", "--user", ada, "--type", "coach", "--description", "Helps."),
        *("--prompt", "You help Ada.", "--metadata", '{"tone": "warm"}', "--json"),
    ).json
    shown = pattern("agent", "show", "Flux", "--json").json
    assert shown == made
    assert (made["user_id"], made["agent_type"], made["description"]) == (ada, "coach", "Helps.")
    assert (made["system_prompt"], made["metadata"]) == ("You help Ada.", {"tone": "warm"})
    assert [a["id"] for a in pattern("agent", "list", "--json").json] == [made["id"]]
    assert pattern("agent", "delete", "Flux", "--json").json == {"deleted": made["id"]}
    assert pattern("agent", "list", "--json").json == []
    assert pattern("agent", "list").out == "(no agents)\n"


def test_an_agent_is_shown_to_people_with_all_of_its_prompt(flux: str, pattern: Pattern) -> None:
    prompt = "You help Ada.\n" + "Be kind. " * 100
    pattern("agent", "create", "Long", "--prompt", prompt)
    shown = pattern("agent", "show", "Long").out
    assert prompt in shown
    assert "agent type  assistant\n" in shown


def test_agents_of_one_user_are_listed(two_agents: tuple[str, str], pattern: Pattern) -> None:
    ada = pattern("user", "create", "Ada", "--json").json["id"]
    hers = pattern("agent", "create", "Hers", "--user", ada, "--json").json["id"]
    assert [a["id"] for a in pattern("agent", "list", "--user", ada, "--json").json] == [hers]


def test_a_list_says_how_to_see_the_rest(two_agents: tuple[str, str], pattern: Pattern) -> None:
    first, second = two_agents
    shown = pattern("agent", "list", "--limit", "1").out
    assert shown.endswith(f"… more: --after {first}\n")
    rest = pattern("agent", "list", "--limit", "1", "--after", first).out
    assert second in rest
    assert "more" not in rest


def test_a_table_without_a_terminal_is_plain_text(flux: str, pattern: Pattern) -> None:
    pattern("agent", "create", "[red]Vega[/red]", "--description", "x " * 200)
    head, *rows = pattern("agent", "list").out.splitlines()
    assert head.split() == ["NAME", "ID", "CREATED", "DESCRIPTION"]
    assert rows[1].startswith("[red]Vega[/red]  agent_")
    assert rows[1].endswith(" x…")
    assert rows[0] == rows[0].rstrip()


def test_a_deleted_agent_can_still_leave_a_group(flux: str, pattern: Pattern) -> None:
    group = pattern("group", "create", "Crew", "--json").json["id"]
    pattern("group", "add-member", group, "Flux")
    pattern("agent", "delete", "Flux")
    assert pattern("group", "remove-member", group, flux, "--json").json == {"removed": flux}


def test_a_user_is_shown_with_their_agents(mind: Path, pattern: Pattern) -> None:
    ada = pattern("user", "create", "Ada", "--metadata", '{"city": "Oslo"}', "--json").json
    flux = pattern("agent", "create", "Flux", "--user", ada["id"], "--json").json
    shown = pattern("user", "show", ada["id"], "--json").json
    assert shown == {"user": ada, "agents": [flux]}
    assert f"agents      Flux ({flux['id']})\n" in pattern("user", "show", ada["id"]).out
    assert ada["metadata"] == {"city": "Oslo"}


def test_a_user_is_listed_until_deleted(mind: Path, pattern: Pattern) -> None:
    ids = [pattern("user", "create", name, "--json").json["id"] for name in ("Ada", "Noor")]
    assert pattern("user", "list", "--limit", "1").out.endswith(f"… more: --after {ids[0]}\n")
    assert [u["id"] for u in pattern("user", "list", "--after", ids[0], "--json").json] == [ids[1]]
    assert pattern("user", "delete", ids[0]).out == f"Deactivated user {ids[0]}.\n"
    gone = pattern("user", "show", ids[0])
    assert (gone.code, gone.out) == (1, "")
    assert (
        gone.err == f"pattern: There is no user {ids[0]!r}; check the id, or list what is there.\n"
    )


def test_a_group_is_shown_with_its_members(two_agents: tuple[str, str], pattern: Pattern) -> None:
    flux, vega = two_agents
    made = pattern(
        *("group", "create", "Crew", "--pattern", "supervisor", "--description", "All."),
        *("--metadata", '{"a": 1}', "--json"),
    ).json
    assert (made["pattern_type"], made["description"], made["metadata"]) == (
        *("supervisor", "All."),
        {"a": 1},
    )
    pattern("group", "add-member", made["id"], flux)
    pattern(
        *("group", "add-member", made["id"], "Vega", "--role", "specialist", "--domain", "law"),
        *("--capability", "read", "--capability", "cite"),
    )
    shown = pattern("group", "show", made["id"], "--json").json
    members = [(m["agent_id"], m["role"], m["domain"]) for m in shown["members"]]
    assert members == [(flux, "regular", None), (vega, "specialist", "law")]
    plain = pattern("group", "show", made["id"]).out
    assert f"member        {vega}, specialist for law, able to read, cite\n" in plain
    assert pattern("group", "list", "--json").json == [
        {name: value for name, value in shown.items() if name != "members"}
    ]


def test_a_group_loses_members_and_goes(flux: str, pattern: Pattern) -> None:
    group = pattern("group", "create", "Crew", "--json").json["id"]
    pattern("group", "add-member", group, "Flux")
    left = pattern("group", "remove-member", group, "Flux")
    assert left.out == f"Agent {flux} is no longer in group {group}.\n"
    assert pattern("group", "show", group, "--json").json["members"] == []
    assert pattern("group", "delete", group).code == 0
    assert pattern("group", "list").out == "(no groups)\n"


def test_a_specialist_without_a_domain_is_refused(flux: str, pattern: Pattern) -> None:
    group = pattern("group", "create", "Crew", "--json").json["id"]
    refused = pattern("group", "add-member", group, "Flux", "--role", "specialist")
    assert refused.code == 1
    assert "a specialist needs one" in refused.err
