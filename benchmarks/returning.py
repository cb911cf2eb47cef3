"""Inserting messages: executemany alone, with RETURNING, and reading the assigned values back."""

from __future__ import annotations

import asyncio

from harness import Stopwatch
from pattern_db.ids import Positions
from store import INSERT, databases, rows

COUNT = 10_000


async def main() -> None:
    positions = Positions()
    async with databases() as (_db, _agent, connection):
        ways = {
            "executemany": lambda made: connection.executemany(INSERT, made),
            "executemany RETURNING": lambda made: connection.executemany(
                f"{INSERT} RETURNING ordinal", made
            ).fetchall(),
            "executemany, then SELECT": lambda made: (
                connection.executemany(INSERT, made),
                connection.execute(
                    "SELECT ordinal FROM messages WHERE pk > ? ORDER BY pk",
                    (connection.last_insert_rowid() - COUNT,),
                ).fetchall(),
            ),
        }
        for _ in range(3):
            for name, insert in ways.items():
                made = rows(COUNT, positions)
                with Stopwatch() as watch:
                    connection.execute("BEGIN IMMEDIATE")
                    insert(made)
                    connection.execute("COMMIT")
                print(f"{watch.seconds / COUNT * 1e6:8.1f} µs a row  {name}")


if __name__ == "__main__":
    asyncio.run(main())
