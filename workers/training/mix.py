"""From which boards training draws, and in which share each kind of trace is shown."""

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from asterism.agents.countdown import Board, after, first_moves
from asterism.agents.parts import Part
from asterism.workers.training.teacher import is_winner, teachable
from asterism.workers.training.traces import (
    Trace,
    direct_trace,
    parallel_trace,
    search_of_three,
    sequential_trace,
)

LOWEST_TARGET: Final = 10
HIGHEST_TARGET: Final = 100


@dataclass(frozen=True, slots=True)
class BoardMix:
    """From which boards training draws; those in `excluded` (held back, or to be shown to users) are never drawn."""

    excluded: Collection[Board]
    largest: int = 20
    """Of the numbers of a board."""
    share_24: float = 0.2
    """Of Games of 24, with numbers to 13."""

    def draw(self, rng: random.Random, numbers: int = 4, *, solvable_share: float = 0.8) -> Board:
        """A random board with a target from 10 to 100; `solvable_share` of all have a solution that is taught."""
        wanted = rng.random() < solvable_share
        while True:
            if rng.random() < self.share_24:
                board = Board(tuple(rng.choices(range(1, 14), k=numbers)), 24)
            else:
                drawn = rng.choices(range(1, self.largest + 1), k=numbers)
                board = Board(tuple(drawn), rng.randint(LOWEST_TARGET, HIGHEST_TARGET))
            if board not in self.excluded and teachable(board) == wanted:
                return board

    def draw_with_part(self, rng: random.Random) -> tuple[Board, Part]:
        """A board that a part solves, and that part: random ones are rare, so it is made backwards."""
        while True:
            a, b, x, y = rng.choices(range(1, self.largest + 1), k=4)
            if a % b == 0:
                continue
            if rng.random() < 0.7:
                # x * (y + a/b), x * (y - a/b) or x * (a/b - y)
                above = rng.choice((y * b + a, abs(y * b - a))) * x
                target, rest = divmod(above, b)
            else:
                # x / (y - a/b) or x / (a/b - y)
                target, rest = divmod(x * b, abs(y * b - a))
            if rest or not LOWEST_TARGET <= target <= HIGHEST_TARGET:
                continue
            board = Board((a, b, x, y), target)
            if board not in self.excluded and is_winner(board, Part(a, b)):
                return board, Part(a, b)

    def draw_three(self, rng: random.Random) -> Trace:
        """A search of three numbers: of a board, or of what a first move leaves of one, with its larger numbers."""
        if rng.random() < 0.4:
            return sequential_trace(self.draw(rng, 3), rng)
        board = self.draw(rng)
        options = first_moves(board)
        winners = [move for move in options if is_winner(board, move)]
        move = rng.choice(winners if winners and rng.random() < 0.5 else options)
        left = after(board.numbers, move)
        assert left is not None
        return search_of_three(left, board.target, rng)

    def step(self, rng: random.Random, scale: int) -> list[list[Trace]]:
        """What one update learns from, in groups of traces of like length."""
        long = [self._draw_long(rng) for _ in range(scale) if rng.random() < 0.6]
        short = [self._draw_short(rng) for _ in range(3 * scale)]
        threes = [self.draw_three(rng) for _ in range(10 * scale)]
        direct = [direct_trace(self.draw(rng, solvable_share=1.0), rng) for _ in range(2 * scale)]
        return [group for group in (long, short, threes, direct) if group]

    def _draw_short(self, rng: random.Random) -> Trace:
        if rng.random() < 0.15:
            board, part = self.draw_with_part(rng)
            return parallel_trace(board, rng, whole_list=False, shows=part)
        return parallel_trace(self.draw(rng), rng, whole_list=False)

    def _draw_long(self, rng: random.Random) -> Trace:
        board = self.draw_with_part(rng)[0] if rng.random() < 0.05 else self.draw(rng)
        if rng.random() < 0.5:
            return parallel_trace(board, rng, whole_list=True)
        return sequential_trace(board, rng)
