"""Several processes on one file: nobody is refused, nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import pattern_db
from pattern_db import Agent, PatternDB
from tests.rigs.ackpipe import script

from .load import Load, broken_promises
from .soundness import flaws
from .tiny import TinyEmbeddings

pytestmark = pytest.mark.slow

APPEND = """
import asyncio, sys, pattern_db

async def main(path, agent, count, name):
    async with pattern_db.open(path, embeddings="none") as db:
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(int(count)):
            await db.messages.append(agent, role="user", content=f"{name} {n}")

asyncio.run(main(*sys.argv[1:]))
"""

REMEMBER = """
import asyncio, sys, pattern_db

async def main(path, block, count, name):
    async with pattern_db.open(path, embeddings="none") as db:
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(int(count)):
            await db.memory.append(block, f"{name} {n}")

asyncio.run(main(*sys.argv[1:]))
"""

OPEN = """
import asyncio, sys, pattern_db

async def main():
    print("ready", flush=True)
    for path in sys.stdin:
        async with pattern_db.open(path.strip(), embeddings="none") as db:
            status = await db.status()
            await db.users.create(name="somebody")
            print(status.database_id, status.schema.current, flush=True)

asyncio.run(main())
"""


class Crowd:
    """Processes that run the same program and are ready at the same time."""

    def __init__(self, processes: list[subprocess.Popen[str]]):
        self._processes = processes

    async def tell(self, line: str) -> None:
        """Send a line to all of them at once."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{line}\n")
            process.stdin.flush()

    async def answers(self) -> list[str]:
        """The next line of each; an error of any of them is raised here."""
        lines = [await asyncio.to_thread(p.stdout.readline) for p in self._processes]  # type: ignore[union-attr]
        if "" in lines:
            await self.finished()
        return lines

    async def finished(self) -> None:
        """Close their input and wait for their end; an error of any of them is raised here."""
        for process in self._processes:
            _, errors = await asyncio.to_thread(process.communicate)
            assert process.returncode == 0, errors


@asynccontextmanager
async def crowd(source: str, count: int, *arguments: object) -> AsyncIterator[Crowd]:
    """``count`` processes, the last argument of each its number; none outlives the block."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    processes = [
        subprocess.Popen(script(source, *map(str, arguments), str(n)), text=True, **pipes)  # type: ignore[call-overload]
        for n in range(count)
    ]
    try:
        made = Crowd(processes)
        await made.answers()
        yield made
        await made.finished()
    finally:
        for process in processes:
            process.kill()
            process.communicate()


async def append_together(path: str, agent: Agent, *, processes: int, each: int) -> None:
    async with crowd(APPEND, processes, path, agent.id, each) as writers:
        await writers.tell("go")
    async with pattern_db.open(path, embeddings="none") as db:
        messages = await db.messages.list(agent.id, limit=100_000)
    assert len({message.position for message in messages}) == processes * each
    assert sorted(message.ordinal or 0 for message in messages) == list(range(processes * each))
    for writer in range(processes):
        own = [m.content for m in messages if m.content.startswith(f"{writer} ")]
        assert own == [f"{writer} {n}" for n in range(each)]
    assert flaws(path, embedded=False) == []


async def test_three_processes_append_to_one_agent(db: PatternDB, flux: Agent, path: str) -> None:
    await append_together(path, flux, processes=3, each=100)


@pytest.mark.slow
async def test_eight_processes_append_eight_thousand_messages_to_one_agent(
    db: PatternDB, flux: Agent, path: str
) -> None:
    await append_together(path, flux, processes=8, each=1000)


async def test_four_processes_append_to_one_block(db: PatternDB, flux: Agent, path: str) -> None:
    block = await db.memory.create(flux.id, label="log", char_limit=100_000)
    async with crowd(REMEMBER, 4, path, block.id, 50) as writers:
        await writers.tell("go")
    lines = (await db.memory.require(block.id)).content.split("\n")
    assert sorted(lines) == sorted(f"{writer} {n}" for writer in range(4) for n in range(50))
    assert len(await db.memory.history(block.id, limit=1000)) == 201
    assert flaws(path, embedded=False) == []


async def open_together(directory: Path, *, processes: int, files: int) -> None:
    async with crowd(OPEN, processes) as openers:
        for n in range(files):
            path = directory / f"{n}.db"
            await openers.tell(str(path))
            answers = await openers.answers()
            assert len(set(answers)) == 1, answers
            assert answers[0].startswith("db_"), answers
            assert flaws(path, embedded=False) == []


async def test_four_processes_that_open_a_new_file_at_once_make_one_database(
    tmp_path: Path,
) -> None:
    await open_together(tmp_path, processes=4, files=5)


@pytest.mark.slow
async def test_six_processes_that_open_a_new_file_at_once_make_one_database(
    tmp_path: Path,
) -> None:
    """Entering WAL mode was refused with "database is locked" in one of forty attempts."""
    await open_together(tmp_path, processes=6, files=40)


async def test_a_search_finds_what_another_handle_wrote_and_not_what_it_deleted(
    path: str,
) -> None:
    async with pattern_db.open(path, embeddings=TinyEmbeddings()) as one:
        agent = await one.agents.create(name="Flux")
        await one.messages.append(agent.id, role="user", content="pears")
        async with pattern_db.open(path, embeddings=TinyEmbeddings()) as other:
            for mode in ("semantic", "keyword", "hybrid"):
                message = await one.messages.append(agent.id, role="user", content=f"apples {mode}")
                hits = await other.search(agent.id, f"apples {mode}", mode=mode)
                assert message in [hit.item for hit in hits]
                await one.messages.delete(message.id)
                hits = await other.search(agent.id, f"apples {mode}", mode=mode)
                assert message.id not in [hit.item.id for hit in hits]


async def test_two_handles_write_everything_at_once(path: str) -> None:
    acks: list[str] = []
    async with (
        pattern_db.open(path, embeddings=TinyEmbeddings()) as one,
        pattern_db.open(path, embeddings=TinyEmbeddings()) as other,
    ):
        loads = [Load(one, acks.append, "one"), Load(other, acks.append, "other")]
        for load in loads:
            await load.prepare()
        await asyncio.gather(*(load.all_at_once(rounds=5) for load in loads))
    assert broken_promises(path, acks) == []
    assert flaws(path) == []
