"""Stars that run when k of their n parents have succeeded: what they wait for, who is cancelled, when hope is gone."""

import pytest

from asterism.orchestrator.core.edits import CancelStar, Edit, RebindInputs, RemoveLine, RemoveStar
from asterism.orchestrator.core.effects import Assign, Stop
from asterism.orchestrator.core.errors import InvalidEdit
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.star import OutputOf, ParentOutcomes, StarState
from asterism.orchestrator.core.values import find_at
from tests.core.making import FATAL, C, Scene, X, Y, Z, add, graph, join

QUORUM, V = LineKind.QUORUM, StarId("v")


def voting(quorum: int = 2, *more: Edit, slots: int = 8) -> Scene:
    """x, y and z run; v waits for a quorum of them."""
    lines = [join(voter, "v", QUORUM) for voter in "xyz"]
    inputs = {"votes": ParentOutcomes()}
    voters = [add("x"), add("y"), add("z")]
    return graph(*voters, add("v", quorum=quorum, inputs=inputs, priority=1), *lines, *more, slots=slots)


def test_runs_with_its_quorum_and_the_rest_is_cancelled() -> None:
    scene = voting()
    scene.succeed("x", 1)
    assert (scene.star("v").state, scene.star("v").unmet) == (StarState.WAITING, 1)
    assert scene.machine.waiting_for(C)[V] == "1 of y, z"
    outcome = scene.succeed("z", 3)
    assert scene.star("v").state is StarState.RUNNING
    rest = scene.star("y")
    assert (rest.state, rest.error and rest.error.code) == (StarState.CANCELLED, "not_needed")
    assert [effect.reason for effect in outcome.effects if isinstance(effect, Stop)] == ["v has its quorum without it"]
    (assigned,) = (effect for effect in outcome.effects if isinstance(effect, Assign))
    given = assigned.inputs["votes"]
    assert isinstance(given, dict)
    assert {voter: find_at(seen, ("state",)) for voter, seen in given.items()} == {
        X: "SUCCEEDED",
        Y: "CANCELLED",
        Z: "SUCCEEDED",
    }
    scene.succeed("v")
    scene.succeed("plan")
    assert scene.machine.constellations[C].state is ConstellationState.SUCCEEDED


def test_who_else_is_waited_for_goes_on() -> None:
    scene = voting(1, add("after-y"), join("y", "after-y"))
    scene.succeed("x")
    assert [scene.star(name).state for name in ("v", "y", "z")] == [
        StarState.RUNNING,
        StarState.RUNNING,
        StarState.CANCELLED,
    ]
    scene.succeed("y")
    assert scene.star("v").state is StarState.RUNNING, "a success beyond the quorum changes nothing"
    assert len(scene.star("v").attempts) == 1


@pytest.mark.parametrize(("end", "code"), [("fail", "skipped"), ("cancel", "unchosen")])
def test_is_skipped_once_too_few_are_left(end: str, code: str) -> None:
    scene = voting()
    for voter, state in (("x", StarState.WAITING), ("y", StarState.CANCELLED)):
        if end == "fail":
            scene.fail(voter, FATAL)
        else:
            scene.edit(CancelStar(scene.star(voter).spec.id))
        assert scene.star("v").state is state
    error = scene.star("v").error
    assert error is not None
    assert (error.code, error.message) == (code, "its quorum of 2 is out of reach: of 3 parents 1 are left")


def test_is_skipped_at_once_when_it_comes_too_late() -> None:
    scene = graph(add("x"), add("y"))
    scene.fail("x", FATAL)
    scene.fail("y", FATAL)
    scene.edit(add("v", quorum=1), join("x", "v", QUORUM), join("y", "v", QUORUM))
    assert scene.star("v").state is StarState.CANCELLED


def test_counts_those_that_succeeded_before() -> None:
    scene = graph(add("x"), add("y"), add("z"))
    scene.succeed("x")
    scene.fail("y", FATAL)
    scene.edit(add("v", quorum=1), *(join(voter, "v", QUORUM) for voter in "xyz"))
    assert scene.star("v").state is StarState.RUNNING


def test_other_parents_are_waited_for_as_well() -> None:
    scene = voting(1, add("w"), join("w", "v", LineKind.COMPLETION))
    scene.succeed("x")
    assert (scene.star("v").state, scene.star("v").unmet) == (StarState.WAITING, 1)
    scene.fail("w", FATAL)
    assert scene.star("v").state is StarState.RUNNING


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ((add("u", quorum=2), join("x", "u", QUORUM)), "its quorum is 2, and it has 1 lines"),
        ((add("u", quorum=2),), "its quorum is 2, and it has 0 lines"),
        ((add("u"), join("x", "u", QUORUM)), "needs a star with a quorum"),
        ((add("u", quorum=-1),), "quorum -1 is outside 0 to 10000"),
        ((add("u", quorum=1, inputs={"a": OutputOf(X)}), join("x", "u", QUORUM)), "its quorum may do without"),
        ((RemoveLine(X, V), RemoveLine(Y, V)), "its quorum is 2, and it has 1"),
    ],
)
def test_quorum_that_makes_no_sense_is_refused(edits: tuple[Edit, ...], reason: str) -> None:
    scene = voting()
    with pytest.raises(InvalidEdit, match=reason):
        scene.edit(*edits)


def test_edit_that_takes_its_last_hope_is_refused() -> None:
    scene = voting(slots=2)
    scene.fail("x", FATAL)
    with pytest.raises(InvalidEdit, match="would be out of reach: 1 parents are left"):
        scene.edit(RemoveStar(Z))


def test_ended_star_keeps_the_parent_that_it_names() -> None:
    scene = graph(add("x"), add("y"), join("x", "y"), slots=1)
    scene.edit(RebindInputs(Y, {"a": OutputOf(X)}), CancelStar(Y))
    with pytest.raises(InvalidEdit, match="input a refers to x, which is not a parent of it"):
        scene.edit(RemoveStar(X))


def test_parent_that_it_did_without_can_be_removed_while_it_runs() -> None:
    scene = voting(1, add("w"), join("z", "w"), slots=2)
    scene.succeed("x")
    assert scene.star("v").state is StarState.RUNNING
    assert scene.star("z").state is StarState.READY
    scene.edit(RemoveStar(Z))
    assert (scene.star("v").state, len(scene.star("v").attempts)) == (StarState.RUNNING, 1)
