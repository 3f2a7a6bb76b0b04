"""What every request is owed by the machine, whatever comes in which order. The numbers are those of README.md."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import pytest

from asterism.orchestrator.core.condition import Comparison, Condition
from asterism.orchestrator.core.constellation import TaskConstellation
from asterism.orchestrator.core.edits import (
    AddLine,
    CancelStar,
    Edit,
    EditBatch,
    RebindInputs,
    RemoveLine,
    RemoveStar,
    UpdateStar,
)
from asterism.orchestrator.core.effects import Assign, Broadcast
from asterism.orchestrator.core.errors import AsterismError
from asterism.orchestrator.core.events import AttemptSucceeded, EditRequested, EditsProposed, RetryRequested
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.records import StarFinished
from asterism.orchestrator.core.request import ConstellationState, Request
from asterism.orchestrator.core.snapshot import Snapshot, StoredWorker
from asterism.orchestrator.core.star import OutputOf, RetryPolicy, StarState, TaskStar, Timeouts
from asterism.orchestrator.core.state import State
from asterism.planner.edits_json import edits_from_json, edits_to_json
from asterism.planner.plan_file import plan_batches
from tests.core.making import ADA, BOB, BOOM, ENDLESS, FATAL, C, Scene, X, add, graph, join, tool
from tests.core.test_growth import work

ONCE = RetryPolicy(1)
A, B, D = StarId("a"), StarId("b"), StarId("d")


@pytest.mark.parametrize("order", list(permutations(("a ends", "b ends", "edit", "plan ends"))))
def test_3_no_completion_is_lost_whatever_order_an_edit_comes_in(order: tuple[str, ...]) -> None:
    scene = graph(add("a"), add("b"), add("d", inputs={"i": OutputOf(B)}), join("b", "d"))
    acts: dict[str, Callable[[], object]] = {
        "a ends": lambda: scene.succeed("a", "A"),
        "b ends": lambda: scene.succeed("b", "B"),
        # Made against the revision before either end: it touches nothing that has changed since.
        "edit": lambda: scene.edit(add("e", inputs={"i": OutputOf(A)}), join("a", "e"), join("b", "e"), base=2),
        "plan ends": lambda: scene.succeed("plan"),
    }
    for act in order:
        acts[act]()
    for star, given in (("d", "B"), ("e", "A")):
        scene.succeed(star, given)
    finished = [record.star for record in scene.records if isinstance(record, StarFinished)]
    assert sorted(finished) == ["a", "b", "d", "e", "plan"]
    assert scene.machine.constellations[C].answer() == {"d": "B", "e": "A"}


def test_4_children_of_a_failed_parent_do_the_same_after_their_plan_was_written_and_read() -> None:
    failed = Condition.of(("error", "code"), Comparison.EQ, BOOM.code)
    other = Condition.of(("state",), Comparison.EQ, "SUCCEEDED")
    edits: tuple[Edit, ...] = (
        add("a", retry=ONCE),
        *(add(name) for name in ("on_success", "below", "on_end", "on_error", "on_other")),
        join("a", "on_success"),
        join("on_success", "below"),
        join("a", "on_end", LineKind.COMPLETION),
        join("a", "on_error", LineKind.CONDITION, failed),
        join("a", "on_other", LineKind.CONDITION, other),
    )
    for batch in (EditBatch(edits), edits_from_json(edits_to_json(EditBatch(edits)))):
        scene = graph(*batch.edits)
        scene.fail("a", BOOM)
        assert scene.states() == {
            "plan": StarState.RUNNING,
            "a": StarState.FAILED,
            "on_success": StarState.CANCELLED,
            "below": StarState.CANCELLED,
            "on_end": StarState.RUNNING,
            "on_error": StarState.RUNNING,
            "on_other": StarState.CANCELLED,
        }
        skipped = scene.star("below").error
        assert skipped is not None
        assert (skipped.code, skipped.message) == ("skipped", "its parent on_success was skipped")


def test_6_attempts_made_before_a_restart_count_after_it() -> None:
    before = graph(add("x", retry=RetryPolicy(2, 0.0)))
    before.fail("x")
    after = restarted(before)
    after.attach(held=(1, 3))
    after.fail("x")
    assert after.star("x").state is StarState.FAILED
    assert [attempt.number for attempt in after.star("x").attempts] == [1, 2]


def test_7_request_of_which_every_star_failed_says_the_first_cause() -> None:
    scene = graph(add("x", retry=ONCE), add("y", retry=ONCE))
    scene.at = 1.0
    scene.fail("y", FATAL)
    scene.at = 2.0
    scene.fail("x")
    scene.fail("plan", FATAL)
    ended = scene.machine.constellations[C]
    assert (ended.state, ended.reason) == (ConstellationState.FAILED, "star y: it broke for good (fatal)")
    assert ended.answer() == {}


def test_10_text_and_results_of_one_request_never_reach_another() -> None:
    scene = Scene()
    for name in ("c", "other"):
        scene.submit(name)
        scene.edit(add("x"), add("y", inputs={"i": OutputOf(X)}), join("x", "y"), name=name)
    here, there = (scene.machine.constellations[ConstellationId(name)] for name in ("c", "other"))
    shown = [effect for effect in scene.stream("x", "mine").effects if isinstance(effect, Broadcast)]
    assert [effect.constellation for effect in shown] == [C]
    outcome = scene.succeed("x", "mine")
    assert {getattr(record, "constellation", C) for record in outcome.records} == {C}
    assert [dict(effect.inputs) for effect in outcome.effects if isinstance(effect, Assign)] == [{"i": "mine"}]
    assert there.stars[X].result is None
    assert here.stars[X].result == "mine"


REFUSED: list[list[Edit]] = [
    [add("n"), add("x")],
    [add("n"), join("n", "ghost")],
    [UpdateStar(X, title="new"), RemoveStar(D), join("d", "b")],
    [RemoveLine(B, D), RebindInputs(D, {"i": OutputOf(B)})],
    [RemoveStar(D), CancelStar(A), RemoveStar(A)],
    [CancelStar(B), add("n", program="unheard_of")],
    [join("d", "x"), join("x", "d")],
]


@pytest.mark.parametrize("edits", REFUSED)
def test_15_refused_batch_leaves_everything_as_it_was_and_what_runs_running(edits: list[Edit]) -> None:
    scene = graph(add("a"), add("b"), add("d"), join("b", "d"), join("a", "d"), add("x"), join("d", "x"))
    before = copy.deepcopy((dict(scene.machine.constellations), dict(scene.machine.workers)))
    deadline = scene.machine.next_deadline()
    with pytest.raises(AsterismError):
        scene.tell(EditRequested(0.0, C, "client:me", EditBatch(tuple(edits))))
    assert (dict(scene.machine.constellations), dict(scene.machine.workers)) == before
    assert scene.machine.next_deadline() == deadline
    scene.succeed("a", 1)
    scene.succeed("b", 1)
    assert scene.star("d").state is StarState.RUNNING


def test_16_planner_that_adds_stars_after_all_were_finished_gets_them_run() -> None:
    scene = graph(add("x"))
    scene.succeed("x", 1)
    scene.propose("plan", add("y"), join("x", "y"))
    scene.succeed("plan", None, add("z"))
    scene.succeed("y", 2)
    assert scene.machine.constellations[C].state is ConstellationState.RUNNING
    scene.succeed("z", 3)
    assert scene.machine.constellations[C].answer() == {"y": 2, "z": 3}


def test_16_planner_that_stops_in_mid_way_fails_the_request_which_keeps_what_is_finished() -> None:
    scene = graph()
    scene.propose("plan", add("x"), add("y"))
    scene.succeed("x", 1)
    scene.fail("plan", FATAL)
    scene.succeed("y", 2)
    ended = scene.machine.constellations[C]
    assert (ended.state, ended.reason) == (ConstellationState.FAILED, "star plan: it broke for good (fatal)")
    assert ended.answer() == {"x": 1, "y": 2}


@pytest.mark.parametrize("cut", range(6))
def test_25_plan_gives_the_same_graph_in_one_piece_and_in_two(cut: int) -> None:
    names = ["a", "b", "c", "d", "e"]
    stars = [{"id": name, "kind": "tool", "program": "t", "after": names[:index]} for index, name in enumerate(names)]
    batches = list(plan_batches(str({"stars": stars}).replace("'", '"')))
    scenes = [Scene(), Scene()]
    for scene, parts in zip(scenes, ([batches], [batches[:cut], batches[cut:]]), strict=True):
        scene.submit()
        for part in parts:
            if part:
                scene.propose("plan", *(edit for batch in part for edit in batch))
    whole, split = (scene.machine.constellations[C] for scene in scenes)
    assert {name: star.spec for name, star in whole.stars.items()} == {
        name: star.spec for name, star in split.stars.items()
    }
    assert list(whole.lines()) == list(split.lines())


def test_messages_of_a_worker_that_has_left_and_of_forgotten_requests_change_nothing() -> None:
    scene = graph(add("x"))
    token = scene.live("x").fencing_token
    scene.time(5000.0)  # the lease has ended, and with it everything that ada held
    assert scene.machine.workers[ADA].has_left
    scene.attach(instance="two")
    before = copy.deepcopy(dict(scene.machine.constellations))
    for event in (
        AttemptSucceeded(5001.0, ADA, token, "late", EditBatch((add("evil"),))),
        EditsProposed(5001.0, ADA, token, 1, EditBatch((add("evil"),))),
        AttemptSucceeded(5001.0, ADA, FencingToken(2**64 - 1), "forged"),
    ):
        assert scene.tell(event).records == []
    assert dict(scene.machine.constellations) == before


def test_batch_that_cancels_removes_and_joins_the_same_star_is_taken_or_refused_whole() -> None:
    scene = graph(add("a"), add("d"), add("x"), join("a", "d"), join("d", "x"))
    scene.edit(CancelStar(D), AddLine(TaskStarLine(A, X)), RemoveStar(D))
    assert set(scene.states()) == {"plan", "a", "x"}
    scene.edit(CancelStar(X), add("n"), join("x", "n"), UpdateStar(X, title="t"))
    assert [scene.star(name).state for name in ("x", "n")] == [StarState.CANCELLED] * 2
    scene.succeed("a")
    scene.succeed("plan")
    assert scene.machine.constellations[C].state is ConstellationState.CANCELLED
    scene.tell(RetryRequested(1.0, C, "client:me"))
    scene.time(6000.0)


def restarted(scene: Scene) -> Scene:
    """The scene as an orchestrator finds it that starts again."""
    machine = scene.machine
    workers = tuple(
        StoredWorker(worker.id, worker.instance, worker.profile, worker.has_left, worker.is_draining)
        for worker in machine.workers.values()
    )
    constellations = copy.deepcopy(tuple(machine.constellations.values()))
    after = Scene(0)
    snapshot = Snapshot(constellations, workers, len(scene.records), FencingToken(99))
    after.machine = Machine(snapshot, at=scene.at, lease_s=10.0)
    after.at = scene.at
    return after


def test_stars_that_nobody_can_run_do_not_slow_the_steps_of_others() -> None:
    def waiting(stars: int) -> Scene:
        scene = Scene(0)
        scene.submit()
        scene.edit(*(add(f"n{index}", requires=frozenset({f"label:n={index}"})) for index in range(stars)))
        scene.attach()
        scene.time(1.0)
        return scene

    few, many = waiting(10), waiting(1_000)
    assert work(lambda: many.time(2.0)) == work(lambda: few.time(2.0))
    many.attach(BOB, labels={"n": "999"})
    assert many.star("n999").state is StarState.RUNNING


def test_star_that_is_edited_again_and_again_leaves_no_more_behind_than_its_own_entry() -> None:
    state = State()
    constellation = TaskConstellation(C, "r", "me", Request("plan", ""), ENDLESS, 0.0, 0.0)
    state.adopt(constellation, at=0.0)
    star = constellation.stars[X] = TaskStar(tool("x"), StarState.READY, 1, ready_at=0.0)
    for number in range(30_000):
        star.spec = replace(star.spec, priority=number % 100, timeouts=Timeouts(1.0 + number, None))
        state.enqueue(C, star, 0.0)
    assert sum(len(heap) for heap in state.ready.values()) < 10_000
    first = state.first_ready(star.spec.capabilities)
    assert first is not None
    assert (first.rank, first.star) == (-99, X)
    assert len(deadlines := list(state.due(math.inf))) < 10_000
    assert deadlines[-1].at == 30_000.0
