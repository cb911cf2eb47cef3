"""How well memory is found again, measured on public question sets."""

from .locomo import evaluate_locomo
from .report import Latency, LocomoReport, Scores, render

__all__ = ["Latency", "LocomoReport", "Scores", "evaluate_locomo", "render"]
