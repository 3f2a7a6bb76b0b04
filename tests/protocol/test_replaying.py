"""A journal that went over the wire gives the constellation that the orchestrator tells of, at every revision."""

import pytest

from asterism.orchestrator.core.condition import Comparison, Condition
from asterism.orchestrator.core.edits import CancelStar, RebindInputs, RemoveLine, RemoveStar, UpdateStar
from asterism.orchestrator.core.errors import NotFound
from asterism.orchestrator.core.events import PauseRequested, RetryRequested
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.records import ConstellationRecord, EditsApplied, StarFinished
from asterism.orchestrator.core.star import Constant, OutputOf, StarState
from asterism.protocol.convert import (
    constellation_from_proto,
    constellation_to_proto,
    record_from_proto,
    record_to_proto,
)
from asterism.protocol.replaying import differences, divergences, replay
from tests.core.making import BOOM, FATAL, C, Scene, X, Y, Z, add, graph, join
from tests.core.test_replan import RULE, SURPRISE


def story() -> Scene:
    """Failures, a rewrite, a surprise, a pause, a retry: a bit of everything."""
    y = add("y", inputs={"of": OutputOf(X), "n": Constant({"a": [1, None, "x"]})}, replan_when=SURPRISE)
    scene = graph(add("x"), y, add("z"), join("x", "y"), join("y", "z", LineKind.COMPLETION), replan=RULE)
    scene.edit(UpdateStar(Z, priority=3, title="last"), RebindInputs(Y, {"m": Constant(2)}))
    scene.edit(add("odd"), join("z", "odd", LineKind.CONDITION, Condition.of(("state",), Comparison.EQ, "FAILED")))
    scene.fail("x", BOOM)
    scene.tell(PauseRequested(scene.at, C, "client:me", "lunch", True))
    scene.tell(PauseRequested(scene.at, C, "client:me", "", False))
    scene.time(10.0)
    scene.fail("x", FATAL)
    scene.succeed("plan")
    scene.succeed("replan.1", None, add("w"), join("w", "y"), RemoveLine(X, Y), RebindInputs(Y, {"of": Constant(1)}))
    scene.succeed("w", 1)
    scene.succeed("y", {"score": 0.1})
    scene.succeed("replan.2")
    scene.succeed("z")
    scene.tell(RetryRequested(scene.at, C, "client:me", (Y,)))
    return scene


def over_the_wire(scene: Scene) -> list[ConstellationRecord]:
    of_it = [record for record in scene.records if getattr(record, "constellation", None) == C]
    return [record_from_proto(record_to_proto(record)) for record in of_it]  # type: ignore[arg-type]  # only of constellations


def test_the_journal_gives_what_the_orchestrator_tells() -> None:
    scene = story()
    constellation = scene.machine.constellations[C]
    told, _ = constellation_from_proto(constellation_to_proto(constellation, {}, constellation.seq))
    assert list(divergences(replay(over_the_wire(scene)), told)) == []


def test_a_record_that_is_missing_is_noticed() -> None:
    scene = story()
    records = over_the_wire(scene)
    told = scene.machine.constellations[C]
    (last_end,) = [record for record in records if isinstance(record, StarFinished) and record.star == Z]
    without = [record for record in records if record is not last_end]
    with pytest.raises(KeyError):
        replay(without[1:])  # the request itself
    assert next(str(one) for one in divergences(replay(records[:-1]), told)).startswith("attempts differs: ")
    found = {one.where for one in divergences(replay(records[: records.index(last_end)]), told)}
    assert {"unfinished", "star z", "star y~2"} <= found


def test_every_revision_is_the_graph_after_its_edit() -> None:
    scene = story()
    records = over_the_wire(scene)
    revisions = [record.revision for record in records if isinstance(record, EditsApplied)]
    assert revisions == list(range(1, len(revisions) + 1))
    for revision in revisions:
        assert replay(records, revision).revision == revision
    assert list(replay(records, 2).stars) == ["plan", "x", "y", "z"]
    assert replay(records, 2).stars[X].state is StarState.READY
    with pytest.raises(NotFound):
        replay(records, len(revisions) + 1)


def test_differences_name_what_an_edit_changed() -> None:
    scene = graph(add("x"), add("y"), add("z"), join("x", "y"), join("y", "z"))
    scene.edit(
        add("w"), join("x", "w"), RemoveLine(Y, Z), join("y", "z", LineKind.COMPLETION), UpdateStar(Z, title="t")
    )
    scene.edit(RemoveStar(Y), RebindInputs(Z, {"n": Constant(1)}), CancelStar(X))
    records = over_the_wire(scene)
    assert [str(one) for one in differences(replay(records, 2), replay(records, 3))] == [
        "star z title:  -> t",
        "star w added:  -> tool t",
        "line x -> w added:  -> success",
        "line y -> z kind: success -> completion",
    ]
    assert [str(one) for one in differences(replay(records, 3), replay(records, 4))] == [
        "star y removed",
        "star z input n: none -> Constant(value=1)",
        "line x -> y removed",
        "line y -> z removed",
    ]
    assert list(differences(replay(records, 4), replay(records, 4))) == []
