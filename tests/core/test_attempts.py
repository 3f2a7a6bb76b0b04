"""What workers report: only the holder of the live attempt is heard."""

import pytest

from asterism.orchestrator.core.edits import CancelStar, EditBatch, RemoveLine, RemoveStar, UpdateStar
from asterism.orchestrator.core.effects import Acknowledge, AnswerEdits, Assign, Broadcast, Stop
from asterism.orchestrator.core.events import (
    AttemptFailed,
    AttemptProgressed,
    AttemptSucceeded,
    Chunk,
    EditsProposed,
    Event,
    RetryRequested,
    WorkerDetached,
    WorkerSaid,
)
from asterism.orchestrator.core.ids import FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.records import AttemptLeased, EditsApplied, EditsRefused, SlotReleased, StarFinished
from asterism.orchestrator.core.request import Budget
from asterism.orchestrator.core.star import AttemptOutcome, OutputOf, StarError, StarInput, StarState
from tests.core.making import ADA, BOB, BOOM, FATAL, C, Scene, X, Y, Z, add, graph, join, plan_star, tool

ENDED = "this attempt has ended"


def said_by(worker: WorkerId, token: int) -> list[Event]:
    fencing_token = FencingToken(token)
    return [
        AttemptProgressed(1.0, worker, fencing_token, (Chunk("main", "text", 1),)),
        EditsProposed(1.0, worker, fencing_token, 1, EditBatch((add("n"),))),
        AttemptSucceeded(1.0, worker, fencing_token, "stolen", EditBatch((add("n"),))),
        AttemptFailed(1.0, worker, fencing_token, BOOM),
        AttemptFailed(1.0, worker, fencing_token, BOOM, is_stopped=True),
    ]


@pytest.mark.parametrize(("worker", "token"), [(ADA, 99), (BOB, 1)], ids=["unknown-token", "another-worker"])
@pytest.mark.parametrize("kind", range(5))
def test_who_does_not_hold_the_attempt_changes_nothing(worker: WorkerId, token: int, kind: int) -> None:
    scene = graph()
    scene.attach(BOB)
    outcome = scene.tell(said_by(worker, token)[kind])
    assert outcome.records == []
    answer = Stop(worker, FencingToken(token), ENDED) if kind < 2 else Acknowledge(worker, (FencingToken(token),))
    assert outcome.effects == [answer]
    assert scene.held() == {1}


@pytest.mark.parametrize("kind", range(5))
def test_attempt_that_was_told_to_stop_is_heard_only_to_give_its_slot_back(kind: int) -> None:
    scene = graph(add("x"))
    scene.edit(CancelStar(X))
    outcome = scene.tell(said_by(ADA, 2)[kind])
    if kind < 2:
        assert (outcome.records, outcome.effects) == ([], [Stop(ADA, FencingToken(2), ENDED)])
        assert scene.held() == {1, 2}
    else:
        assert outcome.records == [SlotReleased(len(scene.records), 1.0, C, X, 1)]
        assert outcome.effects == [Acknowledge(ADA, (FencingToken(2),))]
        assert scene.held() == {1}
    assert scene.star("x").result is None


def test_frame_is_one_step_and_stars_are_placed_after_all_of_it() -> None:
    scene = graph(add("x"), add("y"), add("z"), join("x", "z"), join("y", "z"))
    reports = tuple(AttemptSucceeded(1.0 + token, ADA, FencingToken(token), token) for token in (2, 3, 9))
    outcome = scene.tell(WorkerSaid(12.0, ADA, reports))
    assert [type(record) for record in outcome.records] == [StarFinished, StarFinished, AttemptLeased]
    assert [record.at for record in outcome.records] == [3.0, 4.0, 10.0]
    acknowledged, assigned = outcome.effects
    assert acknowledged == Acknowledge(ADA, (FencingToken(2), FencingToken(3), FencingToken(9)))
    assert isinstance(assigned, Assign)
    assert assigned.star == Z


def test_streamed_text_is_broadcast_and_not_recorded() -> None:
    scene = graph()
    outcome = scene.stream("plan", "a", "b")
    chunks = (Chunk("main", "a", 1), Chunk("main", "b", 1))
    assert (outcome.records, outcome.effects) == ([], [Broadcast(C, scene.star("plan").spec.id, 1, ADA, chunks)])
    assert scene.stream("plan").effects == []


