"""How stars end and what that does to their children; how a request ends, and why it says that it did."""

import pytest

from asterism.orchestrator.core.condition import Comparison, Condition
from asterism.orchestrator.core.edits import CancelStar, Edit, RemoveStar
from asterism.orchestrator.core.effects import Acknowledge, Stop
from asterism.orchestrator.core.errors import NotFound, WrongState
from asterism.orchestrator.core.events import CancelRequested, RetryRequested
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.records import ConstellationEnded, StarFinished
from asterism.orchestrator.core.request import Budget, ConstellationState
from asterism.orchestrator.core.star import AttemptOutcome, RetryPolicy, StarError, StarKind, StarState
from tests.core.making import ADA, BOOM, FATAL, C, Scene, X, Y, add, graph, join

SUCCESS, COMPLETION = LineKind.SUCCESS, LineKind.COMPLETION
ONE = Condition.of(("result",), Comparison.EQ, 1)
FAILED = Condition.of(("state",), Comparison.EQ, "FAILED")


def test_result_is_kept_with_all_that_belongs_to_it() -> None:
    scene = graph(add("x"))
    scene.at = 4.0
    outcome = scene.succeed("x", {"a": 1})
    assert outcome.records == [
        StarFinished(
            outcome.records[0].seq,
            4.0,
            C,
            X,
            StarState.SUCCEEDED,
            {"a": 1},
            None,
            1,
            AttemptOutcome.SUCCEEDED,
            True,
        )
    ]
    assert outcome.effects == [Acknowledge(ADA, (FencingToken(2),))]
    star = scene.star("x")
    (attempt,) = star.attempts
    assert (star.state, star.result, star.error, star.finished_at) == (StarState.SUCCEEDED, {"a": 1}, None, 4.0)
    assert (attempt.outcome, attempt.error, attempt.ended_at, attempt.holds_slot) == (
        AttemptOutcome.SUCCEEDED,
        None,
        4.0,
        False,
    )
    constellation = scene.machine.constellations[C]
    assert (constellation.unfinished, constellation.seq) == (1, outcome.records[0].seq)
    assert scene.held() == {1}


@pytest.mark.parametrize(
    ("line", "end", "state", "error"),
    [
        (join("x", "y"), "succeed", StarState.RUNNING, None),
        (join("x", "y"), "fail", StarState.CANCELLED, ("skipped", "its parent x failed (boom)")),
        (join("x", "y"), "cancel", StarState.CANCELLED, ("unchosen", "its parent x was cancelled")),
        (join("x", "y", COMPLETION), "succeed", StarState.RUNNING, None),
        (join("x", "y", COMPLETION), "fail", StarState.RUNNING, None),
        (join("x", "y", COMPLETION), "cancel", StarState.RUNNING, None),
        (join("x", "y", LineKind.CONDITION, ONE), "succeed", StarState.RUNNING, None),
        (
            join("x", "y", LineKind.CONDITION, ONE),
            "fail",
            StarState.CANCELLED,
            ("unchosen", "the condition on its parent x is false"),
        ),
        (join("x", "y", LineKind.CONDITION, FAILED), "fail", StarState.RUNNING, None),
        (
            join("x", "y", LineKind.CONDITION, FAILED),
            "cancel",
            StarState.CANCELLED,
            ("unchosen", "the condition on its parent x is false"),
        ),
    ],
)
@pytest.mark.parametrize("is_late", [False, True], ids=["line-first", "end-first"])
def test_line_decides_what_its_parents_end_means(
    line: Edit, end: str, state: StarState, error: tuple[str, str] | None, is_late: bool
) -> None:
    """Whether the line was there when the parent ended, or is added after that."""
    scene = graph(add("x", retry=RetryPolicy(1)), *([] if is_late else [add("y"), line]))
    match end:
        case "succeed":
            scene.succeed("x", 1)
        case "fail":
            scene.fail("x")
        case _:
            scene.edit(CancelStar(X))
    if is_late:
        scene.edit(add("y"), line)
    star = scene.star("y")
    assert star.state is state
    assert (None if star.error is None else (star.error.code, star.error.message)) == error


