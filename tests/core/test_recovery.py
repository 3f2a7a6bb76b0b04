"""A machine that starts from what is on disk goes on as the one before it would have."""

import copy

from asterism.orchestrator.core.apply import apply
from asterism.orchestrator.core.edits import CancelStar
from asterism.orchestrator.core.effects import Assign
from asterism.orchestrator.core.events import (
    CancelRequested,
    DrainRequested,
    HeldAttempt,
    LabelRequested,
    TimePassed,
    WorkerAttached,
    WorkerDetached,
    WorkerRenewed,
)
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, WorkerId
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.profile import WorkerProfile
from asterism.orchestrator.core.records import Record, WorkerDraining, WorkerJoined, WorkerLabelled, WorkerLeft
from asterism.orchestrator.core.request import Budget, ConstellationState
from asterism.orchestrator.core.snapshot import Snapshot, StoredWorker
from asterism.orchestrator.core.star import AttemptOutcome, StarState, Timeouts
from asterism.orchestrator.core.state import DEPARTED_S, Lease, State, Worker
from tests.core.making import ADA, BOB, RULE, C, Scene, X, add, graph, join, profile
from tests.core.picture import replayed


def recovered(scene: Scene, at: float) -> Scene:
    """The scene as it is found after a crash, with leases of 10 s."""
    machine = scene.machine
    snapshot = Snapshot(
        tuple(copy.deepcopy(list(machine.constellations.values()))),
        tuple(
            StoredWorker(worker.id, worker.instance, worker.profile, worker.has_left, worker.is_draining, worker.labels)
            for worker in machine.workers.values()
        ),
        len(scene.records),
        max((assign for worker in machine.workers.values() for assign in worker.running), default=FencingToken(0)),
    )
    after = Scene(0)
    after.machine = Machine(snapshot, at=at, lease_s=10.0)
    after.at = at
    return after


def test_workers_are_known_and_get_a_whole_lease_to_come_back() -> None:
    before = graph()
    before.attach(BOB, labels={"zone": "own"})
    before.tell(LabelRequested(0.0, BOB, {"zone": "lab"}))
    before.tell(DrainRequested(0.0, BOB, True))
    scene = recovered(before, 100.0)
    ada, bob = scene.machine.workers[ADA], scene.machine.workers[BOB]
    assert (ada.is_attached, ada.has_left, ada.is_draining, ada.instance) == (False, False, False, "one")
    assert (bob.is_draining, bob.labels, bob.profile) == (True, {"zone": "lab"}, profile(labels={"zone": "own"}))
    assert bob.capabilities == {"tool:t", "program:p", "label:zone=lab"}
    assert (ada.lease_expires_at, scene.machine.next_deadline()) == (110.0, 110.0)
    scene.time(109.9)
    assert {worker.has_left for worker in scene.machine.workers.values()} == {False}
    scene.time(110.0)
    assert {worker.has_left for worker in scene.machine.workers.values()} == {True}


def test_worker_that_had_left_stays_so() -> None:
    before = Scene()
    before.tell(WorkerDetached(0.0, ADA, "one", is_goodbye=True))
    scene = recovered(before, 100.0)
    assert scene.machine.workers[ADA].has_left
    assert scene.machine.next_deadline() is None


def test_answer_to_a_proposal_is_known_to_the_next_process() -> None:
    before = graph(slots=1)
    accepted = before.propose("plan", add("x"))
    scene = recovered(before, 1.0)
    scene.proposals = before.proposals
    scene.attach(slots=1, held=(1,))
    repeated = scene.propose("plan", add("x"), again=True)
    assert (repeated.records, repeated.effects) == ([], accepted.effects)


def test_running_attempt_goes_on_when_its_worker_comes_back_with_it() -> None:
    scene = recovered(graph(add("x")), 100.0)
    assert scene.held() == {1, 2}
    assert [lease.is_stopping for lease in scene.machine.workers[ADA].running.values()] == [False, False]
    outcome = scene.attach(held=(1, 2))
    assert outcome.records == []
    outcome = scene.succeed("x", 1)
    assert [record.seq for record in outcome.records] == [7]
    assert scene.star("x").result == 1


