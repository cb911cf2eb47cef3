"""What holds for imports of every kind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import pattern_db
from pattern_db import ImportFailed, InvalidValue, NotFound, PatternDB
from pattern_db.transfer import KINDS, import_file

from .files import branched_chat, dump, locomo_sample, tool_lines, written

FILES: dict[str, tuple[str, Any]] = {
    "locomo": ("sample.json", [locomo_sample(turns=40), locomo_sample("conv-2")]),
    "chatgpt": (
        "conversations.json",
        [branched_chat(), branched_chat() | {"conversation_id": "chat-2"}],
    ),
    "jsonl": (
        "log.jsonl",
        [
            {**line, "conversation": name, "created_at": f"2024-01-0{day}T10:00:00Z"}
            for day in (1, 2, 3)
            for name in ("A", "B")
            for line in tool_lines()
        ],
    ),
}
UNREADABLE = {
    "an empty file": (b"", "the file is empty"),
    "blanks": (b" \n\n\t\n", "the file is empty"),
    "UTF-16": ('\ufeff{"role": "user"}'.encode("utf-16-le"), "UTF-16"),
    "UTF-16 without a mark": ('{"role": "user"}'.encode("utf-16-le"), "UTF-16"),
    "UTF-32": ('\ufeff{"role": "user"}'.encode("utf-32-be"), "UTF-16 or UTF-32"),
    "Latin-1": ('{"role": "usér"}'.encode("latin-1"), "not UTF-8"),
    "half a document": (b'[{"mapping": {', "not valid JSON"),
    "something else": (b"PK\x03\x04 zip", "not valid JSON"),
    "depth": (b"[" * 200_000, "nested too deeply"),
    "a huge number": (b"[" + b"7" * 10_000 + b"]", "digits"),
    "NaN": (b'[{"x": NaN}]', "NaN"),
    "a number": (b"7", "expected"),
    "null": (b"null", "expected"),
}


class StoppedHere(BaseException):
    """What a test raises where a process would have died."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", UNREADABLE)
async def test_what_is_no_such_file_is_one_clear_sentence(
    db: PatternDB, tmp_path: Path, kind: str, case: str
) -> None:
    data, reason = UNREADABLE[case]
    file = tmp_path / "chat.json"
    file.write_bytes(data)
    with pytest.raises(ImportFailed) as failure:
        await import_file(db, kind, file)
    sentence = str(failure.value)
    assert sentence.startswith("chat.json")
    assert reason in sentence
    assert sentence.count("\n") == 0
    assert str(tmp_path) not in sentence


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_no_file_is_one_clear_sentence(
    db: PatternDB, tmp_path: Path, kind: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path / "none.json", "there is no such file"),
        (tmp_path, "this is not a file"),
        (tmp_path / "pipe", "this is not a file"),
        ("a\0b", "there is no such file|cannot be read"),
        ("x" * 5000, "there is no such file|cannot be read"),
    ):
        with pytest.raises(ImportFailed, match=reason):
            await import_file(db, kind, path)


async def test_an_unknown_kind_agent_or_user_is_named(db: PatternDB, tmp_path: Path) -> None:
    file = written(tmp_path, "one.json", locomo_sample())
    with pytest.raises(InvalidValue, match="did you mean 'locomo'"):
        await import_file(db, "lokomo", file)
    with pytest.raises(NotFound, match="agent"):
        await import_file(db, "locomo", file, agent_id="nobody")
    with pytest.raises(NotFound, match="user"):
        await import_file(db, "locomo", file, user_id="nobody")
    with pytest.raises(InvalidValue, match="name"):
        await import_file(db, "locomo", file, agent_name=" ")
    assert await db.messages.count() == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_twice_is_once(db: PatternDB, tmp_path: Path, kind: str) -> None:
    file = written(tmp_path, *FILES[kind])
    first = await import_file(db, kind, file)
    before = await dump(db)
    second = await import_file(db, kind, file)
    assert await dump(db) == before
    assert second.messages_written == 0
    assert second.messages_present == first.messages_written > 0
    assert (second.agents, second.conversations) == (first.agents, first.conversations)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_deleted_stays_deleted(db: PatternDB, tmp_path: Path, kind: str) -> None:
    file = written(tmp_path, *FILES[kind])
    report = await import_file(db, kind, file)
    gone = (await db.messages.list(report.agents[0]))[0]
    await db.messages.delete(gone.id)
    await import_file(db, kind, file)
    assert await db.messages.get(gone.id) is None
    await db.agents.delete(report.agents[0])
    with pytest.raises(ImportFailed, match="was deleted; restore or purge"):
        await import_file(db, kind, file)


def stopping_at(call: int, operation: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """The operation, until it is called for the nth time."""
    calls = 0

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise StoppedHere
        return await operation(*args, **kwargs)

    return counted


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", ["execute", "write"])
async def test_an_import_stopped_at_any_statement_ends_as_if_run_once(
    tmp_path: Path, kind: str, operation: str
) -> None:
    file = written(tmp_path, *FILES[kind])
    async with pattern_db.open(tmp_path / "once.db", embeddings="none") as db:
        await import_file(db, kind, file)
        once = await dump(db)
    stopped = True
    step = 0
    while stopped:
        step += 1
        path = tmp_path / f"stopped-{step}.db"
        async with pattern_db.open(path, embeddings="none") as db:
            setattr(db.store, operation, stopping_at(step, getattr(db.store, operation)))
            try:
                await import_file(db, kind, file)
                stopped = False
            except StoppedHere:
                pass
        async with pattern_db.open(path, embeddings="none") as db:
            await import_file(db, kind, file)
            assert await dump(db) == once, f"stopped before {operation} number {step}"
    assert step > 1


@pytest.mark.parametrize("kind", KINDS)
async def test_an_import_whose_progress_fails_goes_on_where_it_was(
    tmp_path: Path, kind: str
) -> None:
    file = written(tmp_path, *FILES[kind])
    async with pattern_db.open(tmp_path / "once.db", embeddings="none") as db:
        await import_file(db, kind, file)
        once = await dump(db, exact=False)
    async with pattern_db.open(tmp_path / "stopped.db", embeddings="none") as db:
        for point in range(1, 5):
            heard = 0

            def stop(done: int, total: int, point: int = point) -> None:
                nonlocal heard
                heard += 1
                if heard == point:
                    raise StoppedHere

            try:
                await import_file(db, kind, file, progress=stop)
            except StoppedHere:
                continue
        await import_file(db, kind, file)
        assert await dump(db, exact=False) == once


KILLED = """
import asyncio, sys
import pattern_db
from pattern_db.transfer import import_file

async def main():
    async with pattern_db.open(sys.argv[1], embeddings="none") as db:
        print("open", flush=True)
        await import_file(db, "jsonl", sys.argv[2])

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.02, 0.1, 0.3, 0.6])
async def test_a_killed_import_ends_as_if_run_once(
    tmp_path: Path, path: str, delay_s: float
) -> None:
    lines = [
        {**line, "conversation": n % 7, "created_at": f"2024-01-01T10:00:{n % 60:02}Z"}
        for n in range(2000)
        for line in tool_lines()[1:]
    ]
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, path, str(file)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        with process, process.stdout:
            process.stdout.readline()
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
    async with pattern_db.open(path, embeddings="none") as db:
        report = await import_file(db, "jsonl", file)
        assert report.messages_written + report.messages_present == len(lines)
        killed = await dump(db)
    async with pattern_db.open(tmp_path / "once.db", embeddings="none") as db:
        await import_file(db, "jsonl", file)
        assert await dump(db) == killed
