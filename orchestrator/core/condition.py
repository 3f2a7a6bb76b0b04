"""When a line lets its child run: comparisons of the parent's outcome, joined by and, or, not. Data, and no code."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from asterism.orchestrator.core.values import MISSING, Json, Missing, Path, find_at

MAX_TERMS: Final = 64
"""Of one condition."""

_WORD: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*")


class Comparison(StrEnum):
    """How a part of the outcome is compared; except for EQ and NE it is false between types that have no order."""

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    IN = "in"
    """The part is one of the value's items (a list), or stands in it (text in text)."""
    CONTAINS = "contains"
    """The value is one of the part's items, one of its keys, or stands in it."""
    EXISTS = "exists"
    MISSING = "missing"


_SIGNS: Final = {
    Comparison.EQ: "==",
    Comparison.NE: "!=",
    Comparison.LT: "<",
    Comparison.LE: "<=",
    Comparison.GT: ">",
    Comparison.GE: ">=",
    Comparison.IN: "in",
    Comparison.CONTAINS: "contains",
}


class Operator(StrEnum):
    """Joins what stands before it."""

    AND = "and"
    OR = "or"
    NOT = "not"


@dataclass(frozen=True, slots=True)
class Compare:
    """One comparison of the part of the parent's outcome `{state, result, error}` at `path` with a value."""

    path: Path
    comparison: Comparison
    value: Json = None
    of_length: bool = False
    """Compare how many items, keys or characters the part has; what has none is missing."""

    @property
    def looks_into_result(self) -> bool:
        """Whether it depends on what the result is, and not only on the state, the error, or that there is a result."""
        if self.path[:1] not in ((), ("result",)):
            return False
        return len(self.path) > 1 or self.of_length or self.comparison not in (Comparison.EXISTS, Comparison.MISSING)

    def __str__(self) -> str:
        part = "".join(
            f"[{step}]" if isinstance(step, int) else f".{step}" if _WORD.fullmatch(step) else f"[{json.dumps(step)}]"
            for step in self.path
        ).removeprefix(".")
        if self.comparison in (Comparison.EXISTS, Comparison.MISSING):
            return f"{self.comparison}({part})"
        part = f"len({part})" if self.of_length else part
        return f"{part} {_SIGNS[self.comparison]} {json.dumps(self.value, ensure_ascii=False)}"

    def holds(self, outcome: Mapping[str, Json]) -> bool:
        """Whether it is true of a parent's outcome. A path that leads nowhere satisfies only MISSING and NE."""
        found = find_at(outcome, self.path)
        if self.of_length:
            found = len(found) if isinstance(found, str | list | tuple | Mapping) else MISSING
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
            case Comparison.IN:
                return _is_in(found, self.value)
            case Comparison.CONTAINS:
                return _is_in(self.value, found)


@dataclass(frozen=True, slots=True)
class Connect:
    """An operator at its place."""

    operator: Operator


Term: TypeAlias = Compare | Connect


@dataclass(frozen=True, slots=True)
class Condition:
    """Terms in postfix order: an operator follows the one (NOT) or two terms that it joins. So nothing nests, and no
    condition is too deep for whoever reads it."""

    terms: tuple[Term, ...]

    @classmethod
    def of(cls, path: Path, comparison: Comparison, value: Json = None) -> "Condition":
        """A single comparison."""
        return cls((Compare(path, comparison, value),))

    def __str__(self) -> str:
        stack: list[str] = []
        for term in self.terms:
            if isinstance(term, Compare):
                stack.append(str(term))
            elif term.operator is Operator.NOT:
                stack.append(f"not ({stack.pop()})")
            else:
                last = stack.pop()
                stack.append(f"({stack.pop()}) {term.operator} ({last})")
        return stack[0]

    @property
    def looks_into_result(self) -> bool:
        """Whether some comparison depends on what the result is."""
        return any(isinstance(term, Compare) and term.looks_into_result for term in self.terms)

    def holds(self, outcome: Mapping[str, Json]) -> bool:
        """Whether it is true of a parent's outcome; for one that `find_fault` has nothing to say about."""
        stack: list[bool] = []
        for term in self.terms:
            if isinstance(term, Compare):
                stack.append(term.holds(outcome))
                continue
            last = stack.pop()
            match term.operator:
                case Operator.NOT:
                    stack.append(not last)
                case Operator.AND:
                    stack.append(stack.pop() and last)
                case Operator.OR:
                    stack.append(stack.pop() or last)
        return stack[0]

    def find_fault(self) -> str | None:
        """Why it cannot be evaluated; None when it can."""
        if not 1 <= len(self.terms) <= MAX_TERMS:
            return f"a condition has 1 to {MAX_TERMS} terms, not {len(self.terms)}"
        depth = 0
        for term in self.terms:
            if isinstance(term, Compare):
                depth += 1
            elif depth < (needed := 1 if term.operator is Operator.NOT else 2):
                return f"'{term.operator}' needs {needed} terms before it"
            else:
                depth -= needed - 1
        return None if depth == 1 else f"{depth} terms are not joined by 'and' or 'or'"


def _equal(found: "Json | Missing", value: "Json | Missing") -> bool:
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


def _is_in(part: "Json | Missing", whole: "Json | Missing") -> bool:
    match part, whole:
        case (Missing(), _):
            return False
        case (str(), str() | Mapping()):
            return part in whole
        case (_, list() | tuple()):
            return any(_equal(item, part) for item in whole)
        case _:
            return False
