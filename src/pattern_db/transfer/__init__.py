"""Other people's chat files brought in, and one database copied into another one."""

from .comparing import Comparison, TableComparison, compare_databases
from .copying import CopyReport, TableCopy, copy_database
from .importing import KINDS, import_file
from .run import ImportReport

__all__ = [
    "KINDS",
    "Comparison",
    "CopyReport",
    "ImportReport",
    "TableComparison",
    "TableCopy",
    "compare_databases",
    "copy_database",
    "import_file",
]
