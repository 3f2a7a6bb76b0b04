"""Results that lie outside the graph: passed on by reference, never looked into, and never forged by a value."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asterism.orchestrator.core.condition import Comparison, Condition
from asterism.orchestrator.core.edits import Edit
from asterism.orchestrator.core.effects import Assign, Outcome, Place
from asterism.orchestrator.core.inputs import MAX_INPUTS_BYTES, needs_artifact
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.records import ConstellationEnded
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.star import OutputOf, ParentOutcomes, StarState
from asterism.orchestrator.core.values import Artifact, Json, Path, is_sha256
from tests.core.making import BOOM, C, X, Y, add, graph, join

LARGE = Artifact("ab" * 32, 5_000_000)
OTHER = Artifact("cd" * 32, 70_000)


def assignment(outcome: Outcome) -> Assign:
    (found,) = (effect for effect in outcome.effects if isinstance(effect, Assign))
    return found


@pytest.mark.parametrize("path", [(), ("a", 0)])
def test_child_of_an_artifact_is_told_where_to_put_which_part(path: Path) -> None:
    scene = graph(add("x"), add("y", inputs={"i": OutputOf(X, path)}), join("x", "y"))
    assigned = assignment(scene.succeed("x", LARGE))
    assert assigned.inputs == {"i": None}
    assert assigned.places == (Place("i", (), LARGE, path),)
    assert scene.star("x").result == LARGE


def test_gathered_outcomes_hold_a_place_for_each_artifact_and_the_values_of_the_others() -> None:
    scene = graph(
        add("x"),
        add("y"),
        add("z", inputs={"all": ParentOutcomes()}),
        join("x", "z", LineKind.COMPLETION),
        join("y", "z", LineKind.COMPLETION),
    )
    scene.succeed("x", LARGE)
    assigned = assignment(scene.succeed("y", {"n": 1}))
    assert assigned.inputs == {
        "all": {
            "x": {"state": "SUCCEEDED", "result": None, "error": None},
            "y": {"state": "SUCCEEDED", "result": {"n": 1}, "error": None},
        }
    }
    assert assigned.places == (Place("all", ("x", "result"), LARGE, ()),)


@pytest.mark.parametrize(
    "value",
    [
        {"sha256": LARGE.sha256, "size": LARGE.size},
        {"artifact": str(LARGE), "bytes": LARGE.size},
        {"type": "Artifact", "sha256": LARGE.sha256, "size": LARGE.size},
        str(LARGE),
    ],
)
def test_20_and_24_value_that_looks_like_an_artifact_is_passed_on_as_data(value: Json) -> None:
    scene = graph(add("x"), add("y", inputs={"i": OutputOf(X), "all": ParentOutcomes()}), join("x", "y"))
    assigned = assignment(scene.succeed("x", value))
    assert assigned.places == ()
    assert assigned.inputs["i"] == value
    assert assigned.inputs["all"] == {"x": {"state": "SUCCEEDED", "result": value, "error": None}}
    assert not needs_artifact(scene.machine.constellations[C], scene.star("y"), LARGE)


def test_size_of_an_artifact_does_not_count_but_the_way_into_it_does() -> None:
    long = ("k" * MAX_INPUTS_BYTES,)
    scene = graph(
        add("x"),
        add("y", inputs={"i": OutputOf(X)}),
        add("z", inputs={"i": OutputOf(X, long)}),
        join("x", "y"),
        join("x", "z"),
    )
    assert assignment(scene.succeed("x", Artifact("ef" * 32, 2**40))).star == "y"
    error = scene.star("z").error
    assert error is not None
    assert error.code == "inputs_too_large"


ON_STATE = Condition.of(("state",), Comparison.EQ, "SUCCEEDED")
ON_ERROR = Condition.of(("error",), Comparison.EQ, None)
IS_THERE = Condition.of(("result",), Comparison.EXISTS)
IS_MISSING = Condition.of(("result",), Comparison.MISSING)


@pytest.mark.parametrize(
    ("condition", "state"),
    [
        (ON_STATE, StarState.RUNNING),
        (ON_ERROR, StarState.RUNNING),
        (IS_THERE, StarState.RUNNING),
        (IS_MISSING, StarState.CANCELLED),
        (Condition.of((), Comparison.EXISTS), StarState.RUNNING),
        (Condition.of(("result", "ok"), Comparison.EXISTS), StarState.FAILED),
        (Condition.of(("result", "ok"), Comparison.MISSING), StarState.FAILED),
        (Condition.of(("result", "ok"), Comparison.NE, True), StarState.FAILED),
        (Condition.of(("result",), Comparison.EQ, None), StarState.FAILED),
        (Condition.of((), Comparison.NE, None), StarState.FAILED),
    ],
)
@pytest.mark.parametrize("is_late", [False, True], ids=["line-first", "end-first"])
def test_condition_sees_that_there_is_an_artifact_and_says_so_where_it_would_have_to_look_inside(
    condition: Condition, state: StarState, is_late: bool
) -> None:
    edits: list[Edit] = [add("y"), join("x", "y", LineKind.CONDITION, condition)]
    scene = graph(add("x"), *([] if is_late else edits))
    scene.succeed("x", LARGE)
    if is_late:
        scene.edit(*edits)
    star = scene.star("y")
    assert star.state is state
    if state is StarState.FAILED:
        assert star.error is not None
        assert star.error.code == "condition_unreadable"
        assert "parent x asks for the inside of a result that is an artifact (5000000 bytes)" in star.error.message


def test_condition_that_cannot_be_read_fails_the_request_and_skips_what_comes_after() -> None:
    condition = Condition.of(("result", "ok"), Comparison.EQ, True)
    scene = graph(add("x"), add("y"), add("z"), join("x", "y", LineKind.CONDITION, condition), join("y", "z"))
    scene.succeed("plan")
    outcome = scene.succeed("x", LARGE)
    (end,) = (record for record in outcome.records if isinstance(record, ConstellationEnded))
    assert end.state is ConstellationState.FAILED
    assert "condition_unreadable" in end.reason
    assert scene.states()["z"] is StarState.CANCELLED


def test_failed_parent_is_looked_into_as_ever() -> None:
    condition = Condition.of(("result", "ok"), Comparison.NE, True)
    scene = graph(add("x"), add("y"), join("x", "y", LineKind.CONDITION, condition))
    scene.fail("x", BOOM)
    scene.time(10.0)
    scene.fail("x", BOOM)
    assert scene.star("y").state is StarState.RUNNING


def test_only_who_is_given_an_artifact_needs_it() -> None:
    scene = graph(
        add("x"),
        add("w"),
        add("y", inputs={"i": OutputOf(X, ("a",))}),
        add("z", inputs={"all": ParentOutcomes()}),
        add("blind"),
        *(join(parent, child) for parent in ("x", "w") for child in ("y", "z", "blind")),
    )
    scene.succeed("x", LARGE)
    scene.succeed("w", OTHER)
    needs: Mapping[str, tuple[bool, bool]] = {
        name: (
            needs_artifact(scene.machine.constellations[C], scene.star(name), LARGE),
            needs_artifact(scene.machine.constellations[C], scene.star(name), OTHER),
        )
        for name in ("y", "z", "blind")
    }
    assert needs == {"y": (True, False), "z": (True, True), "blind": (False, False)}


def test_answer_names_an_artifact() -> None:
    scene = graph(add("y"))
    scene.succeed("y", LARGE)
    assert scene.machine.constellations[C].answer() == {Y: LARGE}


@given(st.text("0123456789abcdefABCDEFg \n", min_size=62, max_size=66))
def test_hash_is_64_digits_in_lower_case(text: str) -> None:
    assert is_sha256(text) == (len(text) == 64 and set(text) <= set("0123456789abcdef"))