def test_skip_spreads_all_the_way_down_in_the_order_of_the_lines() -> None:
    scene = graph(
        add("x", retry=RetryPolicy(1)),
        add("a"),
        add("b"),
        add("a1"),
        add("rest"),
        join("x", "a"),
        join("x", "b"),
        join("a", "a1"),
        join("a1", "rest", COMPLETION),
        join("b", "rest", COMPLETION),
    )
    outcome = scene.fail("x")
    finished = [record for record in outcome.records if isinstance(record, StarFinished)]
    assert [record.star for record in finished] == ["x", "a", "a1", "b"]
    assert [record.error.message for record in finished if record.error] == [
        "it broke",
        "its parent x failed (boom)",
        "its parent a was skipped",
        "its parent x failed (boom)",
    ]
    assert [record.error.code for record in finished if record.error] == ["boom", *["skipped"] * 3]
    assert [(record.attempt, record.outcome, record.releases_slot) for record in finished] == [
        (1, AttemptOutcome.FAILED, True),
        *[(None, None, True)] * 3,
    ]
    assert scene.star("rest").state is StarState.RUNNING


def test_skip_that_comes_twice_does_not_end_the_spreading() -> None:
    scene = graph(
        add("x", retry=RetryPolicy(1)),
        *(add(name) for name in ("a", "b", "e", "d")),
        *(join("x", name) for name in ("a", "b", "e")),
        *(join(name, "d") for name in ("a", "b")),
    )
    scene.fail("x")
    assert {scene.star(name).state for name in ("a", "b", "d", "e")} == {StarState.CANCELLED}


def test_star_below_a_cancelled_one_is_unchosen_all_the_way_down() -> None:
    scene = graph(add("x"), add("y"), add("z"), join("x", "y"), join("y", "z"))
    scene.edit(CancelStar(X))
    error = scene.star("z").error
    assert error == StarError("unchosen", "its parent y was cancelled")


def test_child_runs_only_when_its_last_parent_has_ended() -> None:
    scene = graph(add("x"), add("y"), add("z"), join("x", "z"), join("y", "z"))
    assert scene.star("z").unmet == 2
    scene.succeed("x")
    assert (scene.star("z").unmet, scene.star("z").state) == (1, StarState.WAITING)
    scene.at = 3.0
    scene.succeed("y")
    assert (scene.star("z").unmet, scene.star("z").state, scene.star("z").ready_at) == (0, StarState.RUNNING, 3.0)


def test_child_that_was_skipped_by_one_parent_stays_so_when_another_succeeds() -> None:
    scene = graph(add("x", retry=RetryPolicy(1)), add("y"), add("z"), join("x", "z"), join("y", "z"))
    scene.fail("x")
    scene.succeed("y")
    assert scene.star("z").state is StarState.CANCELLED
    assert scene.star("z").attempts == []


def test_cancelled_star_that_runs_is_told_to_stop_and_holds_its_slot_until_it_has() -> None:
    scene = graph(add("x"))
    attempt = scene.live("x")
    scene.at = 2.0
    outcome = scene.edit(CancelStar(X))
    assert outcome.effects == [Stop(ADA, FencingToken(2), "cancelled by client:me")]
    assert (attempt.outcome, attempt.ended_at, attempt.holds_slot) == (AttemptOutcome.CANCELLED, 2.0, True)
    assert attempt.error == scene.star("x").error == StarError("cancelled", "cancelled by client:me")
    assert scene.held() == {1, 2}
    outcome = scene.confirm(attempt)
    assert (outcome.effects, len(outcome.records)) == ([Acknowledge(ADA, (FencingToken(2),))], 1)
    assert (scene.held(), attempt.holds_slot) == ({1}, False)
    outcome = scene.confirm(attempt)
    assert (outcome.effects, outcome.records) == ([Acknowledge(ADA, (FencingToken(2),))], [])


def test_cancelling_what_waits_or_has_ended_stops_nothing() -> None:
    scene = graph(add("x"), add("y"), join("x", "y"))
    outcome = scene.edit(CancelStar(Y))
    assert (outcome.effects, scene.star("y").state) == ([], StarState.CANCELLED)
    scene.succeed("x", 1)
    outcome = scene.edit(CancelStar(X), CancelStar(Y))
    assert (len(outcome.records), outcome.effects, scene.star("x").result) == (1, [], 1)


def ended(scene: Scene) -> tuple[ConstellationState, str]:
    constellation = scene.machine.constellations[C]
    assert constellation.state.is_terminal
    return constellation.state, constellation.reason


