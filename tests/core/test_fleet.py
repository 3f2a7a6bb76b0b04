"""Workers come, go, drain and get labels; what they hold is settled each time."""

from collections.abc import Callable
from typing import Any

import pytest

from asterism.orchestrator.core.edits import CancelStar
from asterism.orchestrator.core.effects import Assign, Disconnect, Outcome, Stop
from asterism.orchestrator.core.errors import AlreadyExists, InvalidField, NotFound
from asterism.orchestrator.core.events import (
    DrainRequested,
    LabelRequested,
    WorkerDetached,
    WorkerLeaving,
    WorkerRenewed,
)
from asterism.orchestrator.core.ids import FencingToken, WorkerId
from asterism.orchestrator.core.records import (
    AttemptEnded,
    SlotReleased,
    WorkerDraining,
    WorkerJoined,
    WorkerLabelled,
    WorkerLeft,
)
from asterism.orchestrator.core.star import AttemptOutcome, StarError, StarState, Timeouts
from asterism.orchestrator.core.state import DEPARTED_S
from tests.core.making import ADA, BOB, LEASE_S, RULE, Scene, X, add, graph, profile

ENDED = "this attempt has ended"


def test_first_attach_is_recorded_and_makes_a_worker_that_takes_stars() -> None:
    scene = Scene(0)
    scene.at = 3.0
    outcome = scene.attach(ADA, 2, labels={"zone": "a"})
    assert outcome.records == [WorkerJoined(1, 3.0, ADA, "one", profile(2, labels={"zone": "a"}))]
    worker = scene.machine.workers[ADA]
    assert (worker.is_attached, worker.has_left, worker.is_leaving, worker.is_draining) == (True, False, False, False)
    assert (worker.takes_stars, worker.free_slots) == (True, 2)
    assert worker.capabilities == {"tool:t", "program:p", "label:zone=a"} == scene.machine.known_capabilities
    assert (worker.last_seen_at, worker.lease_expires_at) == (3.0, 1003.0)


def test_worker_that_comes_back_unchanged_is_not_recorded_again() -> None:
    scene = graph()
    scene.tell(WorkerDetached(1.0, ADA, "one"))
    assert not scene.machine.workers[ADA].takes_stars
    scene.at = 2.0
    outcome = scene.attach(held=(1,))
    assert (outcome.records, outcome.effects) == ([], [])
    assert scene.machine.workers[ADA].takes_stars
    assert scene.machine.workers[ADA].lease_expires_at == 1002.0


@pytest.mark.parametrize("changes", [{"slots": 9}, {"models": ("m",)}])
def test_changed_profile_is_recorded_and_counts_from_now_on(changes: dict[str, Any]) -> None:
    scene = graph()
    outcome = scene.attach(held=(1,), **changes)
    assert [type(record) for record in outcome.records] == [WorkerJoined]
    worker = scene.machine.workers[ADA]
    assert worker.profile == profile(**changes)
    assert worker.capabilities == worker.profile.capabilities({})
    assert scene.machine.known_capabilities == worker.capabilities
    assert scene.held() == {1}


def test_second_live_process_of_one_name_is_refused() -> None:
    scene = graph()
    with pytest.raises(AlreadyExists, match="worker 'ada' exists already: another process is attached under this name"):
        scene.attach(instance="two")
    scene.attach(instance="one", held=(1,))
    scene.tell(WorkerDetached(1.0, ADA, "one"))
    scene.attach(instance="two")
    assert scene.machine.workers[ADA].instance == "two"


def test_new_process_of_a_worker_holds_nothing_of_the_old_one_whatever_it_says() -> None:
    scene = graph()
    scene.tell(WorkerDetached(1.0, ADA, "one"))
    scene.at = 2.0
    outcome = scene.attach(instance="two", held=(1,))
    ended = outcome.records[0]
    assert isinstance(ended, AttemptEnded)
    assert (ended.outcome, ended.error) == (
        AttemptOutcome.LOST,
        StarError("worker_lost", "its worker came back without it", retryable=True),
    )
    assert Stop(ADA, FencingToken(1), ENDED) in outcome.effects
    assert (scene.live("plan").number, scene.held()) == (2, {2})


