"""The boards that no training may see: for evaluation, for choosing settings, and for the requests that we ship."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from asterism.agents.countdown import Board, solve

_FOLDER: Final = Path(__file__).parent
HELD_BACK: Final = _FOLDER / "held_back.txt"
VALIDATION: Final = _FOLDER / "validation.txt"
"""Settings are chosen on these, so that the held-back ones are looked at once."""
RESERVED: Final = _FOLDER / "reserved.txt"
HELD_BACK_APR: Final = _FOLDER / "held_back_apr.txt"
"""Of the distribution of Adaptive Parallel Reasoning (arXiv 2504.15466): four numbers of 1-99, targets of 10-100."""

HELD_BACK_SEED: Final = 20_261
VALIDATION_SEED: Final = 20_262
VALIDATION_24: Final = 75
VALIDATION_COUNTDOWN: Final = 225
THREES_SEED: Final = 20_263
HELD_BACK_24: Final = 250
HELD_BACK_COUNTDOWN: Final = 750
HELD_BACK_APR_SEED: Final = 20_264
HELD_BACK_APR_COUNT: Final = 1_000


def read_boards(path: Path) -> tuple[Board, ...]:
    """One board a line: four numbers (target 24) or four numbers and a target; `#` begins a comment."""
    found: list[Board] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        numbers = [int(word) for word in line.partition("#")[0].split()]
        if numbers:
            found.append(Board(tuple(numbers[:4]), numbers[4] if len(numbers) > 4 else 24))
    return tuple(found)


def excluded_boards() -> frozenset[Board]:
    """Every board that training leaves out, in canonical form."""
    return frozenset(board for path in (HELD_BACK, HELD_BACK_APR, VALIDATION, RESERVED) for board in read_boards(path))


def make_held_back(
    reserved: Sequence[Board],
    seed: int = HELD_BACK_SEED,
    count_24: int = HELD_BACK_24,
    count_countdown: int = HELD_BACK_COUNTDOWN,
    largest: int = 20,
) -> tuple[Board, ...]:
    """Distinct random boards that have a solution, fractions included: the Game of 24, then Countdown to 100.

    `largest` bounds the numbers of the latter.
    """
    rng = random.Random(seed)
    found: dict[Board, None] = {}
    taken = set(reserved)
    while len(found) < count_24 + count_countdown:
        if len(found) < count_24:
            board = Board(tuple(rng.choices(range(1, 14), k=4)), 24)
        else:
            board = Board(tuple(rng.choices(range(1, largest + 1), k=4)), rng.randint(10, 100))
        if board not in taken and solve(board) is not None:
            found.setdefault(board)
    return tuple(found)


def make_held_back_apr(taken: Sequence[Board], count: int = HELD_BACK_APR_COUNT) -> tuple[Board, ...]:
    """As `make_held_back`, with numbers to 99 and without Games of 24."""
    return make_held_back(taken, HELD_BACK_APR_SEED, 0, count, largest=99)


def make_validation(taken: Sequence[Board]) -> tuple[Board, ...]:
    """As `make_held_back`, from another seed and none of `taken`."""
    return make_held_back(taken, VALIDATION_SEED, VALIDATION_24, VALIDATION_COUNTDOWN)


def boards_of_three(count: int, seed: int = THREES_SEED) -> tuple[Board, ...]:
    """Distinct random solvable boards of three numbers, on which a model should not fork; training may see them."""
    rng = random.Random(seed)
    found: dict[Board, None] = {}
    while len(found) < count:
        board = Board(tuple(rng.choices(range(1, 21), k=3)), rng.choice((24, rng.randint(10, 100))))
        if solve(board) is not None:
            found.setdefault(board)
    return tuple(found)


def _write(path: Path, boards: Sequence[Board], seed: int) -> None:
    lines = [f"# {len(boards)} solvable boards, seed {seed}: numbers, target"]
    lines += [f"{' '.join(map(str, board.numbers))} {board.target}" for board in boards]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Writes the sets anew; the same seeds give the same files."""
    reserved = read_boards(RESERVED)
    held_back = make_held_back(reserved)
    _write(HELD_BACK, held_back, HELD_BACK_SEED)
    validation = make_validation((*reserved, *held_back))
    _write(VALIDATION, validation, VALIDATION_SEED)
    _write(HELD_BACK_APR, make_held_back_apr((*reserved, *held_back, *validation)), HELD_BACK_APR_SEED)


if __name__ == "__main__":
    main()
