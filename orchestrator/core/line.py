"""A line: the edge from a parent star to a child, and when it lets the child run."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from asterism.orchestrator.core.condition import Condition
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.lean import lean
from asterism.orchestrator.core.star import RUNNING, StarState


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
    STREAM = "stream"
    """The parent runs, or succeeded; else as by SUCCESS. What the child takes from it comes as it is written, and the
    child begins anew where the parent does."""
    GUARD = "guard"
    """The parent may rewrite the graph so that the child can run: the child is held until it is terminal, and then its
    other parents say whether it runs."""


# As in star.py.
SUCCESS: Final = LineKind.SUCCESS
QUORUM: Final = LineKind.QUORUM
STREAM: Final = LineKind.STREAM


@lean
@dataclass(frozen=True, slots=True)
class TaskStarLine:
    """An edge; at most one joins a parent to a child."""

    parent: StarId
    child: StarId
    kind: LineKind = SUCCESS
    condition: Condition | None = None
    """Given exactly when the kind is CONDITION."""

    def is_met(self, parent: StarState) -> bool:
        """Whether the child need not wait for a parent in that state; whether it runs at all is another question."""
        return parent.is_terminal or (self.kind is STREAM and parent is RUNNING)
