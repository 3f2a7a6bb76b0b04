"""What an edit makes of the graph: revisions, counters, queues and lines as they stand afterwards."""

import itertools

import pytest

from asterism.orchestrator.core.edits import CancelStar, RebindInputs, RemoveLine, RemoveStar, UpdateStar
from asterism.orchestrator.core.errors import NotFound
from asterism.orchestrator.core.events import DrainRequested
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.records import EditsApplied
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.star import Constant, OutputOf, StarState, Timeouts
from tests.core.making import ADA, PLAN, C, Scene, X, Y, Z, add, graph, join


def waiting() -> Scene:
    """plan (runs) -> x -> y, and z waits for x too."""
    return graph(add("x"), add("y"), add("z"), join("plan", "x"), join("x", "y"), join("x", "z"))


def test_new_stars_stand_in_the_order_in_which_they_were_added() -> None:
    scene = Scene()
    scene.submit()
    scene.at = 2.0
    outcome = scene.edit(add("y"), add("x"), join("x", "y"))
    constellation = scene.machine.constellations[C]
    assert outcome.records[0] == EditsApplied(
        outcome.records[0].seq, 2.0, C, 2, "client:me", (add("y"), add("x"), join("x", "y"))
    )
    assert outcome.reply is not None
    assert (outcome.reply.constellation, outcome.reply.revision, outcome.reply.is_new) == (C, 2, True)
    assert list(constellation.stars) == ["plan", "y", "x"]
    assert (constellation.revision, constellation.unfinished) == (2, 3)
    assert [(star.revision, star.unmet) for star in constellation.stars.values()] == [(1, 0), (2, 1), (2, 0)]
    assert list(constellation.lines()) == [join("x", "y").line]
    assert constellation.parents == {Y: {X: join("x", "y").line}}
    assert constellation.children == {X: {Y: join("x", "y").line}}
    assert scene.star("x").ready_at == 2.0
    assert scene.star("y").ready_at is None


def test_edit_marks_the_stars_that_it_changes_and_no_others() -> None:
    scene = waiting()
    scene.edit(UpdateStar(X, title="t"))
    scene.edit(RebindInputs(Y, {"i": OutputOf(X)}))
    scene.edit(RemoveLine(X, Z))
    scene.edit(CancelStar(Z))
    revisions = {star_id: star.revision for star_id, star in scene.machine.constellations[C].stars.items()}
    assert revisions == {"plan": 1, "x": 3, "y": 4, "z": 5}


def test_rebinding_replaces_the_named_inputs_and_keeps_the_others() -> None:
    scene = waiting()
    scene.edit(RebindInputs(Y, {"a": Constant(1), "b": Constant(2)}))
    scene.edit(RebindInputs(Y, {"b": OutputOf(X), "d": Constant(3)}))
    assert scene.star("y").spec.inputs == {"a": Constant(1), "b": OutputOf(X), "d": Constant(3)}


def test_removed_star_takes_its_lines_with_it_and_frees_its_children() -> None:
    scene = waiting()
    scene.at = 3.0
    scene.edit(RemoveStar(X))
    constellation = scene.machine.constellations[C]
    assert (constellation.parents, constellation.children, constellation.unfinished) == ({}, {}, 3)
    assert scene.states() == {"plan": StarState.RUNNING, "y": StarState.RUNNING, "z": StarState.RUNNING}
    assert (scene.star("y").ready_at, scene.star("y").revision) == (3.0, 3)


def test_removed_star_that_was_ready_is_not_run() -> None:
    scene = graph(slots=1)
    scene.edit(add("x"), add("y"))
    scene.edit(RemoveStar(X))
    scene.succeed("plan")
    assert scene.states() == {"plan": StarState.SUCCEEDED, "y": StarState.RUNNING}


def test_request_whose_last_open_star_is_removed_has_ended() -> None:
    scene = graph()
    scene.tell(DrainRequested(0.0, ADA, True))
    scene.edit(add("x"))
    scene.succeed("plan")
    scene.edit(RemoveStar(X))
    assert scene.machine.constellations[C].state is ConstellationState.SUCCEEDED


def test_request_without_any_star_was_cancelled() -> None:
    scene = Scene(0)
    scene.submit()
    scene.edit(RemoveStar(PLAN))
    constellation = scene.machine.constellations[C]
    assert (constellation.state, constellation.reason) == (ConstellationState.CANCELLED, "every star was cancelled")


