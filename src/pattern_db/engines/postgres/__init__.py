"""PostgreSQL with pgvector: one server, one schema a tenant."""

from .engine import PostgresStore

__all__ = ["PostgresStore"]
