"""The indexes of the state: queues that empty themselves, and what is derived from the fleet."""

import pytest

from asterism.orchestrator.core import state as core_state
from asterism.orchestrator.core.apply import apply
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import WorkerJoined
from asterism.orchestrator.core.request import Budget
from asterism.orchestrator.core.star import StarKind, StarState, TaskStar
from asterism.orchestrator.core.state import Deadline, State, Timer, Worker
from tests.core.making import ADA, LEASE_S, C, X, Y, graph, plan_star, profile, tool

TOOL = frozenset({"tool:t"})


def test_queue_gives_the_first_star_and_is_gone_when_it_is_empty() -> None:
    state = State()
    state.enqueue_now(C, TaskStar(tool("x"), StarState.READY, 1))
    state.enqueue_now(C, TaskStar(tool("y", priority=1), StarState.READY, 1))
    first = state.first_ready(TOOL)
    assert first is not None
    assert (first.constellation, first.star, state.is_queued(C, Y)) == (C, Y, True)
    state.dequeue(C, Y)
    state.dequeue(C, Y)
    second = state.first_ready(TOOL)
    assert second is not None
    assert (second.star, state.is_queued(C, Y)) == (X, False)
    state.dequeue(C, X)
    assert state.first_ready(TOOL) is None
    assert state.ready == {}
    assert state.first_ready(TOOL) is None


def test_star_that_is_queued_again_counts_once_and_in_its_new_place() -> None:
    state = State()
    for name in ("x", "y", "x"):
        state.enqueue_now(C, TaskStar(tool(name), StarState.READY, 1))
    order = []
    while (entry := state.first_ready(TOOL)) is not None:
        order.append(entry.star)
        state.dequeue(C, entry.star)
    assert order == [Y, X]


def test_star_in_its_backoff_is_not_queued() -> None:
    state = State()
    star = TaskStar(tool("x"), StarState.READY, 1)
    state.enqueue(C, star, 4.0)
    assert state.is_queued(C, X)
    star.retry_at = 5.0
    state.enqueue(C, star, 4.0)
    assert (state.is_queued(C, X), state.next_deadline()) == (False, 5.0)
    state.enqueue(C, star, 5.0)
    assert state.is_queued(C, X)


def test_what_is_offered_is_looked_up_once_until_the_fleet_changes() -> None:
    state = State()
    assert not state.is_offered(TOOL)
    state.workers[ADA] = Worker(ADA, "one", WorkerProfile(1), is_attached=True, capabilities=TOOL)
    assert not state.is_offered(TOOL)
    state.fleet_changed()
    assert state.is_offered(TOOL)


def test_deadlines_come_up_to_their_time_earliest_first_those_pushed_meanwhile_too() -> None:
    state = State()
    for at in (3.0, 1.0, 2.0):
        state.push(Deadline(at, Timer.BUDGET))
    seen = []
    for deadline in state.due(2.0):
        seen.append(deadline.at)
        if deadline.at == 1.0:
            state.push(Deadline(1.5, Timer.BUDGET))
    assert seen == [1.0, 1.5, 2.0]
    assert state.next_deadline() == 3.0


def test_deadlines_of_requests_that_have_ended_are_swept_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_state, "SWEEP_AFTER", 0)
    scene = graph(budget=Budget(seconds=50.0), replan=plan_star())
    scene.time(1.0)
    assert scene.machine.next_deadline() == 40.0
    scene.whole_request("one")
    scene.whole_request("two")
    assert scene.machine.next_deadline() == 40.0
    scene.succeed("plan")
    for name in ("three", "four"):
        scene.whole_request(name)
    assert scene.machine.next_deadline() == LEASE_S


def test_only_what_some_worker_offers_is_looked_at_for_placement() -> None:
    state = State()
    state.enqueue_now(C, TaskStar(tool("x"), StarState.READY, 1))
    assert state.placeable() == []
    apply(state, WorkerJoined(1, 0.0, ADA, "one", profile()))
    state.workers[ADA].is_attached = True
    state.fleet_changed()
    assert state.placeable() == [TOOL]
    state.enqueue_now(C, TaskStar(tool("y", requires=frozenset({"model:m"})), StarState.READY, 1))
    assert state.placeable() == [TOOL]
    state.enqueue_now(C, TaskStar(tool("z", kind=StarKind.PLAN, program="p"), StarState.READY, 1))
    assert state.placeable() == [TOOL, frozenset({"program:p"})]
    state.dequeue(C, X)
    assert state.first_ready(TOOL) is None
    assert state.placeable() == [frozenset({"program:p"})]
    state.enqueue_now(C, TaskStar(tool("x"), StarState.READY, 1))
    assert state.placeable() == [frozenset({"program:p"}), TOOL]
