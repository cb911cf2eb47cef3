"""How well memory is found again, measured on public question sets."""

from __future__ import annotations

from .beir import evaluate_beir
from .cranfield import evaluate_cranfield
from .locomo import evaluate_locomo
from .rendering import render
from .report import DocumentReport, Environment, Latency, LocomoReport, Ranking, Scores

__all__ = [
    "DocumentReport",
    "Environment",
    "Latency",
    "LocomoReport",
    "Ranking",
    "Scores",
    "evaluate_beir",
    "evaluate_cranfield",
    "evaluate_locomo",
    "render",
]
