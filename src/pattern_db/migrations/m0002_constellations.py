"""The tenants of a database."""

from .operations import CreateTables, frozen_tables

version = 2
description = "constellations"
operations = (CreateTables(frozen_tables("m0002_constellations.json")),)
