"""How well memory is found again and advice serves, measured on public data."""

from __future__ import annotations

from .beir import evaluate_beir
from .cranfield import evaluate_cranfield
from .episode_rendering import render_episodes
from .episodes import EpisodesReport, evaluate_episodes
from .locomo import evaluate_locomo
from .rendering import render
from .report import DocumentReport, Environment, Latency, LocomoReport, Ranking, Scores

__all__ = [
    "DocumentReport",
    "Environment",
    "EpisodesReport",
    "Latency",
    "LocomoReport",
    "Ranking",
    "Scores",
    "evaluate_beir",
    "evaluate_cranfield",
    "evaluate_episodes",
    "evaluate_locomo",
    "render",
    "render_episodes",
]
