"""Finding the right memory: candidates from the engine, everything after them here."""

from .options import Hit, SearchOptions
from .searcher import Searcher

__all__ = ["Hit", "SearchOptions", "Searcher"]
