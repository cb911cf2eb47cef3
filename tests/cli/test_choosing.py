"""Which agent a command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Pattern

LIST = ("message", "list", "--json")


def test_the_only_agent_need_not_be_named(flux: str, pattern: Pattern) -> None:
    assert pattern(*LIST).json == []


def test_without_any_agent_it_says_how_to_make_one(mind: Path, pattern: Pattern) -> None:
    ran = pattern(*LIST)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "pattern: There is no agent yet; run `pattern agent create NAME` first.\n"


def test_among_several_one_must_be_named(two_agents: tuple[str, str], pattern: Pattern) -> None:
    flux, vega = two_agents
    ran = pattern(*LIST)
    assert ran.code == 1
    assert ran.err == (
        f"pattern: There are several agents; choose one by --agent: Flux ({flux}), Vega ({vega}).\n"
    )


@pytest.mark.parametrize("which", [0, 1])
def test_an_agent_is_named_by_id_or_name(
    two_agents: tuple[str, str], pattern: Pattern, which: int
) -> None:
    pattern("message", "add", "for Vega", "--agent", "Vega")
    given = (two_agents[1], "Vega")[which]
    assert [m["content"] for m in pattern(*LIST, "--agent", given).json] == ["for Vega"]


def test_a_name_that_two_agents_have_is_not_enough(flux: str, pattern: Pattern) -> None:
    other = pattern("agent", "create", "Flux", "--json").json["id"]
    ran = pattern(*LIST, "--agent", "Flux")
    assert ran.code == 1
    assert ran.err == (
        f"pattern: Several agents have this name; give an id: Flux ({flux}), Flux ({other}).\n"
    )
    assert pattern(*LIST, "--agent", other).json == []


def test_an_unknown_agent_is_said_to_be_unknown(flux: str, pattern: Pattern) -> None:
    ran = pattern(*LIST, "--agent", "Nobody")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "pattern: There is no agent 'Nobody'; check the id, or list what is there.\n"


def test_of_very_many_agents_some_are_listed(mind: Path, pattern: Pattern) -> None:
    for number in range(12):
        pattern("agent", "create", f"A{number}")
    err = pattern(*LIST).err
    assert err.count("agent_") == 10
    assert "and more (`pattern agent list`)" in err


def test_a_label_of_several_agents_blocks_needs_the_agent(
    two_agents: tuple[str, str], pattern: Pattern
) -> None:
    for agent in ("Flux", "Vega"):
        pattern("memory", "add", "human", f"of {agent}", "--agent", agent)
    assert "choose one by --agent" in pattern("memory", "show", "human").err
    shown = pattern("memory", "show", "human", "--agent", "Vega", "--json").json
    assert shown["content"] == "of Vega"
    assert pattern("memory", "show", shown["id"], "--json").json == shown


def test_a_block_that_is_not_there_is_said_not_to_be(
    two_agents: tuple[str, str], pattern: Pattern
) -> None:
    for given in (("mem_0",), ("nothing", "--agent", "Flux")):
        ran = pattern("memory", "show", *given)
        assert ran.code == 1
        assert ran.err.startswith(f"pattern: There is no memory block '{given[0]}'; ")
