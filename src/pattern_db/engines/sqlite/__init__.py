"""One file, in this process, on SQLite."""

from .engine import SqliteStore

__all__ = ["SqliteStore"]