def test_removed_line_lets_the_child_run_when_it_was_the_last_it_waited_for() -> None:
    scene = graph(add("x"), add("y"), add("z"), join("x", "z"), join("y", "z"))
    scene.edit(RemoveLine(X, Z))
    assert (scene.star("z").state, scene.star("z").unmet) == (StarState.WAITING, 1)
    assert scene.machine.constellations[C].children == {Y: {Z: join("y", "z").line}}
    scene.edit(RemoveLine(Y, Z))
    assert (scene.star("z").state, scene.star("z").unmet) == (StarState.RUNNING, 0)
    assert scene.machine.constellations[C].parents == {}


def test_removed_line_from_an_ended_parent_was_not_waited_for() -> None:
    scene = graph(add("x"), add("y"), add("z"), join("x", "z"), join("y", "z"))
    scene.succeed("x")
    scene.edit(RemoveLine(X, Z))
    assert (scene.star("z").state, scene.star("z").unmet) == (StarState.WAITING, 1)
    scene.succeed("y")
    assert scene.star("z").state is StarState.RUNNING


def test_ready_star_that_gets_a_parent_waits_again() -> None:
    scene = graph()
    scene.tell(DrainRequested(0.0, ADA, True))
    scene.edit(add("x"), add("y", timeouts=Timeouts(5.0)))
    assert scene.star("y").state is StarState.READY
    scene.at = 1.0
    scene.edit(join("x", "y"))
    assert (scene.star("y").state, scene.star("y").unmet) == (StarState.WAITING, 1)
    scene.time(6.0)
    scene.tell(DrainRequested(6.0, ADA, False))
    assert scene.states() == {"plan": StarState.RUNNING, "x": StarState.RUNNING, "y": StarState.WAITING}
    scene.time(8.0)
    scene.succeed("x")
    assert (scene.star("y").state, scene.star("y").ready_at) == (StarState.RUNNING, 8.0)


def test_new_child_of_a_running_star_waits_for_it_and_one_of_an_ended_star_runs() -> None:
    scene = graph()
    scene.edit(add("x"), join("plan", "x"))
    assert scene.star("x").state is StarState.WAITING
    scene.succeed("plan")
    scene.edit(add("y"), join("plan", "y"))
    assert (scene.star("y").unmet, scene.star("y").state) == (0, StarState.RUNNING)


def test_retried_star_keeps_its_old_readiness_when_it_is_only_edited() -> None:
    scene = graph(slots=1)
    scene.at = 1.0
    scene.edit(add("x"))
    scene.at = 2.0
    scene.edit(UpdateStar(X, priority=1))
    assert (scene.star("x").state, scene.star("x").ready_at) == (StarState.READY, 1.0)


def test_star_added_and_removed_by_one_batch_leaves_nothing() -> None:
    scene = graph()
    scene.edit(add("x"), add("y"), join("x", "y"), RemoveStar(X))
    assert scene.states() == {"plan": StarState.RUNNING, "y": StarState.RUNNING}
    assert scene.machine.constellations[C].unfinished == 2


def test_line_that_is_replaced_keeps_the_count_of_open_parents() -> None:
    scene = waiting()
    scene.edit(RemoveLine(X, Y), join("x", "y", LineKind.COMPLETION))
    assert scene.star("y").unmet == 1
    assert scene.machine.constellations[C].parents[Y] == {X: join("x", "y", LineKind.COMPLETION).line}
    assert scene.machine.constellations[C].children[X][Y].kind is LineKind.COMPLETION


def test_request_that_is_not_known_is_not_edited() -> None:
    with pytest.raises(NotFound, match="no request named 'other'"):
        graph().edit(add("x"), name="other")


def test_chain_added_from_its_end_runs_from_its_beginning() -> None:
    names = [f"s{number}" for number in range(1200)]
    scene = graph(
        *(add(name) for name in reversed(names)),
        *(join(parent, child) for parent, child in itertools.pairwise(names)),
    )
    assert scene.star("s0").state is StarState.RUNNING
    assert sum(star.unmet for star in scene.machine.constellations[C].stars.values()) == 1199
    scene.edit(CancelStar(StarId("s0")))
    assert {star.state for star_id, star in scene.machine.constellations[C].stars.items() if star_id != PLAN} == {
        StarState.CANCELLED
    }
