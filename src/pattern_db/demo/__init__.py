"""A bundled conversation, and what this package does with it: ingest, ask, measure."""

from .run import Answer, DemoReport, Found, Ingested, run_demo
from .story import Question, Session, Story, Turn, story

__all__ = [
    "Answer",
    "DemoReport",
    "Found",
    "Ingested",
    "Question",
    "Session",
    "Story",
    "Turn",
    "run_demo",
    "story",
]