def test_accepted_proposal_is_answered_with_its_number_and_the_new_revision() -> None:
    scene = graph()
    outcome = scene.propose("plan", add("x"))
    assert outcome.records[0] == EditsApplied(4 + 1, 0.0, C, 2, "star:plan", (add("x"),), proposal=7)
    assert outcome.effects[0] == AnswerEdits(ADA, FencingToken(1), 7, True, (), 2)
    assert isinstance(outcome.effects[1], Assign)


def test_refused_proposal_is_answered_with_the_reason_and_changes_nothing() -> None:
    scene = graph()
    outcome = scene.propose("plan", add("x"), CancelStar(Y))
    reason = "star y: there is no such star; there are plan"
    assert outcome.records == [EditsRefused(len(scene.records), 0.0, C, "star:plan", (reason,), 7)]
    assert outcome.effects == [AnswerEdits(ADA, FencingToken(1), 7, False, (reason,), 1)]
    assert scene.machine.constellations[C].seq == len(scene.records)
    assert set(scene.states()) == {"plan"}


def test_proposal_that_comes_again_changes_nothing_and_has_the_same_answer() -> None:
    scene = graph(add("x"), slots=1)
    accepted = scene.propose("plan", RemoveStar(X))
    scene.edit(add("x"))
    repeated = scene.propose("plan", RemoveStar(X), again=True)
    assert (repeated.records, repeated.effects) == ([], accepted.effects)
    refused = scene.propose("plan", CancelStar(Y))
    scene.edit(add("y"))
    repeated = scene.propose("plan", CancelStar(Y), again=True)
    assert (repeated.records, repeated.effects) == ([], refused.effects)


def test_each_attempt_has_numbers_of_its_own() -> None:
    scene = graph(add("x", may_edit=True))
    scene.propose("plan", add("y"))
    assert [type(record) for record in scene.propose("x", add("z"), again=True).records[:1]] == [EditsApplied]


def test_star_without_the_right_may_not_edit() -> None:
    scene = graph(add("x"))
    reason = "star x: may not edit; a plan gives that right with may_edit"
    assert scene.propose("x", add("y")).effects == [AnswerEdits(ADA, FencingToken(2), 7, False, (reason,), 2)]
    outcome = scene.succeed("x", 1, add("y"))
    assert [type(record) for record in outcome.records] == [EditsRefused, StarFinished]
    star = scene.star("x")
    assert (star.state, star.result, star.error) == (StarState.FAILED, None, StarError("edit_refused", reason))
    assert (star.attempts[0].outcome, star.attempts[0].holds_slot) == (AttemptOutcome.FAILED, False)


def test_edits_that_come_with_a_result_are_applied_before_it() -> None:
    scene = graph(add("x"))
    outcome = scene.succeed("plan", 1, add("y"), join("plan", "y"), CancelStar(X))
    assert [type(record) for record in outcome.records[:3]] == [EditsApplied, StarFinished, StarFinished]
    assert (scene.star("plan").result, scene.star("y").state) == (1, StarState.RUNNING)
    assert scene.star("x").error == StarError("cancelled", "cancelled by star:plan")


def second_attempt() -> Scene:
    """The plan star's first attempt added x -> y and failed; its second one runs."""
    scene = Scene()
    scene.submit(plan=plan_star(retry=tool("x").retry))
    scene.propose("plan", add("x"), add("y"), join("x", "y"))
    scene.fail("plan")
    scene.time(10.0)
    assert scene.live("plan").number == 2
    return scene


def test_second_attempt_of_a_plan_may_say_again_what_is_so_already() -> None:
    scene = second_attempt()
    outcome = scene.propose("plan", add("x"), add("y"), join("x", "y"))
    assert outcome.records == []
    assert outcome.effects == [AnswerEdits(ADA, FencingToken(3), 8, True, (), 2)]
    outcome = scene.propose("plan", add("x"), add("z"), join("x", "y"), join("x", "z"))
    edits = outcome.records[0]
    assert isinstance(edits, EditsApplied)
    assert edits.edits == (add("z"), join("x", "z"))
    assert scene.propose("plan", add("y", "x"), add("z", "x")).records == []
    (edits,) = scene.propose("plan", add("y", "x", "plan"), add("w", "x")).records
    assert isinstance(edits, EditsApplied)
    assert edits.edits == (join("plan", "y"), add("w", "x"))