def test_request_ends_with_its_last_star_and_says_when() -> None:
    scene = graph(add("x"))
    scene.succeed("plan")
    assert not scene.machine.constellations[C].state.is_terminal
    scene.at = 8.0
    outcome = scene.succeed("x", 1)
    assert outcome.records[-1] == ConstellationEnded(len(scene.records), 8.0, C, ConstellationState.SUCCEEDED, "")
    assert ended(scene) == (ConstellationState.SUCCEEDED, "")
    assert scene.machine.constellations[C].ended_at == 8.0
    assert scene.machine.constellations[C].answer() == {"x": 1}


def test_failure_in_the_middle_that_the_sinks_got_over_is_no_failure() -> None:
    scene = graph(add("x", retry=RetryPolicy(1)), add("y"), join("x", "y", COMPLETION))
    scene.succeed("plan")
    scene.fail("x")
    scene.succeed("y", "anyway")
    assert ended(scene) == (ConstellationState.SUCCEEDED, "")


def test_reason_of_a_failure_is_the_earliest_one_even_where_it_is_no_sink() -> None:
    scene = graph(add("x"), add("y"), add("z"), join("x", "y"))
    scene.succeed("plan")
    scene.at = 1.0
    scene.fail("z", StarError("late", "added last, failed first"))
    scene.at = 2.0
    scene.fail("x", FATAL)
    assert ended(scene) == (ConstellationState.FAILED, "star z: added last, failed first (late)")


def test_skipped_sink_makes_the_request_fail_for_the_parents_reason() -> None:
    scene = graph(add("x"), add("y"), join("x", "y"), add("w"))
    scene.succeed("plan")
    scene.succeed("w", 1)
    scene.fail("x", FATAL)
    assert ended(scene) == (ConstellationState.FAILED, "star x: it broke for good (fatal)")


def test_branch_that_a_condition_did_not_choose_is_no_failure() -> None:
    scene = graph(add("x"), add("y"), add("z"), join("x", "y", LineKind.CONDITION, ONE), join("x", "z"))
    scene.succeed("plan")
    scene.succeed("x", 2)
    scene.succeed("z", "z")
    assert scene.star("y").state is StarState.CANCELLED
    assert ended(scene) == (ConstellationState.SUCCEEDED, "")


def test_request_whose_work_was_all_cancelled_is_cancelled_though_its_plan_succeeded() -> None:
    scene = graph(add("x"), add("y"))
    scene.edit(CancelStar(X), CancelStar(Y))
    scene.succeed("plan")
    assert ended(scene) == (ConstellationState.CANCELLED, "every star was cancelled")


def test_plan_alone_makes_a_request_succeed() -> None:
    scene = graph()
    scene.succeed("plan")
    assert ended(scene) == (ConstellationState.SUCCEEDED, "")
    assert scene.machine.constellations[C].answer() == {}


def test_answer_holds_the_results_of_succeeded_sinks_that_are_no_plans() -> None:
    scene = graph(
        add("x"), add("y"), join("x", "y"), add("w", retry=RetryPolicy(1)), add("p2", kind=StarKind.PLAN, program="p")
    )
    scene.succeed("x", 1)
    scene.succeed("y", 2)
    scene.succeed("p2", "planned")
    scene.fail("w")
    assert scene.machine.constellations[C].answer() == {"y": 2}


def test_outcome_is_what_children_may_look_at() -> None:
    scene = graph(add("x"), add("y"))
    scene.succeed("x", [1])
    scene.fail("y", FATAL)
    constellation = scene.machine.constellations[C]
    assert constellation.outcome(X) == {"state": "SUCCEEDED", "result": [1], "error": None}
    assert constellation.outcome(Y) == {
        "state": "FAILED",
        "result": None,
        "error": {"code": "fatal", "message": "it broke for good"},
    }


