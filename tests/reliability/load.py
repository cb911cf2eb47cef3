"""One of everything that writes, and what was promised when it returned.

A ``Load`` runs acts on a database and calls ``ack`` with a line once an act has returned:

    load = Load(db, acks.append, "a")
    await load.prepare()
    await load.one_of_each(rounds=3)     # one after the other
    await load.all_at_once(rounds=3)     # every act in a task of its own
    assert broken_promises(path, acks) == []

Names start with the prefix, so that several loads (cycles, processes) share a file. Run as a
program it says that it began, opens the file and works until it is killed; its acknowledgements go
to stdout.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pattern_db
from pattern_db import AlreadyExists, PatternDB
from pattern_db.models import ArchivalEntry, MemoryBlock, Message

from .soundness import read, rows_of
from .tiny import TinyEmbeddings

GROUP = 4
TALKER, ARCHIVIST, READER = "agent-talker", "agent-archivist", "agent-reader"
LONG = " ".join(f"word{n}" for n in range(40))
"""Longer than the window of ``TinyEmbeddings``: it has several vectors."""

Ack = Callable[[str], None]


class Undo(Exception):
    """Raised inside a nested transaction so that it is undone."""


class Load:
    """The acts of one process, named after ``prefix``."""

    def __init__(self, db: PatternDB, ack: Ack, prefix: str):
        self._db, self._ack, self._prefix = db, ack, prefix
        self._block = f"{prefix}-block"
        self.acts: tuple[Callable[[str], Awaitable[None]], ...] = (
            self.say,
            self.say_many,
            self.call_a_tool,
            self.rewrite,
            self.remember,
            self.nest,
            self.archive,
            self.forget,
            self.note,
            self.queue,
            self.share,
        )

    async def prepare(self) -> None:
        """The agents, which all loads have in common, and the block of this one."""
        for id in (TALKER, ARCHIVIST, READER):
            with suppress(AlreadyExists):
                await self._db.agents.create(name=id, id=id)
        with suppress(AlreadyExists):
            await self._db.conversations.create(TALKER, id="conversation")
        await self._db.memory.create(
            TALKER, label=self._block, id=self._block, char_limit=1_000_000
        )
        self._ack(f"block {self._block}")

    async def one_of_each(self, rounds: int) -> None:
        """Every act in turn."""
        for n in range(rounds):
            for act in self.acts:
                await act(f"{self._prefix}-{n}")

    async def all_at_once(self, rounds: int = sys.maxsize) -> None:
        """Every act at once, over and over."""

        async def repeat(act: Callable[[str], Awaitable[None]]) -> None:
            for n in range(rounds):
                await act(f"{self._prefix}-{n}")

        await asyncio.gather(*(repeat(act) for act in self.acts))

    async def say(self, key: str) -> None:
        id = f"{key}-said"
        await self._db.messages.append(
            TALKER, role="user", speaker="Ada", content=id, conversation_id="conversation", id=id
        )
        self._ack(f"message {id}")

    async def say_many(self, key: str) -> None:
        texts = [f"{key} part {n} {LONG if n == 1 else ''}" for n in range(GROUP)]
        await self._db.messages.append_many(
            TALKER,
            [
                {"role": "user", "content": text, "id": f"{key}-many-{n}"}
                for n, text in enumerate(texts)
            ],
        )
        for n in range(GROUP):
            self._ack(f"message {key}-many-{n}")

    async def call_a_tool(self, key: str) -> None:
        call = {"call_id": f"{key}-call", "name": "look", "arguments": {"at": key}}
        answer = {"call_id": f"{key}-call", "content": f"seen {key}"}
        for role, fields in (
            ("assistant", {"tool_calls": [call]}),
            ("tool", {"tool_responses": [answer]}),
        ):
            id = f"{key}-{role}"
            await self._db.messages.append(TALKER, role=role, id=id, **fields)  # type: ignore[arg-type]
            self._ack(f"message {id}")

    async def rewrite(self, key: str) -> None:
        id = f"{key}-rewritten"
        await self._db.messages.append(TALKER, role="user", content=f"draft {LONG}", id=id)
        await self._db.messages.update(id, content=f"final {key}")
        self._ack(f"text {id} final {key}")

    async def remember(self, key: str) -> None:
        await self._db.memory.append(self._block, f"{key} was here")
        self._ack(f"line {self._block} {key} was here")

    async def nest(self, key: str) -> None:
        async with self._db.transaction():
            await self._say_in(f"{key}-nested-0")
            with suppress(Undo):
                async with self._db.transaction():
                    await self._say_in(f"{key}-undone-0")
                    raise Undo
            async with self._db.transaction():
                await self._say_in(f"{key}-nested-1")
        self._ack(f"message {key}-nested-0")
        self._ack(f"message {key}-nested-1")

    async def _say_in(self, id: str) -> None:
        await self._db.messages.append(TALKER, role="assistant", content=id, id=id)

    async def archive(self, key: str) -> None:
        ids = [f"{key}-old-{n}" for n in range(3)]
        await self._db.messages.append_many(
            ARCHIVIST, [{"role": "user", "content": id, "id": id} for id in ids]
        )
        await self._db.messages.archive_before(ARCHIVIST, ids[-1])
        for id in ids[:-1]:
            self._ack(f"archived {id}")

    async def forget(self, key: str) -> None:
        for way in ("deleted", "purged"):
            id = f"{key}-{way}"
            await self._db.messages.append(TALKER, role="user", content=f"forget {key}", id=id)
            if way == "deleted":
                await self._db.messages.delete(id)
            else:
                await self._db.messages.purge(id)
            self._ack(f"{way} {id}")

    async def note(self, key: str) -> None:
        id = f"{key}-note"
        await self._db.archival.create(TALKER, LONG, chunk_chars=100, id=id)
        self._ack(f"note {id}")

    async def queue(self, key: str) -> None:
        id = f"{key}-queued"
        await self._db.messages.append(TALKER, role="user", content=id, id=id, embed="queued")
        self._ack(f"message {id}")

    async def share(self, key: str) -> None:
        id = f"{key}-shared"
        await self._db.memory.create(TALKER, label=id, content=key, id=id)
        await self._db.memory.share(id, READER)
        await self._db.memory.delete(id)
        self._ack(f"gone {id}")


class _File:
    """What a file holds of what loads write."""

    def __init__(self, path: str | Path):
        with closing(read(path)) as connection:
            made = connection.table_exists("main", "messages")
            models = (Message, MemoryBlock, ArchivalEntry)
            rows = [rows_of(connection, model).values() if made else () for model in models]
        self.messages, self.blocks, self.entries = (
            {row.id: row for row in found} for found in rows
        )


def broken_promises(path: str | Path, acks: Iterable[str]) -> list[str]:
    """The acknowledgements that a file does not keep, and what is there by half."""
    file = _File(path)
    lost = [ack for ack in acks if not _KEPT[ack.split(" ", 1)[0]](file, *ack.split(" ", 2)[1:])]
    return lost + list(_halves(file))


_KEPT: dict[str, Callable[..., bool]] = {
    "began": lambda _file: True,
    "message": lambda file, id: id in file.messages,
    "text": lambda file, id, text: id in file.messages and file.messages[id].content == text,
    "block": lambda file, id: id in file.blocks,
    "line": lambda file, id, text: (
        id in file.blocks and text in file.blocks[id].content.split("\n")
    ),
    "archived": lambda file, id: id in file.messages and file.messages[id].is_archived,
    "deleted": lambda file, id: id in file.messages and file.messages[id].is_deleted,
    "purged": lambda file, id: id not in file.messages,
    "note": lambda file, id: id in file.entries,
    "gone": lambda file, id: id in file.blocks and not file.blocks[id].is_active,
}


def _halves(file: _File) -> Iterator[str]:
    sizes = {"many": GROUP, "nested": 2, "old": 3, "undone": 0}
    groups = Counter(id.rpartition("-")[0] for id in file.messages)
    for group, size in groups.items():
        if size != sizes.get(group.rpartition("-")[2], size):
            yield f"half of {group}: {size}"
    for id, entry in file.entries.items():
        if entry.parent_entry_id is None and _whole(file, id) != LONG:
            yield f"half of {id}"


def _whole(file: _File, id: str) -> str:
    chunks = [e for e in file.entries.values() if id in (e.id, e.parent_entry_id)]
    return "".join(chunk.content for chunk in sorted(chunks, key=lambda e: e.chunk_index))


async def _until_killed(path: str) -> None:
    print("began", flush=True)
    prefix = f"{os.environ['ACKPIPE_CYCLE']}.{os.environ['ACKPIPE_CHILD']}"
    async with pattern_db.open(path, embeddings=TinyEmbeddings()) as db:
        load = Load(db, lambda line: print(line, flush=True), prefix)
        await load.prepare()
        await load.all_at_once()


if __name__ == "__main__":
    asyncio.run(_until_killed(sys.argv[1]))
