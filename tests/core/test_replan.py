"""Rewrites under way: when they are asked for, what waits for them, and what becomes of it when they fail."""

from dataclasses import replace
from typing import Any

import networkx
import pytest

from asterism.orchestrator.core.condition import Compare, Comparison, Condition
from asterism.orchestrator.core.edits import (
    AddLine,
    CancelStar,
    Edit,
    EditBatch,
    RebindInputs,
    RemoveLine,
    RemoveStar,
)
from asterism.orchestrator.core.effects import Assign
from asterism.orchestrator.core.ending import REJECTED
from asterism.orchestrator.core.errors import InvalidEdit, InvalidField, WrongState
from asterism.orchestrator.core.events import (
    EditsProposed,
    ReplanRequested,
    RequestSubmitted,
    RetryRequested,
    WorkerDetached,
)
from asterism.orchestrator.core.ids import ConstellationId, StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.records import EditsApplied
from asterism.orchestrator.core.request import Budget, ConstellationState, Request
from asterism.orchestrator.core.star import Constant, OutputOf, StarError, StarKind, StarSpec, StarState, Telling, Told
from asterism.orchestrator.core.state import DEPARTED_S
from asterism.orchestrator.core.values import Artifact
from tests.core.making import ADA, BOB, BOOM, ENDLESS, FATAL, C, Scene, X, Y, add, graph, join, plan_star, tool

R1 = StarId("replan.1")
R2 = StarId("replan.2")
RULE = tool("replan", kind=StarKind.PLAN, program="p", may_edit=True, inputs={"request": Told(Telling.REQUEST)})
SURPRISE = Condition((Compare(("result", "score"), Comparison.LT, 0.5),))


def failing(*more: Edit, budget: Budget = ENDLESS, rule: StarSpec | None = RULE) -> Scene:
    """x runs, its child y takes its result, and z goes on behind y; the plan has ended."""
    y = add("y", inputs={"of": OutputOf(X)})
    scene = graph(add("x"), y, add("z"), join("x", "y"), join("y", "z"), *more, budget=budget, replan=rule)
    scene.succeed("plan")
    return scene


def ended(scene: Scene) -> tuple[ConstellationState, str]:
    constellation = scene.machine.constellations[C]
    return constellation.state, constellation.reason


def asked_why(scene: Scene, star: StarId = R1) -> Any:
    why = scene.star(star).spec.inputs["why"]
    assert isinstance(why, Constant)
    return why.value


def mends(scene: Scene, *, star: str = "replan.1") -> None:
    """The rewrite puts `w` in the place of x."""
    scene.succeed(
        star,
        None,
        add("w"),
        RebindInputs(Y, {"of": OutputOf(StarId("w"))}),
        join("w", "y"),
        RemoveLine(X, Y),
    )


def test_failure_asks_once_and_holds_what_needs_it() -> None:
    scene = failing(add("other"), join("plan", "other"))
    outcome = scene.fail("x", FATAL)
    assert scene.states() == {
        **{"plan": StarState.SUCCEEDED, "x": StarState.FAILED, "y": StarState.WAITING, "z": StarState.WAITING},
        **{"other": StarState.RUNNING, "replan.1": StarState.RUNNING},
    }
    (assigned,) = [effect for effect in outcome.effects if isinstance(effect, Assign)]
    assert (assigned.star, assigned.may_edit) == (R1, True)
    assert assigned.inputs["why"] == "x has failed: it broke for good (fatal)"
    assert assigned.inputs["request"] == {"form": "boards", "text": "1 2 3 4", "name": "", "options": None}
    lines = {(line.parent, line.child): line.kind for line in scene.machine.constellations[C].lines()}
    assert (lines[X, R1], lines[R1, Y]) == (LineKind.COMPLETION, LineKind.GUARD)


