"""SurrealDB, in the process or on a server."""

from .engine import SurrealStore

__all__ = ["SurrealStore"]
