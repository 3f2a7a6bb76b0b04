"""Taking a star away leaves alone what has ended, and what a worker still holds."""

import pytest

from asterism.orchestrator.core.edits import AddLine, AddStar, CancelStar, EditBatch, RemoveStar
from asterism.orchestrator.core.errors import InvalidEdit
from asterism.orchestrator.core.events import (
    AttemptFailed,
    EditRequested,
    RequestSubmitted,
    TimePassed,
    WorkerAttached,
)
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.request import Budget, Request
from asterism.orchestrator.core.snapshot import Snapshot
from asterism.orchestrator.core.star import RetryPolicy, StarError, StarKind, StarSpec, StarState, Timeouts

C, W, PLAN, A, B = ConstellationId("c1"), WorkerId("w1"), StarId("plan"), StarId("a"), StarId("b")


def machine_with(plan: StarSpec) -> Machine:
    """A machine with one worker of one slot, on which the plan star runs since 0 s."""
    machine = Machine(Snapshot((), (), 0, FencingToken(0)), at=0.0, lease_s=1000.0)
    machine.step(WorkerAttached(0.0, W, "i1", WorkerProfile(1, tools=("t",))))
    machine.step(RequestSubmitted(0.0, C, "r1", "ann", Request("boards", ""), Budget(), plan))
    assert machine.constellations[C].stars[PLAN].state is StarState.RUNNING
    return machine


def edit(machine: Machine, *edits: AddStar | AddLine | CancelStar | RemoveStar) -> None:
    machine.step(EditRequested(6.0, C, "client:ann", EditBatch(edits)))


def tool(star: StarId) -> StarSpec:
    return StarSpec(star, StarKind.TOOL, "t")


def test_terminal_child_of_a_removed_star_stays_as_it_is() -> None:
    machine = machine_with(tool(PLAN))
    edit(machine, AddStar(tool(A)), AddStar(tool(B)), AddLine(TaskStarLine(A, B, LineKind.COMPLETION)))
    edit(machine, CancelStar(B))
    revision = machine.constellations[C].stars[B].revision
    edit(machine, RemoveStar(A))
    child = machine.constellations[C].stars[B]
    assert (child.state, child.revision) == (StarState.CANCELLED, revision)


def test_star_is_not_removed_while_its_ended_attempt_holds_a_slot() -> None:
    patient = RetryPolicy(max_attempts=3, backoff_s=20.0, jitter=0.0)
    plan = StarSpec(PLAN, StarKind.TOOL, "t", timeouts=Timeouts(None, 5.0, None), retry=patient)
    machine = machine_with(plan)
    machine.step(TimePassed(5.0))
    (attempt,) = machine.constellations[C].stars[PLAN].attempts
    assert attempt.holds_slot
    with pytest.raises(InvalidEdit, match="has not stopped yet"):
        edit(machine, RemoveStar(PLAN))
    machine.step(AttemptFailed(7.0, W, attempt.fencing_token, StarError("stopped", ""), is_stopped=True))
    edit(machine, RemoveStar(PLAN))
    assert PLAN not in machine.constellations[C].stars