def test_second_attempt_goes_on_too() -> None:
    before = graph(add("x"))
    before.fail("x")
    before.time(10.0)
    scene = recovered(before, 100.0)
    assert scene.held() == {1, 3}
    scene.attach(held=(1, 3))
    scene.succeed("x", 1)
    assert scene.star("x").result == 1


def test_lost_attempt_runs_again_with_a_greater_token() -> None:
    scene = recovered(graph(), 100.0)
    outcome = scene.attach(instance="two")
    assert [effect.fencing_token for effect in outcome.effects if isinstance(effect, Assign)] == [2]


def test_attempt_that_was_told_to_stop_still_holds_its_slot_and_can_confirm() -> None:
    before = graph(add("x"))
    before.edit(CancelStar(X))
    scene = recovered(before, 100.0)
    assert {token: lease.is_stopping for token, lease in scene.machine.workers[ADA].running.items()} == {
        1: False,
        2: True,
    }
    scene.confirm(scene.star("x").attempts[0])
    assert scene.held() == {1}


def test_time_outs_of_a_running_attempt_are_watched_again() -> None:
    before = graph(add("x", timeouts=Timeouts(None, 105.0)), add("y", timeouts=Timeouts(None, None, 5.0)))
    before.at = 100.0
    scene = recovered(before, 100.0)
    scene.attach(held=(1, 2, 3))
    scene.time(104.9)
    assert scene.states() == {"plan": StarState.RUNNING, "x": StarState.RUNNING, "y": StarState.RUNNING}
    scene.time(105.0)
    assert scene.states() == {"plan": StarState.RUNNING, "x": StarState.WAITING, "y": StarState.WAITING}
    assert [scene.star(name).attempts[0].outcome for name in "xy"] == [AttemptOutcome.TIMED_OUT] * 2


def test_ready_star_is_queued_and_one_that_waits_for_a_parent_is_not() -> None:
    before = graph(slots=1)
    before.edit(add("x"), add("y"), join("x", "y"), add("z", priority=1))
    scene = recovered(before, 100.0)
    outcome = scene.attach(BOB)
    assert [effect.star for effect in outcome.effects if isinstance(effect, Assign)] == ["z", "x"]
    assert scene.star("y").state is StarState.WAITING


def test_backoff_goes_on() -> None:
    before = graph(add("x"))
    before.time(95.0)
    before.fail("x")
    scene = recovered(before, 100.0)
    scene.attach(held=(1,))
    assert scene.star("x").state is StarState.WAITING
    scene.time(104.9)
    assert scene.star("x").state is StarState.WAITING
    scene.time(105.0)
    assert scene.live("x").number == 2


def test_time_to_start_goes_on() -> None:
    before = graph(slots=1)
    before.edit(add("x", timeouts=Timeouts(105.0)))
    scene = recovered(before, 100.0)
    scene.time(104.9)
    assert scene.star("x").state is StarState.READY
    scene.time(105.0)
    assert scene.star("x").state is StarState.FAILED


def test_budget_of_seconds_goes_on_and_that_of_an_ended_request_does_not() -> None:
    before = Scene()
    before.submit(budget=Budget(seconds=105.0))
    before.submit("d", budget=Budget(seconds=103.0))
    before.tell(CancelRequested(0.0, ConstellationId("d"), ""))
    scene = recovered(before, 100.0)
    assert scene.machine.next_deadline() == 105.0
    scene.time(105.0)
    assert scene.machine.constellations[C].state is ConstellationState.FAILED


def test_request_id_is_still_known() -> None:
    scene = recovered(graph(), 100.0)
    outcome = scene.submit()
    assert outcome.reply is not None
    assert not outcome.reply.is_new


