"""The exact search that a model learns to imitate: what each number needs, and which move or part gives it. Pure."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from asterism.agents.countdown import MAX_INTERMEDIATE, Board, Move, Operator, after, moves
from asterism.agents.markup import Need
from asterism.agents.parts import FirstMove, Part, PartEnd, beginnings, beside_part


def needs(number: int, target: int) -> tuple[tuple[Need, int], ...]:
    """What stands beside `number` where one more operation makes `target`, in the order of `markup.NEEDS`."""
    found: list[tuple[Need, int]] = []
    if target >= number:
        found.append(("add", target - number))
    if number > 0 and target + number <= MAX_INTERMEDIATE:
        found.append(("from", target + number))
    if number > target:
        found.append(("take", number - target))
    if number > 0 and target % number == 0:
        found.append(("times", target // number))
    if number > 1 and target * number <= MAX_INTERMEDIATE:
        found.append(("into", target * number))
    if number > target > 1 and number % target == 0:
        found.append(("over", number // target))
    return tuple(found)


_OPERATOR_OF: Final[dict[Need, Operator]] = {
    "add": "+",
    "from": "-",
    "take": "-",
    "times": "*",
    "into": "/",
    "over": "/",
}


def rounds(numbers: tuple[int, ...]) -> tuple[tuple[int, tuple[Move, ...]], ...]:
    """Each different number of three, from the largest, with the moves on the other two."""
    found: dict[int, tuple[Move, ...]] = {}
    for index in (2, 1, 0):
        others = tuple(number for i, number in enumerate(numbers) if i != index)
        found.setdefault(numbers[index], moves(others))
    return tuple(found.items())


def winning_need(beside: int, result: int, target: int) -> Need | None:
    """The first need of `beside` that `result` meets."""
    return next((need for need, value in needs(beside, target) if value == result), None)


def can_win(numbers: tuple[int, ...], target: int) -> bool:
    """Whether three ascending numbers make `target` by two moves that are taught.

    It says what `winning_moves` says, 20 times as fast: nine of ten searches find nothing.
    """
    a, b, c = numbers
    return _meets(a, b, c, target) or _meets(a, c, b, target) or _meets(b, c, a, target)


def _meets(low: int, high: int, beside: int, target: int) -> bool:
    """Whether a move on `low` <= `high` gives what `beside` needs to make `target`."""
    results = [low + high, low * high]
    if low > 0:
        results.append(high - low)
    if low > 1 and high % low == 0:
        results.append(high // low)
    for result in results:
        if result > MAX_INTERMEDIATE:
            continue
        if result + beside == target or (beside > 0 and result - beside == target) or beside - result == target:
            return True
        if beside > 0 and result * beside == target:
            return True
        if beside > 1 and target * beside == result:
            return True
        if target > 1 and beside > target and result * target == beside:
            return True
    return False


@lru_cache(maxsize=100_000)
def winning_moves(numbers: tuple[int, ...], target: int) -> tuple[Move, Move] | None:
    """The two moves with which a thread over three numbers ends, or None when it finds nothing."""
    if not can_win(numbers, target):
        return None
    for beside, options in rounds(numbers):
        for move in options:
            need = winning_need(beside, move.result, target)
            if need is not None:
                last = Move(max(beside, move.result), _OPERATOR_OF[need], min(beside, move.result), target)
                return move, last
    return None


def part_needs(factor: int, part: Part, target: int) -> tuple[tuple[Need, int], ...]:
    """What must come of the number beside a part, times what is under it, for `factor` to make `target`."""
    found: list[tuple[Need, int]] = []
    if target * part.under % factor == 0 and (times := target * part.under // factor) <= MAX_INTERMEDIATE:
        found.append(("times", times))
    if factor * part.under % target == 0 and (over := factor * part.under // target) <= MAX_INTERMEDIATE:
        found.append(("over", over))
    return tuple(found)


def part_sums(beside: int, part: Part) -> tuple[tuple[Operator, int], ...]:
    """`beside` times what is under the part; then that with what is over it, added and taken away; none too large."""
    product = beside * part.under
    found: list[tuple[Operator, int]] = []
    if product <= MAX_INTERMEDIATE:
        found.append(("*", product))
        if product + part.over <= MAX_INTERMEDIATE:
            found.append(("+", product + part.over))
        found.append(("-", abs(product - part.over)))
    return tuple(found)


def part_rounds(numbers: tuple[int, ...], part: Part) -> Iterator[tuple[int, int]]:
    """Factor and the number beside the part, from the larger factor, each different one once."""
    low, high = numbers
    yield high, low
    if low != high:
        yield low, high


def part_end(beside: int, operator: Operator, need: Need, factor: int, part: Part) -> PartEnd:
    """How the search ends when a sum or difference gave what `factor` needs."""
    is_part_left = operator == "-" and part.over > beside * part.under
    return PartEnd(beside, "+" if operator == "+" else "-", is_part_left, factor, "*" if need == "times" else "/")


def winning_end(numbers: tuple[int, ...], part: Part, target: int) -> PartEnd | None:
    """With what a thread over a part and the two numbers beside it ends; None when it finds nothing."""
    for factor, beside in part_rounds(numbers, part):
        wanted = part_needs(factor, part, target)
        for operator, value in part_sums(beside, part)[1:]:
            for need, needed in wanted:
                if needed == value:
                    return part_end(beside, operator, need, factor, part)
    return None


def claim_of(numbers: tuple[int, ...], first: FirstMove, target: int) -> tuple[Move, Move] | PartEnd | None:
    """What a thread that begins with `first` claims; None when it finds nothing."""
    if isinstance(first, Part):
        beside = beside_part(numbers, first)
        return None if beside is None else winning_end(beside, first, target)
    left = after(numbers, first)
    return None if left is None else winning_moves(left, target)


def is_winner(board: Board, first: FirstMove) -> bool:
    return claim_of(board.numbers, first, board.target) is not None


def teachable(board: Board) -> bool:
    """Whether a board of three or four numbers has a solution that is taught."""
    if len(board.numbers) == 3:
        return can_win(board.numbers, board.target)
    return any(is_winner(board, first) for first in beginnings(board.numbers))
