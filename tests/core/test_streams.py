"""Children that begin while their parent runs: what they hear, and what becomes of them when it does not end well."""

import pytest

from asterism.orchestrator.core.edits import AddLine, CancelStar, Edit, RebindInputs, RemoveLine
from asterism.orchestrator.core.effects import Acknowledge, Assign, Effect, InputText, InputValue, Outcome, Place, Stop
from asterism.orchestrator.core.errors import InvalidEdit
from asterism.orchestrator.core.events import WorkerDetached
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.retry import retry_batch
from asterism.orchestrator.core.star import AttemptOutcome, OutputOf, ParentOutcomes, StarKind, StarState
from asterism.orchestrator.core.streams import MAX_WRITTEN_CHARS
from asterism.orchestrator.core.values import Artifact
from tests.core.making import ADA, BOB, BOOM, FATAL, C, Scene, X, Y, Z, add, graph, join, plan_star
from tests.core.picture import replayed

STREAM = LineKind.STREAM
RUNNING, WAITING, READY = StarState.RUNNING, StarState.WAITING, StarState.READY
OF_X = {"data": OutputOf(X)}


def listening(*more: Edit, slots: int = 8, **changes: object) -> Scene:
    """x runs, and y listens to it."""
    return graph(add("x"), add("y", inputs=OF_X, **changes), join("x", "y", STREAM), *more, slots=slots)


def told(outcome: Outcome) -> list[Effect]:
    return [effect for effect in outcome.effects if isinstance(effect, InputText | InputValue)]


def heard(scene: Scene, outcome: Outcome, star: str = "y") -> list[tuple[int, str]]:
    """What the star's attempt is told of the text."""
    token = scene.live(star).fencing_token
    texts = [effect for effect in outcome.effects if isinstance(effect, InputText)]
    return [(effect.at, effect.text) for effect in texts if effect.fencing_token == token]


def test_begins_with_its_parent_and_hears_it_to_its_end() -> None:
    scene = listening()
    assert scene.states() == {"plan": RUNNING, "x": RUNNING, "y": RUNNING}
    assert heard(scene, scene.stream("x", "one ", "two ")) == [(0, "one two ")]
    assert heard(scene, scene.stream("x", "three")) == [(8, "three")]
    live = scene.live("y")
    assert told(scene.succeed("x", {"answer": 3})) == [
        InputValue(ADA, live.fencing_token, "data", {"answer": 3}),
    ]
    assert scene.star("y").state is RUNNING
    scene.succeed("y")
    scene.succeed("plan")
    assert scene.machine.constellations[C].state is ConstellationState.SUCCEEDED


def test_one_that_begins_later_hears_all_that_there_was() -> None:
    scene = graph(add("x"))
    scene.stream("x", "one ", "two ")
    outcome = scene.edit(add("y", inputs=OF_X), join("x", "y", STREAM))
    (assigned,) = (effect for effect in outcome.effects if isinstance(effect, Assign))
    assert (assigned.inputs, assigned.streams) == ({}, ("data",))
    assert heard(scene, outcome) == [(0, "one two ")]
    assert heard(scene, scene.stream("x", "three")) == [(8, "three")]


def test_one_that_begins_after_the_end_is_given_the_value() -> None:
    scene = graph(add("x"))
    scene.succeed("x", 5)
    outcome = scene.edit(add("y", inputs=OF_X), join("x", "y", STREAM))
    (assigned,) = (effect for effect in outcome.effects if isinstance(effect, Assign))
    assert (assigned.inputs, assigned.streams, told(outcome)) == ({"data": 5}, (), [])


def test_only_the_main_thread_is_heard_and_only_up_to_a_bound() -> None:
    scene = listening()
    assert told(scene.stream("x")) == []
    scene.stream("x", "a" * (MAX_WRITTEN_CHARS - 1))
    assert told(scene.stream("x", "bc")) == []
    assert told(scene.stream("x", "d")) == [], "after a gap there is only the end"
    assert len(told(scene.succeed("x"))) == 1


def test_waits_for_a_parent_that_waits() -> None:
    scene = listening(slots=1)
    assert scene.states() == {"plan": RUNNING, "x": READY, "y": WAITING}
    assert scene.machine.waiting_for(C)[Y] == "x"
    scene.succeed("plan")
    assert (scene.star("x").state, scene.star("y").state) == (RUNNING, READY)
    scene.succeed("x", 1)
    assert scene.star("y").state is RUNNING


