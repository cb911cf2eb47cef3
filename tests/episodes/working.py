"""Episodes for tests, recorded through the public API."""

from __future__ import annotations

from typing import Any

from pattern_db import Episode, PatternDB, Success

FIX = [
    {"action": "check the code", "tool": "grep", "result": "1 match", "success": True},
    {"action": "run it", "tool": "pytest", "error": "1 failed: 'x' at line 3", "success": False},
    {"action": "change it", "tool": "edit", "success": True, "duration_ms": 40.0},
    {"action": "run it", "tool": "pytest", "result": "all passed", "success": True},
]
"""Steps that show a sequence, a resolved error, a decision and testing."""


async def worked(
    db: PatternDB,
    agent_id: str,
    task: str = "Fix the login test",
    *,
    steps: list[dict[str, Any]] | None = None,
    outcome: Any = None,
    **episode: Any,
) -> Episode:
    """An episode from its start to its outcome."""
    given = {"domain": "web", "task_type": "debugging", **episode}
    async with db.episodes.record(agent_id, task=task, **given) as recording:
        for step in FIX if steps is None else steps:
            await recording.step(**step)
        return await recording.complete(outcome or Success("all green"))
