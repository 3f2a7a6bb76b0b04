import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.agents import markup
from asterism.agents.countdown import MAX_INTERMEDIATE, Board, after, moves, solve, verify
from asterism.agents.effort import DEFAULT_TOKENS
from asterism.agents.one_text import verified
from asterism.agents.parts import FirstMove, beginnings, beside_part, find_end, parts
from asterism.workers.training.boards import HELD_BACK, read_boards
from asterism.workers.training.mix import BoardMix
from asterism.workers.training.teacher import (
    can_win,
    is_winner,
    needs,
    rounds,
    teachable,
    winning_end,
    winning_moves,
    winning_need,
)
from asterism.workers.training.traces import (
    MAX_SEQUENTIAL_TOKENS,
    TOKEN_ID,
    Trace,
    direct_trace,
    parallel_trace,
    search_of_three,
    sequential_trace,
)

WORDS = {index: word for word, index in TOKEN_ID.items()}
threes = st.lists(st.integers(0, 60), min_size=3, max_size=3).map(lambda numbers: tuple(sorted(numbers)))
fours = st.builds(
    Board, st.lists(st.integers(1, 20), min_size=4, max_size=4).map(tuple), st.one_of(st.just(24), st.integers(10, 100))
)
seeds = st.integers(0, 1000)


def segment_text(trace: Trace, segment: int) -> str:
    return " ".join(WORDS[token] for token, own in zip(trace.token_ids, trace.segments, strict=True) if own == segment)


def outlines_of(text: str) -> list[FirstMove | None]:
    return [markup.find_first(part.partition("</Outline>")[0].split()) for part in text.split("<Outline>")[1:]]


@given(threes, st.integers(1, 100))
def test_teacher_finds_a_solution_of_three_numbers_exactly_when_brute_force_does(
    numbers: tuple[int, ...], target: int
) -> None:
    claim = winning_moves(numbers, target)
    possible = any(last.result == target for first in moves(numbers) for last in moves(after(numbers, first) or ()))
    assert (claim is not None) == possible
    if claim is not None:
        left = after(numbers, claim[0])
        assert left is not None
        assert after(left, claim[1]) == (target,)


@given(st.lists(st.integers(0, MAX_INTERMEDIATE), min_size=3, max_size=3), st.integers(1, 100))
def test_quick_look_says_what_the_search_of_three_numbers_finds(drawn: list[int], target: int) -> None:
    numbers = tuple(sorted(drawn))
    found = any(winning_need(beside, move.result, target) for beside, options in rounds(numbers) for move in options)
    assert can_win(numbers, target) == found


def test_every_held_back_board_has_a_solution_that_is_taught() -> None:
    assert all(map(teachable, read_boards(HELD_BACK)))


@given(fours)
def test_board_without_a_solution_is_not_teachable(board: Board) -> None:
    assert solve(board) is not None or not teachable(board)


@given(seeds, st.sampled_from([20, 99]))
def test_part_that_a_board_was_made_for_solves_it(seed: int, largest: int) -> None:
    board, part = BoardMix(frozenset(), largest).draw_with_part(random.Random(seed))
    beside = beside_part(board.numbers, part)
    assert part in parts(board.numbers)
    assert beside is not None
    end = winning_end(beside, part, board.target)
    assert end is not None
    assert find_end(str(end).split()) == end
    assert verify(board, end.expression(part)).is_correct


@given(st.integers(0, MAX_INTERMEDIATE), st.integers(1, 100))
def test_needs_are_what_one_move_turns_into_the_target(number: int, target: int) -> None:
    listed = {value for _, value in needs(number, target)}
    possible = {
        other
        for other in range(MAX_INTERMEDIATE + 1)
        if any(move.result == target for move in moves(tuple(sorted((number, other)))))
    }
    assert listed == possible


@given(fours, seeds)
def test_whole_list_is_every_first_move_in_canonical_order(board: Board, seed: int) -> None:
    text = segment_text(parallel_trace(board, random.Random(seed), whole_list=True), 0)
    assert outlines_of(text) == list(beginnings(board.numbers))
    assert text.endswith("</Outlines>")