def test_what_a_worker_comes_back_without_is_lost_and_what_it_holds_goes_on() -> None:
    scene = graph(add("x"), add("y"))
    scene.tell(WorkerDetached(1.0, ADA, "one"))
    outcome = scene.attach(held=(1, 3))
    assert [effect.star for effect in outcome.effects if isinstance(effect, Assign)] == ["x"]
    assert [scene.live(name).number for name in ("plan", "x", "y")] == [1, 2, 1]
    assert scene.held() == {1, 3, 4}


def test_attempt_that_was_told_to_stop_is_told_again_or_released_when_its_worker_comes_back() -> None:
    scene = graph(add("x"), add("y"))
    scene.edit(CancelStar(X), CancelStar(scene.star("y").spec.id))
    scene.tell(WorkerDetached(1.0, ADA, "one"))
    outcome = scene.attach(held=(1, 2))
    assert [type(record) for record in outcome.records] == [SlotReleased]
    assert outcome.effects == [Stop(ADA, FencingToken(2), ENDED)]
    assert scene.held() == {1, 2}
    assert scene.star("y").attempts[0].holds_slot is False


def test_attempt_that_nobody_knows_is_stopped() -> None:
    scene = graph()
    outcome = scene.attach(held=(1, 99))
    assert outcome.effects == [Stop(ADA, FencingToken(99), ENDED)]


def test_coming_back_counts_as_a_sign_of_life_of_what_it_holds() -> None:
    scene = graph(add("x", timeouts=Timeouts(None, None, 10.0)))
    scene.at = 8.0
    scene.attach(held=(1, 2))
    scene.time(17.9)
    assert scene.star("x").state is StarState.RUNNING
    scene.time(18.0)
    assert scene.star("x").attempts[0].outcome is AttemptOutcome.TIMED_OUT


def test_end_of_an_old_stream_says_nothing_about_the_new_one() -> None:
    scene = graph()
    scene.tell(WorkerDetached(1.0, ADA, "zero", is_goodbye=True))
    assert scene.machine.workers[ADA].is_attached
    assert scene.held() == {1}


def test_goodbye_frees_everything_at_once_and_nobody_is_there_to_be_disconnected() -> None:
    scene = graph()
    scene.attach(BOB)
    outcome = scene.tell(WorkerDetached(1.0, ADA, "one", is_goodbye=True))
    assert [type(record) for record in outcome.records[:2]] == [AttemptEnded, WorkerLeft]
    left = outcome.records[1]
    assert isinstance(left, WorkerLeft)
    assert (left.worker, left.reason, left.at) == (ADA, "it said goodbye", 1.0)
    assert [effect.worker for effect in outcome.effects if isinstance(effect, Assign)] == ["bob"]
    assert not any(isinstance(effect, Disconnect) for effect in outcome.effects)
    worker = scene.machine.workers[ADA]
    assert (worker.has_left, worker.is_attached, worker.running) == (True, False, {})
    assert scene.star("plan").attempts[0].error == StarError(
        "worker_lost", "its worker ada left: it said goodbye", True
    )


def test_worker_that_had_left_joins_again_and_gets_a_lease_again() -> None:
    scene = Scene(1, lease_s=10.0)
    scene.tell(WorkerDetached(1.0, ADA, "one", is_goodbye=True))
    assert scene.machine.known_capabilities == frozenset()
    scene.time(11.0)
    assert scene.machine.next_deadline() is None
    scene.at = 20.0
    outcome = scene.attach()
    assert [type(record) for record in outcome.records] == [WorkerJoined]
    assert not scene.machine.workers[ADA].has_left
    assert scene.machine.known_capabilities == {"tool:t", "program:p"}
    assert scene.machine.next_deadline() == 20.0
    scene.time(20.0)
    assert scene.machine.next_deadline() == 30.0
    outcome = scene.time(30.0)
    assert [type(record) for record in outcome.records] == [WorkerLeft]


