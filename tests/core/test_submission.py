"""Requests come in once each, within bounds, and stay in memory for a while after their end."""

import math

import pytest

from asterism.orchestrator.core.errors import AlreadyExists, InvalidEdit, InvalidField
from asterism.orchestrator.core.events import RequestSubmitted
from asterism.orchestrator.core.ids import ConstellationId
from asterism.orchestrator.core.records import AttemptLeased, EditsApplied, RequestAccepted
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.star import StarKind, StarState
from tests.core.making import ADA, ENDLESS, C, Scene, add, graph, plan_star, tool

BOARDS = Request("boards", "1 2 3 4")


def submitted(
    name: str = "c",
    request_id: str = "r",
    owner: str = "me",
    request: Request = BOARDS,
    budget: Budget = ENDLESS,
) -> RequestSubmitted:
    return RequestSubmitted(1.0, ConstellationId(name), request_id, owner, request, budget, plan_star())


def test_submitted_request_is_accepted_with_its_plan_star() -> None:
    scene = Scene()
    outcome = scene.tell(submitted())
    accepted, edit, leased = outcome.records
    assert accepted == RequestAccepted(2, 1.0, C, "r", "me", Request("boards", "1 2 3 4"), ENDLESS)
    assert isinstance(edit, EditsApplied)
    assert (edit.seq, edit.revision, edit.by) == (3, 1, "client:me")
    assert isinstance(leased, AttemptLeased)
    assert (leased.seq, leased.attempt, leased.worker, leased.fencing_token) == (4, 1, ADA, 1)
    assert outcome.reply is not None
    assert (outcome.reply.constellation, outcome.reply.revision, outcome.reply.is_new) == (C, 1, True)
    constellation = scene.machine.constellations[C]
    assert (constellation.owner, constellation.request_id, constellation.request.text) == ("me", "r", "1 2 3 4")
    assert (constellation.created_at, constellation.started_at, constellation.ended_at) == (1.0, 1.0, None)
    assert (constellation.attempts, constellation.unfinished, constellation.seq) == (1, 1, 4)
    assert scene.star("plan").spec.kind is StarKind.PLAN


def test_repeated_submit_is_answered_with_what_there_is() -> None:
    scene = Scene()
    scene.tell(submitted())
    scene.edit(add("x"))
    again = scene.tell(submitted("other"))
    assert (again.records, again.effects) == ([], [])
    assert again.reply is not None
    assert (again.reply.constellation, again.reply.revision, again.reply.is_new) == (C, 2, False)
    assert list(scene.machine.constellations) == ["c"]


@pytest.mark.parametrize(
    "other", [submitted("d", request=Request("boards", "other")), submitted("d", budget=Budget(stars=3))]
)
def test_request_id_names_one_request_of_its_owner(other: RequestSubmitted) -> None:
    scene = Scene()
    scene.tell(submitted())
    with pytest.raises(AlreadyExists, match="request_id 'r' exists already: it named another request"):
        scene.tell(other)


def test_another_owner_may_use_the_same_request_id() -> None:
    scene = Scene()
    scene.tell(submitted())
    outcome = scene.tell(submitted("d", owner="you"))
    assert outcome.reply is not None
    assert (outcome.reply.constellation, outcome.reply.is_new) == ("d", True)


@pytest.mark.parametrize(
    ("budget", "field"),
    [
        (Budget(stars=0), "budget.stars"),
        (Budget(stars=1_000_001), "budget.stars"),
        (Budget(attempts=0), "budget.attempts"),
        (Budget(attempts=10_000_001), "budget.attempts"),
        (Budget(seconds=0.0), "budget.seconds"),
        (Budget(seconds=366 * 86400 + 1.0), "budget.seconds"),
        (Budget(seconds=math.nan), "budget.seconds"),
        (Budget(seconds=math.inf), "budget.seconds"),
    ],
)
def test_budget_out_of_range_is_refused_and_nothing_is_kept(budget: Budget, field: str) -> None:
    scene = Scene()
    with pytest.raises(InvalidField) as refusal:
        scene.tell(submitted(budget=budget))
    assert refusal.value.field == field
    assert scene.machine.constellations == {}


@pytest.mark.parametrize(
    "budget",
    [Budget(1, 1, 0.001), Budget(1_000_000, 10_000_000, 366 * 86400.0), Budget(1, 1, None), Budget(1, 1, 1.0)],
)
def test_budget_at_its_bounds_is_taken(budget: Budget) -> None:
    scene = Scene()
    scene.tell(submitted(budget=budget))
    assert scene.machine.constellations[C].budget == budget


def test_plan_star_that_no_worker_knows_is_refused_and_nothing_is_kept() -> None:
    scene = Scene()
    with pytest.raises(InvalidEdit, match="no worker knows program:other"):
        scene.submit(plan=tool("plan", kind=StarKind.PLAN, program="other"))
    assert scene.machine.constellations == {}
    assert len(scene.records) == 1


def test_latest_256_ended_requests_stay_in_memory() -> None:
    scene = Scene(1)
    for number in range(257):
        scene.whole_request(f"c{number}")
        assert len(scene.machine.constellations) == min(number + 1, 256)
    assert "c0" not in scene.machine.constellations
    assert "c1" in scene.machine.constellations
    outcome = scene.submit("c0")
    assert outcome.reply is not None
    assert outcome.reply.is_new
    assert "c1" in scene.machine.constellations


def test_request_that_still_runs_stays_however_many_end() -> None:
    scene = Scene(2)
    scene.submit("c")
    for number in range(258):
        scene.whole_request(f"c{number}")
    assert scene.states() == {"plan": StarState.RUNNING}
    assert len(scene.machine.constellations) == 257


def test_ended_request_that_is_edited_again_is_kept() -> None:
    scene = graph()
    scene.succeed("plan")
    scene.edit(add("x"))
    scene.fail("x")
    for number in range(258):
        scene.whole_request(f"c{number}")
    assert scene.machine.constellations[C].state is ConstellationState.RUNNING
