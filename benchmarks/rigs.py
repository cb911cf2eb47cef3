"""What benchmarks take of the tests: a PostgreSQL server, killed children, a model of no weight."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.reliability.tiny import TinyEmbeddings
from tests.rigs.ackpipe import kills
from tests.rigs.postgres import Server

__all__ = ["Server", "TinyEmbeddings", "kills"]
