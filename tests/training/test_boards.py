from pathlib import Path

from asterism.agents.countdown import solve
from asterism.workers.training.boards import (
    HELD_BACK,
    HELD_BACK_24,
    HELD_BACK_APR,
    HELD_BACK_APR_COUNT,
    HELD_BACK_COUNTDOWN,
    RESERVED,
    VALIDATION,
    VALIDATION_24,
    VALIDATION_COUNTDOWN,
    boards_of_three,
    excluded_boards,
    make_held_back,
    make_held_back_apr,
    read_boards,
)

REQUESTS = Path(__file__).parents[2] / "deploy" / "requests" / "boards.txt"


def test_held_back_boards_are_distinct_and_not_reserved() -> None:
    held_back, reserved = read_boards(HELD_BACK), read_boards(RESERVED)
    assert len(set(held_back)) == len(held_back) == HELD_BACK_24 + HELD_BACK_COUNTDOWN
    assert not set(held_back) & set(reserved)
    assert excluded_boards() == {*held_back, *reserved, *read_boards(VALIDATION), *read_boards(HELD_BACK_APR)}


def test_held_back_file_is_what_its_seed_gives() -> None:
    assert make_held_back(read_boards(RESERVED), count_24=20, count_countdown=0) == read_boards(HELD_BACK)[:20]


def test_held_back_boards_of_the_other_paper_are_distinct_and_none_of_the_others() -> None:
    others = {board for path in (HELD_BACK, RESERVED, VALIDATION) for board in read_boards(path)}
    boards = read_boards(HELD_BACK_APR)
    assert len(set(boards)) == len(boards) == HELD_BACK_APR_COUNT
    assert not set(boards) & others
    assert make_held_back_apr(tuple(others), count=20) == boards[:20]
    assert all(max(board.numbers) <= 99 and 10 <= board.target <= 100 for board in boards)


def test_boards_of_the_shipped_request_are_excluded_from_training() -> None:
    assert {*read_boards(REQUESTS)} <= excluded_boards()


def test_validation_boards_are_distinct_and_none_of_the_others() -> None:
    validation = read_boards(VALIDATION)
    assert len(set(validation)) == len(validation) == VALIDATION_24 + VALIDATION_COUNTDOWN
    assert not set(validation) & {*read_boards(HELD_BACK), *read_boards(RESERVED)}


def test_boards_of_three_are_solvable_and_the_same_every_time() -> None:
    boards = boards_of_three(20)
    assert boards == boards_of_three(30)[:20]
    assert all(len(board.numbers) == 3 and solve(board) for board in boards)
