from fractions import Fraction
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.agents.countdown import (
    MAX_INTERMEDIATE,
    Board,
    InvalidBoard,
    Move,
    after,
    expression_of,
    first_moves,
    search,
    solve,
    verify,
)

boards = st.builds(Board, st.lists(st.integers(1, 13), min_size=1, max_size=3).map(tuple), st.integers(1, 100))


def _apply(a: Fraction, operator: str, b: Fraction) -> Fraction | None:
    match operator:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
    return a / b if b else None


def _reachable(numbers: tuple[Fraction, ...]) -> set[Fraction]:
    """Every value of up to three numbers, by writing out both shapes of an expression in every order."""
    found: set[Fraction] = set()
    for order in permutations(numbers):
        if len(order) == 1:
            found.add(order[0])
        for operators in product("+-*/", repeat=len(order) - 1):
            if len(order) == 2:
                values = [_apply(order[0], operators[0], order[1])]
            elif len(order) == 3:
                left = _apply(order[0], operators[0], order[1])
                right = _apply(order[1], operators[1], order[2])
                values = [
                    None if left is None else _apply(left, operators[1], order[2]),
                    None if right is None else _apply(order[0], operators[0], right),
                ]
            else:
                values = []
            found.update(value for value in values if value is not None)
    return found


@given(boards)
def test_search_agrees_with_writing_out_every_expression(board: Board) -> None:
    reachable = _reachable(tuple(map(Fraction, board.numbers)))
    assert (solve(board) is not None) == (Fraction(board.target) in reachable)


@given(st.builds(Board, st.lists(st.integers(1, 13), min_size=4, max_size=4).map(tuple), st.just(24)))
@settings(max_examples=50)
def test_what_search_finds_verifies(board: Board) -> None:
    found = solve(board)
    assert found is None or verify(board, found).is_correct


def test_board_that_needs_fractions_is_solved() -> None:
    found = solve(Board((3, 3, 8, 8), 24))
    assert found is not None
    assert verify(Board((8, 3, 8, 3), 24), found).is_correct


def test_search_counts_what_it_saw_and_proves_that_there_is_none() -> None:
    found = search(Board((1, 1, 1, 1), 24))
    assert found.expression is None
    assert found.searched > 1


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("4 * 6", "uses"),
        ("4 * 6 + 8 - 8", "uses"),
        ("4 + 6 + 8 + 3", "equals 21"),
        ("(8 - 6) * 4 * 3 * 1", "uses"),
        ("8 / (6 - 6) + 4 * 3", "divides by zero"),
        ("", "where a number belongs"),
        ("(4 * 6", "never closed"),
        ("4 * 6)", "after its end"),
        ("4 ** 6", "where a number belongs"),
        ("__import__('os')", "unknown"),
        ("4 * 6 + 8 - x", "unknown"),
        ("-4 + 6 + 8 + 3", "where a number belongs"),
        ("(" * 100 + "4", "nested"),
        ("4 " * 300, "longer"),
        ("٤ * 6", "unknown"),
    ],
)
def test_forged_expression_is_refused_with_its_reason(expression: str, reason: str) -> None:
    verdict = verify(Board((4, 6, 8, 3), 24), expression)
    assert not verdict.is_correct
    assert reason in verdict.reason


@given(st.text(alphabet="0123456789+-*/() x", max_size=60))
def test_verify_never_raises(expression: str) -> None:
    verify(Board((4, 6, 8, 3), 24), expression)


def test_huge_numbers_are_compared_exactly() -> None:
    assert not verify(Board((4, 6, 8, 3), 24), "9" * 300).is_correct


@pytest.mark.parametrize(
    ("numbers", "target", "field"),
    [((), 24, "numbers"), ((1,) * 6, 24, "numbers"), ((0, 1), 24, "numbers"), ((1, 2), 0, "target")],
)
def test_board_out_of_bounds_is_refused(numbers: tuple[int, ...], target: int, field: str) -> None:
    with pytest.raises(InvalidBoard) as caught:
        Board(numbers, target)
    assert caught.value.field == field


@pytest.mark.parametrize("values", [{}, {"numbers": "1 2"}, {"numbers": [1, True]}, {"numbers": [1], "target": "24"}])
def test_board_of_wrong_types_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(InvalidBoard):
        Board.from_json(values)  # type: ignore[arg-type]  # wrong types are the point


def test_equal_boards_compare_equal_in_any_order() -> None:
    assert Board((8, 3, 6, 4), 24) == Board((3, 4, 6, 8), 24)


@given(st.builds(Board, st.lists(st.integers(1, 20), min_size=2, max_size=4).map(tuple), st.integers(1, 100)))
def test_first_moves_are_true_distinct_and_playable(board: Board) -> None:
    options = first_moves(board)
    assert len(set(options)) == len(options)
    for move in options:
        left = after(board.numbers, move)
        assert left is not None
        assert len(left) == len(board.numbers) - 1
        assert 0 <= min(left) <= max(left) <= MAX_INTERMEDIATE


def test_false_move_leaves_nothing() -> None:
    assert after((3, 4), Move(4, "+", 3, 8)) is None
    assert after((3, 4), Move(5, "+", 3, 8)) is None


def test_chain_of_moves_becomes_an_expression() -> None:
    board = Board((4, 6, 8, 3), 24)
    chain = (Move(4, "*", 3, 12), Move(8, "-", 6, 2), Move(12, "*", 2, 24))
    expression = expression_of(board, chain)
    assert expression == "(4 * 3) * (8 - 6)"
    assert verify(board, expression).is_correct


def test_chain_that_uses_a_number_twice_is_no_expression() -> None:
    board = Board((4, 6, 8, 3), 24)
    assert expression_of(board, (Move(4, "*", 4, 16), Move(8, "+", 16, 24))) is None
    assert expression_of(board, (Move(4, "*", 3, 12),)) is None
