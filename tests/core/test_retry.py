"""When an attempt is repeated, and what repeats a whole request."""

import pytest

from asterism.orchestrator.core.edits import AddLine, AddStar, CancelStar, EditBatch, RemoveLine, UpdateStar
from asterism.orchestrator.core.effects import Reply
from asterism.orchestrator.core.errors import InvalidEdit, WrongState
from asterism.orchestrator.core.events import (
    AttemptFailed,
    CancelRequested,
    EditRequested,
    EditsProposed,
    ReplanRequested,
    RetryRequested,
    TimePassed,
    WorkerDetached,
)
from asterism.orchestrator.core.ids import FencingToken, StarId, is_successor, successor
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.profile import Description, Effect
from asterism.orchestrator.core.records import AttemptEnded, EditsApplied, EditsRefused
from asterism.orchestrator.core.request import Budget, ConstellationState
from asterism.orchestrator.core.retry import backoff_s, retry_at
from asterism.orchestrator.core.star import (
    Attempt,
    AttemptOutcome,
    Constant,
    OutputOf,
    RetryPolicy,
    StarError,
    StarState,
    TaskStar,
    Timeouts,
)
from tests.core.making import ADA, BOOM, FATAL, RULE, C, Scene, X, add, graph, join, tool
from tests.core.picture import replayed


@pytest.mark.parametrize(
    ("policy", "failures", "chance", "seconds"),
    [
        (RetryPolicy(9, 0.5, 2.0, 30.0, 0.0), 1, 0.9, 0.5),
        (RetryPolicy(9, 0.5, 2.0, 30.0, 0.0), 2, 0.9, 1.0),
        (RetryPolicy(9, 0.5, 2.0, 30.0, 0.0), 4, 0.9, 4.0),
        (RetryPolicy(9, 0.5, 2.0, 30.0, 0.0), 9, 0.9, 30.0),
        (RetryPolicy(9, 2.0, 3.0, 99.0, 0.0), 3, 0.0, 18.0),
        (RetryPolicy(9, 8.0, 2.0, 30.0, 0.5), 1, 0.0, 8.0),
        (RetryPolicy(9, 8.0, 2.0, 30.0, 0.5), 1, 0.5, 6.0),
        (RetryPolicy(9, 8.0, 2.0, 30.0, 1.0), 2, 0.75, 4.0),
        (RetryPolicy(9, 0.0, 2.0, 30.0, 1.0), 5, 0.5, 0.0),
        (RetryPolicy(100, 1.0, 1e300, 30.0, 0.0), 2, 0.0, 30.0),
        (RetryPolicy(100, 2.0**-64, 2.0, 30.0, 0.0), 65, 0.0, 1.0),
        (RetryPolicy(100, 2.0**-64, 2.0, 30.0, 0.0), 66, 0.0, 1.0),
        (RetryPolicy(100, 2.0**-64, 2.0, 30.0, 0.0), 99, 0.0, 1.0),
    ],
)
def test_backoff_grows_up_to_its_bound_less_the_share_of_chance(
    policy: RetryPolicy, failures: int, chance: float, seconds: float
) -> None:
    assert backoff_s(policy, failures, chance) == pytest.approx(seconds)


LOST, FAILED, TIMED_OUT = AttemptOutcome.LOST, AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT


@pytest.mark.parametrize(
    ("before", "outcome", "retryable", "again_at"),
    [
        ([], FAILED, True, 101.0),
        ([], TIMED_OUT, True, 101.0),
        ([], FAILED, False, None),
        ([FAILED], FAILED, True, 102.0),
        ([FAILED, TIMED_OUT], FAILED, True, None),
        ([LOST, FAILED, LOST], FAILED, True, 102.0),
        ([LOST] * 7, FAILED, True, 101.0),
        ([], LOST, True, 100.0),
        ([], LOST, False, 100.0),
        ([FAILED, FAILED], LOST, True, 100.0),
        ([LOST] * 7, LOST, True, 100.0),
        ([LOST] * 8, LOST, True, None),
        ([LOST] * 7 + [FAILED], LOST, True, 100.0),
    ],
)
def test_failures_and_lost_workers_are_counted_apart(
    before: list[AttemptOutcome], outcome: AttemptOutcome, retryable: bool, again_at: float | None
) -> None:
    star = TaskStar(tool("x", retry=RetryPolicy(3, 1.0, jitter=0.0)), StarState.RUNNING, 1)
    for number, ended in enumerate([*before, None], start=1):
        star.attempts.append(Attempt(number, ADA, FencingToken(number), 0.0, outcome=ended))
    assert retry_at(star, outcome, retryable, at=100.0, chance=0.5) == again_at


