from typing import Any

import pytest

from asterism.agents.asks import Json, ProgramFailed, Say
from asterism.agents.registry import PROGRAMS
from asterism.agents.report import MAX_BOARDS, gather_boards
from asterism.agents.tools import TOOLS
from tests.agents.driver import CONTEXT, drive

BOARDS: Json = [
    {"id": "b1", "numbers": [4, 6, 8, 3], "target": 24},
    {"id": "b2", "numbers": [1, 1, 1, 1], "target": 24},
]


def report(outcomes: Json, boards: Json = BOARDS) -> dict[str, Any]:
    result = drive(gather_boards({"boards": boards, "outcomes": outcomes}, CONTEXT), lambda ask: None)
    assert isinstance(result.value, dict)
    return result.value


def ended(result: Json, state: str = "SUCCEEDED") -> Json:
    return {"state": state, "result": result, "error": None}


def test_board_with_a_verified_expression_is_solved() -> None:
    result: Json = {
        "numbers": [3, 4, 6, 8],
        "target": 24,
        "solved": True,
        "expression": "(8 - 6) * 4 * 3",
        "threads": [{}, {}],
        "accounting": {"total_tokens": 70},
    }
    first, second = report({"b1-a": ended(result), "b1-b": ended(None, "CANCELLED")})["boards"]
    assert (first["answer"], first["by_star"], first["threads"], first["tokens"]) == ("solution", "b1-a", 2, 70)
    assert second["answer"] == "not found within the budget"


def test_solution_of_the_exact_search_is_told_apart_and_numbers_keep_their_order() -> None:
    searched = TOOLS["countdown.search"].function({"numbers": [4, 6, 8, 3], "target": 24})
    value = report({"b1-search": ended(searched)})
    first = value["boards"][0]
    assert (first["answer"], first["by_star"], first["by_search"]) == ("solution", "b1-search", True)
    assert value["text"].splitlines()[0] == f"4 6 8 3: {first['expression']} = 24 (by exact search)"


def test_forged_expression_does_not_count() -> None:
    result: Json = {"numbers": [4, 6, 8, 3], "target": 24, "solved": True, "expression": "4 * 6"}
    assert report({"b1-a": ended(result)})["boards"][0]["answer"] == "not found within the budget"


def test_only_exact_search_proves_that_there_is_none() -> None:
    searched = TOOLS["countdown.search"].function({"numbers": [1, 1, 1, 1], "target": 24})
    reasoned: Json = {"numbers": [4, 6, 8, 3], "target": 24, "solved": False, "expression": None}
    value = report({"b2-search": ended(searched), "b1-a": ended(reasoned)})
    assert [entry["answer"] for entry in value["boards"]] == ["not found within the budget", "none exists"]
    assert value["text"].splitlines()[1] == "1 1 1 1: none exists"


def test_report_is_said_aloud() -> None:
    asks = []

    def answer(ask: object) -> None:
        asks.append(ask)

    drive(gather_boards({"boards": BOARDS, "outcomes": {}}, CONTEXT), answer)
    assert isinstance(asks[0], Say)


def test_a_report_on_as_many_boards_as_there_may_be_is_said_in_parts() -> None:
    said: list[str] = []
    boards: list[Json] = [{"id": f"b{i}", "numbers": [1 + i % 13, 2, 3, 4], "target": 24} for i in range(MAX_BOARDS)]

    def answer(ask: object) -> None:
        assert isinstance(ask, Say)
        said.append(ask.text)

    value = drive(gather_boards({"boards": boards, "outcomes": {}}, CONTEXT), answer).value

    assert isinstance(value, dict)
    assert "".join(said) == value["text"]
    assert len(said) > 1


@pytest.mark.parametrize("outcome", [None, 3, {"result": 3}, {"result": {}}, {"result": {"numbers": "x"}}])
def test_outcome_that_names_no_board_says_nothing(outcome: Json) -> None:
    assert report({"x": outcome})["boards"][0]["stars"] == 0


@pytest.mark.parametrize("boards", [None, "x", [{}], [{"id": "b"}], [{"id": "b", "numbers": [0], "target": 24}]])
def test_unreadable_boards_fail_for_good(boards: Json) -> None:
    with pytest.raises(ProgramFailed):
        report({}, boards)


def test_unreadable_outcomes_fail_for_good() -> None:
    with pytest.raises(ProgramFailed):
        report([])


def test_registered_names_are_those_of_plans() -> None:
    assert set(PROGRAMS) == {
        "answer",
        "follow",
        "gather",
        "judge",
        "react",
        "react.idempotent",
        "gather.boards",
        "reason.child",
        "reason.countdown",
        "reason.join",
        "reason.text",
    }
    assert set(TOOLS) == {"countdown.search", "noop"}
    assert TOOLS["noop"].function({"x": 1}) == {"x": 1}


def test_search_tool_gives_a_solution_that_verifies() -> None:
    found = TOOLS["countdown.search"].function({"numbers": [4, 6, 8, 3]})
    assert report({"b1-search": ended(found)})["boards"][0]["answer"] == "solution"
