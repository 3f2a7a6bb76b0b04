"""Boards are read strictly, and their constellation ends with the truth in every order of ends."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Literal, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.agents.asks import ProgramFailed, ProgramResult
from asterism.agents.countdown import Board, solve
from asterism.agents.report import gather_boards
from asterism.orchestrator.core.effects import Assign
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.events import CancelRequested, RetryRequested
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.orchestrator.core.star import StarState
from asterism.orchestrator.core.values import Json
from asterism.planner.boards import BoardOptions, first_level, most_stars, next_level, read_boards, read_options
from asterism.planner.programs import plan, plan_next
from tests.planner.fleet import ID, Ended, Fleet

End: TypeAlias = Literal["solved", "unsolved", "failed"]

SOLVABLE = "4 6 8 3"
UNSOLVABLE = "1 1 1 1"


def test_boards_are_read_with_targets_and_comments() -> None:
    boards = read_boards("# boards\n4 6 8 3\n\n 1 2 3 = 6  # easy\n")

    assert [(board.id, board.numbers, board.target) for board in boards] == [
        ("b01", (4, 6, 8, 3), 24),
        ("b02", (1, 2, 3), 6),
    ]


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("4 6 8 3\n4 6 x 3", "line 2, column 5", "'x' is not a whole number"),
        ("  4 6", "line 1, column 3", "3 to 5 numbers, not 2"),
        ("1 2 3 4 5 6", "line 1, column 1", "3 to 5 numbers, not 6"),
        ("1 2 3 = ", "line 1, column 8", "the target"),
        ("1 2 3 = 4 5", "line 1, column 8", "the target"),
        ("1 2 3 = y", "line 1, column 9", "'y' is not"),
        ("1 2 -3 4", "line 1, column 5", "'-3' is not"),
        ("1 2 0 4", "line 1, column 1", "numbers: each must be"),
        ("1 2 3 =  0", "line 1, column 10", "target: must be"),
        ("1 2 99999999999 4", "line 1, column 5", "is not a whole number"),
        ("# nothing\n", "text", "there is no board"),
        ("1 2 3\n" * 257, "line 257", "more than 256"),
        ("1 2 \u0663", "line 1, column 5", "is not a whole number"),
    ],
)
def test_a_wrong_line_is_refused_with_its_place(text: str, place: str, reason: str) -> None:
    with pytest.raises(InvalidField) as refused:
        read_boards(text)

    assert refused.value.field == place
    assert reason in refused.value.reason


@given(st.text(max_size=60) | st.text("0123456789 =#\n-", max_size=60))
def test_any_text_is_boards_or_refused(text: str) -> None:
    with suppress(InvalidField):
        assert read_boards(text)


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": "4"}, {"depth": 2}, {"levels": 2.5}, [], "x"])
def test_wrong_options_are_refused(options: Json) -> None:
    with pytest.raises(InvalidField, match=r"^options"):
        read_options(options)


@given(st.builds(BoardOptions, threads=st.integers(1, 8), levels=st.integers(1, 4)))
def test_no_first_move_is_tried_twice(options: BoardOptions) -> None:
    level, tried = first_level(options), list[int]()
    for _ in range(options.levels):
        tried.extend(range(level.skip, level.skip + 2 * level.threads))
        level = next_level(level)

    assert tried == list(range(len(tried)))


def _end_of(assign: Assign, end: End) -> Ended:
    """How a star that this test plays ends."""
    inputs = assign.inputs
    if end == "failed":
        return ProgramFailed("engine_error", "it broke", retryable=False)
    board = Board.from_json(inputs)
    echo: Mapping[str, Json] = {"numbers": inputs["numbers"], "target": inputs["target"]}
    if assign.program == "countdown.search":
        expression = solve(board)
        return ProgramResult({**echo, "solvable": expression is not None, "expression": expression})
    on_result = inputs["on_result"]
    assert isinstance(on_result, Mapping)
    solution = solve(board) if end == "solved" else None
    key = "unsolved" if solution is None else "solved"
    edits = on_result[key]
    assert isinstance(edits, list | tuple)
    return ProgramResult(
        {**echo, "solved": solution is not None, "expression": solution},
        tuple(dict(e) for e in edits if isinstance(e, Mapping)),
    )


def _play(fleet: Fleet, data: st.DataObject, ends: st.SearchStrategy[End], steps: int = 10_000) -> None:
    """Run the request to its end or for so many ends of stars; who ends next, and how, is drawn."""
    for _ in range(steps):
        if fleet.constellation.state is not ConstellationState.RUNNING:
            return
        token = data.draw(st.sampled_from(sorted(fleet.running)), label="who ends next")
        assign = fleet.running[token]
        match assign.program:
            case "plan":
                ended = fleet.run(token, plan)
            case "plan.next":
                ended = fleet.run(token, plan_next)
            case "gather.boards":
                ended = fleet.run(token, gather_boards)
            case "countdown.search":
                ended = _end_of(assign, "solved")
            case _:
                ended = _end_of(assign, data.draw(ends, label=f"how {assign.star} ends"))
        fleet.end(token, ended)


@settings(max_examples=60)
@given(
    st.data(),
    st.lists(st.sampled_from([SOLVABLE, UNSOLVABLE, "1 2 3 4 5"]), min_size=1, max_size=3),
    st.integers(1, 3),
    st.booleans(),
)
def test_every_order_of_ends_leads_to_the_truth_about_every_board(
    data: st.DataObject, lines: list[str], levels: int, search: bool
) -> None:
    options: Json = {"threads": 2, "levels": levels, "search": search}
    fleet = Fleet(Request("boards", "\n".join(lines), options=options))
    ends: st.SearchStrategy[End] = st.sampled_from(["solved", "unsolved", "failed"])

    _play(fleet, data, ends)

    constellation = fleet.constellation
    assert fleet.refusals == []
    assert constellation.state is ConstellationState.SUCCEEDED, constellation.reason
    assert len(constellation.stars) <= most_stars(len(lines), read_options(options))
    for line, answer in zip(lines, _answers(fleet), strict=True):
        if search:
            assert answer == ("none exists" if line == UNSOLVABLE else "solution")
        else:
            assert answer in ("solution", "not found within the budget")
    assert all(star.state.is_terminal for star in constellation.stars.values())


def _answers(fleet: Fleet) -> list[Json]:
    """What the report says of each board."""
    (report,) = fleet.constellation.answer().values()
    assert isinstance(report, Mapping)
    boards = report["boards"]
    assert isinstance(boards, list | tuple)
    return [board["answer"] for board in boards if isinstance(board, Mapping)]


@settings(max_examples=40)
@given(st.data(), st.integers(0, 14))
def test_a_request_cancelled_at_any_moment_is_retried_to_the_truth(data: st.DataObject, steps: int) -> None:
    fleet = Fleet(Request("boards", f"{SOLVABLE}\n{UNSOLVABLE}", options={"threads": 2}))
    ends: st.SearchStrategy[End] = st.sampled_from(["solved", "unsolved"])
    _play(fleet, data, ends, steps)
    if fleet.constellation.state is ConstellationState.RUNNING:
        fleet.step(lambda at: CancelRequested(at, ID, "changed my mind"))
        fleet.step(lambda at: RetryRequested(at, ID, "me"))

    _play(fleet, data, ends)

    assert fleet.refusals == []
    assert fleet.constellation.state is ConstellationState.SUCCEEDED, fleet.constellation.reason
    assert _answers(fleet) == ["solution", "none exists"]


def test_a_solved_board_cancels_its_sibling_and_its_follower() -> None:
    fleet = Fleet(Request("boards", SOLVABLE))
    (plan_token,) = fleet.running
    fleet.end(plan_token, fleet.run(plan_token, plan))
    first = next(token for token, assign in fleet.running.items() if assign.star == "b01-a")

    fleet.end(first, _end_of(fleet.running[first], "solved"))

    stars = fleet.constellation.stars
    assert stars[StarId("b01-a")].state is StarState.SUCCEEDED
    assert stars[StarId("b01-b")].state is StarState.CANCELLED
    assert stars[StarId("b01-next")].state is StarState.CANCELLED
    assert [assign.star for assign in fleet.running.values()] == ["report"]


def test_two_unsolved_siblings_lead_to_one_deeper_pair_with_other_first_moves() -> None:
    fleet = Fleet(Request("boards", SOLVABLE, options={"threads": 3}))
    (plan_token,) = fleet.running
    fleet.end(plan_token, fleet.run(plan_token, plan))
    for token in sorted(fleet.running):
        fleet.end(token, _end_of(fleet.running[token], "unsolved"))
    (follower,) = fleet.running

    fleet.end(follower, fleet.run(follower, plan_next))

    efforts = {assign.star: (assign.inputs["threads"], assign.inputs["skip"]) for assign in fleet.running.values()}
    assert efforts == {"b01-a2": (6, 6), "b01-b2": (6, 12)}
