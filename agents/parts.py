"""Quotients that are not whole, for the boards that every solution takes through a fraction.

Of the 1,000 held-back boards 37 have no solution in whole numbers, and all of these have one of the form
x * (y + a/b), with + or - and either order, or x / (y - a/b), x / (a/b - y): the quotient of two numbers is kept
unworked, as a *part*, and the other two work with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal, TypeAlias

from asterism.agents.countdown import Move, after, moves

PART: Final = "part"


@dataclass(frozen=True, slots=True)
class Part:
    """The quotient `over` / `under` of two numbers, which is not whole."""

    over: int
    under: int

    def __str__(self) -> str:
        return f"{self.over} / {self.under} = {PART}"


FirstMove: TypeAlias = Move | Part


@dataclass(frozen=True, slots=True)
class PartEnd:
    """How a search with a part ends: `beside` and the part make a sum or difference, which `factor` is worked with."""

    beside: int
    operator: Literal["+", "-"]
    is_part_left: bool
    factor: int
    last: Literal["*", "/"]

    def __str__(self) -> str:
        inner = (PART, str(self.beside)) if self.is_part_left else (str(self.beside), PART)
        return f"{inner[0]} {self.operator} {inner[1]} , {self.factor} {self.last} {PART}"

    def expression(self, part: Part) -> str:
        quotient = f"({part.over} / {part.under})"
        left, right = (quotient, self.beside) if self.is_part_left else (self.beside, quotient)
        return f"{self.factor} {self.last} ({left} {self.operator} {right})"


END_WORDS: Final = 7
"""`3 + part , 18 * part`"""


def find_end(words: Sequence[str]) -> PartEnd | None:
    """The end that seven words say; None when they say none."""
    if len(words) != END_WORDS or words[3] != "," or words[6] != PART or (words[0] == PART) == (words[2] == PART):
        return None
    beside, factor = words[2] if words[0] == PART else words[0], words[4]
    operator: Literal["+", "-"] | None = "+" if words[1] == "+" else "-" if words[1] == "-" else None
    last: Literal["*", "/"] | None = "*" if words[5] == "*" else "/" if words[5] == "/" else None
    if operator is None or last is None or not all(map(is_number, (beside, factor))):
        return None
    return PartEnd(int(beside), operator, words[0] == PART, int(factor), last)


def is_number(word: str) -> bool:
    return word.isascii() and word.isdecimal() and len(word) <= 6


def parts(numbers: tuple[int, ...]) -> tuple[Part, ...]:
    """The parts of four ascending numbers that may lead to a whole result, in canonical order: pairs from the left,
    the smaller over the larger first."""
    if len(numbers) != 4:
        return ()
    found: dict[Part, None] = {}
    for i, j in combinations(range(4), 2):
        x, y = (numbers[k] for k in range(4) if k not in (i, j))
        for over, under in ((numbers[i], numbers[j]), (numbers[j], numbers[i])):
            if over % under and (_is_whole(x, y, over, under) or _is_whole(y, x, over, under)):
                found.setdefault(Part(over, under))
    return tuple(found)


def _is_whole(factor: int, beside: int, over: int, under: int) -> bool:
    """Whether factor * over / under, or factor / (beside - over / under), is a whole number."""
    return factor * over % under == 0 or factor * under % (beside * under - over) == 0


def beginnings(numbers: tuple[int, ...]) -> tuple[FirstMove, ...]:
    """With what a search of a board can begin: its moves, and then its parts."""
    return (*moves(numbers), *parts(numbers))


def beside_part(numbers: tuple[int, ...], part: Part) -> tuple[int, ...] | None:
    """The two numbers beside a part, ascending; None when it is whole or uses a number that is not there."""
    left = list(numbers)
    for number in (part.over, part.under):
        if number not in left:
            return None
        left.remove(number)
    return tuple(left) if part.over % part.under else None


def left_of(numbers: tuple[int, ...], first: FirstMove) -> tuple[str, ...] | None:
    """The words for what a first move leaves; None when it is false or uses a number that is not there."""
    if isinstance(first, Part):
        beside = beside_part(numbers, first)
        return None if beside is None else (*map(str, beside), PART)
    left = after(numbers, first)
    return None if left is None else tuple(map(str, left))
