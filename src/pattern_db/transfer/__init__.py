"""Other people's chats and runs brought in, and one database copied into another one."""

from .comparing import Comparison, TableComparison, compare_databases
from .copying import CopyReport, TableCopy, copy_database
from .episodes import EpisodesReport, import_episodes
from .importing import KINDS, import_file
from .run import ImportReport
from .trajectories import FORMATS

__all__ = [
    "FORMATS",
    "KINDS",
    "Comparison",
    "CopyReport",
    "EpisodesReport",
    "ImportReport",
    "TableComparison",
    "TableCopy",
    "compare_databases",
    "copy_database",
    "import_episodes",
    "import_file",
]
