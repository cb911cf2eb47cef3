"""Vector search in this process, for engines that have none of their own."""

from .exact import ExactIndex
from .index import VectorIndex
from .source import Accepted, Row, Scope, Source

__all__ = ["Accepted", "ExactIndex", "Row", "Scope", "Source", "VectorIndex"]
