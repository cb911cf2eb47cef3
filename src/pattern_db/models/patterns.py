"""What was learned: patterns with their evidence, recommendations and what came of them."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Annotated, ClassVar

import msgspec

from ..schema import Index, Reference, table
from .episodes import OutcomeKind
from .people import Json


class PatternKind(enum.StrEnum):
    """What sort of lesson a pattern is."""

    TOOL_SEQUENCE = "tool_sequence"
    ERROR_RESOLUTION = "error_resolution"
    OPTIMIZATION = "optimization"
    TESTING_STRATEGY = "testing_strategy"
    DECISION_POINT = "decision_point"
    CONTEXT_PATTERN = "context_pattern"


class ToolSequence(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="tool_sequence"):
    """Tools that were used one after the other; ``opening`` says that an episode began so."""

    tools: list[str]
    opening: bool = False


class ErrorResolution(
    msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="error_resolution"
):
    """An error of a tool, by what equal errors have in common, and what worked after it."""

    error: str
    tool: str | None = None
    resolution: list[str] = []


class Optimization(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="optimization"):
    """Tools that did a kind of task with much less than usual of a ``measure``.

    ``measure`` is ``steps`` or ``duration_ms``.
    """

    measure: str
    task_type: str
    tools: list[str] = []


class TestingStrategy(
    msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="testing_strategy"
):
    """The tools that tested, and when: ``before``, ``after``, ``throughout`` or ``only``."""

    __test__: ClassVar[bool] = False

    tools: list[str]
    placement: str


class DecisionPoint(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="decision_point"):
    """Something that was checked or decided, and what was done upon it."""

    condition: str
    action: str


class ContextPattern(
    msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="context_pattern"
):
    """Circumstances (``language:python``) and the approach in them: tools in order of first use."""

    features: list[str]
    approach: list[str] = []


PatternData = (
    ToolSequence | ErrorResolution | Optimization | TestingStrategy | DecisionPoint | ContextPattern
)


@table(
    "patterns",
    entity="pattern",
    indexes=(
        Index(("content_key",), unique=True),
        Index(("pattern_type", "success_rate")),
        Index(("pattern_type", "confidence")),
        Index(("domain", "pattern_type", "confidence")),
        Index(("created_at", "id")),
    ),
)
class Pattern(msgspec.Struct, frozen=True, gc=False):
    """A lesson, once for all the episodes it was seen in.

    ``content_key`` is ``type:sha256`` of its normalized content and domain. ``occurrences`` counts
    those episodes, ``successes`` and ``failures`` how they went, whole or in part.
    ``success_rate`` is shrunk toward the domain's (m = 10) and predicts; ``confidence`` is Wilson's
    lower bound (z = 1.96) and ranks. ``mean_latency_ms`` is that of its steps. ``retrieved`` counts
    how often it was recommended, ``usage_count`` how often it was then applied, ``helped`` with
    what success; ``effectiveness`` in 0…1 is made of these and of its age.
    """

    id: str
    pattern_type: PatternKind
    content_key: str
    pattern_data: PatternData
    domain: str
    created_at: datetime
    updated_at: datetime
    occurrences: int = 0
    successes: int = 0
    failures: int = 0
    success_rate: float = 0.0
    confidence: float = 0.0
    mean_latency_ms: float | None = None
    retrieved: int = 0
    usage_count: int = 0
    helped: int = 0
    last_used: datetime | None = None
    metadata: Json = {}
    version: int = 1


@table(
    "pattern_evidence",
    entity="piece of evidence",
    key=("pattern_id", "episode_id"),
    indexes=(Index(("episode_id",)), Index(("agent_id",))),
)
class PatternEvidence(msgspec.Struct, frozen=True, gc=False):
    """That a pattern was seen in an episode, and how that went.

    It stays when retention removes the episode, and goes when the episode is purged.
    """

    pattern_id: Annotated[str, Reference("patterns")]
    episode_id: str
    agent_id: Annotated[str, Reference("agents")]
    outcome_kind: OutcomeKind
    created_at: datetime
    latency_ms: float | None = None


@table(
    "recommendation_sessions",
    entity="recommendation",
    indexes=(Index(("created_at", "id")), Index(("agent_id",)), Index(("episode_id",))),
)
class RecommendationSession(msgspec.Struct, frozen=True, gc=False):
    """That patterns were recommended for a task, best first."""

    id: str
    task: str
    created_at: datetime
    domain: str | None = None
    agent_id: Annotated[str, Reference("agents")] | None = None
    episode_id: Annotated[str, Reference("episodes", "set null")] | None = None
    pattern_ids: list[str] = []


@table("recommendation_feedback", entity="feedback", key=("session_id",))
class RecommendationFeedback(msgspec.Struct, frozen=True, gc=False):
    """What came of a recommendation: the latest word of its session. ``rating`` is 0…1."""

    session_id: Annotated[str, Reference("recommendation_sessions")]
    outcome_kind: OutcomeKind
    created_at: datetime
    updated_at: datetime
    applied: list[str] = []
    rating: float | None = None
    note: str | None = None


@table(
    "pattern_applications",
    entity="application",
    key=("session_id", "pattern_id"),
    indexes=(Index(("pattern_id", "helped")),),
)
class PatternApplication(msgspec.Struct, frozen=True, gc=False):
    """That a recommended pattern was applied and whether it helped, by the latest feedback."""

    session_id: Annotated[str, Reference("recommendation_sessions")]
    pattern_id: Annotated[str, Reference("patterns")]
    helped: bool
