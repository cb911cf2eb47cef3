"""A program that writes and builds segments until it is killed, and tells what it is doing.

Lines on stdout: ``said TEXT`` for an acknowledged message, ``phase NAME`` when a step begins. With
``DIE_AT`` in the environment it kills itself when that step begins.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import Any

import pattern_db
from pattern_db import AlreadyExists
from pattern_db.vectors import index, scope, segment
from pattern_db.vectors.building import Builder

from .segments import DIMENSIONS, Spread, files, index_of, make_small, say, texts

AGENT = "agent-flux"
STEPS = (
    (Builder, "_add", "adding"),
    (Builder, "_survey", "surveying"),
    (segment, "_write", "writing"),
    (segment, "_checksum", "half written"),
    (os, "replace", "renaming"),
    (index, "open_segment", "reading"),
    (scope.ScopeIndex, "adopt", "adopting"),
)


def tell_before(owner: Any, name: str, phase: str) -> None:
    """Say that a step begins, and die there if that is wanted."""
    real = getattr(owner, name)

    def step(*args: Any, **more: Any) -> Any:
        print(f"phase {phase}", flush=True)
        if phase == os.environ.get("DIE_AT"):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)

    setattr(owner, name, step)


async def main(path: str) -> None:
    make_small()
    segment.new_index(DIMENSIONS)  # imports what takes long, so that work is what is killed
    cycle = os.environ["ACKPIPE_CYCLE"]
    async with pattern_db.open(path, embeddings=Spread()) as db:
        with suppress(AlreadyExists):
            await db.agents.create(name="Flux", id=AGENT)
        if cycle == "0":
            await say(db, AGENT, texts(1000))
        for step in STEPS:
            tell_before(*step)
        for n in range(sys.maxsize):
            print("phase idle", flush=True)
            said = texts(10, f"{cycle} {n}")
            await say(db, AGENT, said)
            for text in said:
                print(f"said {text}", flush=True)
            if n % 3 == 0:  # all of it anew
                for file in files(path):
                    file.unlink()
                index_of(db)._scopes.clear()
            await db.optimize()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