def test_cancel_ends_all_that_has_not_ended_and_a_second_one_is_harmless() -> None:
    scene = graph(add("x"), add("y"), add("z"), join("y", "z"))
    scene.succeed("x", 1)
    scene.at = 6.0
    outcome = scene.tell(CancelRequested(6.0, C, "enough"))
    assert scene.states() == {
        "plan": StarState.CANCELLED,
        "x": StarState.SUCCEEDED,
        "y": StarState.CANCELLED,
        "z": StarState.CANCELLED,
    }
    assert [type(record) for record in outcome.records] == [*[StarFinished] * 3, ConstellationEnded]
    assert scene.star("z").error == StarError("cancelled", "enough")
    assert ended(scene) == (ConstellationState.CANCELLED, "enough")
    again = scene.tell(CancelRequested(7.0, C, "again"))
    assert (again.records, again.effects) == ([], [])
    assert again.reply == outcome.reply
    assert again.reply is not None
    assert ended(scene) == (ConstellationState.CANCELLED, "enough")


def test_cancel_without_a_reason_says_cancelled() -> None:
    scene = graph()
    scene.tell(CancelRequested(1.0, C, ""))
    assert ended(scene) == (ConstellationState.CANCELLED, "cancelled")


@pytest.mark.parametrize("fails", [False, True])
def test_request_that_ended_by_itself_is_not_cancelled(fails: bool) -> None:
    scene = graph()
    if fails:
        scene.fail("plan", FATAL)
    else:
        scene.succeed("plan")
    with pytest.raises(WrongState, match="it has ended already"):
        scene.tell(CancelRequested(1.0, C, "enough"))


def test_request_that_is_not_known_is_not_cancelled() -> None:
    with pytest.raises(NotFound, match="no request named 'other'"):
        graph().tell(CancelRequested(1.0, ConstellationId("other"), ""))


def test_edit_of_an_ended_request_brings_it_back_with_a_new_budget_of_seconds() -> None:
    scene = Scene()
    scene.submit(budget=Budget(seconds=50.0))
    scene.succeed("plan")
    scene.at = 40.0
    scene.edit(add("x"))
    constellation = scene.machine.constellations[C]
    assert (constellation.state, constellation.reason, constellation.ended_at) == (ConstellationState.RUNNING, "", None)
    assert (constellation.created_at, constellation.started_at) == (0.0, 40.0)
    scene.time(89.0)
    assert constellation.state is ConstellationState.RUNNING
    scene.time(90.0)
    assert ended(scene) == (ConstellationState.FAILED, "the budget of 50 seconds is used up")


def test_edit_of_a_cancelled_request_forgets_why_it_ended() -> None:
    scene = graph()
    scene.tell(CancelRequested(1.0, C, "enough"))
    scene.edit(add("x"))
    constellation = scene.machine.constellations[C]
    assert (constellation.state, constellation.reason) == (ConstellationState.RUNNING, "")


def test_reason_is_no_failure_that_a_retry_has_taken_the_place_of() -> None:
    scene = graph(add("x"))
    scene.succeed("plan")
    scene.fail("x", FATAL)
    scene.tell(RetryRequested(1.0, C, "client:me"))
    scene.fail("x~2", StarError("other", "another fault"))
    assert ended(scene) == (ConstellationState.FAILED, "star x~2: another fault (other)")


@pytest.mark.parametrize("edits", [(CancelStar(X),), (add("n"), RemoveStar(StarId("n")))])
def test_edit_that_adds_no_star_does_not_bring_an_ended_request_back(edits: tuple[Edit, ...]) -> None:
    scene = graph(add("x"), add("y"), budget=Budget(seconds=50.0))
    scene.succeed("plan")
    scene.succeed("x", 1)
    scene.time(50.0)
    count = len(scene.records)
    with pytest.raises(WrongState, match="only an edit that adds a star brings it back"):
        scene.edit(*edits)
    assert ended(scene) == (ConstellationState.FAILED, "the budget of 50 seconds is used up")
    assert len(scene.records) == count


def test_end_is_recorded_once_however_much_ends_in_one_step() -> None:
    scene = graph(add("x"), add("y"), join("x", "y"))
    scene.succeed("plan")
    outcome = scene.fail("x", FATAL)
    assert [type(record) for record in outcome.records] == [StarFinished, StarFinished, ConstellationEnded]
    scene.edit(add("z"))
    outcome = scene.tell(CancelRequested(1.0, C, ""))
    assert [type(record) for record in outcome.records] == [StarFinished, ConstellationEnded]


def test_failed_parent_without_a_second_attempt_keeps_its_own_error() -> None:
    scene = graph(add("x", retry=RetryPolicy(1)))
    scene.fail("x")
    assert scene.star("x").error == BOOM
    assert scene.star("x").attempts[0].error == BOOM
