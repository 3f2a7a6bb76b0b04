"""What time brings, to the second; a deadline that has lost its meaning changes nothing."""

from asterism.orchestrator.core.edits import CancelStar, RemoveStar, UpdateStar
from asterism.orchestrator.core.effects import Stop
from asterism.orchestrator.core.events import CancelRequested, DrainRequested, WorkerDetached
from asterism.orchestrator.core.ids import FencingToken
from asterism.orchestrator.core.records import AttemptEnded
from asterism.orchestrator.core.request import Budget, ConstellationState
from asterism.orchestrator.core.star import AttemptOutcome, RetryPolicy, StarError, StarState, Timeouts
from tests.core.making import ADA, C, Scene, X, add, graph, join


def quiet(scene: Scene, at: float) -> bool:
    """Whether that second passes without a record or an effect."""
    outcome = scene.time(at)
    return (outcome.records, outcome.effects) == ([], [])


def test_attempt_that_runs_too_long_is_stopped_and_tried_again_when_its_slot_is_free_or_not() -> None:
    scene = graph(add("x", timeouts=Timeouts(None, 5.0)))
    assert quiet(scene, 4.9)
    outcome = scene.time(5.0)
    (ended,) = outcome.records
    error = StarError("start_to_close", "it ran for longer than start_to_close_s", retryable=True)
    assert isinstance(ended, AttemptEnded)
    assert (ended.outcome, ended.error, ended.retry_at, ended.releases_slot) == (
        AttemptOutcome.TIMED_OUT,
        error,
        15.0,
        False,
    )
    assert outcome.effects == [Stop(ADA, FencingToken(2), error.message)]
    assert scene.held() == {1, 2}
    assert quiet(scene, 14.9)
    scene.time(15.0)
    assert (scene.live("x").number, scene.held()) == (2, {1, 2, 3})
    assert quiet(scene, 19.9)
    outcome = scene.time(20.0)
    assert (scene.star("x").state, scene.star("x").error) == (StarState.FAILED, error)
    assert outcome.effects == [Stop(ADA, FencingToken(3), error.message)]
    assert scene.held() == {1, 2, 3}


def test_worker_confirms_an_earlier_attempt_while_a_later_one_runs() -> None:
    scene = graph(add("x", timeouts=Timeouts(None, 5.0)))
    scene.time(5.0)
    scene.time(15.0)
    scene.confirm(scene.star("x").attempts[0])
    assert [attempt.holds_slot for attempt in scene.star("x").attempts] == [False, True]
    assert (scene.held(), scene.live("x").number) == ({1, 3}, 2)


def test_jitter_of_a_timed_out_attempt_is_drawn_from_the_events_chance() -> None:
    scene = graph(add("x", timeouts=Timeouts(None, 5.0), retry=RetryPolicy(2, 10.0, jitter=1.0)))
    scene.time(5.0, chance=0.25)
    assert scene.star("x").retry_at == 12.5


def test_deadline_of_an_earlier_attempt_says_nothing_about_a_later_one() -> None:
    scene = graph(add("x", timeouts=Timeouts(None, 5.0, 6.0), retry=RetryPolicy(2, 0.0)))
    scene.at = 2.0
    scene.fail("x")
    assert scene.live("x").leased_at == 2.0
    assert quiet(scene, 6.9)
    scene.time(7.0)
    assert scene.star("x").state is StarState.FAILED


def test_deadlines_of_a_star_that_has_ended_or_is_gone_mean_nothing() -> None:
    scene = graph(add("x", timeouts=Timeouts(1.0, 5.0, 6.0)), add("w", timeouts=Timeouts(1.0)), join("x", "w"))
    scene.succeed("x")
    scene.succeed("w")
    scene.tell(DrainRequested(0.0, ADA, True))
    scene.edit(add("y", timeouts=Timeouts(3.0)))
    scene.edit(RemoveStar(scene.star("y").spec.id))
    assert quiet(scene, 50.0)


