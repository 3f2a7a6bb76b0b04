"""The door lets in exactly what the planning program can plan, and names what is wrong with the rest."""

import json

import pytest

from asterism.agents.asks import ProgramFailed, ProgramResult
from asterism.orchestrator.core.errors import InvalidField
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.star import Constant
from asterism.orchestrator.core.values import MAX_VALUE_BYTES
from asterism.planner.check import check, plan_star
from asterism.planner.programs import PROGRAMS, plan
from asterism.workers.model_sources import list_models, shipped_models
from tests.planner.fleet import PROFILE, Fleet

KNOWN = PROFILE.capabilities({})
NOOPS = json.dumps({"stars": {f"s{i}": {"kind": "tool", "program": "noop"} for i in range(100)}})


@pytest.mark.parametrize("request_", [Request("boards", "4 6 8 3"), Request("plan", NOOPS)])
def test_a_good_request_passes(request_: Request) -> None:
    check(request_, known_capabilities=KNOWN, budget=Budget())


@pytest.mark.parametrize(
    ("request_", "field", "reason"),
    [
        (Request("texts", "write a poem"), "form", "is no form of a request; there are boards"),
        (Request("plan", "stars: {"), "line 2, column 1", "unreadable YAML"),
        (
            Request("plan", "stars:\n- {kind: tool, program: rm}\n"),
            "line 2, column 3",
            "stars[0]: no worker knows tool:rm; known are",
        ),
        (Request("plan", NOOPS, options={"x": 1}), "options", "no options"),
        (Request("boards", "4 6 8 3", options={"threads": 99}), "options.threads", "less than or equal"),
        (Request("boards", "4 6 8 3", options={"model": "other"}), "star b01-a", "no worker knows model:other"),
        (Request("boards", "#" * MAX_VALUE_BYTES), "text", "can be planned"),
        (Request("boards", "4 6 8 3\n" * 3), "budget.stars", "may need 23 stars, and the budget is 20"),
        (Request("plan", NOOPS), "budget.stars", "may need 101 stars, and the budget is 20"),
    ],
)
def test_what_cannot_be_planned_is_refused_at_the_door(request_: Request, field: str, reason: str) -> None:
    with pytest.raises(InvalidField) as refused:
        check(request_, known_capabilities=KNOWN, budget=Budget(stars=20))

    assert refused.value.field == field
    assert reason in refused.value.reason


def test_without_a_model_only_what_a_user_can_do_is_advised() -> None:
    with pytest.raises(InvalidField, match=r"`--label default-model=NAME`.*`requires: \[\"model:NAME\"\]`") as refused:
        check(Request("text", "Write a poem."))

    assert "option `model`" not in refused.value.reason
    check(Request("plan", 'stars:\n- {kind: agent, program: answer, requires: ["model:NAME"]}\n'))


def test_while_no_worker_is_known_any_tool_may_come() -> None:
    check(Request("plan", "stars:\n- {kind: tool, program: rm}\n"), known_capabilities=frozenset())


def test_the_plan_star_carries_the_request() -> None:
    star = plan_star(Request("boards", "4 6 8 3", "boards.txt", {"threads": 2}))

    assert star.program in PROGRAMS
    assert star.may_edit
    assert star.inputs["request"] == Constant(
        {"form": "boards", "text": "4 6 8 3", "name": "boards.txt", "options": {"threads": 2}}
    )


def test_stars_run_while_the_plan_is_still_being_emitted() -> None:
    fleet = Fleet(Request("plan", NOOPS))
    (token,) = fleet.running

    ended = fleet.run(token, plan)

    assert fleet.constellation.state is ConstellationState.RUNNING
    assert isinstance(ended, ProgramResult)
    assert ended.value == {"form": "plan", "stars": 100}
    assert len(fleet.running) == 101
    assert fleet.constellation.revision == 1 + 7


def test_a_plan_that_was_interrupted_is_emitted_again_without_harm() -> None:
    fleet = Fleet(Request("plan", NOOPS))
    (token,) = fleet.running
    fleet.run(token, plan)
    fleet.end(token, ProgramFailed("engine_error", "its process ended half-way", retryable=True))
    fleet.wait(10.0)
    token = next(token for token, assign in fleet.running.items() if assign.star == "plan")

    ended = fleet.run(token, plan)

    assert isinstance(ended, ProgramResult)
    assert fleet.refusals == []
    assert len(fleet.constellation.stars) == 101


def test_a_refused_batch_fails_the_plan_with_the_reason() -> None:
    fleet = Fleet(Request("plan", NOOPS), budget=Budget(stars=50))
    (token,) = fleet.running

    ended = fleet.run(token, plan)

    assert isinstance(ended, ProgramFailed)
    assert ended.code == "plan_refused"
    assert "budget of 50 stars" in ended.message
    assert not ended.retryable


def test_a_request_that_nobody_checked_fails_the_plan() -> None:
    fleet = Fleet(Request("plan", "stars: {"))
    (token,) = fleet.running

    ended = fleet.run(token, plan)

    assert isinstance(ended, ProgramFailed)
    assert ended.code == "plan_refused"
    assert "line 2, column 1: unreadable YAML" in ended.message


def test_the_shipped_models_read_boards_and_are_no_default_for_words() -> None:
    offered = frozenset({"program:answer", *(f"model:{name}" for name in list_models(shipped_models()))})
    with pytest.raises(InvalidField, match="needs a language model, and no worker offers one"):
        check(Request("text", "Write a poem."), known_capabilities=offered)
