import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.agents import markup
from asterism.agents.countdown import Board, after, expression_of, first_moves, moves, verify
from asterism.workers.training.traces import (
    MAX_SEQUENTIAL_TOKENS,
    PROMOTED,
    TOKEN_ID,
    BoardMix,
    Trace,
    is_winner,
    needs,
    ordered_moves,
    parallel_trace,
    sequential_trace,
    teachable,
    winning_moves,
)

WORDS = {index: word for word, index in TOKEN_ID.items()}
threes = st.lists(st.integers(1, 60), min_size=3, max_size=3).map(lambda numbers: tuple(sorted(numbers)))
fours = st.builds(
    Board, st.lists(st.integers(1, 20), min_size=4, max_size=4).map(tuple), st.one_of(st.just(24), st.integers(10, 100))
)


def segment_text(trace: Trace, segment: int) -> str:
    return " ".join(WORDS[token] for token, own in zip(trace.token_ids, trace.segments, strict=True) if own == segment)


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


@given(st.integers(1, 200), st.integers(1, 100))
def test_needs_are_what_one_move_turns_into_the_target(number: int, target: int) -> None:
    listed = {value for _, value in needs(number, target)}
    possible = {
        other for other in range(1, 201) if any(move.result == target for move in moves(tuple(sorted((number, other)))))
    }
    assert listed == possible


@given(fours, st.integers(0, 1000))
def test_every_first_move_is_listed_once_and_winners_lead(board: Board, seed: int) -> None:
    choices = ordered_moves(board, random.Random(seed))
    assert sorted(map(str, (choice.move for choice in choices))) == sorted(map(str, first_moves(board)))
    assert all(choice.wins for choice in choices[:PROMOTED] if choice.weight > 0)
    rest = [choice.move for choice in choices[PROMOTED:]]
    assert rest == [move for move in first_moves(board) if move in rest]


@given(fours, st.integers(0, 1000))
@settings(deadline=None)
def test_threads_start_where_the_prefix_ends_and_claim_only_what_is_true(board: Board, seed: int) -> None:
    trace = parallel_trace(board, random.Random(seed))
    prefix = segment_text(trace, 0)
    read = markup.read_outlines(prefix.partition("<Outlines>")[2], first_moves(board))
    assert (read.malformed, read.repeated) == (0, 0)
    for segment in range(1, max(trace.segments) + 1):
        start = trace.segments.index(segment)
        assert trace.positions[start] == len(prefix.split())
        text = segment_text(trace, segment)
        if "<Answer>" in text:
            chain = markup.read_answer(text.partition("<Answer>")[2].partition(markup.ANSWER_CLOSES)[0])
            assert chain is not None
            expression = expression_of(board, chain)
            assert expression is not None
            assert verify(board, expression).is_correct
            continue
        outline = markup.find_move(text.split()[3:8])
        assert outline is not None
        claim = markup.read_thread(text.partition(markup.LEFT)[2])
        assert (claim is not None) == is_winner(board, outline)
        if claim is not None:
            expression = expression_of(board, (outline, *claim.moves))
            assert expression is not None
            assert verify(board, expression).is_correct


@given(fours, st.integers(0, 1000))
@settings(deadline=None)
def test_sequential_search_ends_with_what_it_found(board: Board, seed: int) -> None:
    trace = sequential_trace(board, random.Random(seed))
    text = segment_text(trace, 0)
    assert len(trace.token_ids) <= MAX_SEQUENTIAL_TOKENS
    claim = markup.read_search(text)
    if claim is not None and text.endswith(markup.END):
        expression = expression_of(board, claim.moves)
        assert expression is not None
        assert verify(board, expression).is_correct


@pytest.mark.parametrize("numbers", [3, 4])
def test_excluded_boards_are_never_drawn(numbers: int) -> None:
    rng = random.Random(1)
    drawn = {BoardMix(frozenset()).draw(rng, numbers) for _ in range(60)}
    again = {BoardMix(drawn).draw(rng, numbers) for _ in range(60)}
    assert not drawn & again
    assert any(map(teachable, drawn))
