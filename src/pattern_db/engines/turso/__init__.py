"""One file, in this process, on Turso; it can follow a Turso server."""

from .engine import TursoStore

__all__ = ["TursoStore"]
