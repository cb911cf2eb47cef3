"""What an agent did: episodes, their steps, and what is kept beside them."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Annotated, Any

import msgspec

from ..schema import Counted, Index, Reference, TextIndex, table
from .people import Json


class TaskType(enum.StrEnum):
    """What kind of work a task is."""

    CODE_GENERATION = "code_generation"
    DEBUGGING = "debugging"
    REFACTORING = "refactoring"
    TESTING = "testing"
    ANALYSIS = "analysis"
    DOCUMENTATION = "documentation"
    OTHER = "other"


class Complexity(enum.StrEnum):
    """How hard a task is held to be."""

    SIMPLE = "simple"
    MODERATE = "moderate"
    COMPLEX = "complex"


class EpisodeStatus(enum.StrEnum):
    """Whether an episode goes on (``active``), how it ended, or that it is put away."""

    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    ARCHIVED = "archived"


class OutcomeKind(enum.StrEnum):
    """How an episode went."""

    SUCCESS = "success"
    PARTIAL = "partial"
    FAILURE = "failure"
    ABSTAINED = "abstained"


class ResultKind(enum.StrEnum):
    """How a step went."""

    SUCCESS = "success"
    ERROR = "error"
    TIMEOUT = "timeout"


class Success(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="success"):
    """The task was done."""

    verdict: str = ""
    artifacts: list[str] = []


class Partial(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="partial"):
    """Some of the task was done."""

    verdict: str = ""
    completed: list[str] = []
    failed: list[str] = []


class Failure(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="failure"):
    """The task was not done."""

    reason: str = ""
    error: str | None = None


class Abstained(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="abstained"):
    """The agent stopped on purpose, because the task could or should not be done.

    ``signals`` are what it took that from.
    """

    reason: str = ""
    stopped_at_step: int | None = None
    signals: list[str] = []


Outcome = Success | Partial | Failure | Abstained


class Reward(msgspec.Struct, frozen=True, gc=False):
    """The parts of a reward; see ``episodes.reward``."""

    total: float
    base: float
    abstention: float
    efficiency: float
    complexity: float
    quality: float
    learning: float


class Finding(msgspec.Struct, frozen=True, gc=False):
    """Something that a rule of ``episodes.reflection`` says of an episode.

    ``kind`` is ``success``, ``improvement`` or ``insight``, ``steps`` the numbers it is said of.
    """

    rule: str
    kind: str
    text: str
    steps: list[int] = []


@table(
    "episodes",
    entity="episode",
    indexes=(
        Index(("agent_id", "created_at", "id")),
        Index(("domain", "created_at", "id")),
        Index(("status", "created_at", "id")),
        Index(("created_at", "id")),
        Index(("domain", "completed_at", "outcome_kind")),
        Index(("task_type", "domain", "completed_at")),
        Index(("parent_id",)),
        Index(("resumed_from_id",)),
    ),
    text=TextIndex(
        kind="episode",
        columns=("task", "searchable"),
        hidden=("is_active", False),
        within=("domain",),
    ),
)
class Episode(msgspec.Struct, frozen=True, gc=False):
    """One task that an agent worked on, from its start to its outcome.

    ``context`` is a text or a JSON object. ``success_rate`` is the share of its steps that
    succeeded, ``reward_score`` the total of ``reward``, ``quality`` says in 0…1 how much there is
    to learn from it; they and ``outcome``, ``reflection`` and ``tools`` (of each step that used
    one, in order) are there once it is completed. An abstained episode is completed.
    ``archived_from`` is the status it had before it was archived. ``searchable`` is what a text
    search finds beside the task: context, tags, outcome, steps and reflection. ``size_bytes``
    counts the texts of its steps, ``version`` its changes. What is long comes last: an engine reads
    a row up to the last column that is asked for.
    """

    id: str
    agent_id: Annotated[str, Reference("agents")]
    task: str
    created_at: datetime
    updated_at: datetime
    task_type: TaskType = TaskType.OTHER
    domain: str = "general"
    language: str | None = None
    framework: str | None = None
    complexity: Complexity = Complexity.MODERATE
    status: EpisodeStatus = EpisodeStatus.ACTIVE
    archived_from: EpisodeStatus | None = None
    outcome_kind: OutcomeKind | None = None
    completed_at: datetime | None = None
    success_rate: float | None = None
    reward_score: float | None = None
    quality: float | None = None
    parent_id: Annotated[str, Reference("episodes", "set null")] | None = None
    resumed_from_id: Annotated[str, Reference("episodes", "set null")] | None = None
    step_count: int = 0
    size_bytes: int = 0
    version: int = 1
    is_active: bool = True
    tags: list[str] = []
    tools: list[str] = []
    metadata: Json = {}
    context: Any = None
    outcome: Outcome | None = None
    reward: Reward | None = None
    reflection: list[Finding] = []
    searchable: str = ""


@table(
    "steps",
    entity="step",
    indexes=(
        Index(("episode_id", "step_number"), unique=True),
        Index(("tool_name", "error_signature", "id")),
        Index(("result_kind", "id")),
    ),
)
class Step(msgspec.Struct, frozen=True, gc=False):
    """One thing that was done, written as it happened and never changed.

    ``step_number`` counts from 1 within the episode and is assigned by the database.
    ``success`` is ``None`` where nobody said. ``error_signature`` is what equal errors have in
    common: ``error_message`` without numbers, ids and quoted texts.
    """

    id: str
    episode_id: Annotated[str, Reference("episodes")]
    action: str
    timestamp: datetime
    step_number: Annotated[int, Counted(("episode_id",), first=1)] | None = None
    tool_name: str | None = None
    parameters: Any = None
    result_kind: ResultKind | None = None
    result: str | None = None
    success: bool | None = None
    error_message: str | None = None
    error_signature: str | None = None
    duration_ms: float | None = None
    tokens_used: int | None = None
    metadata: Json = {}


@table("episode_summaries", entity="episode summary", key=("episode_id",))
class EpisodeSummary(msgspec.Struct, frozen=True, gc=False):
    """An episode in a few words, taken from its own: see ``episodes.summary``."""

    episode_id: Annotated[str, Reference("episodes")]
    summary_text: str
    created_at: datetime
    key_concepts: list[str] = []
    key_steps: list[str] = []


@table(
    "spatiotemporal_index",
    entity="index row",
    key=("episode_id",),
    indexes=(
        Index(("spatial_key", "temporal_key", "diversity_score")),
        Index(("temporal_key", "diversity_score")),
    ),
)
class SpatiotemporalKey(msgspec.Struct, frozen=True, gc=False):
    """Where an episode belongs: ``domain|task_type`` and the ISO week of its start (``2026-W34``).

    ``diversity_score`` is 1 minus its highest similarity to the nearest that were completed under
    the same spatial key before it; 1 for the first one. It never changes.
    """

    episode_id: Annotated[str, Reference("episodes")]
    spatial_key: str
    temporal_key: str
    diversity_score: float


class RelationshipType(enum.StrEnum):
    """What one episode is to another."""

    PARENT_CHILD = "parent_child"
    DEPENDS_ON = "depends_on"
    FOLLOWS = "follows"
    RELATED_TO = "related_to"
    BLOCKS = "blocks"
    DUPLICATES = "duplicates"
    REFERENCES = "references"


@table(
    "episode_relationships",
    entity="relationship",
    indexes=(
        Index(("from_episode_id", "to_episode_id", "relationship_type"), unique=True),
        Index(("to_episode_id", "relationship_type")),
    ),
)
class EpisodeRelationship(msgspec.Struct, frozen=True, gc=False):
    """That an episode depends on another, follows it, … ``priority`` is 1…10, ``weight`` 0…1.

    What depends, blocks or is a parent forms no circle.
    """

    id: str
    from_episode_id: Annotated[str, Reference("episodes")]
    to_episode_id: Annotated[str, Reference("episodes")]
    relationship_type: RelationshipType
    created_at: datetime
    reason: str | None = None
    created_by: str | None = None
    priority: int | None = None
    weight: float | None = None
    metadata: Json = {}


class Handoff(msgspec.Struct, frozen=True, gc=False):
    """What whoever goes on with an episode has to know.

    ``patterns`` are the ids of patterns that may help; steps are told as ``tool: action``.
    """

    goal: str
    steps_completed: list[str] = []
    what_worked: list[str] = []
    what_failed: list[str] = []
    facts: list[str] = []
    next_steps: list[str] = []
    patterns: list[str] = []


@table(
    "episode_checkpoints",
    entity="checkpoint",
    indexes=(Index(("episode_id", "created_at", "id")),),
)
class Checkpoint(msgspec.Struct, frozen=True, gc=False):
    """A place from which an episode can be resumed, with the handoff of that moment."""

    id: str
    episode_id: Annotated[str, Reference("episodes")]
    step_number: int
    created_at: datetime
    handoff: Handoff
    reason: str = ""
    note: str | None = None
    is_abstention: bool = False
