"""The questions of a LoCoMo sample and the turns that hold their answers."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import msgspec

from pattern_db.models import Json
from pattern_db.transfer.locomo import Sample
from pattern_db.transfer.reading import Source

CATEGORIES = {
    1: "multi-hop",
    2: "temporal",
    3: "open-domain",
    4: "single-hop",
    5: "adversarial",
}
ADVERSARIAL = 5
_SEPARATORS = re.compile(r"[\s;,]+")


class Question(msgspec.Struct, frozen=True):
    """A question and its evidence: names of turns of its sample, each once."""

    text: str
    category: int
    evidence: frozenset[str]


class Asked(msgspec.Struct, frozen=True):
    """The questions to ask about one sample, and how many others there are, by reason.

    ``sessions`` gives the session of each turn.
    """

    questions: list[Question]
    skipped: Counter[str]
    sessions: dict[str, str]


def questions_of(source: Source, sample: Sample) -> Asked:
    """The questions of a sample that count. Raises ``ImportFailed`` naming a malformed one."""
    sessions = {turn.dia_id: s.key for s in sample.sessions for turn in s.turns}
    questions: list[Question] = []
    skipped: Counter[str] = Counter()
    for number, raw in enumerate(
        source.expect(list, sample.raw.get("qa"), sample.place, "`qa`"), 1
    ):
        place = f"{sample.place}, question {number}"
        raw = source.expect(dict, raw, place, "the question")
        question = _question(source, raw, place, sessions)
        reason = _reason_to_skip(question, raw)
        if reason is None:
            questions.append(question)
        else:
            skipped[reason] += 1
    return Asked(questions, skipped, sessions)


def _question(source: Source, raw: Json, place: str, sessions: dict[str, str]) -> Question:
    return Question(
        source.expect(str, raw.get("question"), place, "`question`"),
        source.expect(int, raw.get("category"), place, "`category`"),
        frozenset(id for id in evidence_ids(raw.get("evidence")) if id in sessions),
    )


def _reason_to_skip(question: Question, raw: Json) -> str | None:
    if question.category == ADVERSARIAL:
        return CATEGORIES[ADVERSARIAL]
    if not raw.get("evidence"):
        return "no evidence"
    return None if question.evidence else "evidence names no turn"


def evidence_ids(value: Any) -> list[str]:
    """The ids in a list of them; an entry may hold several: "D8:6; D9:17"."""
    entries = value if isinstance(value, list) else [value]
    return [
        id for entry in entries if isinstance(entry, str) for id in _SEPARATORS.split(entry) if id
    ]