def test_silent_attempt_is_stopped_and_every_progress_puts_that_off() -> None:
    scene = graph(add("x", timeouts=Timeouts(None, None, 10.0)), add("y", timeouts=Timeouts(None, None, 10.0)))
    scene.at = 6.0
    scene.stream("x")
    assert quiet(scene, 9.9)
    scene.time(10.0)
    assert (scene.star("x").state, scene.star("y").state) == (StarState.RUNNING, StarState.WAITING)
    assert scene.machine.next_deadline() == 16.0
    assert quiet(scene, 15.9)
    outcome = scene.time(16.0)
    error = StarError("heartbeat", "it was silent for longer than heartbeat_s", retryable=True)
    (ended,) = outcome.records
    assert isinstance(ended, AttemptEnded)
    assert (ended.outcome, ended.error, ended.releases_slot) == (AttemptOutcome.TIMED_OUT, error, False)
    assert outcome.effects == [Stop(ADA, FencingToken(2), error.message)]


def test_machine_asks_to_be_woken_when_the_silence_of_a_new_attempt_would_be_too_long() -> None:
    scene = graph()
    scene.time(1.0)
    scene.edit(add("x", timeouts=Timeouts(None, 30.0, 10.0)))
    assert scene.machine.next_deadline() == 11.0


def test_proposal_counts_as_progress() -> None:
    scene = graph()
    scene.edit(add("x", timeouts=Timeouts(None, None, 10.0), may_edit=True))
    scene.at = 6.0
    scene.propose("x", add("y"))
    assert quiet(scene, 15.9)
    scene.time(16.0)
    assert scene.star("x").state is StarState.WAITING


def held_back(**changes: object) -> Scene:
    """x is READY since 2 s and nobody takes it."""
    scene = graph()
    scene.tell(DrainRequested(0.0, ADA, True))
    scene.time(2.0)
    scene.edit(add("x", **changes))
    return scene


def test_star_that_nobody_takes_in_time_fails_and_is_not_retried() -> None:
    scene = held_back(timeouts=Timeouts(5.0, None))
    assert (scene.star("x").state, scene.star("x").ready_at) == (StarState.READY, 2.0)
    assert quiet(scene, 6.9)
    scene.time(7.0)
    star = scene.star("x")
    error = StarError("schedule_to_start", "no worker took it within schedule_to_start_s")
    assert (star.state, star.error, star.attempts) == (StarState.FAILED, error, [])


def test_limit_that_is_changed_while_a_star_waits_counts_from_when_it_became_ready() -> None:
    scene = held_back(timeouts=Timeouts(5.0, None))
    scene.at = 4.0
    scene.edit(UpdateStar(X, timeouts=Timeouts(10.0, None)))
    assert scene.star("x").ready_at == 2.0
    assert quiet(scene, 11.9)
    scene.edit(UpdateStar(X, timeouts=Timeouts(None, None)))
    assert quiet(scene, 99.0)
    scene.edit(UpdateStar(X, timeouts=Timeouts(98.0, None)))
    assert quiet(scene, 99.9)
    scene.time(100.0)
    assert scene.star("x").state is StarState.FAILED


def test_time_to_start_again_counts_from_the_end_of_the_backoff() -> None:
    scene = graph(add("x", timeouts=Timeouts(5.0, None)))
    scene.tell(DrainRequested(0.0, ADA, True))
    scene.time(1.0)
    scene.fail("x")
    assert scene.star("x").retry_at == 11.0
    assert quiet(scene, 10.9)
    assert quiet(scene, 15.9)
    scene.time(16.0)
    assert scene.star("x").state is StarState.FAILED


def test_time_to_start_again_after_a_lost_worker_counts_from_the_loss() -> None:
    scene = graph(add("x", timeouts=Timeouts(5.0, None)))
    scene.time(3.0)
    scene.tell(WorkerDetached(3.0, ADA, "one", is_goodbye=True))
    assert (scene.star("x").state, scene.star("x").ready_at) == (StarState.READY, 3.0)
    assert quiet(scene, 7.9)
    scene.time(8.0)
    assert scene.star("x").state is StarState.FAILED


