"""The bundled conversation: two people over ten weeks, and questions about what they said."""

from __future__ import annotations

from datetime import datetime
from importlib.resources import files

import msgspec


class Turn(msgspec.Struct, frozen=True):
    """What one of the two said; ``id`` is how questions name it."""

    id: str
    speaker: str
    text: str


class Session(msgspec.Struct, frozen=True):
    """What was said on one occasion."""

    id: str
    title: str
    started_at: datetime
    turns: list[Turn]


class Question(msgspec.Struct, frozen=True):
    """A question, its answer, the turns that hold the answer, and what makes it hard."""

    question: str
    answer: str
    evidence: list[str]
    about: str


class Story(msgspec.Struct, frozen=True):
    """The whole of it."""

    title: str
    licence: str
    agent: str
    participants: list[str]
    sessions: list[Session]
    questions: list[Question]


def story() -> Story:
    """The story of this package."""
    data = files(__package__).joinpath("demo.json").read_bytes()
    return msgspec.json.decode(data, type=Story)
