"""One call that imports a file of any kind we know."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from pattern_db.clock import monotonic
from pattern_db.embeddings.indexing import Mode
from pattern_db.service import PatternDB
from pattern_db.validation import check_known

from .chatgpt import import_chatgpt
from .jsonl import import_jsonl
from .locomo import import_locomo
from .reading import Source
from .run import ImportReport, Options, Progress, Run

KINDS: dict[str, Callable[[Run], Awaitable[None]]] = {
    "locomo": import_locomo,
    "chatgpt": import_chatgpt,
    "jsonl": import_jsonl,
}
"""What can be imported, and what does it."""


async def import_file(
    db: PatternDB,
    kind: str,
    path: str | os.PathLike[str],
    *,
    agent_id: str | None = None,
    agent_name: str | None = None,
    user_id: str | None = None,
    embed: Mode | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import a file of one of ``KINDS``; everything is durable when this returns.

    The messages go to the agent ``agent_id``, or to one named ``agent_name`` that is made if need
    be; without both the file says who: an agent for each sample of ``locomo``, one for all
    ``chatgpt`` exports, one for each ``jsonl`` file. New agents and conversations are the user's.
    ``embed`` as in ``messages.append``; ``progress`` hears (done, total), in messages, for
    ``chatgpt`` in nodes of the tree, for ``jsonl`` in bytes.

    Ids come from what is imported. An import that was stopped at any point and is run again ends as
    if it had run once, importing a file twice changes nothing, and one that has grown adds what is
    new. What was deleted here stays deleted.

    Raises ``ImportFailed`` with the place for a file that is not what it should be; the lines or
    whole conversations before that place are kept, and importing the corrected file goes on. Raises
    ``InvalidValue`` for an unknown kind, ``NotFound`` (agent, user), ``EmbeddingFailed``.
    """
    check_known("kind", [kind], KINDS)
    if user_id is not None:
        await db.users.require(user_id)
    if agent_id is not None:
        await db.agents.require(agent_id)
    started = monotonic()
    source = Source(Path(path))
    source.open().close()
    run = Run(
        db,
        source,
        Options(
            kind=kind,
            agent_id=agent_id,
            agent_name=agent_name,
            user_id=user_id,
            embed=embed,
            progress=progress,
        ),
    )
    await KINDS[kind](run)
    return run.report(seconds=monotonic() - started)
