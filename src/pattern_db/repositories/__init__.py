"""What the words of the data model mean: no SQL and no driver below this line."""

from .archival import Archival
from .conversations import Conversations
from .episode_lists import Placed
from .episodes import Episodes
from .memory import Memory, SharedMemory
from .messages import Messages
from .metrics import EpisodeMetrics, ToolMetrics
from .patterns import Patterns, Recommendation, Recommendations
from .people import Agents, Groups, Users, UserWithAgents
from .recording import Recording
from .repository import Context, Policy
from .tool_calls import ToolCalls

__all__ = [
    "Agents",
    "Archival",
    "Context",
    "Conversations",
    "EpisodeMetrics",
    "Episodes",
    "Groups",
    "Memory",
    "Messages",
    "Patterns",
    "Placed",
    "Policy",
    "Recommendation",
    "Recommendations",
    "Recording",
    "SharedMemory",
    "ToolCalls",
    "ToolMetrics",
    "UserWithAgents",
    "Users",
]
