"""Reasoning traces with an exact teacher: what a model is shown, and how much each token of it counts.

A `Trace` is a packed sequence: one prefix that all reasoning threads share, then the threads, each of which sees the
prefix and itself alone, at the positions that it has when it is forked. So one forward pass trains on the outline list,
several threads and the join, without computing the prefix again.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from asterism.agents import markup
from asterism.agents.countdown import MAX_INTERMEDIATE, Board, Move, Operator, after, first_moves, moves
from asterism.agents.markup import Outline

TOKEN_ID: Final = {word: index for index, word in enumerate(markup.VOCABULARY)}
END_ID: Final = TOKEN_ID[markup.END]
PAD_ID: Final = TOKEN_ID["<pad>"]

MAX_SEQUENTIAL_TOKENS: Final = 512

# Weights of the loss: the words that decide count more than those that follow from them. With 4 for `yes` a model finds
# the solutions of the Game of 24, whose pairs it knows by heart, and a third of those with other targets.
_YES_WEIGHT: Final = 12.0
_NO_WEIGHT: Final = 3.0
_NEED_WEIGHT: Final = 8.0
"""With 2, what is needed was right for target 24 after half of the training, and for other targets in two of three."""
_WINNER_WEIGHT: Final = 3.0
_REST_WEIGHT: Final = 2.0
_DECOY_SHARE: Final = 0.25

PROMOTED: Final = 4
"""First moves that lead the list by the model's judgement; the others follow in canonical order."""


@dataclass(slots=True)
class Trace:
    """Equal-length lists: ids, positions, the segment (0: shared prefix) and the loss weight of being predicted."""

    token_ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def say(self, text: str, *, segment: int = 0, position: int | None = None, weight: float = 1.0) -> None:
        """Appends words; a segment goes on where its last token was, or starts at `position`."""
        if position is None:
            position = self.positions[-1] + 1 if self.positions else 0
        words = text.split()
        self.token_ids.extend(TOKEN_ID[word] for word in words)
        self.positions.extend(range(position, position + len(words)))
        self.segments.extend([segment] * len(words))
        self.weights.extend([weight] * len(words))


def is_winner(board: Board, move: Move) -> bool:
    left = after(board.numbers, move)
    return left is not None and winning_moves(left, board.target) is not None


def teachable(board: Board) -> bool:
    """Whether a board of three or four numbers has a solution within the moves that are taught."""
    if len(board.numbers) == 3:
        return winning_moves(board.numbers, board.target) is not None
    return any(is_winner(board, move) for move in first_moves(board))


@dataclass(frozen=True, slots=True)
class _Choice:
    move: Move
    wins: bool
    weight: float


def ordered_moves(board: Board, rng: random.Random) -> list[_Choice]:
    """First moves as the model should list them: `PROMOTED` winners in random order, then the others canonically.

    Random order among winners makes the model put the likeliest first. Where a board has too few winners, and in one
    place of four anyway, some loser stands in the lead and is not learned: so the model sees leads like its own, with
    mistakes in them, and always gives its best guess.
    """
    options = first_moves(board)
    wins = {move: is_winner(board, move) for move in options}
    winners = [move for move in options if wins[move]]
    losers = [move for move in options if not wins[move]]
    rng.shuffle(winners)
    rng.shuffle(losers)
    lead: list[_Choice] = []
    while len(lead) < min(PROMOTED, len(options)):
        if losers and (not winners or rng.random() < _DECOY_SHARE):
            lead.append(_Choice(losers.pop(), False, 0.0))
        else:
            lead.append(_Choice(winners.pop(), True, _WINNER_WEIGHT))
    promoted = {choice.move for choice in lead}
    return lead + [_Choice(move, wins[move], _REST_WEIGHT) for move in options if move not in promoted]


def _say_choice(trace: Trace, choice: _Choice) -> None:
    trace.say(f"{choice.move.larger} {choice.move.operator} {choice.move.smaller}", weight=choice.weight)
    trace.say(f"= {choice.move.result}")