def test_what_a_rewrite_saves_runs_and_the_request_succeeds() -> None:
    scene = failing()
    scene.fail("x", FATAL)
    mends(scene)
    assert scene.star("y").state is StarState.WAITING
    scene.succeed("w", {"a": 1})
    assert scene.star("y").state is StarState.RUNNING
    scene.succeed("y")
    scene.succeed("z")
    assert ended(scene) == (ConstellationState.SUCCEEDED, "")


@pytest.mark.parametrize("how", ["leaves all as it is", "fails", "is cancelled"])
def test_what_it_does_not_save_is_skipped(how: str) -> None:
    scene = failing()
    scene.fail("x", FATAL)
    if how == "leaves all as it is":
        scene.succeed("replan.1")
    elif how == "fails":
        scene.fail("replan.1", FATAL)
    else:
        scene.edit(CancelStar(R1))
        scene.confirm(scene.star("replan.1").attempts[-1])
    assert scene.star("y").state is StarState.CANCELLED
    error = scene.star("y").error
    assert error is not None
    assert (error.code, error.message) == ("skipped", "its parent x failed (fatal)")
    assert ended(scene) == (ConstellationState.FAILED, "star x: it broke for good (fatal)")


def test_a_leaf_that_failed_is_what_the_rewrite_makes_of_it() -> None:
    for is_saved in (True, False):
        scene = graph(add("x"), replan=RULE)
        scene.succeed("plan")
        scene.fail("x", FATAL)
        if is_saved:
            scene.succeed("replan.1", None, add("w"))
            scene.succeed("w")
        else:
            scene.fail("replan.1", FATAL)
        assert ended(scene)[0] is (ConstellationState.SUCCEEDED if is_saved else ConstellationState.FAILED)


def test_an_attempt_that_is_retried_asks_for_nothing() -> None:
    scene = failing()
    scene.fail("x", BOOM)
    assert R1 not in scene.states()
    scene.time(10.0)
    scene.fail("x", BOOM)
    assert R1 in scene.states()


def test_without_a_rule_or_beyond_the_budget_nobody_is_asked() -> None:
    scene = failing(rule=None)
    scene.fail("x", FATAL)
    assert ended(scene)[0] is ConstellationState.FAILED
    scene = failing(budget=replace(ENDLESS, replans=0))
    scene.fail("x", FATAL)
    assert ended(scene)[0] is ConstellationState.FAILED
    scene = failing(budget=replace(ENDLESS, stars=4))
    scene.fail("x", FATAL)
    assert ended(scene)[0] is ConstellationState.FAILED


def test_a_rewrite_that_fails_is_not_mended_by_another() -> None:
    scene = failing()
    scene.fail("x", FATAL)
    scene.fail("replan.1", FATAL)
    assert R2 not in scene.states()


def test_a_no_of_a_person_is_a_decision() -> None:
    scene = failing()
    scene.fail("x", StarError(REJECTED, "no"))
    assert R1 not in scene.states()
    assert scene.star("y").state is StarState.CANCELLED


def test_children_that_may_run_after_a_failure_do_so_at_once() -> None:
    scene = failing(add("after"), join("x", "after", LineKind.COMPLETION))
    scene.fail("x", FATAL)
    assert scene.star("after").state is StarState.RUNNING


def test_failures_before_it_begins_are_told_together_and_later_ones_asked_anew() -> None:
    scene = graph(add("x"), add("y"), add("z"), replan=RULE)
    for name in ("x", "y"):
        scene.fail(name, FATAL)
    # The plan is still being written: the rewrite waits for its end.
    assert scene.star("replan.1").state is StarState.WAITING
    assert asked_why(scene) == "x has failed: it broke for good (fatal)\ny has failed: it broke for good (fatal)"
    scene.succeed("plan")
    assert scene.star("replan.1").state is StarState.RUNNING
    scene.fail("z", FATAL)
    assert scene.star("replan.2").state is StarState.WAITING
    scene.succeed("replan.1", None, add("w"))
    assert scene.star("replan.2").state is StarState.RUNNING
    assert asked_why(scene, R2) == "z has failed: it broke for good (fatal)"