def test_chance_of_the_event_draws_the_jitter() -> None:
    scene = graph(add("x", retry=RetryPolicy(3, 10.0, jitter=0.5)))
    scene.fail("x", chance=0.5)
    assert scene.star("x").retry_at == 7.5


def test_event_without_a_chance_waits_for_the_whole_backoff() -> None:
    jittered = RetryPolicy(3, 10.0, jitter=0.5)
    scene = graph(add("x", retry=jittered), add("y", retry=jittered, timeouts=Timeouts(None, 5.0)))
    live = scene.live("x")
    scene.tell(AttemptFailed(0.0, live.worker, live.fencing_token, BOOM))
    scene.tell(TimePassed(5.0))
    assert (scene.star("x").retry_at, scene.star("y").retry_at) == (10.0, 15.0)


def test_failed_attempt_waits_for_its_backoff_and_then_runs_again() -> None:
    scene = graph(add("x"))
    scene.time(5.0)
    outcome = scene.fail("x")
    (ended,) = outcome.records
    assert isinstance(ended, AttemptEnded)
    assert (ended.attempt, ended.retry_at, ended.releases_slot) == (1, 15.0, True)
    star = scene.star("x")
    assert (star.state, star.retry_at, star.ready_at, star.live_attempt) == (StarState.WAITING, 15.0, 5.0, None)
    first = star.attempts[0]
    assert (first.ended_at, first.outcome, first.holds_slot) == (5.0, FAILED, False)
    assert first.error == ended.error == StarError("boom", "it broke", True)
    assert scene.machine.next_deadline() == 15.0
    assert scene.time(14.9).records == []
    scene.time(15.0)
    assert (star.state, star.retry_at, scene.live("x").number) == (StarState.RUNNING, None, 2)
    scene.fail("x")
    assert (star.state, star.error) == (StarState.FAILED, StarError("boom", "it broke", True))


def test_attempt_that_its_worker_stops_unasked_is_lost_and_runs_again_at_once() -> None:
    scene = graph(add("x", retry=RetryPolicy(1)))
    scene.fail("x", is_stopped=True)
    star = scene.star("x")
    assert [attempt.outcome for attempt in star.attempts] == [LOST, None]


@pytest.mark.parametrize(
    ("effect", "is_idempotent", "runs_again"),
    [
        (Effect.PURE, None, True),
        (Effect.IDEMPOTENT, None, True),
        (Effect.NONE, None, False),
        (Effect.NONE, True, True),
        (Effect.PURE, False, False),
    ],
)
def test_what_may_have_run_runs_again_only_where_that_does_no_harm(
    effect: Effect, is_idempotent: bool | None, runs_again: bool
) -> None:
    for how in ("lost", "timed out", "failed"):
        scene = Scene(slots=0)
        scene.attach(descriptions=(Description("tool:t", effect),))
        scene.submit()
        scene.edit(add("x", is_idempotent=is_idempotent, timeouts=Timeouts(None, 5.0)))
        if how == "lost":
            scene.fail("x", is_stopped=True)
        elif how == "timed out":
            scene.time(5.0)
        else:
            scene.fail("x")
        error = scene.star("x").error
        assert (error is None) == (runs_again or how == "failed"), how
        if error is not None:
            assert error.code == "may_have_run"
            assert "tool:t is not idempotent" in error.message


