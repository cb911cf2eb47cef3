"""Other people's chat files, brought into messages and conversations of an agent."""

from .importing import KINDS, import_file
from .run import ImportReport

__all__ = ["KINDS", "ImportReport", "import_file"]