def needs(number: int, target: int) -> tuple[tuple[Operator, int], ...]:
    """What stands beside `number` where one more operation makes `target`, each value once: + then - * /."""
    found: dict[int, Operator] = {}
    if target > number:
        found.setdefault(target - number, "+")
    if target + number <= MAX_INTERMEDIATE:
        found.setdefault(target + number, "-")
    if number > target:
        found.setdefault(number - target, "-")
    if target % number == 0:
        found.setdefault(target // number, "*")
    if number > 1 and target * number <= MAX_INTERMEDIATE:
        found.setdefault(target * number, "/")
    if number > target > 1 and number % target == 0:
        found.setdefault(number // target, "/")
    return tuple((operator, value) for value, operator in found.items())


def rounds(numbers: tuple[int, ...]) -> tuple[tuple[int, tuple[Move, ...]], ...]:
    """Each different number of three, from the largest, with the moves on the other two."""
    found: dict[int, tuple[Move, ...]] = {}
    for index in (2, 1, 0):
        others = tuple(number for i, number in enumerate(numbers) if i != index)
        found.setdefault(numbers[index], moves(others))
    return tuple(found.items())


@lru_cache(maxsize=200_000)
def winning_moves(numbers: tuple[int, ...], target: int) -> tuple[Move, Move] | None:
    """The two moves with which a thread over three numbers ends, or None when it finds nothing."""
    for beside, options in rounds(numbers):
        needed: dict[int, Operator] = {value: operator for operator, value in needs(beside, target)}
        for move in options:
            if move.result in needed:
                larger, smaller = max(beside, move.result), min(beside, move.result)
                return move, Move(larger, needed[move.result], smaller, target)
    return None


def _say_three(trace: Trace, numbers: tuple[int, ...], target: int, segment: int) -> None:
    """What a search says after `left`: the numbers, and the rounds on them."""
    trace.say(f"{' '.join(map(str, numbers))} :", segment=segment)
    _say_rounds(trace, numbers, target, segment)


def _say_rounds(trace: Trace, numbers: tuple[int, ...], target: int, segment: int) -> None:
    """Round by round what is needed, and each move up to the first that wins."""
    claim = winning_moves(numbers, target)
    for beside, options in rounds(numbers):
        trace.say(f"{beside} {markup.NEEDS}", segment=segment)
        for operator, value in needs(beside, target):
            trace.say(operator, segment=segment)
            trace.say(str(value), segment=segment, weight=_NEED_WEIGHT)
        trace.say(":", segment=segment)
        needed = {value for _, value in needs(beside, target)}
        for move in options:
            trace.say(str(move), segment=segment)
            if claim is not None and move.result in needed:
                trace.say(markup.YES, segment=segment, weight=_YES_WEIGHT)
                trace.say(str(claim[1]), segment=segment)
                return
            trace.say(markup.NO, segment=segment, weight=_NO_WEIGHT)
    trace.say(markup.NONE, segment=segment)


def parallel_trace(board: Board, rng: random.Random, threads: int = 4) -> Trace:
    """Outlines, `threads` of the threads, and the join of a four-number board; half of the lists are cut short."""
    trace = Trace()
    choices = ordered_moves(board, rng)
    trace.say(markup.board_text(board), weight=0.0)
    trace.say("<Parallel>")
    trace.say("<Outlines>")
    kept = len(choices) if rng.random() < 0.5 else rng.randint(1, len(choices))
    for number, choice in enumerate(choices[:kept], start=1):
        trace.say(f"<Outline> {number} :", weight=0.2)
        _say_choice(trace, choice)
        trace.say(markup.OUTLINE_CLOSES, weight=0.2)
    trace.say(markup.OUTLINES_CLOSE, weight=1.0 if kept == len(choices) else 0.0)
    fork_position = len(trace.token_ids)

    outlines = [Outline(number, choice.move) for number, choice in enumerate(choices[:kept], start=1)]
    winners = [outline for outline, choice in zip(outlines, choices, strict=False) if choice.wins]
    losers = [outline for outline, choice in zip(outlines, choices, strict=False) if not choice.wins]
    shown = rng.sample(winners, min(len(winners), threads - 1))
    shown += rng.sample(losers, min(len(losers), threads - len(shown)))
    for segment, outline in enumerate(shown, start=1):
        left = after(board.numbers, outline.move)
        assert left is not None
        opening = markup.thread_opening(outline, left)
        trace.say(opening, segment=segment, position=fork_position, weight=0.0)
        _say_rounds(trace, left, board.target, segment)
        trace.say(markup.THREAD_CLOSES, segment=segment)
    if winners:
        _say_join(trace, board, winners[0], losers, fork_position, len(shown) + 1, rng)
    return trace


def _say_join(
    trace: Trace,
    board: Board,
    winner: Outline,
    losers: Sequence[Outline],
    position: int,
    segment: int,
    rng: random.Random,
) -> None:
    left = after(board.numbers, winner.move)
    assert left is not None
    claim = winning_moves(left, board.target)
    assert claim is not None
    beside = rng.sample(losers, rng.randint(0, min(5, len(losers))))
    ended: list[tuple[Outline, Sequence[Move]]] = [(winner, claim), *((outline, ()) for outline in beside)]
    ended.sort(key=lambda pair: pair[0].number)
    trace.say(markup.join_opening(ended), segment=segment, position=position, weight=0.0)
    answer = " , ".join(map(str, (winner.move, *claim)))
    trace.say(f"{winner.number} : {answer} {markup.ANSWER_CLOSES} {markup.END}", segment=segment)


def sequential_trace(board: Board, rng: random.Random) -> Trace:
    """One search in one text, cut at `MAX_SEQUENTIAL_TOKENS`; boards of three numbers have this form alone."""
    trace = Trace()
    trace.say(markup.board_text(board), weight=0.0)
    if len(board.numbers) == 3:
        trace.say(f"{markup.SEARCH_OPENS} {markup.LEFT}")
        _say_three(trace, board.numbers, board.target, 0)
    else:
        # Four numbers: the model is to fork when it is asked what it would rather do.
        trace.say(markup.SEARCH_OPENS, weight=0.0)
        for choice in ordered_moves(board, rng):
            trace.say(markup.TRY)
            _say_choice(trace, choice)
            trace.say(markup.LEFT)
            left = after(board.numbers, choice.move)
            assert left is not None
            _say_three(trace, left, board.target, 0)
            if choice.wins or len(trace.token_ids) >= MAX_SEQUENTIAL_TOKENS:
                break
    trace.say(f"{markup.SEARCH_CLOSES} {markup.END}")
    for values in (trace.token_ids, trace.positions, trace.segments, trace.weights):
        del values[MAX_SEQUENTIAL_TOKENS:]
    return trace


@dataclass(frozen=True, slots=True)
class BoardMix:
    """From which boards training draws; those in `excluded` (held back, or to be shown to users) are never drawn."""

    excluded: Collection[Board]

    def draw(self, rng: random.Random, numbers: int = 4) -> Board:
        """A random board: one in five is the Game of 24; four in five of all have a solution that is taught."""
        wanted = rng.random() < 0.8
        while True:
            if rng.random() < 0.2:
                board = Board(tuple(rng.choices(range(1, 14), k=numbers)), 24)
            else:
                board = Board(tuple(rng.choices(range(1, 21), k=numbers)), rng.randint(10, 100))
            if board not in self.excluded and teachable(board) == wanted:
                return board

    def trace(self, rng: random.Random) -> Trace:
        """Four in ten traces fork, one in ten is a sequential search of four numbers, the rest are boards of three.

        These are short, so that as many tokens show four times as many targets; the sums with these come last.
        """
        kind = rng.random()
        if kind < 0.40:
            return parallel_trace(self.draw(rng), rng)
        return sequential_trace(self.draw(rng, 4 if kind < 0.48 else 3), rng)