def test_error_that_is_not_retryable_fails_the_star_at_once() -> None:
    scene = graph(add("x"))
    scene.fail("x", FATAL)
    assert (scene.star("x").state, scene.star("x").error) == (StarState.FAILED, FATAL)


@pytest.mark.parametrize(
    ("name", "next_name"),
    [("b", "b~2"), ("b~2", "b~3"), ("b~9", "b~10"), ("b~c", "b~c~2"), ("b~", "b~~2"), ("7", "7~2"), ("a~1~2", "a~1~3")],
)
def test_successor_counts_on(name: str, next_name: str) -> None:
    assert successor(StarId(name)) == next_name


@pytest.mark.parametrize(
    ("name", "is_one"), [("b~2", True), ("b~10", True), ("b", False), ("7", False), ("b~c", False)]
)
def test_name_of_a_retry_ends_in_its_number(name: str, is_one: bool) -> None:
    assert is_successor(StarId(name)) is is_one


def failed_scene() -> Scene:
    """plan and `fine` succeeded, x failed; so did y, which reads it, and z, which needs y, go with it."""
    scene = graph(
        add("fine"),
        add("x", retry=RetryPolicy(1), inputs={"k": Constant(1), "f": OutputOf(StarId("fine"))}),
        add("y", inputs={"i": OutputOf(X)}),
        add("z", inputs={}),
        join("fine", "x"),
        join("x", "y"),
        join("y", "z"),
        join("fine", "z", LineKind.COMPLETION),
    )
    scene.succeed("plan")
    scene.succeed("fine", 3)
    scene.fail("x")
    return scene


def test_retry_repeats_what_failed_and_what_depends_on_it_as_new_stars() -> None:
    scene = failed_scene()
    assert scene.machine.constellations[C].state is ConstellationState.FAILED
    scene.at = 9.0
    outcome = scene.tell(RetryRequested(9.0, C, "client:me"))
    (edit,) = [record for record in outcome.records if isinstance(record, EditsApplied)]
    x, y, z = (scene.star(name).spec for name in "xyz")
    assert edit.edits[:3] == (
        AddStar(tool("x~2", inputs=x.inputs, retry=x.retry)),
        AddStar(tool("y~2", inputs={"i": OutputOf(StarId("x~2"))})),
        AddStar(tool("z~2", inputs=z.inputs)),
    )
    assert set(edit.edits[3:]) == {
        join("fine", "x~2"),
        join("x~2", "y~2"),
        join("y~2", "z~2"),
        join("fine", "z~2", LineKind.COMPLETION),
    }
    assert all(isinstance(line, AddLine) for line in edit.edits[3:])
    assert y.inputs == {"i": OutputOf(X)}
    assert outcome.reply is not None
    assert outcome.reply.revision == 3
    assert scene.machine.constellations[C].state is ConstellationState.RUNNING


def test_retry_of_a_graph_larger_than_a_batch_is_several_records_of_one_step() -> None:
    scene = graph(budget=Budget(stars=50_000, seconds=None))
    fan = [edit for number in range(8_000) for edit in (add(f"s{number}"), join("x", f"s{number}"))]
    scene.edit(add("x"), *fan)
    scene.edit(add("y"), *(join(f"s{number}", "y") for number in range(8_000)))
    scene.tell(CancelRequested(1.0, C, "enough"))
    outcome = scene.tell(RetryRequested(2.0, C, "client:me"))
    edits = [len(record.edits) for record in outcome.records if isinstance(record, EditsApplied)]
    assert edits == [20_000, 4_003]
    constellation = scene.machine.constellations[C]
    assert outcome.reply == Reply(C, constellation.revision)
    assert (constellation.unfinished, len(constellation.parents[StarId("y~2")])) == (8_003, 8_000)
    assert scene.star("s0~2").state is StarState.WAITING
    assert replayed(scene.records).constellations == scene.machine.constellations


