"""Importing LoCoMo."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pattern_db import ImportFailed, PatternDB, Role
from pattern_db.transfer import import_file
from pattern_db.transfer.times import moment, spoken

from .files import dump, locomo_sample, written


async def test_a_sample_becomes_an_agent_its_sessions_conversations_its_turns_messages(
    db: PatternDB, tmp_path: Path
) -> None:
    file = written(tmp_path, "two.json", [locomo_sample("conv-1"), locomo_sample("conv-2")])
    report = await import_file(db, "locomo", file)

    assert (report.kind, report.conversations, report.messages_written) == ("locomo", 4, 18)
    assert (report.messages_present, report.skipped) == (0, {})
    agents = [await db.agents.require(id) for id in report.agents]
    assert [agent.name for agent in agents] == ["conv-1", "conv-2"]
    talks = await db.conversations.list(agents[0].id)
    assert [talk.title for talk in talks] == ["session 2", "session 10"]
    assert talks[0].created_at == datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
    said = await db.messages.list(agents[0].id, conversation_id=talks[0].id)
    assert [m.metadata["dia_id"] for m in said] == ["D2:1", "D2:2", "D2:3", "D2:4", "D2:9"]
    assert {m.created_at for m in said} == {talks[0].created_at}
    assert said[-1].content == "Look at my canoe! [image: a photo of a red canoe]"
    assert said[-1].metadata["img_url"] == ["https://example.org/canoe.jpg"]
    assert (said[-1].speaker, said[-1].role, said[-1].source) == ("Ada", Role.USER, "locomo")


async def test_an_image_without_text_is_its_caption(db: PatternDB, tmp_path: Path) -> None:
    sample = locomo_sample()
    del sample["conversation"]["session_2"][-1]["text"]
    report = await import_file(db, "locomo", written(tmp_path, "one.json", sample))
    hits = await db.search(report.agents[0], "canoe", mode="keyword", limit=1)
    assert hits[0].item.content == "[image: a photo of a red canoe]"


async def test_several_samples_may_go_to_one_agent(db: PatternDB, tmp_path: Path) -> None:
    flux = await db.agents.create(name="Flux")
    file = written(tmp_path, "two.json", [locomo_sample("conv-1"), locomo_sample("conv-2")])
    report = await import_file(db, "locomo", file, agent_id=flux.id)
    assert report.agents == [flux.id]
    assert await db.messages.count(flux.id) == 18
    named = await import_file(db, "locomo", file, agent_name="Nova")
    assert [(await db.agents.require(id)).name for id in named.agents] == ["Nova"]
    assert named.messages_written == 18


async def test_agents_and_conversations_belong_to_the_user(db: PatternDB, tmp_path: Path) -> None:
    ada, bob = await db.users.create(name="Ada"), await db.users.create(name="Bob")
    file = written(tmp_path, "one.json", locomo_sample())
    hers = await import_file(db, "locomo", file, user_id=ada.id)
    his = await import_file(db, "locomo", file, user_id=bob.id)
    assert hers.agents != his.agents
    assert (await db.agents.require(hers.agents[0])).user_id == ada.id
    assert await db.conversations.count(user_id=bob.id) == 2


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda s: s.pop("sample_id"), "sample 2: expected text as `sample_id`"),
        (lambda s: s.update(sample_id="conv-1"), "sample 2: its sample_id is the one of sample 1"),
        (lambda s: s["conversation"].update(session_2={}), "sample 2, session_2: expected a list"),
        (
            lambda s: s["conversation"].pop("session_2_date_time"),
            "sample 2, session_2: expected text as `session_2_date_time`",
        ),
        (
            lambda s: s["conversation"].update(session_2_date_time="8 May"),
            "sample 2, session_2: expected a time",
        ),
        (
            lambda s: s["conversation"]["session_2"][4].update(text=7),
            "sample 2, session_2, turn 5: expected text as `text`, found a number",
        ),
        (
            lambda s: s["conversation"]["session_10"].insert(0, None),
            "sample 2, session_10, turn 1: expected an object as the turn, found nothing",
        ),
    ],
)
async def test_a_malformed_sample_is_named_and_those_before_it_are_kept(
    db: PatternDB, tmp_path: Path, change: Callable[[dict], None], place: str
) -> None:
    broken = locomo_sample("conv-2")
    change(broken)
    with pytest.raises(ImportFailed, match=r"^two\.json, ") as failure:
        await import_file(
            db, "locomo", written(tmp_path, "two.json", [locomo_sample("conv-1"), broken])
        )
    assert place in str(failure.value)
    assert await db.messages.count() == 9

    repaired = written(tmp_path, "two.json", [locomo_sample("conv-1"), locomo_sample("conv-2")])
    report = await import_file(db, "locomo", repaired)
    assert (report.messages_written, report.messages_present) == (9, 9)


@pytest.mark.slow
async def test_the_real_file_twice_is_the_real_file_once(
    db: PatternDB, real_data: Callable[[str], Path]
) -> None:
    file, heard = real_data("locomo/locomo-dev.json"), []
    first = await import_file(db, "locomo", file, progress=lambda *at: heard.append(at))
    before = await dump(db)
    second = await import_file(db, "locomo", file)

    assert (len(first.agents), first.conversations, first.messages_written) == (5, 125, 2773)
    assert (second.messages_written, second.messages_present) == (0, 2773)
    assert (second.agents, second.conversations) == (first.agents, 125)
    assert await dump(db) == before
    assert heard[-1] == (2773, 2773)
    assert heard == sorted(heard)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1:56 pm on 8 May, 2023", datetime(2023, 5, 8, 13, 56, tzinfo=UTC)),
        ("12:09 am on 13 September, 2023", datetime(2023, 9, 13, 0, 9, tzinfo=UTC)),
        ("12:00 p.m. on 1st Sept 2023", datetime(2023, 9, 1, 12, 0, tzinfo=UTC)),
        (" 7 PM, 29 february, 2024 ", datetime(2024, 2, 29, 19, 0, tzinfo=UTC)),
        ("2023-05-08T13:56:00+02:00", datetime(2023, 5, 8, 11, 56, tzinfo=UTC)),
        ("13:56 pm on 8 May, 2023", None),
        ("1:56 pm on 30 February, 2023", None),
        ("1:56 pm on 8 Mayhem, 2023", datetime(2023, 5, 8, 13, 56, tzinfo=UTC)),
        ("1:56 pm on 8 Foo, 2023", None),
        ("", None),
    ],
)
def test_session_times_are_read_as_people_write_them(text: str, time: datetime | None) -> None:
    assert spoken(text) == time


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1704067200.5, datetime(2024, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        (1704067200500, datetime(2024, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("2024-01-01", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-01-01T01:00:00+01:00", datetime(2024, 1, 1, tzinfo=UTC)),
        (True, None),
        ("yesterday", None),
        (1e300, None),
        (float("inf"), None),
        (10**400, None),
        ("0001-01-01T00:00:00+10:00", None),
        (None, None),
        ([], None),
    ],
)
def test_times_of_other_programs_are_read(value: object, time: datetime | None) -> None:
    assert moment(value) == time
