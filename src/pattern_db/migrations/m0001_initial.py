"""People, memory, messages, vectors: everything of the first version."""

from .operations import CreateTables, frozen_tables

version = 1
description = "users, agents, groups, memory, archival, messages, embeddings"
operations = (CreateTables(frozen_tables("m0001_initial.json")),)