def test_a_star_that_the_plan_adds_behind_a_failure_is_held_too() -> None:
    scene = graph(add("x"), replan=RULE)
    scene.fail("x", FATAL)
    scene.propose("plan", add("y"), join("x", "y"))
    assert scene.star("y").state is StarState.WAITING
    scene.succeed("plan")
    scene.succeed("replan.1", None, RemoveLine(X, Y))
    assert scene.star("y").state is StarState.RUNNING


def test_a_star_that_is_cancelled_where_it_is_added_behind_a_failure_is_left_alone() -> None:
    scene = failing()
    scene.fail("x", FATAL)
    scene.edit(add("late"), CancelStar(StarId("late")), join("x", "late"))
    assert scene.star("late").state is StarState.CANCELLED
    assert scene.star("late").revision == 4
    assert [line.parent for line in scene.machine.constellations[C].lines() if line.child == "late"] == [X]


def test_a_surprise_holds_all_children_until_the_rewrite_has_seen_it() -> None:
    scene = failing(add("s", replan_when=SURPRISE), add("t"), join("s", "t"))
    scene.succeed("s", {"score": 0.25})
    assert scene.star("t").state is StarState.WAITING
    assert asked_why(scene) == "the result of s is a surprise: result.score < 0.5"
    scene.succeed("replan.1")
    assert scene.star("t").state is StarState.RUNNING


def test_a_result_as_expected_is_no_surprise() -> None:
    scene = failing(add("s", replan_when=SURPRISE), add("t"), join("s", "t"))
    scene.succeed("s", {"score": 0.75})
    assert scene.star("t").state is StarState.RUNNING
    assert R1 not in scene.states()


def test_a_surprise_that_nobody_could_look_at_fails_nothing() -> None:
    scene = graph(add("s", replan_when=SURPRISE), replan=RULE)
    scene.succeed("plan")
    scene.succeed("s", {"score": 0.25})
    scene.fail("replan.1", FATAL)
    assert ended(scene) == (ConstellationState.SUCCEEDED, "")


def test_budget_pressure_asks_once() -> None:
    scene = graph(budget=Budget(stars=100, attempts=10, seconds=None), replan=RULE)
    for number in range(9):
        name = f"s{number}"
        scene.edit(add(name))
        scene.succeed(name)
    assert asked_why(scene) == "80% of the budget of 10 attempts are used"
    assert R2 not in scene.states()
    assert scene.machine.constellations[C].is_pressed


def test_seconds_press_too_and_so_do_stars() -> None:
    scene = graph(add("x"), budget=Budget(seconds=100.0), replan=RULE)
    scene.time(79.0)
    assert R1 not in scene.states()
    scene.time(80.0)
    assert asked_why(scene) == "80% of the budget of 100 seconds are used"
    scene = graph(budget=Budget(stars=5, seconds=None), replan=RULE)
    scene.edit(add("x"), add("y"))
    assert R1 not in scene.states()
    scene.edit(add("z"))
    assert asked_why(scene) == "80% of the budget of 5 stars are used"


def two_workers() -> Scene:
    """x needs what only bob offers, and bob is gone."""
    scene = Scene()
    scene.attach(BOB, models=("m",))
    scene.submit(replan=RULE)
    scene.edit(add("x", requires=frozenset({"model:m"})), add("y"), join("x", "y"))
    scene.succeed("plan")
    scene.tell(WorkerDetached(scene.at, BOB, "one", is_goodbye=True))
    return scene


def test_a_departure_that_leaves_no_capable_worker_asks_after_a_while() -> None:
    scene = two_workers()
    scene.time(DEPARTED_S - 1)
    assert R1 not in scene.states()
    scene.time(DEPARTED_S)
    assert asked_why(scene) == "the worker bob has left, and nobody else offers model:m, which these need: x"
    assert scene.star("x").state is StarState.READY


