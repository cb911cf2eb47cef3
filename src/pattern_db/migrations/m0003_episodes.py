"""Experience: episodes with their steps, and the patterns learned from them."""

from .operations import CreateTables, frozen_tables

version = 3
description = "episodes, steps, patterns, recommendations"
operations = (CreateTables(frozen_tables("m0003_episodes.json")),)
