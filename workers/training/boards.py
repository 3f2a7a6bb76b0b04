"""The boards that no training may see: a held-back set for evaluation, and those reserved for the requests we ship."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from asterism.agents.countdown import Board, solve

_FOLDER: Final = Path(__file__).parent
HELD_BACK: Final = _FOLDER / "held_back.txt"
RESERVED: Final = _FOLDER / "reserved.txt"

HELD_BACK_SEED: Final = 20_261
HELD_BACK_24: Final = 250
HELD_BACK_COUNTDOWN: Final = 750


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
    return frozenset((*read_boards(HELD_BACK), *read_boards(RESERVED)))


def make_held_back(
    reserved: Sequence[Board],
    seed: int = HELD_BACK_SEED,
    count_24: int = HELD_BACK_24,
    count_countdown: int = HELD_BACK_COUNTDOWN,
) -> tuple[Board, ...]:
    """Distinct random boards that have a solution, fractions included: the Game of 24, then Countdown to 100."""
    rng = random.Random(seed)
    found: dict[Board, None] = {}
    taken = set(reserved)
    while len(found) < count_24 + count_countdown:
        if len(found) < count_24:
            board = Board(tuple(rng.choices(range(1, 14), k=4)), 24)
        else:
            board = Board(tuple(rng.choices(range(1, 21), k=4)), rng.randint(10, 100))
        if board not in taken and solve(board) is not None:
            found.setdefault(board)
    return tuple(found)


def main() -> None:
    """Writes the held-back set anew; the same seed gives the same file."""
    lines = [f"# {HELD_BACK_24 + HELD_BACK_COUNTDOWN} solvable boards, seed {HELD_BACK_SEED}: numbers, target"]
    lines += [f"{' '.join(map(str, board.numbers))} {board.target}" for board in make_held_back(read_boards(RESERVED))]
    HELD_BACK.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
