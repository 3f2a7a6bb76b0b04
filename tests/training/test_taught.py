"""The program and the traces agree: a writer that says only what was taught solves boards through the program."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.agents import markup
from asterism.agents.asks import Json, Sampling
from asterism.agents.countdown import Board, verify
from asterism.agents.parts import Part, beginnings
from asterism.agents.reason_countdown import reason_countdown
from asterism.workers.training.teacher import teachable
from asterism.workers.training.traces import TOKEN_ID, Trace, say_thread, sequential_trace
from tests.agents.driver import CONTEXT, ScriptedWriter, drive

WORDS = {index: word for word, index in TOKEN_ID.items()}


def taught(board: Board) -> ScriptedWriter:
    """Says what a model says that learned its traces by heart."""

    def write(prompt: str, sampling: Sampling) -> str:
        words = prompt.split()
        if markup.SEARCH_OPENS in words:
            return " ".join(WORDS[token] for token in sequential_trace(board, random.Random(0)).token_ids[len(words) :])
        if words[-1] == markup.ANSWER_OPENS:
            won = words[: words.index(markup.YES)]
            return f"{won[len(won) - won[::-1].index(markup.THREAD_OPENS)]} {markup.ANSWER_CLOSES}"
        if markup.THREAD_OPENS in words:
            opening = words[words.index(markup.THREAD_OPENS) :]
            first = markup.find_first(opening[3:8])
            assert first is not None
            trace = Trace()
            say_thread(trace, board.numbers, first, board.target, random.Random(0))
            return f"{' '.join(WORDS[token] for token in trace.token_ids)} {markup.THREAD_CLOSES}"
        said = prompt.count(markup.OUTLINE_OPENS)
        listed = [markup.outline_text(move) for move in beginnings(board.numbers)[said:]]
        return " ".join((*listed, markup.OUTLINES_CLOSE))

    return ScriptedWriter(write)


def solved_by(board: Board, **inputs: Json) -> tuple[str | None, Json]:
    value = drive(reason_countdown({**board.to_json(), **inputs}, CONTEXT), taught(board).answer).value
    assert isinstance(value, dict)
    expression = value["expression"]
    assert expression is None or isinstance(expression, str)
    return expression, value["threads"]


@given(
    st.builds(Board, st.lists(st.integers(1, 20), min_size=4, max_size=4).map(tuple), st.integers(10, 100)).filter(
        teachable
    ),
    st.booleans(),
)
@settings(deadline=None)
def test_whatever_is_teachable_is_solved_by_threads_that_say_what_they_were_taught(board: Board, eager: bool) -> None:
    expression, _ = solved_by(board, threads=32, eager=eager)
    assert expression is not None
    assert verify(board, expression).is_correct


@pytest.mark.parametrize(
    "board", [Board((3, 3, 8, 8), 24), Board((1, 3, 4, 6), 24), Board((3, 11, 18, 18), 65), Board((2, 2, 5, 20), 35)]
)
def test_boards_without_a_whole_solution_are_solved_through_a_part(board: Board) -> None:
    expression, threads = solved_by(board, threads=32)
    assert expression is not None
    assert verify(board, expression).is_correct
    assert isinstance(threads, tuple)
    won = [thread["outline"] for thread in threads if isinstance(thread, dict) and thread["outcome"] == "verified"]
    assert [type(markup.find_first(str(outline).split())) for outline in won] == [Part]


@given(st.builds(Board, st.lists(st.integers(1, 20), min_size=3, max_size=3).map(tuple), st.integers(10, 100)))
@settings(deadline=None)
def test_board_of_three_numbers_is_solved_in_one_text_exactly_when_it_can_be(board: Board) -> None:
    expression, _ = solved_by(board, mode="sequential", budget=200)
    assert (expression is not None) == teachable(board)
