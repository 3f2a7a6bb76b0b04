from pathlib import Path

from asterism.workers.training.boards import (
    HELD_BACK,
    HELD_BACK_24,
    HELD_BACK_COUNTDOWN,
    RESERVED,
    excluded_boards,
    make_held_back,
    read_boards,
)

REQUESTS = Path(__file__).parents[2] / "deploy" / "requests" / "boards.txt"


def test_held_back_boards_are_distinct_and_not_reserved() -> None:
    held_back, reserved = read_boards(HELD_BACK), read_boards(RESERVED)
    assert len(set(held_back)) == len(held_back) == HELD_BACK_24 + HELD_BACK_COUNTDOWN
    assert not set(held_back) & set(reserved)
    assert excluded_boards() == {*held_back, *reserved}


def test_held_back_file_is_what_its_seed_gives() -> None:
    assert make_held_back(read_boards(RESERVED), count_24=20, count_countdown=0) == read_boards(HELD_BACK)[:20]


def test_boards_of_the_shipped_request_are_excluded_from_training() -> None:
    assert {*read_boards(REQUESTS)} <= excluded_boards()
