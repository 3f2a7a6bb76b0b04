"""The budget of tokens: what models write is counted, bounds the request, and is known again after a restart."""

from asterism.orchestrator.core.effects import Stop
from asterism.orchestrator.core.events import AttemptFailed, AttemptProgressed, AttemptSucceeded, Chunk
from asterism.orchestrator.core.records import AttemptEnded, StarFinished
from asterism.orchestrator.core.request import Budget, ConstellationState
from asterism.orchestrator.core.star import StarState
from tests.core.making import BOOM, C, Scene, add, graph
from tests.core.picture import picture, replayed
from tests.core.test_replan import RULE, asked_why

BUDGET = Budget(seconds=None, tokens=100)


def succeed(scene: Scene, star: str, tokens: int) -> None:
    live = scene.live(star)
    scene.tell(AttemptSucceeded(scene.at, live.worker, live.fencing_token, None, None, tokens))


def stream(scene: Scene, star: str, tokens: int) -> list[Stop]:
    live = scene.live(star)
    chunk = Chunk("main", "text", tokens)
    outcome = scene.tell(AttemptProgressed(scene.at, live.worker, live.fencing_token, (chunk,)))
    return [effect for effect in outcome.effects if isinstance(effect, Stop)]


def ended(scene: Scene) -> tuple[ConstellationState, str]:
    constellation = scene.machine.constellations[C]
    return constellation.state, constellation.reason


def test_tokens_of_all_attempts_are_counted() -> None:
    scene = graph(add("x"), add("y"), budget=BUDGET)
    live = scene.live("x")
    scene.tell(AttemptFailed(scene.at, live.worker, live.fencing_token, BOOM, tokens=30))
    assert [record.tokens for record in scene.records if isinstance(record, AttemptEnded)] == [30]
    succeed(scene, "y", 40)
    scene.time(10.0)
    succeed(scene, "x", 20)
    assert scene.machine.constellations[C].tokens == 90
    assert [record.tokens for record in scene.records if isinstance(record, StarFinished)] == [40, 20]
    succeed(scene, "plan", 10)
    assert ended(scene)[0] is ConstellationState.SUCCEEDED
    assert picture(replayed(scene.records)) == picture(scene.machine._state)  # pyright: ignore[reportPrivateUsage]


def test_the_attempt_that_uses_them_up_ends_the_request_and_stops_the_others() -> None:
    scene = graph(add("x"), add("y"), budget=BUDGET)
    succeed(scene, "x", 101)
    assert ended(scene) == (ConstellationState.FAILED, "the budget of 100 tokens is used up")
    assert (scene.star("x").state, scene.star("y").state) == (StarState.SUCCEEDED, StarState.CANCELLED)


def test_text_that_streams_is_counted_before_its_attempt_has_ended() -> None:
    scene = graph(add("x"), add("y"), budget=BUDGET)
    assert stream(scene, "x", 60) == []
    succeed(scene, "y", 30)
    assert len(stream(scene, "x", 11)) == 2  # x, and the plan
    assert ended(scene) == (ConstellationState.FAILED, "the budget of 100 tokens is used up")
    assert scene.machine.constellations[C].tokens == 101


def test_without_a_budget_they_are_only_counted() -> None:
    scene = graph(add("x"), budget=Budget(seconds=None))
    succeed(scene, "x", 10**9)
    assert ended(scene)[0] is ConstellationState.RUNNING
    assert scene.machine.constellations[C].tokens == 10**9


def test_most_of_them_used_up_is_pressure() -> None:
    scene = graph(add("x"), add("y"), budget=BUDGET, replan=RULE)
    succeed(scene, "x", 79)
    assert "replan.1" not in scene.states()
    succeed(scene, "y", 1)
    assert asked_why(scene) == "80% of the budget of 100 tokens are used"
