"""Vector search in this process, for engines that have none of their own."""

from .exact import ExactIndex

__all__ = ["ExactIndex"]