def test_ended_request_that_is_loaded_again_can_be_edited() -> None:
    before = graph(add("x"))
    before.succeed("plan")
    before.succeed("x", 1)
    scene = Scene()
    loaded = copy.deepcopy(before.machine.constellations[C])
    scene.machine.adopt(loaded, at=5.0)
    scene.edit(add("y"), join("x", "y"))
    assert scene.star("y").state is StarState.RUNNING
    scene.machine.adopt(copy.deepcopy(before.machine.constellations[C]), at=6.0)
    assert scene.machine.constellations[C] is loaded
    assert scene.star("y").state is StarState.RUNNING


def test_ended_request_stays_in_memory_while_an_event_that_needs_it_is_on_its_way() -> None:
    scene = graph()
    scene.succeed("plan")
    scene.machine.pin(C)
    scene.machine.pin(C)
    for number in range(300):
        scene.whole_request(f"c{number}")
    scene.machine.unpin(C)
    scene.whole_request("c300")
    assert C in scene.machine.constellations
    scene.machine.unpin(C)
    for number in range(301, 600):
        scene.whole_request(f"c{number}")
    assert C not in scene.machine.constellations
    assert len(scene.machine.constellations) == 256


def test_ended_request_stays_in_memory_while_a_worker_holds_an_attempt_of_it() -> None:
    scene = graph(slots=2)
    attempt = scene.live("plan")
    scene.tell(CancelRequested(0.0, C, ""))
    for number in range(300):
        scene.whole_request(f"c{number}")
    assert scene.star("plan").attempts[0].holds_slot
    scene.confirm(attempt)
    assert scene.held() == set()
    scene.tell(TimePassed(0.0))
    scene.tell(WorkerAttached(0.0, ADA, "one", profile(2), (HeldAttempt(FencingToken(1)),)))
    assert len(scene.machine.constellations) == 256


def test_worker_of_which_nothing_is_known_is_not_there_and_owes_nothing() -> None:
    worker = Worker(ADA, "one", profile(3))
    assert (worker.is_attached, worker.is_draining, worker.is_leaving, worker.has_left) == (False,) * 4
    assert (worker.running, worker.labels, worker.capabilities, worker.free_slots) == ({}, {}, frozenset(), 3)
    assert (worker.lease_expires_at, worker.last_seen_at) == (0.0, 0.0)


def test_lease_is_live_until_it_is_told_to_stop() -> None:
    lease = Lease(C, X, 1)
    assert (lease.is_stopping, lease.last_progress_at) == (False, 0.0)


def departed() -> Scene:
    """x needs what only bob offers, and bob has left at 0 s; the plan has ended."""
    scene = Scene()
    scene.attach(BOB, models=("m",))
    scene.submit(replan=RULE)
    scene.edit(add("x", requires=frozenset({"model:m"})))
    scene.succeed("plan")
    scene.tell(WorkerDetached(0.0, BOB, "one", is_goodbye=True))
    return scene


def passes(scene: Scene, at: float) -> None:
    """Ada is heard, and then it is so late."""
    scene.at = at
    if not scene.machine.workers[ADA].is_attached:
        scene.attach(ADA)
    scene.tell(WorkerRenewed(at, ADA))
    scene.time(at)


def test_worker_that_left_just_before_is_done_without_all_the_same() -> None:
    scene = recovered(departed(), 5.0)
    passes(scene, 5.0)
    passes(scene, 5.0 + DEPARTED_S)
    assert scene.star("replan.1").state is StarState.RUNNING
    passes(scene, 5.0 + 2 * DEPARTED_S)
    assert "replan.2" not in scene.states()


def test_worker_that_comes_back_after_a_restart_is_not_done_without() -> None:
    scene = recovered(departed(), 5.0)
    passes(scene, 5.0)
    scene.attach(BOB, models=("m",))
    scene.tell(WorkerRenewed(5.0 + DEPARTED_S, BOB))
    passes(scene, 5.0 + DEPARTED_S)
    assert (scene.star("x").state, "replan.1" in scene.states()) == (StarState.RUNNING, False)