def test_begins_anew_where_its_parent_does() -> None:
    scene = listening(add("z", inputs={"data": OutputOf(Y)}), join("y", "z", STREAM))
    scene.stream("x", "wrong")
    attempts = [scene.live(name) for name in "yz"]
    outcome = scene.fail("x", BOOM)
    stops = {effect.fencing_token for effect in outcome.effects if isinstance(effect, Stop)}
    assert stops == {attempt.fencing_token for attempt in attempts}
    assert [(one.outcome, one.error and one.error.code, one.holds_slot) for one in attempts] == [
        (AttemptOutcome.CANCELLED, "stream_broken", True)
    ] * 2
    assert [scene.star(name).state for name in "xyz"] == [WAITING] * 3
    outcome = scene.time(scene.star("x").retry_at or 0.0)
    assert [scene.star(name).state for name in "xyz"] == [RUNNING] * 3
    assert told(outcome) == [], "what the first attempt wrote counts for nothing"
    assert heard(scene, scene.stream("x", "right")) == [(0, "right")]
    for attempt in attempts:
        scene.confirm(attempt)
    for name in "xyz":
        scene.succeed(name)
    assert len(scene.held()) == 1


def test_what_it_loses_so_is_not_counted_as_its_failure() -> None:
    scene = listening()
    for _ in range(2):
        scene.fail("x", BOOM)
        if scene.star("x").retry_at is not None:
            scene.time(scene.star("x").retry_at or 0.0)
    assert scene.star("y").state is StarState.CANCELLED
    scene = listening()
    scene.fail("x", BOOM)
    scene.time(10.0)
    scene.fail("y", BOOM)
    assert scene.star("y").state is WAITING, "its first failure of two"
    scene.time(20.0)
    scene.fail("y", BOOM)
    assert scene.star("y").state is StarState.FAILED


def test_is_lost_with_its_parents_worker() -> None:
    scene = Scene(slots=1)
    scene.submit()
    scene.attach(BOB, 1)
    scene.edit(add("x"), add("y", inputs=OF_X), join("x", "y", STREAM))
    scene.succeed("plan")
    where = {name: scene.live(name).worker for name in "xy"}
    assert set(where.values()) == {ADA, BOB}
    worker = where["x"]
    scene.tell(WorkerDetached(scene.at, worker, "one", is_goodbye=True))
    assert (scene.star("x").state, scene.star("y").state) == (READY, WAITING), "the slot is not free before it stopped"
    scene.confirm(scene.star("y").attempts[0])
    assert (scene.star("x").state, scene.star("y").state) == (RUNNING, READY)


def test_one_that_cannot_begin_anew_has_failed() -> None:
    scene = listening(is_idempotent=False)
    scene.fail("x", BOOM)
    star = scene.star("y")
    assert (star.state, star.error and star.error.code) == (StarState.FAILED, "may_have_run")
    assert scene.star("x").state is WAITING


def test_is_cancelled_with_a_parent_that_fails_for_good_or_is_cancelled() -> None:
    scene = listening()
    live = scene.live("y")
    outcome = scene.fail("x", FATAL)
    assert [effect.fencing_token for effect in outcome.effects if isinstance(effect, Stop)] == [live.fencing_token]
    star = scene.star("y")
    assert (star.state, star.error and star.error.code, live.holds_slot) == (StarState.CANCELLED, "skipped", True)
    scene.confirm(live)
    scene.succeed("plan")
    assert scene.machine.constellations[C].state is ConstellationState.FAILED
    scene = listening()
    scene.edit(CancelStar(X))
    assert scene.star("y").state is StarState.CANCELLED


def test_waits_for_the_rewrite_that_may_save_it() -> None:
    rule = plan_star(inputs={})
    scene = Scene()
    scene.submit(replan=rule)
    scene.edit(add("x"), add("y", inputs=OF_X), join("x", "y", STREAM))
    scene.succeed("plan")
    live = scene.live("y")
    scene.fail("x", FATAL)
    assert live.outcome is AttemptOutcome.CANCELLED
    assert (scene.star("y").state, scene.star("replan.1").state) == (WAITING, RUNNING)
    mend = (add("z"), RemoveLine(X, Y), join("z", "y", STREAM), RebindInputs(Y, {"data": OutputOf(Z)}))
    scene.succeed("replan.1", None, *mend)
    assert (scene.star("z").state, scene.star("y").state) == (RUNNING, RUNNING)
    assert heard(scene, scene.stream("z", "mended")) == [(0, "mended")]


def test_a_worker_that_comes_back_is_told_everything_again() -> None:
    scene = Scene(slots=1)
    scene.submit()
    scene.attach(BOB, 1)
    scene.edit(add("x"), add("y", inputs=OF_X), join("x", "y", STREAM))
    scene.succeed("plan")
    x, y = scene.live("x"), scene.live("y")
    scene.stream("x", "one ")
    scene.stream("x", "two ")
    outcome = scene.attach(y.worker, 1, held=(y.fencing_token,))
    assert heard(scene, outcome) == [(0, "one two ")]
    scene.attach(x.worker, 1, held=(x.fencing_token,))
    assert told(scene.stream("x", "four ")) == [], "what the broken stream has swallowed nobody knows"
    scene.succeed("x", "one two three four")
    outcome = scene.attach(y.worker, 1, held=(y.fencing_token,))
    assert told(outcome) == [InputValue(y.worker, y.fencing_token, "data", "one two three four")]