def test_retry_beyond_the_budget_of_stars_says_what_to_do() -> None:
    scene = graph(add("x"), budget=Budget(stars=3, seconds=None))
    scene.tell(CancelRequested(1.0, C, "enough"))
    with pytest.raises(InvalidEdit, match="budget of 3 stars is used up: name fewer stars to retry, or submit it anew"):
        scene.tell(RetryRequested(2.0, C, "client:me"))
    scene.tell(RetryRequested(2.0, C, "client:me", (X,)))


def test_what_brings_back_a_request_without_tokens_or_attempts_says_what_to_do() -> None:
    tokens, attempts = Budget(tokens=50, seconds=None), Budget(attempts=2, seconds=None)
    for budget, what in ((tokens, "50 tokens"), (attempts, "2 attempts")):
        scene = graph(add("x", retry=RetryPolicy(1)), budget=budget)
        live = scene.live("x")
        scene.tell(AttemptFailed(scene.at, live.worker, live.fencing_token, BOOM, tokens=50))
        scene.succeed("plan")
        before = len(scene.records)
        for event in (
            RetryRequested(2.0, C, "client:me"),
            EditRequested(2.0, C, "client:me", EditBatch((add("y"),))),
            ReplanRequested(2.0, C, "client:me", "otherwise", RULE),
        ):
            with pytest.raises(WrongState, match=f"FAILED: its budget of {what} is used up: submit it anew"):
                scene.tell(event)
        assert len(scene.records) == before


def test_star_of_the_longest_name_can_be_retried() -> None:
    name = "x" * 60
    scene = graph(add(name, retry=RetryPolicy(1)))
    scene.succeed("plan")
    scene.fail(name)
    scene.tell(RetryRequested(1.0, C, "client:me"))
    scene.succeed(f"{name}~2")
    assert scene.machine.constellations[C].state is ConstellationState.SUCCEEDED


def test_second_retry_repeats_the_successors_only() -> None:
    scene = failed_scene()
    scene.tell(RetryRequested(9.0, C, "client:me"))
    scene.fail("x~2")
    scene.tell(RetryRequested(9.0, C, "client:me"))
    names = {"plan", "fine", "x", "y", "z", "x~2", "y~2", "z~2", "x~3", "y~3", "z~3"}
    assert set(scene.states()) == names
    scene.succeed("x~3", 1)
    scene.succeed("y~3", 1)
    scene.succeed("z~3", 1)
    assert scene.machine.constellations[C].state is ConstellationState.SUCCEEDED


def test_retry_repeats_a_star_that_ran_on_the_failure_of_its_parent() -> None:
    """And one that ran on the end of that one; a star that nothing ties to the failure stays as it is."""
    scene = graph(
        add("x", retry=RetryPolicy(1)), add("y"), add("z"), join("x", "y", LineKind.COMPLETION), join("y", "z")
    )
    scene.edit(add("w"), add("fine"))
    scene.succeed("plan")
    scene.fail("x")
    scene.succeed("y")
    scene.succeed("z", "report")
    scene.succeed("fine")
    scene.fail("w", FATAL)
    scene.tell(RetryRequested(2.0, C, "client:me"))
    assert set(scene.states()) == {"plan", "x", "y", "z", "w", "fine", "x~2", "y~2", "z~2", "w~2"}


def test_retry_of_a_cancelled_request_repeats_what_was_cancelled() -> None:
    scene = graph(add("x"))
    scene.succeed("x")
    scene.tell(CancelRequested(1.0, C, ""))
    scene.tell(RetryRequested(2.0, C, "client:me"))
    assert set(scene.states()) == {"plan", "x", "plan~2"}


@pytest.mark.parametrize("has_ended", [False, True])
def test_only_what_failed_or_was_cancelled_can_be_retried(has_ended: bool) -> None:
    scene = graph()
    if has_ended:
        scene.succeed("plan")
    with pytest.raises(WrongState, match="only what failed or was cancelled can be retried") as refusal:
        scene.tell(RetryRequested(1.0, C, "client:me"))
    assert refusal.value.state == ("SUCCEEDED" if has_ended else "RUNNING")


