"""What searches have in common: how they are narrowed, and how hits are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators

from pattern_db.models import Role

from . import output
from .options import Output
from .output import Entry
from .values import Mode, Moment, pairs_of

if TYPE_CHECKING:
    from pattern_db.search import Hit


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """What every search can be narrowed by."""

    mode: Mode = "hybrid"
    """How to search: by words and meaning, by meaning, or by words."""
    limit: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=1000))] = 10
    """How many hits at most."""
    since: Moment | None = None
    """Only what is from this time on."""
    until: Moment | None = None
    """Only what is from before this time."""
    tag: list[str] | None = None
    """Only what has this in its metadata's list of tags; given several times, all of them."""
    where: Annotated[list[str] | None, Parameter(metavar="KEY=VALUE")] = None
    """Only what has this value at this key of its metadata; JSON, or else text. Also compares:
    'rating={"$gte": 4}', with $eq, $ne, $gt, $gte, $lt, $lte or $in."""
    as_of: Moment | None = None
    """What was known at this time: nothing later, and memory blocks as they were."""
    diversity: Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))] = 0.0
    """How much hits shall differ from each other, from 0 (the best ones) to 1."""
    explain: bool = False
    """Show the parts of each score."""

    def asked(self) -> dict[str, Any]:
        """The options of a search in Python."""
        return {
            "mode": self.mode,
            "limit": self.limit,
            "since": self.since,
            "until": self.until,
            "tags": self.tag,
            "metadata": pairs_of(self.where),
            "as_of": self.as_of,
            "diversity": self.diversity,
        }


ANYTHING = Narrowing()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Said:
    """What a search of messages can be narrowed by besides."""

    role: list[Role] | None = None
    """Only messages of this role; may be given several times."""
    speaker: list[str] | None = None
    """Only what this speaker said, in any case; may be given several times."""
    conversation: str | None = None
    """Only messages of the conversation with this id."""
    skip_archived: bool = False
    """Leave out messages that were archived."""

    def asked(self) -> dict[str, Any]:
        """The options of a search in Python."""
        return {
            "roles": self.role,
            "speakers": self.speaker,
            "conversation_id": self.conversation,
            "include_archived": not self.skip_archived,
        }


BY_ANYONE = Said()


def show_hits(options: Output, hits: list[Hit], *, explain: bool) -> None:
    """Hits, best first."""
    if options.json:
        output.document(hits)
        return
    if not hits:
        output.line("(nothing found)")
    for hit in hits:
        output.entry(_entry(hit, explain=explain))


def _entry(hit: Hit, *, explain: bool) -> Entry:
    item = hit.item
    names = ("speaker", "label", "domain")
    who = next((name for name in (getattr(item, n, None) for n in names) if name), "")
    facts = [f"{hit.score:.2f}", hit.kind, output.when(item.created_at), who, item.id]
    why = " + ".join(f"{part} {value:.3f}" for part, value in _largest_first(hit.why))
    text = item.task if hit.kind == "episode" else item.content
    return Entry(facts, text, [f"{hit.score:.3f} = {why}"] if explain else [])


def _largest_first(why: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(why.items(), key=lambda part: -part[1])