def test_lease_runs_out_when_nothing_is_heard_and_every_word_renews_it() -> None:
    scene = Scene(8, lease_s=10.0)
    scene.submit()
    scene.edit(add("x"), add("y"))
    heard: list[Callable[[], Outcome]] = [
        lambda: scene.tell(WorkerRenewed(scene.at, ADA)),
        lambda: scene.stream("plan", "text"),
        lambda: scene.propose("plan", add("z")),
        lambda: scene.succeed("x"),
        lambda: scene.fail("y"),
        lambda: scene.tell(WorkerLeaving(scene.at, ADA)),
    ]
    for number, say in enumerate(heard):
        scene.time(9.0 * (number + 1))
        assert scene.machine.workers[ADA].is_attached
        say()
        assert scene.machine.workers[ADA].last_seen_at == scene.at
        assert scene.machine.workers[ADA].lease_expires_at == scene.at + 10.0
    scene.time(63.9)
    assert scene.machine.workers[ADA].is_attached
    outcome = scene.time(64.0)
    assert isinstance(outcome.records[-1], WorkerLeft)
    assert outcome.records[-1].reason == "its lease ran out"
    assert outcome.effects == [Disconnect(ADA, "one", "its lease ran out")]
    assert scene.star("plan").state is StarState.READY
    assert scene.star("plan").attempts[0].outcome is AttemptOutcome.LOST


def test_worker_that_is_cut_off_for_a_moment_still_counts_as_offering_what_it_did() -> None:
    scene = Scene()
    scene.attach(BOB, models=("m",))
    scene.tell(WorkerDetached(1.0, BOB, "one"))
    assert scene.machine.known_capabilities == {"tool:t", "program:p", "model:m"}
    scene.at = 2.0
    scene.attach(BOB, models=("m",))
    scene.tell(WorkerDetached(3.0, BOB, "one", is_goodbye=True))
    assert scene.machine.known_capabilities == {"tool:t", "program:p"}


def test_worker_that_leaves_takes_nothing_new_until_it_attaches_again() -> None:
    scene = graph()
    assert scene.tell(WorkerLeaving(1.0, ADA)).records == []
    assert scene.machine.workers[ADA].is_leaving
    scene.edit(add("x"))
    assert scene.star("x").state is StarState.READY
    outcome = scene.attach(held=(1,))
    assert [effect.star for effect in outcome.effects if isinstance(effect, Assign)] == ["x"]


def test_drain_is_recorded_when_it_changes_something() -> None:
    scene = graph()
    (record,) = scene.tell(DrainRequested(4.0, ADA, True)).records
    assert record == WorkerDraining(len(scene.records), 4.0, ADA, True)
    assert scene.tell(DrainRequested(5.0, ADA, True)).records == []
    scene.attach(held=(1,))
    assert scene.machine.workers[ADA].is_draining
    assert len(scene.tell(DrainRequested(6.0, ADA, False)).records) == 1
    assert scene.star("plan").state is StarState.RUNNING


def test_labels_of_an_operator_add_up_and_none_takes_one_away() -> None:
    scene = Scene(0)
    scene.attach(labels={"zone": "own"})
    (record,) = scene.tell(LabelRequested(2.0, ADA, {"zone": "lab", "rack": "1"})).records
    assert record == WorkerLabelled(2, 2.0, ADA, {"zone": "lab", "rack": "1"})
    assert scene.tell(LabelRequested(2.0, ADA, {"rack": "1"})).records == []
    scene.tell(LabelRequested(2.0, ADA, {"rack": None, "gone": None}))
    assert scene.machine.workers[ADA].labels == {"zone": "lab"}
    assert scene.machine.workers[ADA].capabilities == {"tool:t", "program:p", "label:zone=lab"}
    assert scene.machine.known_capabilities == {"tool:t", "program:p", "label:zone=lab"}
    scene.attach(slots=3)
    assert scene.machine.workers[ADA].capabilities == {"tool:t", "program:p", "label:zone=lab"}


@pytest.mark.parametrize(("labels", "field"), [({"a b": "x"}, "labels[a b]"), ({"a": "x y"}, "labels[a]")])
def test_label_is_a_name_and_a_name(labels: dict[str, str | None], field: str) -> None:
    with pytest.raises(InvalidField, match="a label's key and value are names") as refusal:
        Scene().tell(LabelRequested(0.0, ADA, labels))
    assert refusal.value.field == field


