"""Numbered changes of the schema, and their runner."""

from .runner import Migration, MigrationRunner, MigrationStatus, known_migrations

__all__ = ["Migration", "MigrationRunner", "MigrationStatus", "known_migrations"]
