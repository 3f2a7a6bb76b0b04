"""The game Countdown, exactly: what a board is, whether an expression solves it, and which moves there are.

A board of n numbers is solved by an expression that uses each number exactly once, with + - * / and parentheses, and
equals the target. The Game of 24 is the board of four numbers with target 24. All values are rationals, never floats.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Final, Literal, TypeAlias

from asterism.agents.asks import Json

MAX_NUMBERS: Final = 5
"""Exhaustive search of five numbers takes seconds; a sixth would take minutes."""
MAX_NUMBER: Final = 9_999
MAX_EXPRESSION_CHARS: Final = 400
MAX_NESTING: Final = 32

Operator: TypeAlias = Literal["+", "-", "*", "/"]


class InvalidBoard(ValueError):
    """What was given is no board: `field` says which part, `reason` why not."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Board:
    """Numbers in ascending order, so that equal boards compare equal, and the target that they must make."""

    numbers: tuple[int, ...]
    target: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.numbers) <= MAX_NUMBERS:
            raise InvalidBoard("numbers", f"must be 1 to {MAX_NUMBERS} numbers, not {len(self.numbers)}")
        if any(not 1 <= number <= MAX_NUMBER for number in self.numbers):
            raise InvalidBoard("numbers", f"each must be 1 to {MAX_NUMBER}")
        if not 1 <= self.target <= MAX_NUMBER:
            raise InvalidBoard("target", f"must be 1 to {MAX_NUMBER}")
        object.__setattr__(self, "numbers", tuple(sorted(self.numbers)))

    @staticmethod
    def from_json(values: Mapping[str, Json]) -> "Board":
        """Reads `numbers` and `target` of a star's inputs; raises `InvalidBoard`."""
        numbers, target = values.get("numbers"), values.get("target", 24)
        if not isinstance(numbers, list | tuple):
            raise InvalidBoard("numbers", "must be a list of whole numbers")
        whole = tuple(number for number in numbers if isinstance(number, int) and not isinstance(number, bool))
        if len(whole) != len(numbers):
            raise InvalidBoard("numbers", "must be a list of whole numbers")
        if not isinstance(target, int) or isinstance(target, bool):
            raise InvalidBoard("target", "must be a whole number")
        return Board(whole, target)

    def to_json(self) -> dict[str, Json]:
        return {"numbers": list(self.numbers), "target": self.target}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an expression solves a board, and in words why not if it does not."""

    is_correct: bool
    reason: str = ""


class _Malformed(ValueError):
    """The text is no expression."""


_LEXEME: Final = re.compile(r"\s*([0-9]+|[-+*/()])")


def verify(board: Board, expression: str) -> Verdict:
    """Whether `expression` uses each number of `board` exactly once and equals its target; never raises."""
    try:
        value, used = _evaluate(_lexemes(expression))
    except _Malformed as error:
        return Verdict(False, str(error))
    except ZeroDivisionError:
        return Verdict(False, "divides by zero")
    if sorted(used) != list(board.numbers):
        return Verdict(False, f"uses {sorted(used)}, not {list(board.numbers)}")
    if value != board.target:
        return Verdict(False, f"equals {value}, not {board.target}")
    return Verdict(True)


def _lexemes(expression: str) -> list[str]:
    if len(expression) > MAX_EXPRESSION_CHARS:
        raise _Malformed(f"is longer than {MAX_EXPRESSION_CHARS} characters")
    text = expression.rstrip()
    found: list[str] = []
    position = 0
    while position < len(text):
        match = _LEXEME.match(text, position)
        if match is None:
            raise _Malformed(f"has something unknown at character {position}")
        found.append(match.group(1))
        position = match.end()
    return found


def _evaluate(lexemes: list[str]) -> tuple[Fraction, list[int]]:
    """The value of an expression and the numbers in it, by recursive descent."""
    used: list[int] = []
    position = 0

    def peek() -> str:
        return lexemes[position] if position < len(lexemes) else ""

    def take() -> str:
        nonlocal position
        lexeme = peek()
        position += 1
        return lexeme

    def atom(nesting: int) -> Fraction:
        lexeme = take()
        if lexeme.isdecimal():
            used.append(int(lexeme))
            return Fraction(used[-1])
        if lexeme != "(":
            raise _Malformed(f"has {lexeme or 'its end'!r} where a number belongs")
        if nesting >= MAX_NESTING:
            raise _Malformed(f"is nested deeper than {MAX_NESTING}")
        value = sum_of(nesting + 1)
        if take() != ")":
            raise _Malformed("has a parenthesis that is never closed")
        return value

    def product_of(nesting: int) -> Fraction:
        value = atom(nesting)
        while (operator := peek()) in ("*", "/"):
            take()
            right = atom(nesting)
            value = value * right if operator == "*" else value / right
        return value

    def sum_of(nesting: int) -> Fraction:
        value = product_of(nesting)
        while (operator := peek()) in ("+", "-"):
            take()
            right = product_of(nesting)
            value = value + right if operator == "+" else value - right
        return value

    value = sum_of(0)
    if position < len(lexemes):
        raise _Malformed(f"goes on with {peek()!r} after its end")
    return value, used


@dataclass(frozen=True, slots=True)
class Search:
    """What exact search found: an expression, or None when the board has no solution; and how many states it saw."""

    expression: str | None
    searched: int


def search(board: Board) -> Search:
    """Tries every expression over the rationals, each multiset of values once; None is a proof that there is none."""
    target = Fraction(board.target)
    seen: set[tuple[Fraction, ...]] = set()

    def descend(terms: tuple[tuple[Fraction, str], ...]) -> str | None:
        if len(terms) == 1:
            return terms[0][1] if terms[0][0] == target else None
        state = tuple(sorted(value for value, _ in terms))
        if state in seen:
            return None
        seen.add(state)
        for i, j in combinations(range(len(terms)), 2):
            rest = tuple(term for k, term in enumerate(terms) if k not in (i, j))
            for term in _combined(terms[i], terms[j]):
                found = descend((*rest, term))
                if found is not None:
                    return found
        return None

    found = descend(tuple((Fraction(number), str(number)) for number in board.numbers))
    return Search(None if found is None else _without_outer_parentheses(found), len(seen))


def _combined(left: tuple[Fraction, str], right: tuple[Fraction, str]) -> Iterator[tuple[Fraction, str]]:
    (a, a_text), (b, b_text) = left, right
    yield a + b, f"({a_text} + {b_text})"
    yield a * b, f"({a_text} * {b_text})"
    yield a - b, f"({a_text} - {b_text})"
    yield b - a, f"({b_text} - {a_text})"
    if b:
        yield a / b, f"({a_text} / {b_text})"
    if a:
        yield b / a, f"({b_text} / {a_text})"


def _without_outer_parentheses(expression: str) -> str:
    return expression[1:-1] if expression.startswith("(") else expression


def solve(board: Board) -> str | None:
    """An expression that solves `board`, or None when there is provably none."""
    return search(board).expression


@dataclass(frozen=True, slots=True)
class Move:
    """Replaces two numbers of a board by `result` = `larger` `operator` `smaller`."""

    larger: int
    operator: Operator
    smaller: int
    result: int

    def __str__(self) -> str:
        return f"{self.larger} {self.operator} {self.smaller} = {self.result}"

    @property
    def is_true(self) -> bool:
        match self.operator:
            case "+":
                return self.larger + self.smaller == self.result
            case "-":
                return self.larger - self.smaller == self.result
            case "*":
                return self.larger * self.smaller == self.result
            case "/":
                return self.smaller != 0 and self.smaller * self.result == self.larger


MAX_INTERMEDIATE: Final = 400
"""Largest value of a move that a model is taught: every product of two numbers to 20.

