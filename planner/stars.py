"""The stars of a plan as people and models write them: one model behind the plan file, the lines and the builder."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from asterism.orchestrator.core.check import MAX_QUORUM
from asterism.planner.fields import Capabilities, Fields, Inputs, Name, Steps, Title, WorkFields
from asterism.planner.when import When

APPROVAL_PROGRAM: Final = "approval"
MAX_ITEMS: Final = 2_000
"""Most stars of one map: they are added in one batch, whose size a frame limits."""
DEFAULT_MAX_ITEMS: Final = 256


class PlanKind(StrEnum):
    """What sort of star it is; all but the last two are the core's own kinds."""

    TOOL = "tool"
    AGENT = "agent"
    REASON = "reason"
    PLAN = "plan"
    GATHER = "gather"
    APPROVAL = "approval"
    MAP = "map"


class AfterFields(Fields):
    """A parent, and what its end must be: `success` (the default), `completion`, or a condition on its outcome. With
    `stream` the star begins while the parent runs, and hears what it writes."""

    star: Name
    on: Literal["success", "completion", "condition", "quorum", "stream"] | None = None
    when: When | None = None


Parent: TypeAlias = Annotated[
    Annotated[Name, Tag("name")] | Annotated[AfterFields, Tag("line")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "line"),
]


class QuorumFields(Fields):
    """So many of these parents must succeed; then the others are cancelled, unless somebody else waits for them."""

    at_least: Annotated[int, Field(ge=1, le=MAX_QUORUM)]
    of: Annotated[list[Name], Field(min_length=1, max_length=MAX_QUORUM)]


class Related(Fields):
    """How a star stands to others."""

    id: Name | None = None
    """In a list; without one it gets one. In a map the key is the id."""
    after: Annotated[list[Parent], Field(max_length=4096)] = Field(default=[])
    """Parents besides those whose results the inputs use; these need no mention."""
    quorum: Annotated[
        Annotated[int, Field(ge=0, le=MAX_QUORUM), Tag("number")] | Annotated[QuorumFields, Tag("fields")],
        Discriminator(lambda value: "fields" if isinstance(value, Mapping | QuorumFields) else "number"),
    ] = 0
    """With a number, the parents are those of `after` with `on: quorum`."""

    @property
    def quorum_size(self) -> int:
        """How many must succeed; 0 where there is no quorum."""
        return self.quorum if isinstance(self.quorum, int) else self.quorum.at_least


def _known_kind(kind: object) -> object:
    """The kind, if a star of a plan may have it: its own model knows those of a worker's stars alone."""
    if kind not in [*PlanKind]:
        *others, last = (repr(known.value) for known in PlanKind)
        raise PydanticCustomError(
            "kind", "Input should be {others} or {last}", {"others": ", ".join(others), "last": last}
        )
    return kind


class WorkStar(Related, WorkFields):
    """A star that a worker runs."""

    kind: Annotated[Literal["tool", "agent", "reason", "plan", "gather"], BeforeValidator(_known_kind)]
    program: Name
    replan_when: Annotated[
        When | None,
        Field(description="On the outcome of its success: where it holds, the graph is rewritten."),
    ] = None


class ApprovalStar(Related, WorkFields):
    """A star that a person decides about; its inputs are what the person is shown."""

    kind: Literal["approval"]
    program: Name = APPROVAL_PROGRAM


class EachFields(WorkFields):
    """What a map runs for each item: an input may be {"$item": true, "$path": [...]} or {"$index": true}, too."""

    kind: Literal["tool", "agent", "reason", "gather"]
    program: Name


class GatherFields(Fields):
    """What gathers the outcomes of a map's stars; the default is the list of their results, in order."""

    program: Name
    inputs: Inputs = Field(default={})
    """An input {"$parents": true} gets the outcomes; without one there is one more, `outcomes`."""
    requires: Capabilities = Field(default=[])


class OverFields(Fields):
    """A list in an earlier star's result."""

    star: Annotated[Name, Field(alias="$from")]
    path: Steps = Field(default=[], alias="$path")


class MapStar(Related):
    """One star for each item of a list that an earlier star gives; the result is the list of theirs, in order."""

    kind: Literal["map"]
    over: OverFields
    each: EachFields
    max_items: Annotated[int, Field(ge=1, le=MAX_ITEMS)] = DEFAULT_MAX_ITEMS
    on: Literal["success", "completion"] = "success"
    """`completion`: what failed is null in the list; else the map is skipped when one fails."""
    gather: GatherFields | None = None
    title: Title = ""


def _sort(value: object) -> str:
    kind = value.get("kind") if isinstance(value, Mapping) else None
    return kind if kind in ("map", "approval") else "work"


PlanStar: TypeAlias = WorkStar | ApprovalStar | MapStar
AnyStar: TypeAlias = Annotated[
    Annotated[WorkStar, Tag("work")] | Annotated[ApprovalStar, Tag("approval")] | Annotated[MapStar, Tag("map")],
    Discriminator(_sort),
]


class OneStar(Fields):
    """A single star, for whoever reads one at a time."""

    star: AnyStar
