"""What the words of the data model mean: no SQL and no driver below this line."""

from .archival import Archival
from .conversations import Conversations
from .memory import Memory, SharedMemory
from .messages import Messages
from .people import Agents, Groups, Users, UserWithAgents
from .repository import Context
from .tool_calls import ToolCalls

__all__ = [
    "Agents",
    "Archival",
    "Context",
    "Conversations",
    "Groups",
    "Memory",
    "Messages",
    "SharedMemory",
    "ToolCalls",
    "UserWithAgents",
    "Users",
]
