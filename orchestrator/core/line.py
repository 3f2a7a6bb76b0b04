"""A line: the edge from a parent star to a child, and when it lets the child run."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.lean import lean
from asterism.orchestrator.core.values import MISSING, Json, Missing, Path, find_at


class LineKind(StrEnum):
    """What a parent's end must be for its child to run."""

    SUCCESS = "success"
    """The parent succeeded; else the child is skipped."""
    COMPLETION = "completion"
    """The parent is terminal, however it ended."""
    CONDITION = "condition"
    """The parent is terminal and the condition holds on its outcome; else the child is skipped."""


class Comparison(StrEnum):
    """How a condition compares; anything else than the two equalities is false between different types."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    EXISTS = "exists"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of one part of the parent's outcome `{state, result, error}` with a value; plain data, no code."""

    path: Path
    comparison: Comparison
    value: Json = None

    @property
    def looks_into_result(self) -> bool:
        """Whether it depends on what the result is, and not only on the state, the error, or that there is a result."""
        if self.path[:1] not in ((), ("result",)):
            return False
        return len(self.path) > 1 or self.comparison not in (Comparison.EXISTS, Comparison.MISSING)

    def holds(self, outcome: Mapping[str, Json]) -> bool:
        """Whether it is true of a parent's outcome. A path that leads nowhere satisfies only MISSING and NE."""
        found = find_at(outcome, self.path)
        match self.comparison:
            case Comparison.EXISTS:
                return found is not MISSING
            case Comparison.MISSING:
                return found is MISSING
            case Comparison.EQ:
                return _equal(found, self.value)
            case Comparison.NE:
                return not _equal(found, self.value)
            case Comparison.LT:
                return _is_less(found, self.value)
            case Comparison.GT:
                return _is_less(self.value, found)
            case Comparison.LE:
                return _equal(found, self.value) or _is_less(found, self.value)
            case Comparison.GE:
                return _equal(found, self.value) or _is_less(self.value, found)


def _equal(found: "Json | Missing", value: Json) -> bool:
    """JSON equality: true is not 1, which Python would have it be."""
    return isinstance(found, bool) == isinstance(value, bool) and found == value


def _is_less(low: "Json | Missing", high: "Json | Missing") -> bool:
    """Whether `low` lies below `high`; false unless both are numbers or both are text."""
    match low, high:
        case (bool(), _) | (_, bool()):
            return False
        case (int() | float(), int() | float()):
            return low < high
        case (str(), str()):
            return low < high
        case _:
            return False


@lean
@dataclass(frozen=True, slots=True)
class TaskStarLine:
    """An edge; at most one joins a parent to a child."""

    parent: StarId
    child: StarId
    kind: LineKind = LineKind.SUCCESS
    condition: Condition | None = None
    """Given exactly when the kind is CONDITION."""