def test_star_in_its_backoff_may_be_edited_and_still_waits_for_its_end() -> None:
    scene = graph(add("x"))
    scene.time(1.0)
    scene.fail("x")
    scene.edit(UpdateStar(X, title="t"))
    assert (scene.star("x").state, scene.star("x").ready_at) == (StarState.WAITING, 1.0)
    assert quiet(scene, 10.9)
    scene.time(11.0)
    assert scene.star("x").state is StarState.RUNNING


def test_backoff_that_ends_while_a_new_parent_runs_waits_for_the_parent() -> None:
    scene = graph(add("x"), add("y"))
    scene.time(1.0)
    scene.fail("x")
    scene.edit(join("y", "x"))
    assert quiet(scene, 12.0)
    scene.succeed("y")
    assert scene.star("x").state is StarState.RUNNING


def test_backoff_of_a_star_that_was_cancelled_or_removed_means_nothing() -> None:
    scene = graph(add("x"), add("y"))
    scene.fail("x")
    scene.fail("y")
    scene.edit(CancelStar(X), RemoveStar(scene.star("y").spec.id))
    assert quiet(scene, 50.0)


def test_backoff_of_a_removed_star_says_nothing_about_another_of_its_name() -> None:
    scene = graph(add("x"))
    scene.fail("x")
    scene.edit(RemoveStar(X))
    scene.time(5.0)
    scene.edit(add("x"))
    scene.fail("x")
    assert quiet(scene, 14.9)
    scene.time(15.0)
    assert scene.live("x").number == 2


def test_star_whose_backoff_is_over_is_queued_once() -> None:
    scene = graph(add("x"), slots=2)
    scene.tell(DrainRequested(0.0, ADA, True))
    scene.fail("x")
    scene.edit(UpdateStar(X, title="t"))
    assert quiet(scene, 10.0)
    assert quiet(scene, 11.0)
    scene.tell(DrainRequested(11.0, ADA, False))
    assert (scene.live("x").number, len(scene.star("x").attempts)) == (2, 2)


def test_star_that_is_raised_after_its_backoff_goes_first() -> None:
    scene = graph(add("x"), slots=2)
    scene.fail("x")
    scene.edit(add("y"), add("z", priority=1))
    scene.edit(add("y2"))
    assert [scene.star(name).state for name in ("z", "y")] == [StarState.RUNNING, StarState.READY]
    scene.time(10.0)
    scene.edit(UpdateStar(X, priority=5))
    scene.time(10.0)
    scene.succeed("z")
    assert scene.star("x").state is StarState.RUNNING
    assert scene.star("y").state is StarState.READY


def test_budget_of_seconds_ends_the_request_to_the_second() -> None:
    scene = Scene()
    scene.time(1.0)
    scene.submit(budget=Budget(seconds=2.5))
    assert scene.machine.next_deadline() == 3.5
    assert quiet(scene, 3.4)
    outcome = scene.time(3.5)
    constellation = scene.machine.constellations[C]
    assert (constellation.state, constellation.reason, constellation.ended_at) == (
        ConstellationState.FAILED,
        "the budget of 2.5 seconds is used up",
        3.5,
    )
    assert outcome.effects == [Stop(ADA, FencingToken(1), "the budget of 2.5 seconds is used up")]
    assert scene.machine.next_deadline() == 1000.0


def test_budget_of_a_request_that_has_ended_means_nothing() -> None:
    scene = Scene()
    scene.submit(budget=Budget(seconds=5.0))
    scene.tell(CancelRequested(1.0, C, ""))
    assert quiet(scene, 5.0)
    scene.edit(add("x"))
    assert quiet(scene, 9.9)
    scene.time(10.0)
    assert scene.machine.constellations[C].state is ConstellationState.FAILED


def test_deadlines_of_one_second_are_all_looked_at() -> None:
    scene = graph(add("x", timeouts=Timeouts(None, 5.0)), add("y", timeouts=Timeouts(None, 5.0)))
    scene.time(9.0)
    assert {scene.star(name).state for name in ("x", "y")} == {StarState.WAITING}