def test_a_worker_that_is_back_in_time_leaves_nothing_to_ask() -> None:
    scene = two_workers()
    scene.time(5.0)
    scene.attach(BOB, models=("m",))
    scene.time(DEPARTED_S)
    assert R1 not in scene.states()
    assert scene.star("x").state is StarState.RUNNING


def test_nobody_is_asked_where_the_rule_itself_cannot_be_served() -> None:
    rule = replace(RULE, requires=frozenset({"model:m"}))
    scene = Scene()
    scene.attach(BOB, models=("m",))
    scene.submit(replan=rule)
    scene.edit(add("x"), add("y"), join("x", "y"))
    scene.succeed("plan")
    scene.tell(WorkerDetached(scene.at, BOB, "one", is_goodbye=True))
    for _ in range(2):
        if scene.star("x").live_attempt is not None:
            scene.fail("x", FATAL)
    assert scene.star("y").state is StarState.CANCELLED


def test_a_person_may_ask_also_beyond_the_budget_and_after_the_end() -> None:
    scene = failing(budget=replace(ENDLESS, replans=0))
    scene.tell(ReplanRequested(0.0, C, "client:me", "use the other server"))
    assert asked_why(scene) == "use the other server"
    record = scene.records[-2]
    assert isinstance(record, EditsApplied)
    assert (record.by, record.reason) == ("client:me", "use the other server")
    scene.fail("replan.1", FATAL)
    for name in ("x", "y", "z"):
        scene.succeed(name)
    assert ended(scene) == (ConstellationState.SUCCEEDED, "")
    scene.tell(ReplanRequested(0.0, C, "client:me", "and once more"))
    assert scene.star("replan.2").state is StarState.RUNNING
    assert ended(scene)[0] is ConstellationState.RUNNING


def test_a_person_may_bring_a_rule_along_and_is_told_where_there_is_none() -> None:
    scene = failing(rule=None)
    with pytest.raises(WrongState, match="nobody rewrites it"):
        scene.tell(ReplanRequested(0.0, C, "client:me", "why"))
    with pytest.raises(InvalidEdit, match="no worker knows model:none"):
        scene.tell(ReplanRequested(0.0, C, "client:me", "why", replace(RULE, requires=frozenset({"model:none"}))))
    scene.tell(ReplanRequested(0.0, C, "client:me", "why", RULE))
    assert scene.star("replan.1").state is StarState.RUNNING


@pytest.mark.parametrize(
    "edit",
    [
        RemoveStar(R1),
        RemoveLine(R1, Y),
        add("replan.7"),
        AddLine(TaskStarLine(StarId("plan"), StarId("z"), LineKind.GUARD)),
    ],
)
def test_guards_and_their_names_are_nobodys_to_change(edit: Edit) -> None:
    scene = failing()
    scene.fail("x", FATAL)
    with pytest.raises(InvalidEdit):
        scene.edit(edit)
    assert scene.star("y").state is StarState.WAITING


def test_only_rewrites_are_told_the_graph_and_the_fleet() -> None:
    scene = failing()
    for what in (Telling.GRAPH, Telling.OFFERS):
        for edit in (add("n", inputs={"of": Told(what)}), RebindInputs(Y, {"of": Told(what)})):
            with pytest.raises(InvalidEdit, match=f"only a rewrite is told the {what.value}"):
                scene.edit(edit)
    scene.edit(add("n", inputs={"of": Told(Telling.REQUEST)}))


def test_a_star_of_an_old_plan_with_the_name_of_a_rewrite_is_left_alone() -> None:
    scene = failing()
    stars = scene.machine.constellations[C].stars
    stars[R1] = replace(scene.star("z"), spec=tool("replan.1"))
    scene.fail("x", FATAL)
    assert stars[R1].spec == tool("replan.1")
    assert scene.star("y").state is StarState.CANCELLED
    with pytest.raises(WrongState, match=r"its star replan\.1 has the name"):
        scene.tell(ReplanRequested(0.0, C, "client:me", "why"))