Of 1,500 random solvable boards (numbers to 20, targets 24 and 10 to 100), 96.6 % have a solution within 1 to 200 and
98.4 % within 0 to 400; most of the rest need fractions.
"""


def moves(numbers: tuple[int, ...]) -> tuple[Move, ...]:
    """The moves of a model on ascending `numbers`, in canonical order: pairs from the left, then + - * /.

    Only whole results from 0 to `MAX_INTERMEDIATE`. Left out is what says the same as a move that is there: taking away
    0, and division by 1.
    """
    found: dict[Move, None] = {}
    for smaller, larger in combinations(numbers, 2):
        found.setdefault(Move(larger, "+", smaller, larger + smaller))
        if smaller > 0:
            found.setdefault(Move(larger, "-", smaller, larger - smaller))
        found.setdefault(Move(larger, "*", smaller, larger * smaller))
        if smaller > 1 and larger % smaller == 0:
            found.setdefault(Move(larger, "/", smaller, larger // smaller))
    return tuple(move for move in found if move.result <= MAX_INTERMEDIATE)


def first_moves(board: Board) -> tuple[Move, ...]:
    """The moves with which a search of `board` can begin; see `moves`."""
    return moves(board.numbers)


def after(numbers: tuple[int, ...], move: Move) -> tuple[int, ...] | None:
    """The numbers left by `move`, ascending, or None when it is false or uses a number that is not there."""
    if not move.is_true:
        return None
    left = list(numbers)
    for number in (move.larger, move.smaller):
        if number not in left:
            return None
        left.remove(number)
    return tuple(sorted([*left, move.result]))


def expression_of(board: Board, chain: tuple[Move, ...]) -> str | None:
    """The expression that a chain of moves builds from `board`'s numbers, or None when a move uses what is not there.

    It says nothing about the target: that is `verify`'s to judge.
    """
    terms = [(number, str(number)) for number in board.numbers]
    for move in chain:
        texts: list[str] = []
        for number in (move.larger, move.smaller):
            # The term that was made last comes first: models use what they have just made.
            index = next((i for i in reversed(range(len(terms))) if terms[i][0] == number), None)
            if index is None:
                return None
            texts.append(terms.pop(index)[1])
        terms.append((move.result, f"({texts[0]} {move.operator} {texts[1]})"))
    return _without_outer_parentheses(terms[-1][1]) if len(terms) == 1 else None
