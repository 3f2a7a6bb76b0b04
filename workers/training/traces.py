"""Reasoning traces with an exact teacher: what a model is shown, and how much each token of it counts.

A `Trace` is a packed sequence: one prefix that all reasoning threads share, then the threads, each of which sees the
prefix up to where it was forked and itself alone, at the positions that it has then. So one forward pass trains on the
outline list, several threads and the join, without computing the prefix again.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from asterism.agents import markup
from asterism.agents.countdown import Board, after
from asterism.agents.markup import Outline
from asterism.agents.parts import FirstMove, Part, PartEnd, beginnings, beside_part, left_of
from asterism.workers.training.teacher import (
    claim_of,
    is_winner,
    needs,
    part_end,
    part_needs,
    part_rounds,
    part_sums,
    rounds,
    winning_moves,
    winning_need,
)

TOKEN_ID: Final = {word: index for index, word in enumerate(markup.VOCABULARY)}
END_ID: Final = TOKEN_ID[markup.END]
PAD_ID: Final = TOKEN_ID["<pad>"]

MAX_SEQUENTIAL_TOKENS: Final = 512

# Weights of the loss: the words that decide count more than those that follow from them. With 4 for `yes` an earlier
# model found the solutions of the Game of 24, whose pairs it knew by heart, and a third of those with other targets.
_YES_WEIGHT: Final = 12.0
_NOT_YET_WEIGHT: Final = 3.0
_VALUE_WEIGHT: Final = 3.0
_NEED_WEIGHT: Final = 6.0
"""Sums with the target come last: with 3, `times` was right in 87 % of places after 1,000 steps, `add` in 54 %."""
_DIRECT_WEIGHT: Final = 0.5
_COPY_WEIGHT: Final = 0.5
_STRUCK_OUT_SHARE: Final = 0.03


@dataclass(slots=True)
class Trace:
    """Equal-length lists: ids, positions, the segment (0: shared prefix), how many of the prefix's tokens it sees, and
    the loss weight of being predicted."""

    token_ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def say(self, text: str, *, weight: float = 1.0, segment: int | None = None, seen: int = 0) -> None:
        """Appends words, to the segment of the last one or, with `segment`, to a new one behind `seen` tokens of the
        prefix."""
        words = text.split()
        if segment is None:
            segment = self.segments[-1] if self.segments else 0
            seen = self.seen[-1] if self.seen else 0
            position = self.positions[-1] + 1 if self.positions else 0
        else:
            position = seen
        self.token_ids.extend(TOKEN_ID[word] for word in words)
        self.positions.extend(range(position, position + len(words)))
        self.segments.extend([segment] * len(words))
        self.seen.extend([seen] * len(words))
        self.weights.extend([weight] * len(words))

    def cut(self, tokens: int) -> None:
        """Leaves the first `tokens`."""
        for values in (self.token_ids, self.positions, self.segments, self.seen, self.weights):
            del values[tokens:]


def say_rounds(trace: Trace, numbers: tuple[int, ...], target: int, rng: random.Random) -> None:
    """Round by round what is needed, and what each move gives, up to the first that wins.

    Here and there a losing result is struck out by the program, as if it had been claimed.
    """
    claim = winning_moves(numbers, target)
    follows = _COPY_WEIGHT
    for beside, options in rounds(numbers):
        trace.say(markup.WITH, weight=follows)
        trace.say(str(beside), weight=1.0)
        for need, value in needs(beside, target):
            trace.say(need, weight=2.0)
            trace.say(str(value), weight=_NEED_WEIGHT)
        trace.say(":", weight=2.0)
        trace.say(f"{options[0].larger} {options[0].smaller}")
        follows = 1.0
        for move in options:
            trace.say(move.operator, weight=follows)
            trace.say(str(move.result), weight=_VALUE_WEIGHT)
            follows = _NOT_YET_WEIGHT
            if claim is not None and winning_need(beside, move.result, target) is not None:
                trace.say(markup.YES, weight=_YES_WEIGHT)
                trace.say(str(claim[1]))
                return
            if rng.random() < _STRUCK_OUT_SHARE:
                trace.say(markup.NO, weight=0.0)
    trace.say(markup.NONE, weight=follows)


def say_part_rounds(trace: Trace, numbers: tuple[int, ...], part: Part, target: int) -> None:
    """As `say_rounds`, with each of the two numbers beside a part as the factor in turn."""
    follows = _COPY_WEIGHT
    for factor, beside in part_rounds(numbers, part):
        wanted = part_needs(factor, part, target)
        trace.say(markup.WITH, weight=follows)
        trace.say(str(factor))
        for need, value in wanted:
            trace.say(need, weight=2.0)
            trace.say(str(value), weight=_NEED_WEIGHT)
        trace.say(":", weight=2.0)
        follows = _NOT_YET_WEIGHT
        sums = part_sums(beside, part) if wanted else ()
        if sums:
            trace.say(f"{beside} {part.under}")
        for operator, value in sums:
            trace.say(operator, weight=1.0)
            trace.say(str(value), weight=_VALUE_WEIGHT)
            met = [need for need, needed in wanted if needed == value and operator != "*"]
            if met:
                trace.say(markup.YES, weight=_YES_WEIGHT)
                trace.say(str(part_end(beside, operator, met[0], factor, part)), weight=_VALUE_WEIGHT)
                return
    trace.say(markup.NONE, weight=follows)


def say_thread(trace: Trace, numbers: tuple[int, ...], first: FirstMove, target: int, rng: random.Random) -> None:
    """What is searched behind a first move."""
    if isinstance(first, Part):
        beside = beside_part(numbers, first)
        assert beside is not None
        say_part_rounds(trace, beside, first, target)
    else:
        left = after(numbers, first)
        assert left is not None
        say_rounds(trace, left, target, rng)


def _say_list(trace: Trace, board: Board, listed: Sequence[FirstMove], *, is_canonical: bool) -> list[int]:
    """The board and its outlines; how many tokens there are behind each outline."""
    trace.say(markup.board_text(board), weight=0.0)
    trace.say(markup.PARALLEL_OPENS)
    ends: list[int] = []
    for move in listed:
        trace.say(markup.outline_text(move), weight=1.0 if is_canonical else 0.0)
        ends.append(len(trace.token_ids))
    return ends


def parallel_trace(
    board: Board, rng: random.Random, *, whole_list: bool, threads: int = 3, shows: FirstMove | None = None
) -> Trace:
    """Outlines, up to `threads` of the threads, and the join of a four-number board.

    The list is whole and in canonical order, or short and in any order: what a thread sees when it is spawned early, or
    when the program has added moves. A thread is forked behind its own outline or behind the end of what there is.
    `shows` is a winner that shall be among the threads.
    """
    trace = Trace()
    options = list(beginnings(board.numbers))
    if whole_list:
        listed = options
    else:
        listed = rng.sample(options, min(len(options), rng.randint(1, 4)))
        winners = [move for move in options if is_winner(board, move)]
        # Half of what is shown are winners, or a model learns to say that there is none.
        if shows is not None or (winners and rng.random() < 0.6):
            listed[rng.randrange(len(listed))] = rng.choice(winners) if shows is None else shows
            listed = list(dict.fromkeys(listed))
    ends = _say_list(trace, board, listed, is_canonical=whole_list)
    if whole_list:
        trace.say(markup.OUTLINES_CLOSE)
    is_eager = rng.random() < 0.6
    outlines = [Outline(number, move) for number, move in enumerate(listed, start=1)]
    winners_of = [outline for outline in outlines if is_winner(board, outline.move)]
    losers_of = [outline for outline in outlines if outline not in winners_of]
    wanted = [outline for outline in winners_of if shows in (None, outline.move)]
    shown = rng.sample(wanted, min(len(wanted), max(1, threads // 2)))
    shown += rng.sample(losers_of, min(len(losers_of), threads - len(shown)))
    for segment, outline in enumerate(shown, start=1):
        left = left_of(board.numbers, outline.move)
        assert left is not None
        seen = ends[outline.number - 1 if is_eager else -1]
        opening = markup.thread_opening(outline, left, board.target)
        trace.say(f"{markup.OUTLINES_CLOSE} {opening}", segment=segment, seen=seen, weight=0.0)
        say_thread(trace, board.numbers, outline.move, board.target, rng)
        trace.say(markup.THREAD_CLOSES, weight=0.2)
    if winners_of and rng.random() < 0.3:
        winner = rng.choice(winners_of)
        beside = rng.sample(losers_of, rng.randint(0, min(4, len(losers_of))))
        last = max(outline.number for outline in (winner, *beside))
        trace.say(
            _join(board, (winner, *beside)), segment=len(shown) + 1, seen=ends[last - 1 if is_eager else -1], weight=0.0
        )
        trace.say(str(winner.number), weight=2.0)
        trace.say(f"{markup.ANSWER_CLOSES} {markup.END}", weight=0.2)
    return trace


def _join(board: Board, ended: Iterable[Outline]) -> str:
    """What the program writes behind a list once these threads have ended, in the order of their outlines."""
    words = [markup.OUTLINES_CLOSE]
    for outline in sorted(ended, key=lambda one: one.number):
        left = left_of(board.numbers, outline.move)
        assert left is not None
        claim = claim_of(board.numbers, outline.move, board.target)
        brief = markup.thread_brief(claim[-1] if isinstance(claim, tuple) else claim)
        words += [markup.thread_opening(outline, left, board.target), brief, markup.THREAD_CLOSES]
    return " ".join((*words, markup.PARALLEL_CLOSES, markup.ANSWER_OPENS))


def sequential_trace(board: Board, rng: random.Random) -> Trace:
    """One search in one text, cut at `MAX_SEQUENTIAL_TOKENS`; boards of three numbers have this form alone."""
    if len(board.numbers) == 3:
        return search_of_three(board.numbers, board.target, rng)
    trace = Trace()
    # Four numbers: the model is to fork when it is asked what it would rather do.
    trace.say(f"{markup.board_text(board)} {markup.SEARCH_OPENS}", weight=0.0)
    for move in beginnings(board.numbers):
        left = left_of(board.numbers, move)
        assert left is not None
        trace.say(f"{markup.TRY} {move} {markup.left_text(left, board.target)}")
        say_thread(trace, board.numbers, move, board.target, rng)
        if is_winner(board, move) or len(trace.token_ids) >= MAX_SEQUENTIAL_TOKENS:
            break
    trace.say(f"{markup.SEARCH_CLOSES} {markup.END}", weight=0.5)
    trace.cut(MAX_SEQUENTIAL_TOKENS)
    return trace


def search_of_three(numbers: tuple[int, ...], target: int, rng: random.Random) -> Trace:
    """The search of three ascending numbers, 0 among them where moves led to it."""
    trace = Trace()
    trace.say(markup.board_line(numbers, target), weight=0.0)
    trace.say(markup.SEARCH_OPENS)
    trace.say(markup.left_text(numbers, target), weight=0.5)
    say_rounds(trace, numbers, target, rng)
    trace.say(f"{markup.SEARCH_CLOSES} {markup.END}", weight=0.2)
    return trace


def direct_trace(board: Board, rng: random.Random) -> Trace:
    """A solution without a search, any of those that are taught: the model that the others are compared with."""
    first = rng.choice([move for move in beginnings(board.numbers) if is_winner(board, move)])
    claim = claim_of(board.numbers, first, board.target)
    assert claim is not None
    rest = (claim,) if isinstance(claim, PartEnd) else claim
    trace = Trace()
    trace.say(f"{markup.board_text(board)} {markup.ANSWER_OPENS}", weight=0.0)
    trace.say(" , ".join(map(str, (first, *rest))), weight=_DIRECT_WEIGHT)
    trace.say(f"{markup.ANSWER_CLOSES} {markup.END}", weight=_DIRECT_WEIGHT)
    return trace
