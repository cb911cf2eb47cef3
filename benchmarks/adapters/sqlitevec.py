"""sqlite-vec in plain SQL: a table of items beside a vec0 table partitioned by agent, by apsw."""

from __future__ import annotations

from collections.abc import Sequence

import apsw
import sqlite_vec
import workload

_ROWID = "SELECT max(rowid) FROM items"
_ITEM = "INSERT INTO items (rowid, id, agent, text) VALUES (?, ?, ?, ?)"
_VECTOR = "INSERT INTO vectors (rowid, agent, vector) VALUES (?, ?, ?)"
_NEAREST = (
    "SELECT items.id, items.text FROM vectors JOIN items ON items.rowid = vectors.rowid "
    "WHERE vectors.vector MATCH ? AND k = ?"
)


class SqliteVec(workload.Peer):
    packages = ("sqlite-vec", "apsw")
    durability = "WAL and synchronous=FULL: fsync on each commit"
    notes = ("an exact scan; no asynchronous interface",)

    def open(self) -> None:
        self.connection = apsw.Connection(str(self.folder / "vec.db"))
        self.connection.enable_load_extension(True)
        self.connection.load_extension(sqlite_vec.loadable_path())
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute(
            "CREATE TABLE items (rowid INTEGER PRIMARY KEY, id TEXT UNIQUE, agent TEXT, text TEXT)"
        )
        self.connection.execute(
            "CREATE VIRTUAL TABLE vectors USING vec0(agent TEXT PARTITION KEY, "
            f"vector FLOAT[{self.data.dimensions}] DISTANCE_METRIC=cosine)"
        )

    def bulk(self, items: Sequence[workload.Item]) -> None:
        with self.connection:
            start = (self.connection.execute(_ROWID).fetchone()[0] or 0) + 1
            numbered = list(enumerate(items, start))
            self.connection.executemany(_ITEM, ((n, i.id, i.agent, i.text) for n, i in numbered))
            self.connection.executemany(
                _VECTOR, ((n, i.agent, i.vector.tobytes()) for n, i in numbered)
            )

    def add(self, item: workload.Item) -> None:
        self.bulk([item])

    def get(self, id: str) -> str:
        return self.connection.execute("SELECT text FROM items WHERE id = ?", (id,)).fetchone()[0]

    def search(self, query: workload.Query) -> list[str]:
        values = (query.vector.tobytes(), workload.K)
        return [row[0] for row in self.connection.execute(_NEAREST, values)]

    def search_in(self, query: workload.Query) -> list[str]:
        values = (query.vector.tobytes(), workload.K, query.agent)
        sql = f"{_NEAREST} AND vectors.agent = ?"
        return [row[0] for row in self.connection.execute(sql, values)]

    def close(self) -> None:
        self.connection.close()


if __name__ == "__main__":
    workload.run(SqliteVec)