def test_worker_has_at_most_256_labels_of_an_operator() -> None:
    scene = Scene()
    scene.tell(LabelRequested(0.0, ADA, {f"l{n}": "x" for n in range(256)}))
    with pytest.raises(InvalidField, match="257 labels; at most 256"):
        scene.tell(LabelRequested(0.0, ADA, {"more": "x"}))
    scene.tell(LabelRequested(0.0, ADA, {"more": "x", "l0": None}))
    assert len(scene.machine.workers[ADA].labels) == 256


def test_unknown_worker_is_neither_drained_nor_labelled() -> None:
    for event in (DrainRequested(0.0, BOB, True), LabelRequested(0.0, BOB, {})):
        with pytest.raises(NotFound, match="no worker named 'bob'"):
            Scene().tell(event)


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"worker": WorkerId("a/b")}, "worker", "'a/b' is not a name"),
        ({"slots": 0}, "profile.slots", "0 is outside 1 to 4096"),
        ({"slots": 4097}, "profile.slots", "4097 is outside 1 to 4096"),
        ({"models": tuple(f"m{n}" for n in range(257))}, "profile.models", "257 of them; at most 256"),
        ({"tools": ("a b",)}, "profile.tools", "'a b' is not a name"),
        ({"programs": ("",)}, "profile.programs", "'' is not a name"),
        ({"labels": {f"l{n}": "x" for n in range(257)}}, "profile.labels", "257 of them; at most 256"),
        ({"labels": {"a b": "x"}}, "profile.labels", "'a b'='x' is not a name and a name"),
        ({"labels": {"a": "x y"}}, "profile.labels", "'a'='x y' is not a name and a name"),
    ],
)
def test_profile_out_of_range_is_refused(changes: dict[str, Any], field: str, reason: str) -> None:
    scene = Scene(0)
    with pytest.raises(InvalidField) as refusal:
        scene.attach(**{"slots": 1, **changes})
    assert (refusal.value.field, refusal.value.reason) == (field, reason)
    assert scene.machine.workers == {}


def test_profile_at_its_bounds_is_taken() -> None:
    scene = Scene(0)
    scene.attach(ADA, 1, labels={f"l{n}": "x" for n in range(256)})
    scene.attach(BOB, 4096, models=tuple(f"m{n}" for n in range(256)))
    assert [worker.free_slots for worker in scene.machine.workers.values()] == [1, 4096]


def test_worker_that_comes_and_goes_has_one_deadline() -> None:
    scene = Scene(0)
    for number in range(20):
        scene.attach(instance=f"i{number}")
        scene.tell(WorkerDetached(scene.at, ADA, f"i{number}", is_goodbye=True))
        scene.time(scene.at + 1.0)
    scene.attach(instance="last")
    ends_at = scene.at + LEASE_S
    assert scene.machine.next_deadline() is not None
    scene.time(ends_at - 0.1)
    assert scene.machine.next_deadline() == ends_at
    assert not scene.machine.workers[ADA].has_left
    scene.time(ends_at)
    assert scene.machine.workers[ADA].has_left
    assert scene.machine.next_deadline() is None


def test_worker_that_left_only_now_is_not_taken_for_gone_because_it_left_before() -> None:
    scene = Scene(8)
    scene.attach(BOB, models=("m",))
    scene.submit(replan=RULE)
    scene.succeed("plan", None, add("x", requires=frozenset({"model:m"})), add("k"))
    scene.tell(WorkerDetached(0.0, BOB, "one", is_goodbye=True))
    scene.at = DEPARTED_S / 2
    scene.attach(BOB, models=("m",), instance="two")
    scene.tell(WorkerRenewed(scene.at, ADA))
    scene.tell(WorkerDetached(scene.at, BOB, "two", is_goodbye=True))
    scene.time(DEPARTED_S)
    assert "replan.1" not in scene.states()
    scene.tell(WorkerRenewed(scene.at, ADA))
    scene.time(DEPARTED_S * 1.5)
    assert "replan.1" in scene.states()
