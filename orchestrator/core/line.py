"""A line: the edge from a parent star to a child, and when it lets the child run."""

from dataclasses import dataclass
from enum import StrEnum

from asterism.orchestrator.core.condition import Condition
from asterism.orchestrator.core.ids import StarId


class LineKind(StrEnum):
    """What a parent's end must be for its child to run."""

    SUCCESS = "success"
    """The parent succeeded; else the child is skipped."""
    COMPLETION = "completion"
    """The parent is terminal, however it ended."""
    CONDITION = "condition"
    """The parent is terminal and the condition holds on its outcome; else the child is skipped."""
    QUORUM = "quorum"
    """The parent is one of those of which the child's `quorum` must succeed; then the others are cancelled, unless
    somebody else waits for them. The child is skipped once too few are left."""


@dataclass(frozen=True, slots=True)
class TaskStarLine:
    """An edge; at most one joins a parent to a child."""

    parent: StarId
    child: StarId
    kind: LineKind = LineKind.SUCCESS
    condition: Condition | None = None
    """Given exactly when the kind is CONDITION."""