def test_an_artifact_comes_as_its_place_and_what_is_missing_fails_the_child() -> None:
    scene = graph(add("x"), add("y", inputs={"data": OutputOf(X, ("a",))}), join("x", "y", STREAM))
    artifact, token = Artifact("0" * 64, 100_000), scene.live("y").fencing_token
    place = Place("data", (), artifact, ("a",))
    assert told(scene.succeed("x", artifact)) == [InputValue(ADA, token, "data", None, place)]
    scene = graph(add("x"), add("y", inputs={"data": OutputOf(X, ("a",))}), join("x", "y", STREAM))
    outcome = scene.succeed("x", {"b": 1})
    star = scene.star("y")
    assert (star.state, star.error and star.error.code) == (StarState.FAILED, "input_missing")
    assert any(isinstance(effect, Stop) for effect in outcome.effects)


def test_may_end_before_its_parent() -> None:
    scene = listening()
    scene.succeed("y", "enough")
    scene.fail("x", FATAL)
    assert scene.star("y").result == "enough"
    scene.succeed("plan")
    assert scene.machine.constellations[C].state is ConstellationState.SUCCEEDED


def test_a_retry_listens_again_unless_it_may_take_a_result_over() -> None:
    scene = listening(add("z", inputs={"data": OutputOf(X)}), join("x", "z", STREAM))
    scene.succeed("z", "done")
    scene.fail("x", FATAL)
    scene.succeed("plan")
    edits = retry_batch(scene.machine.constellations[C]).edits
    kinds = {edit.line.child: edit.line.kind for edit in edits if isinstance(edit, AddLine)}
    assert kinds == {"y~2": STREAM, "z~2": LineKind.SUCCESS}


def test_a_result_whose_edits_cancel_what_its_star_listens_to_frees_its_slot() -> None:
    scene = listening(may_edit=True)
    x, y = scene.live("x").fencing_token, scene.live("y").fencing_token
    outcome = scene.succeed("y", 1, CancelStar(X))
    assert (scene.star("x").state, scene.star("y").state) == (StarState.CANCELLED, StarState.CANCELLED)
    assert Acknowledge(ADA, (y,)) in outcome.effects
    assert (x in scene.held(), y in scene.held()) == (True, False), "only x has still to be stopped"
    assert replayed(scene.records).workers[ADA].running.keys() == scene.held()


def test_few_inputs_of_a_star_stream_from_one_parent() -> None:
    many = {f"i{number}": OutputOf(X) for number in range(9)}
    with pytest.raises(InvalidEdit, match="9 inputs stream from x; at most 8"):
        graph(add("x"), add("y", inputs=many), join("x", "y", STREAM))
    scene = graph(add("x"), add("w"), add("y", inputs=many), join("x", "y"), add("z"))
    del many["i0"]
    scene.edit(add("v", inputs={**many, "of": OutputOf(StarId("w"))}), join("x", "v", STREAM), join("w", "v", STREAM))
    assert scene.star("v").state is RUNNING


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        (
            (add("x"), add("y", kind=StarKind.APPROVAL, program="approval"), join("x", "y", STREAM)),
            "a person decides about what is whole",
        ),
        (
            (add("x"), add("y", inputs={"all": ParentOutcomes()}), join("x", "y", STREAM)),
            "takes all parents, and one of them by a line that streams",
        ),
    ],
)
def test_refuses_what_cannot_stream(edits: tuple[Edit, ...], reason: str) -> None:
    with pytest.raises(InvalidEdit, match=reason):
        graph(*edits)


def test_a_rewrite_does_not_hold_what_leads_to_it() -> None:
    scene = Scene(slots=4)
    scene.submit(replan=plan_star(inputs={}))
    scene.edit(add("x"), add("y", inputs=OF_X), join("x", "y", STREAM), add("z"), join("y", "z", STREAM))
    scene.edit(add("one", priority=1), add("two", priority=1))
    scene.succeed("plan")
    scene.fail("z", FATAL)
    assert (scene.star("two").state, scene.star("replan.1").state) == (RUNNING, READY), "it waits for a slot alone"
    scene.fail("x", FATAL)
    assert scene.star("y").state is StarState.CANCELLED, "the rewrite is there for z, which y leads to"
    assert X in scene.machine.constellations[C].parents[scene.star("replan.1").spec.id]


def test_listener_whose_backoff_is_over_begins_anew_with_its_parent() -> None:
    scene = Scene(slots=2)
    scene.submit()
    listener = add("c", inputs={"t": OutputOf(StarId("p"))})
    scene.succeed("plan", None, add("p", priority=5), listener, join("p", "c", LineKind.STREAM))
    scene.fail("c")
    scene.submit("other")  # It takes the slot of c.
    scene.time(30.0)
    assert scene.machine.waiting_for(C) == {StarId("c"): "a free slot"}
    scene.fail("p")
    assert (scene.star("c").state, scene.star("c").error) == (StarState.WAITING, None)
    scene.time(60.0)
    scene.succeed("p", "done")
    assert scene.live("c").number == 2
