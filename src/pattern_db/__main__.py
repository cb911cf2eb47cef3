"""``python -m pattern_db`` is ``pattern``."""

from .cli import main

main()
