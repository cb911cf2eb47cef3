"""A process that copies one database into another one and says after each page how far it is.

python -m tests.transfer.copier SOURCE DESTINATION
"""

from __future__ import annotations

import asyncio
import sys

import pattern_db
from pattern_db.transfer import copy_database


async def main(source: str, destination: str) -> None:
    async with (
        pattern_db.open(source, embeddings="none") as left,
        pattern_db.open(destination, embeddings="none") as right,
    ):
        await copy_database(left, right, progress=lambda done, _: print(done, flush=True))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
