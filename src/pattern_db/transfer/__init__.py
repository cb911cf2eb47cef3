"""Other people's files: chats become messages of an agent, runs become episodes."""

from .episodes import EpisodesReport, import_episodes
from .importing import KINDS, import_file
from .run import ImportReport
from .trajectories import FORMATS

__all__ = [
    "FORMATS",
    "KINDS",
    "EpisodesReport",
    "ImportReport",
    "import_episodes",
    "import_file",
]
