"""``pattern message``."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

import pattern_db

from .conftest import Pattern


def said(pattern: Pattern, *options: str) -> list[str]:
    return [m["content"] for m in pattern("message", "list", *options, "--json").json]


@pytest.fixture
def three(flux: str, pattern: Pattern) -> list[str]:
    """The ids of three messages of three days and roles."""
    return [
        str(
            pattern(
                "message", "add", role, "--role", role, "--at", f"2025-05-0{day}", "--json"
            ).json["id"]
        )
        for day, role in enumerate(("user", "assistant", "system"), 1)
    ]


def test_a_message_is_stored_with_all_that_is_said_about_it(flux: str, pattern: Pattern) -> None:
    message = pattern(
        *("message", "add", "I moved to Oslo.", "--speaker", "Ada", "--role", "assistant"),
        *("--at", "2025-05-07T18:30+02:00", "--source", "sms", "--metadata", '{"n": 1}', "--json"),
    ).json
    assert (message["content"], message["speaker"], message["role"]) == (
        *("I moved to Oslo.", "Ada", "assistant"),
    )
    assert (message["created_at"], message["source"]) == ("2025-05-07T16:30:00Z", "sms")
    assert (message["agent_id"], message["metadata"]) == (flux, {"n": 1})
    assert pattern("message", "list", "--json").json == [message]


def test_a_time_without_a_zone_is_local(flux: str, pattern: Pattern) -> None:
    given = datetime(2025, 5, 7, 18, 30).astimezone()
    made = pattern("message", "add", "x", "--at", "2025-05-07T18:30", "--json").json
    assert datetime.fromisoformat(made["created_at"]) == given.astimezone(UTC)


@pytest.mark.parametrize("content", ["-", "--", "--db", "-x", "--json=1", "it's", "", "a\nb\tc  "])
def test_any_text_can_be_stored(flux: str, pattern: Pattern, content: str) -> None:
    assert pattern("message", "add", "--json", "--", content).json["content"] == content
    assert pattern("message", "add", "-", "--json", stdin=content).json["content"] == content


def test_a_text_is_needed(flux: str, pattern: Pattern) -> None:
    ran = pattern("message", "add")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("pattern: There is no text; ")


def test_standard_input_that_is_no_text_is_refused(
    flux: str, pattern: Pattern, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Latin:
        def read(self) -> str:
            return b"Zo\xeb".decode()

    monkeypatch.setattr("io.StringIO", lambda _text: Latin())
    ran = pattern("message", "add", "-")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "pattern: Invalid value for 'standard input': it is not UTF-8 text.\n"


def test_messages_are_listed_by_role_time_and_place(three: list[str], pattern: Pattern) -> None:
    assert said(pattern) == ["user", "assistant", "system"]
    assert said(pattern, "--newest") == ["system", "assistant", "user"]
    assert said(pattern, "--role", "assistant") == ["assistant"]
    assert said(pattern, "--since", "2025-05-02") == ["assistant", "system"]
    assert said(pattern, "--until", "2025-05-02") == ["user"]
    assert said(pattern, "--after", three[0], "--limit", "1") == ["assistant"]
    more = pattern("message", "list", "--limit", "2").out
    assert more.endswith(f"… more: --after {three[1]}\n")


def test_messages_of_one_conversation_are_listed(mind: Path, flux: str, pattern: Pattern) -> None:
    async def talk() -> str:
        async with pattern_db.open(mind) as db:
            return (await db.conversations.create(flux)).id

    conversation = asyncio.run(talk())
    pattern("message", "add", "inside", "--conversation", conversation)
    pattern("message", "add", "outside")
    assert said(pattern, "--conversation", conversation) == ["inside"]
    for search in (("message", "search"), ("search",)):
        hits = pattern(*search, "inside outside", "--conversation", conversation, "--json").json
        assert [hit["item"]["content"] for hit in hits] == ["inside"]


def test_archived_messages_leave_the_list_and_are_still_found(
    three: list[str], pattern: Pattern
) -> None:
    assert pattern("message", "archive", three[2]).out == "Archived 2 messages.\n"
    assert pattern("message", "archive", three[2], "--json").json == {"archived": 0}
    assert said(pattern) == ["system"]
    assert said(pattern, "--archived") == ["user", "assistant", "system"]
    assert "archived" in pattern("message", "list", "--archived").out
    assert len(pattern("message", "search", "assistant", "--json").json) == 1


def test_what_a_crash_left_open_is_repaired(mind: Path, flux: str, pattern: Pattern) -> None:
    async def crash() -> None:
        call = {"call_id": "c1", "name": "look", "arguments": {}}
        async with pattern_db.open(mind) as db:
            await db.messages.append(flux, role="assistant", content="half", tool_calls=[call])

    asyncio.run(crash())
    assert said(pattern) == []
    assert said(pattern, "--incomplete") == ["half"]
    assert pattern("message", "repair", "--agent", "Flux").out == "Repaired 1 batch.\n"
    asyncio.run(crash())
    (batch,) = pattern("message", "repair", "--json").json
    assert batch["status"] == "repaired"
    assert pattern("message", "repair").out == "Repaired 0 batches.\n"


def test_a_list_shows_who_said_what_when(flux: str, pattern: Pattern) -> None:
    pattern("message", "add", "I moved\nto Oslo.", "--speaker", "Ada", "--at", "2025-05-07T18:30")
    head, text = pattern("message", "list").out.splitlines()
    assert head.startswith("2025-05-07 18:30  Ada  msg_")
    assert text == "    I moved to Oslo."


def test_stored_control_characters_do_not_reach_the_terminal(flux: str, pattern: Pattern) -> None:
    pattern("message", "add", "red \x1b[31malert\x07", "--speaker", "A\x1b[2Ada")
    for listed in (pattern("message", "list").out, pattern("search", "red").out):
        assert "\x1b" not in listed
        assert "red \ufffd[31malert\ufffd" in listed