def test_rewrite_that_has_looked_at_a_departure_is_not_asked_again_at_each_restart() -> None:
    scene = departed()
    scene.time(DEPARTED_S)
    scene.succeed("replan.1")
    scene = recovered(scene, 100.0)
    passes(scene, 100.0)
    passes(scene, 100.0 + DEPARTED_S)
    assert "replan.2" not in scene.states()
    scene.attach(BOB, models=("m",))
    assert scene.star("x").state is StarState.RUNNING
    scene.tell(WorkerDetached(scene.at, BOB, "one", is_goodbye=True))
    passes(scene, 200.0)
    assert scene.star("replan.2").state is StarState.RUNNING, "x has run since"


def test_departures_that_nothing_waits_for_are_not_looked_at_after_a_restart() -> None:
    before = graph(add("x"), replan=RULE)
    for number in range(3):
        before.attach(WorkerId(f"w{number}"), labels={"pod": f"p{number}"})
        before.tell(WorkerDetached(0.0, WorkerId(f"w{number}"), "one", is_goodbye=True))
    scene = recovered(before, 5.0)
    assert scene.machine.next_deadline() == 15.0, "the lease of ada"
    passes(scene, 15.0)
    assert scene.machine.next_deadline() == 25.0


def test_empty_state_has_seen_nothing() -> None:
    state = State()
    assert (state.last_seq, state.last_fencing_token, state.next_deadline()) == (0, 0, None)
    assert state.known_capabilities() == frozenset()


def test_each_record_about_a_worker_changes_at_once_what_the_fleet_offers() -> None:
    state = State()
    records: list[tuple[Record, set[str], int]] = [
        (WorkerJoined(1, 0.0, ADA, "one", WorkerProfile(1, tools=("t",))), {"tool:t"}, 1),
        (WorkerLabelled(2, 0.0, ADA, {"zone": "lab"}), {"tool:t", "label:zone=lab"}, 1),
        (WorkerDraining(3, 0.0, ADA, True), {"tool:t", "label:zone=lab"}, 0),
        (WorkerDraining(4, 0.0, ADA, False), {"tool:t", "label:zone=lab"}, 1),
        (WorkerJoined(5, 0.0, ADA, "one", WorkerProfile(1, tools=("u",))), {"tool:u", "label:zone=lab"}, 0),
        (WorkerLeft(6, 0.0, ADA, "goodbye"), set(), 0),
    ]
    assert (state.known_capabilities(), state.is_offered(frozenset({"tool:t"}))) == (frozenset(), False)
    for record, offered, takers in records:
        apply(state, record)
        if not state.workers[ADA].has_left:
            state.workers[ADA].is_attached = True
        assert state.known_capabilities() == offered
        assert state.is_offered(frozenset({"tool:t"})) == bool(takers)
        assert state.last_seq == record.seq


def test_journal_gives_the_same_state_again() -> None:
    scene = graph(add("x"), add("y"), add("z"), join("x", "z"), join("y", "z"))
    scene.time(1.0)
    scene.attach(BOB, models=("m",))
    scene.tell(LabelRequested(1.0, BOB, {"zone": "lab"}))
    scene.tell(DrainRequested(1.0, BOB, True))
    scene.succeed("x", {"a": 1})
    scene.fail("y")
    scene.edit(CancelStar(scene.star("z").spec.id))
    scene.propose("plan", add("w"), add("w"))
    scene.tell(CancelRequested(2.0, C, "enough"))
    scene.edit(add("v"))
    scene.tell(WorkerDetached(3.0, ADA, "one", is_goodbye=True))
    again = replayed(scene.records)
    assert again.constellations == scene.machine.constellations
    assert {worker.id: set(worker.running) for worker in again.workers.values()} == {"ada": set(), "bob": set()}
    assert (again.last_seq, again.last_fencing_token) == (len(scene.records), 4)