def test_star_that_loses_its_worker_again_and_again_fails() -> None:
    scene = graph(add("x"))
    scene.succeed("plan")
    for number in range(1, 10):
        assert scene.live("x").number == number
        scene.tell(WorkerDetached(0.0, ADA, "one", is_goodbye=True))
        scene.attach()
    assert scene.star("x").state is StarState.FAILED
    error = scene.star("x").error
    assert error is not None
    assert (error.code, error.message) == ("worker_lost", "its worker ada left: it said goodbye")


def retried_under_a_running_plan() -> Scene:
    """The plan star runs again as `plan~2`, and so does x; w and the `report` that reads x wait."""
    scene = graph(add("x"), add("w"), add("report", inputs={"i": OutputOf(X)}), join("x", "report"), join("w", "x"))
    scene.tell(CancelRequested(1.0, C, ""))
    scene.tell(RetryRequested(2.0, C, "client:me"))
    return scene


def test_edits_of_a_retried_plan_mean_the_stars_that_run_in_the_place_of_those_it_names() -> None:
    scene = retried_under_a_running_plan()
    redirected = {"i": OutputOf(X, ("a",)), "k": Constant(1)}
    outcome = scene.propose(
        "plan~2", add("n", inputs=redirected), join("x", "n"), join("n", "report"), CancelStar(StarId("w"))
    )
    edits = outcome.records[0]
    assert isinstance(edits, EditsApplied)
    assert edits.edits == (
        add("n", inputs={"i": OutputOf(StarId("x~2"), ("a",)), "k": Constant(1)}),
        join("x~2", "n"),
        join("n", "report~2"),
        CancelStar(StarId("w~2")),
    )
    assert scene.star("w~2").state is StarState.CANCELLED


def test_edits_of_a_plan_mean_the_latest_successor() -> None:
    scene = retried_under_a_running_plan()
    scene.tell(CancelRequested(3.0, C, ""))
    scene.tell(RetryRequested(4.0, C, "client:me"))
    edits = scene.propose("plan~3", add("n"), join("x", "n"), UpdateStar(StarId("n"), title="t")).records[0]
    assert isinstance(edits, EditsApplied)
    assert edits.edits == (add("n"), join("x~3", "n"), UpdateStar(StarId("n"), title="t"))
    edits = scene.propose("plan~3", add("m", "x", "n", inputs={"i": OutputOf(X)})).records[0]
    assert isinstance(edits, EditsApplied)
    assert edits.edits == (add("m", "x~3", "n", inputs={"i": OutputOf(StarId("x~3"))}),)


def test_edits_of_a_client_mean_what_they_say() -> None:
    scene = retried_under_a_running_plan()
    scene.edit(add("n"), join("x", "n"))
    assert scene.star("n").state is StarState.CANCELLED
    scene.edit(add("m", "x"), add("l", "m"), add("k", "x"), RemoveLine(X, StarId("k")))
    assert [scene.star(name).state for name in ("m", "l")] == [StarState.CANCELLED] * 2
    assert scene.star("k").state is not StarState.CANCELLED


def test_redirected_edit_keeps_the_revision_that_it_was_made_against() -> None:
    scene = retried_under_a_running_plan()
    live = scene.live("plan~2")
    batch = EditBatch((CancelStar(X),), 99)
    outcome = scene.tell(EditsProposed(2.0, live.worker, live.fencing_token, 1, batch))
    assert [type(record) for record in outcome.records] == [EditsRefused]


def test_what_was_retried_is_no_answer_beside_what_took_its_place() -> None:
    """x succeeded, and is retried because the request asks for something else of it."""
    scene = graph(add("x", inputs={"of": Constant(1)}), add("z"))
    scene.succeed("plan")
    scene.succeed("x", "old")
    scene.succeed("z", "same")
    scene.tell(RetryRequested(2.0, C, "client:me", (X,), {X: {"of": Constant(2)}}))
    scene.succeed("x~2", "new")
    assert scene.machine.constellations[C].answer() == {"x~2": "new", "z": "same"}
