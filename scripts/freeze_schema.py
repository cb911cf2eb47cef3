"""Write the tables of today's models as the frozen schema of a migration.

python scripts/freeze_schema.py m0001_initial            # all tables
python scripts/freeze_schema.py m0002_tasks tasks        # only these
"""

import json
import sys
from pathlib import Path

import pattern_db.models  # noqa: F401  (declares the tables)
from pattern_db.schema import all_tables

FOLDER = Path(__file__).parent.parent / "src" / "pattern_db" / "migrations"


def main(name: str, *only: str) -> None:
    tables = [t.describe() for t in all_tables() if not only or t.name in only]
    (FOLDER / f"{name}.json").write_text(json.dumps(tables, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
