"""LoCoMo: long conversations of two people in dated sessions (snap-research/LoCoMo).

Each sample is an agent's, each session a conversation, each turn a message of the session's time.
Questions and ready-made summaries of a sample are not messages and are not imported.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from pattern_db.ids import derived_id
from pattern_db.models import Json, Role

from .reading import Source
from .run import Entry, Run
from .times import spoken

_SESSION = re.compile(r"session_([0-9]{1,9})")
_SAID = ("speaker", "text", "blip_caption")


class Turn(msgspec.Struct, frozen=True):
    """What one of the two said; ``dia_id`` is its name in the questions' evidence."""

    dia_id: str
    speaker: str
    content: str
    metadata: Json
    place: str


class Session(msgspec.Struct, frozen=True):
    """What was said on one occasion; ``key`` is its name in the file."""

    key: str
    number: int
    time: datetime
    turns: list[Turn]
    place: str


class Sample(msgspec.Struct, frozen=True):
    """One long conversation; ``raw`` is the sample as the file has it."""

    id: str
    sessions: list[Session]
    raw: Json
    place: str


async def import_locomo(run: Run) -> None:
    """Import every sample of a file."""
    parsed = await asyncio.to_thread(run.source.read_json)
    run.replaced(parsed.replaced)
    done, total = 0, _turn_count(parsed.value)
    for sample in samples(run.source, parsed.value):
        agent_id = await run.agent(sample.id, sample.id)
        for session in sample.sessions:
            await _import_session(run, agent_id, sample, session)
            done += len(session.turns)
            run.advance(done, total)


def samples(source: Source, value: Any) -> Iterator[Sample]:
    """The samples of a parsed file, each checked when its turn comes."""
    listed = [value] if isinstance(value, dict) else value
    seen: dict[str, str] = {}
    for number, raw in enumerate(source.expect(list, listed, "the whole", "the samples"), 1):
        place = f"sample {number}"
        sample = _sample(source, source.expect(dict, raw, place, "the sample"), place)
        if sample.id in seen:
            raise source.failure(place, f"its sample_id is the one of {seen[sample.id]} too")
        seen[sample.id] = place
        yield sample


def _sample(source: Source, raw: Json, place: str) -> Sample:
    id = source.expect(str, raw.get("sample_id"), place, "`sample_id`")
    if not id.strip():
        raise source.failure(place, "expected a `sample_id` that is not blank")
    said = source.expect(dict, raw.get("conversation"), place, "`conversation`")
    numbers = sorted((int(m[1]), key) for key in said if (m := _SESSION.fullmatch(key)))
    sessions = [_session(source, said, key, number, f"{place}, {key}") for number, key in numbers]
    return Sample(id, sessions, raw, place)


def _session(source: Source, said: Json, key: str, number: int, place: str) -> Session:
    turns = source.expect(list, said[key], place, "the turns of the session")
    time = spoken(source.expect(str, said.get(f"{key}_date_time"), place, f"`{key}_date_time`"))
    if time is None:
        raise source.failure(
            place, f'expected a time such as "1:56 pm on 8 May, 2023" as `{key}_date_time`'
        )
    return Session(
        key,
        number,
        time,
        [_turn(source, turn, f"{place}, turn {index}") for index, turn in enumerate(turns, 1)],
        place,
    )


def _turn(source: Source, raw: Any, place: str) -> Turn:
    raw = source.expect(dict, raw, place, "the turn")
    image = raw.get("blip_caption")
    caption = "" if image is None else source.expect(str, image, place, "`blip_caption`")
    missing = "" if caption else None
    text = source.expect(str, raw.get("text", missing), place, "`text`")
    shown = f"[image: {caption}]" if caption else ""
    return Turn(
        dia_id=source.expect(str, raw.get("dia_id"), place, "`dia_id`"),
        speaker=source.expect(str, raw.get("speaker"), place, "`speaker`"),
        content=" ".join(filter(None, (text, shown))),
        metadata={key: value for key, value in raw.items() if key not in _SAID},
        place=place,
    )


async def _import_session(run: Run, agent_id: str, sample: Sample, session: Session) -> None:
    if not session.turns:
        return
    identity = (run.kind, agent_id, sample.id, session.key)
    conversation = await run.conversation(
        agent_id,
        derived_id("conv", *identity),
        place=session.place,
        title=f"session {session.number}",
        created_at=session.time,
        metadata={"sample_id": sample.id, "session": session.number},
    )
    entries = [
        Entry(
            turn.place,
            {
                "id": derived_id("msg", *identity, str(index)),
                "conversation_id": conversation.id,
                "role": Role.USER,
                "speaker": turn.speaker,
                "content": turn.content,
                "created_at": session.time,
                "source": run.kind,
                "metadata": turn.metadata,
            },
        )
        for index, turn in enumerate(session.turns)
    ]
    await run.write(agent_id, entries)


def _turn_count(value: Any) -> int:
    """How many turns a file seems to hold, before it is checked."""
    listed = value if isinstance(value, list) else [value]
    spoken_in = [raw.get("conversation") for raw in listed if isinstance(raw, dict)]
    return sum(
        len(turns)
        for said in spoken_in
        if isinstance(said, dict)
        for key, turns in said.items()
        if _SESSION.fullmatch(key) and isinstance(turns, list)
    )
