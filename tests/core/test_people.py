"""What people do to a request while it runs: they approve, reject, hold back, and let go on."""

import pytest

from asterism.orchestrator.core.effects import Assign
from asterism.orchestrator.core.errors import InvalidEdit, InvalidField, NotFound, WrongState
from asterism.orchestrator.core.events import CancelRequested, Decided, PauseRequested
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.records import ConstellationPaused, StarFinished
from asterism.orchestrator.core.request import ConstellationState
from asterism.orchestrator.core.star import OutputOf, StarKind, StarState, Timeouts
from asterism.orchestrator.core.values import Json
from tests.core.making import FATAL, C, Scene, X, add, graph, join

ASK = StarId("ask")


def asking(**changes: object) -> Scene:
    """x runs; `ask` is decided by a person behind it, and `y` takes what the person said."""
    ask = add("ask", kind=StarKind.APPROVAL, program="approval", **changes)
    y = add("y", inputs={"said": OutputOf(ASK, ("value",))})
    return graph(add("x"), ask, y, join("x", "ask"), join("ask", "y"))


def decide(scene: Scene, approve: bool, star: StarId = ASK, value: Json = None) -> list[Assign]:
    outcome = scene.tell(Decided(scene.at, C, star, "client:me", approve, "because", value))
    return [effect for effect in outcome.effects if isinstance(effect, Assign)]


def hold(scene: Scene, is_paused: bool = True) -> list[Assign]:
    outcome = scene.tell(PauseRequested(scene.at, C, "client:me", "night", is_paused))
    return [effect for effect in outcome.effects if isinstance(effect, Assign)]


def test_yes_is_the_result_and_goes_on_to_the_children() -> None:
    scene = asking()
    scene.succeed("x")
    assert scene.star("ask").state is StarState.READY
    assert scene.machine.waiting_for(C)[ASK] == "a decision: asterism approve c ask, or reject"
    (assigned,) = decide(scene, True, value={"limit": 3})
    assert (assigned.star, assigned.inputs) == ("y", {"said": {"limit": 3}})
    star = scene.star("ask")
    assert (star.state, star.attempts) == (StarState.SUCCEEDED, [])
    assert star.result == {"approved": True, "by": "client:me", "reason": "because", "value": {"limit": 3}}


def test_no_is_a_failure_and_says_who_and_why() -> None:
    scene = asking()
    scene.succeed("x")
    decide(scene, False)
    error = scene.star("ask").error
    assert error is not None
    assert (error.code, error.message) == ("rejected", "rejected by client:me: because")
    assert scene.star("y").state is StarState.CANCELLED


def test_same_answer_again_is_harmless_and_another_is_refused() -> None:
    scene = asking()
    scene.succeed("x")
    decide(scene, True)
    before = list(scene.records)
    decide(scene, True)
    assert scene.records == before
    with pytest.raises(WrongState, match="decided already"):
        decide(scene, False)
    with pytest.raises(WrongState, match="decided already, with another value"):
        decide(scene, True, value=1)


def test_no_again_is_harmless_whatever_value_comes_with_it() -> None:
    scene = asking()
    scene.succeed("x")
    decide(scene, False, value=1)
    before = list(scene.records)
    decide(scene, False, value=1)
    assert scene.records == before


def test_what_cannot_be_decided_is_refused() -> None:
    scene = asking()
    with pytest.raises(WrongState, match="has not ended yet"):
        decide(scene, True)
    with pytest.raises(NotFound):
        decide(scene, True, StarId("nobody"))
    with pytest.raises(InvalidField, match="only approvals are decided"):
        decide(scene, True, X)
    scene.fail("x", FATAL)
    with pytest.raises(WrongState, match="decided already"):
        decide(scene, True)
    scene = asking()
    scene.succeed("x")
    with pytest.raises(InvalidField, match="value"):
        decide(scene, True, value="x" * 70_000)


def test_approval_asks_for_no_worker() -> None:
    scene = Scene(slots=0)
    scene.submit()
    scene.edit(add("ask", kind=StarKind.APPROVAL, program="approval"))
    assert scene.star("ask").state is StarState.READY
    scene.attach()
    assert scene.star("ask").state is StarState.READY
    with pytest.raises(InvalidEdit, match="it requires nothing"):
        scene.edit(add("a2", kind=StarKind.APPROVAL, program="p", requires=frozenset({"model:m"})))


def test_nobody_decides_in_time() -> None:
    scene = asking(timeouts=Timeouts(schedule_to_start_s=60.0))
    scene.succeed("x")
    scene.time(59.0)
    assert scene.star("ask").state is StarState.READY
    scene.time(60.0)
    error = scene.star("ask").error
    assert error is not None
    assert error.message == "nobody decided it within schedule_to_start_s"


def test_paused_request_dispatches_nothing_and_what_runs_goes_on() -> None:
    scene = graph(add("x"), add("y"), join("x", "y"))
    assert hold(scene) == []
    outcome = scene.succeed("x")
    assert not any(isinstance(effect, Assign) for effect in outcome.effects)
    assert scene.star("y").state is StarState.READY
    assert scene.machine.waiting_for(C)[StarId("y")] == "asterism resume c: client:me paused it (night)"
    scene.edit(add("z"))
    assert scene.star("z").state is StarState.READY
    scene.at = 5.0
    assert [assigned.star for assigned in hold(scene, False)] == ["y", "z"]
    assert scene.machine.constellations[C].pause is None


def test_pause_twice_is_one_pause() -> None:
    scene = graph(add("x"))
    hold(scene)
    hold(scene)
    hold(scene, False)
    hold(scene, False)
    assert [record.is_paused for record in scene.records if isinstance(record, ConstellationPaused)] == [True, False]


def test_other_requests_go_on_while_one_is_paused() -> None:
    scene = graph(add("x"))
    hold(scene)
    scene.whole_request("d")
    assert any(isinstance(record, StarFinished) and record.constellation == "d" for record in scene.records)


def test_wait_for_a_slot_begins_anew_after_a_pause() -> None:
    scene = graph(add("y", timeouts=Timeouts(schedule_to_start_s=10.0, start_to_close_s=None)), slots=1)
    scene.at = 5.0
    hold(scene)
    scene.time(50.0)
    assert scene.star("y").state is StarState.READY
    hold(scene, False)
    scene.time(59.0)
    assert scene.star("y").state is StarState.READY
    scene.time(60.0)
    assert scene.star("y").state is StarState.FAILED


def test_approval_is_decided_while_its_request_is_paused() -> None:
    scene = asking()
    scene.succeed("x")
    hold(scene)
    assert decide(scene, True) == []
    assert [assigned.star for assigned in hold(scene, False)] == ["y"]


def test_end_of_a_paused_request_ends_the_pause() -> None:
    scene = graph(add("x"), add("y"), join("x", "y", LineKind.COMPLETION))
    hold(scene)
    scene.tell(CancelRequested(scene.at, C, "enough"))
    assert scene.machine.constellations[C].state is ConstellationState.CANCELLED
    assert scene.machine.constellations[C].pause is None
    with pytest.raises(WrongState, match="ended already"):
        hold(scene)