@pytest.mark.parametrize(
    "edits",
    [
        (add("x", priority=5),),
        (add("x", "y"),),
        (join("x", "y", kind=join("x", "y").line.kind.COMPLETION),),
        (UpdateStar(Z),),
    ],
)
def test_second_attempt_of_a_plan_may_not_say_otherwise(edits: tuple[UpdateStar, ...]) -> None:
    scene = second_attempt()
    outcome = scene.propose("plan", *edits)
    assert [type(record) for record in outcome.records] == [EditsRefused]


def test_repeats_keep_the_revision_that_the_batch_is_made_against() -> None:
    scene = second_attempt()
    live = scene.live("plan")
    batch = EditBatch((add("x"), UpdateStar(Y, title="t")), 99)
    outcome = scene.tell(EditsProposed(10.0, ADA, live.fencing_token, 1, batch))
    assert [type(record) for record in outcome.records] == [EditsRefused]


def test_proposal_may_not_use_the_names_of_retries() -> None:
    scene = graph()
    assert [type(record) for record in scene.propose("plan", add("x~2")).records] == [EditsRefused]


def test_first_attempt_of_a_plan_may_not_repeat_itself() -> None:
    scene = graph()
    scene.propose("plan", add("x"))
    assert [type(record) for record in scene.propose("plan", add("x")).records] == [EditsRefused]


def test_plan_that_was_retried_as_a_new_star_may_repeat_the_old_one() -> None:
    scene = graph(add("x"))
    scene.fail("plan", FATAL)
    scene.succeed("x")
    scene.tell(RetryRequested(1.0, C, "client:me"))
    outcome = scene.propose("plan~2", add("x"), add("y"))
    edits = outcome.records[0]
    assert isinstance(edits, EditsApplied)
    assert edits.edits == (add("y"),)


@pytest.mark.parametrize("inputs", [{}, {"x": OutputOf(X)}])
def test_plan_may_repeat_what_it_said_of_a_star_that_was_retried(inputs: dict[str, StarInput]) -> None:
    """The second attempt says it of x as the first one did, which meant x~2."""
    scene = graph(add("x"))
    scene.fail("x", FATAL)
    scene.fail("plan", FATAL)
    scene.tell(RetryRequested(1.0, C, "client:me"))
    said = (add("c", "x", inputs=inputs), add("d"), join("x", "d", LineKind.COMPLETION))
    edits = scene.propose("plan~2", *said).records[0]
    assert isinstance(edits, EditsApplied)
    scene.tell(WorkerDetached(scene.at, ADA, "one"))
    scene.attach(instance="two")
    assert scene.live("plan~2").number == 2
    assert scene.propose("plan~2", *said).records == []
    (edits,) = scene.propose("plan~2", add("c", "x", "plan", inputs=inputs)).records
    assert isinstance(edits, EditsApplied)
    assert edits.edits == (join("plan~2", "c"),)


def test_tokens_of_a_result_that_is_refused_count() -> None:
    scene = graph(add("x"), budget=Budget(tokens=10, seconds=None))
    live = scene.live("plan")
    batch = EditBatch((CancelStar(StarId("nobody")),))
    scene.tell(AttemptSucceeded(0.0, ADA, live.fencing_token, None, batch, 11))
    constellation = scene.machine.constellations[C]
    assert (constellation.tokens, scene.star("x").state) == (11, StarState.CANCELLED)


def test_line_and_star_that_one_batch_adds_and_takes_away_again_have_no_effect() -> None:
    scene = graph(add("x"), add("y"), join("plan", "y"))
    scene.edit(CancelStar(X))
    scene.edit(join("x", "y"), RemoveLine(X, Y))
    assert scene.star("y").state is StarState.WAITING
    scene.edit(add("z"), CancelStar(Z), RemoveStar(Z))
    assert "z" not in scene.states()


def test_line_from_an_ended_parent_skips_only_the_child_that_it_leaves_without_hope() -> None:
    scene = graph(add("x"), add("y"), join("plan", "y"))
    scene.succeed("x", 1)
    outcome = scene.edit(join("x", "y"))
    assert [type(record) for record in outcome.records] == [EditsApplied]
    assert (scene.star("y").state, scene.star("y").unmet) == (StarState.WAITING, 1)