@given(fours, seeds, st.booleans())
@settings(deadline=None)
def test_threads_start_behind_their_outline_or_the_list_and_claim_what_is_true(
    board: Board, seed: int, whole: bool
) -> None:
    trace = parallel_trace(board, random.Random(seed), whole_list=whole)
    prefix = segment_text(trace, 0)
    listed = outlines_of(prefix)
    for segment in range(1, max(trace.segments) + 1):
        start = trace.segments.index(segment)
        seen = trace.seen[start]
        assert trace.positions[start] == seen
        text = segment_text(trace, segment)
        assert text.startswith("</Outlines> <Thread>")
        assert prefix.split()[seen - 1] == "</Outline>"
        number, outline = int(text.split()[2]), markup.find_first(text.split()[4:9])
        assert outline == listed[number - 1]
        assert " ".join(prefix.split()[:seen]).count("<Outline>") >= number
        if "<Answer>" in text:
            won = int(text.partition("<Answer>")[2].split()[0])
            winner = listed[won - 1]
            assert winner is not None
            assert is_winner(board, winner)
            assert f"<Thread> {won} : {winner}" in text
            continue
        assert outline is not None
        body = text.partition("-> ")[2].partition(" : ")[2]
        assert len(body.split()) <= DEFAULT_TOKENS
        claim = markup.read_thread(body)
        assert (claim is not None) == is_winner(board, outline)
        if claim is not None:
            assert verified(board, outline, claim) is not None


def test_model_is_never_taught_to_say_no() -> None:
    rng = random.Random(4)
    mix = BoardMix(frozenset())
    traces = [trace for _ in range(20) for group in mix.step(rng, 1) for trace in group]
    said = [
        weight
        for trace in traces
        for token, weight in zip(trace.token_ids, trace.weights, strict=True)
        if WORDS[token] == markup.NO
    ]
    assert said
    assert not any(said)


@given(fours, seeds)
@settings(deadline=None)
def test_sequential_search_ends_with_what_it_found(board: Board, seed: int) -> None:
    trace = sequential_trace(board, random.Random(seed))
    text = segment_text(trace, 0)
    assert len(trace.token_ids) <= MAX_SEQUENTIAL_TOKENS
    claim = markup.read_search(text)
    if claim is not None and text.endswith(markup.END):
        assert verified(board, claim.first, claim) is not None


@given(threes, st.integers(1, 100), seeds)
def test_search_of_three_numbers_says_none_exactly_when_there_is_none(
    numbers: tuple[int, ...], target: int, seed: int
) -> None:
    text = segment_text(search_of_three(numbers, target, random.Random(seed)), 0)
    assert (markup.NONE in text.split()) == (winning_moves(numbers, target) is None)
    assert (markup.read_search(text) is None) == (markup.NONE in text.split())


@given(fours.filter(teachable), seeds)
def test_direct_answer_solves_the_board(board: Board, seed: int) -> None:
    text = segment_text(direct_trace(board, random.Random(seed)), 0)
    claim = markup.read_direct(text.partition(markup.ANSWER_OPENS)[2].partition(markup.ANSWER_CLOSES)[0].strip())
    assert claim is not None
    assert verified(board, claim.first, claim) is not None


def test_boards_are_drawn_from_the_numbers_that_are_asked_for() -> None:
    rng = random.Random(2)
    drawn = [BoardMix(frozenset(), largest=99, share_24=0.0).draw(rng) for _ in range(60)]
    assert 20 < max(max(board.numbers) for board in drawn) <= 99
    assert all(10 <= board.target <= 100 for board in drawn)


@pytest.mark.parametrize("numbers", [3, 4])
def test_excluded_boards_are_never_drawn(numbers: int) -> None:
    rng = random.Random(1)
    drawn = {BoardMix(frozenset()).draw(rng, numbers) for _ in range(60)}
    again = {BoardMix(drawn).draw(rng, numbers) for _ in range(60)}
    assert not drawn & again
    assert any(map(teachable, drawn))