def test_a_retry_runs_what_failed_and_no_rewrite() -> None:
    scene = failing()
    scene.fail("x", FATAL)
    scene.fail("replan.1", FATAL)
    scene.tell(RetryRequested(0.0, C, "client:me"))
    assert {name for name in scene.states() if "~" in name} == {"x~2", "y~2", "z~2"}
    assert not any(line.kind is LineKind.GUARD for line in scene.machine.constellations[C].parents["y~2"].values())  # type: ignore[index]
    for name in ("x~2", "y~2", "z~2"):
        scene.succeed(name)
    assert ended(scene) == (ConstellationState.SUCCEEDED, "")


def test_a_rule_is_checked_with_the_request() -> None:
    scene = Scene()
    request = Request("plan", "")
    rule = replace(RULE, requires=frozenset({"model:none"}))
    with pytest.raises(InvalidEdit, match="no worker knows model:none"):
        scene.tell(RequestSubmitted(0.0, C, "c", "me", request, ENDLESS, plan_star(), rule))
    with pytest.raises(InvalidField, match=r"budget\.replans"):
        scene.tell(RequestSubmitted(0.0, C, "c", "me", request, replace(ENDLESS, replans=101), plan_star()))
    assert ConstellationId("c") not in scene.machine.constellations


def test_edits_against_what_it_saw_are_refused_where_the_graph_has_moved_on() -> None:
    scene = failing()
    scene.fail("x", FATAL)
    seen = scene.machine.constellations[C].revision
    scene.edit(RebindInputs(StarId("z"), {"n": Constant(1)}))
    live = scene.live("replan.1")
    batch = EditBatch((RebindInputs(StarId("z"), {"n": Constant(2)}),), seen)
    scene.tell(EditsProposed(scene.at, live.worker, live.fencing_token, 1, batch))
    assert scene.star("z").spec.inputs["n"] == Constant(1)


def test_a_worker_is_found_for_it_like_for_any_other() -> None:
    scene = failing()
    scene.fail("x", FATAL)
    assert scene.live("replan.1").worker == ADA


def test_a_rewrite_holds_nothing_that_leads_to_it_by_way_of_what_ended_early() -> None:
    """y cannot be read while v, another parent of it, still waits; the rewrite that y asked for waits for a slot."""
    asks = Condition((Compare(("result", "a"), Comparison.EQ, 1),))
    others = [add("x1", priority=9), add("x2", priority=9)]
    lines = [join("z", "v"), join("v", "y"), join("a", "y", LineKind.CONDITION, asks)]
    scene = graph(add("z"), add("v"), add("a"), add("y"), *lines, *others, slots=5, replan=RULE)
    scene.succeed("plan")
    scene.edit(add("x3", priority=9), add("x4", priority=9))
    scene.succeed("a", Artifact("0" * 64, 100))
    assert (scene.star("y").state, scene.star(R1).state) == (StarState.FAILED, StarState.READY)
    scene.fail("z", FATAL)
    assert scene.star("v").state is StarState.CANCELLED
    edges = [(line.parent, line.child) for line in scene.machine.constellations[C].lines()]
    assert networkx.is_directed_acyclic_graph(networkx.DiGraph(edges))


@pytest.mark.parametrize("kind", [LineKind.SUCCESS, LineKind.COMPLETION])
def test_star_that_waits_for_the_rewrite_by_a_line_of_its_own_is_not_held_by_it(kind: LineKind) -> None:
    scene = failing()
    scene.fail("x", FATAL)
    scene.edit(add("n", "x"), add("m"), join("replan.1", "m", kind), join("x", "m"))
    assert (scene.star("n").state, scene.star("m").state) == (StarState.WAITING, StarState.CANCELLED)
    mends(scene)
    assert scene.star("n").state is StarState.CANCELLED
