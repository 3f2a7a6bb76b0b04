"""Which ready star goes to which worker, and what it is given."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.orchestrator.core.edits import RebindInputs, UpdateStar
from asterism.orchestrator.core.effects import Assign, Outcome, Stop
from asterism.orchestrator.core.events import (
    AttemptSucceeded,
    DrainRequested,
    LabelRequested,
    PauseRequested,
    WorkerDetached,
    WorkerLeaving,
)
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId, WorkerId
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.request import Budget, ConstellationState
from asterism.orchestrator.core.star import (
    Constant,
    OutputOf,
    ParentOutcomes,
    RetryPolicy,
    StarKind,
    StarState,
    Timeouts,
)
from asterism.orchestrator.core.values import Json
from tests.core.making import ADA, BOB, PLAN, C, Scene, X, Y, Z, add, graph, join


def assigned(outcome: Outcome) -> list[tuple[str, str]]:
    return [(effect.star, effect.worker) for effect in outcome.effects if isinstance(effect, Assign)]


def test_assignment_says_all_that_a_worker_needs() -> None:
    scene = graph()
    scene.attach(ADA, held=(1,), models=("b", "a"), labels={"zone": "lab"})
    requires = frozenset({"model:b", "model:a", "label:zone=lab"})
    timeouts = Timeouts(None, 30.0, 5.0)
    reason = add("x", kind=StarKind.REASON, program="p", requires=requires, timeouts=timeouts, may_edit=True)
    outcome = scene.edit(reason, RebindInputs(X, {"board": Constant([1, 2])}))
    assert outcome.effects == [
        Assign(ADA, C, X, 1, FencingToken(2), StarKind.REASON, "p", {"board": [1, 2]}, "a", 2, True, 30.0, 5.0)
    ]
    outcome = scene.edit(add("y"))
    assert outcome.effects == [
        Assign(ADA, C, Y, 1, FencingToken(3), StarKind.TOOL, "t", {}, None, 3, False, None, None)
    ]


def test_higher_priority_goes_first_then_the_longest_ready() -> None:
    scene = graph(
        add("a"), add("b", priority=1), add("d", requires=frozenset({"tool:t"})), add("e", priority=-1), slots=1
    )
    order = []
    running = "plan"
    for _ in range(4):
        ((running, _),) = assigned(scene.succeed(running))
        order.append(running)
    assert order == ["b", "a", "d", "e"]


def test_raised_priority_takes_effect_while_a_star_waits_for_a_slot() -> None:
    scene = graph(add("a"), add("b"), slots=1)
    scene.edit(UpdateStar(StarId("b"), priority=1))
    assert assigned(scene.succeed("plan")) == [("b", "ada")]
    assert assigned(scene.succeed("b")) == [("a", "ada")]
    assert scene.succeed("a").effects[1:] == []


def test_star_that_fits_no_free_worker_does_not_hold_up_the_others() -> None:
    scene = graph()
    scene.attach(BOB, 1, models=("m",))
    scene.edit(add("a", requires=frozenset({"model:m"}), priority=9))
    assert assigned(scene.edit(add("b", requires=frozenset({"model:m"}), priority=9), add("d"))) == [("d", "ada")]


def test_stars_spread_to_the_worker_with_the_most_free_slots_the_first_by_name_among_equals() -> None:
    scene = Scene(0)
    scene.attach(BOB, 3)
    scene.attach(ADA, 3)
    placed = assigned(scene.submit()) + assigned(scene.edit(*(add(f"s{n}") for n in range(6))))
    assert [worker for _, worker in placed] == ["ada", "bob", "ada", "bob", "ada", "bob"]
    assert scene.machine.workers[ADA].free_slots == 0


def test_retry_prefers_a_worker_that_has_not_tried_the_star() -> None:
    scene = graph(add("x", retry=RetryPolicy(3, 0.0)))
    scene.attach(BOB, 1)
    assert assigned(scene.fail("x")) == [("x", "bob")]
    assert assigned(scene.fail("x")) == [("x", "ada")]


def test_retry_passes_over_all_that_have_tried_and_leaves_them_to_others() -> None:
    scene = graph(add("x", retry=RetryPolicy(9, 0.0)))
    scene.attach(BOB, 3)
    scene.attach(WorkerId("cat"), 2)
    scene.tell(PauseRequested(scene.at, C, "client:me", "", True))
    scene.fail("x")
    scene.edit(add("y"))
    # Ada has the most free slots, and is passed over for x alone.
    assert assigned(scene.tell(PauseRequested(scene.at, C, "client:me", "", False))) == [("x", "bob"), ("y", "ada")]
    assert assigned(scene.fail("x")) == [("x", "cat")]
    assert assigned(scene.fail("x")) == [("x", "ada")]


@pytest.mark.parametrize("how", ["drained", "leaving", "detached"])
def test_worker_that_takes_no_stars_gets_none(how: str) -> None:
    scene = graph(add("w"))
    match how:
        case "drained":
            scene.tell(DrainRequested(0.0, ADA, True))
        case "leaving":
            scene.tell(WorkerLeaving(0.0, ADA))
        case _:
            scene.tell(WorkerDetached(0.0, ADA, "one"))
    assert assigned(scene.edit(add("x"))) == []
    assert assigned(scene.attach(BOB)) == [("x", "bob")]


def test_drained_worker_gets_stars_again_when_the_operator_says_so() -> None:
    scene = graph()
    scene.tell(DrainRequested(0.0, ADA, True))
    scene.edit(add("x"))
    assert assigned(scene.tell(DrainRequested(0.0, ADA, False))) == [("x", "ada")]


def test_label_that_a_star_waits_for_brings_it_to_its_worker() -> None:
    scene = graph()
    scene.attach(BOB, labels={"zone": "lab"})
    scene.tell(DrainRequested(0.0, BOB, True))
    scene.edit(add("x", requires=frozenset({"label:zone=lab"})))
    assert scene.star("x").state is StarState.READY
    assert assigned(scene.tell(LabelRequested(0.0, ADA, {"zone": "lab"}))) == [("x", "ada")]


@pytest.mark.parametrize(
    ("result", "path", "value"),
    [
        ("${x}", (), "${x}"),
        ({"a": [1, {"$from": "plan"}]}, ("a", 1), {"$from": "plan"}),
        ({"a": None}, ("a",), None),
    ],
)
def test_input_is_the_part_of_the_parents_result_and_never_looked_into(
    result: Json, path: tuple[str | int, ...], value: Json
) -> None:
    scene = graph(add("x"), add("y", inputs={"i": OutputOf(X, path), "k": Constant("$1")}), join("x", "y"))
    (assignment,) = [effect for effect in scene.succeed("x", result).effects if isinstance(effect, Assign)]
    assert assignment.inputs == {"i": value, "k": "$1"}


def test_input_from_a_path_that_leads_nowhere_fails_the_star() -> None:
    scene = graph(add("x"), add("y", inputs={"i": OutputOf(X, ("a", 0))}), join("x", "y"))
    scene.succeed("x", {"a": []})
    error = scene.star("y").error
    assert error is not None
    assert (error.code, error.message, error.retryable) == (
        "input_missing",
        "input i: x['a'][0] has no value",
        False,
    )
    assert (scene.star("y").state, scene.star("y").attempts) == (StarState.FAILED, [])


def test_input_from_a_parent_that_did_not_succeed_fails_the_star() -> None:
    scene = graph(
        add("x", retry=RetryPolicy(1)), add("y", inputs={"i": OutputOf(X)}), join("x", "y", LineKind.COMPLETION)
    )
    scene.fail("x")
    error = scene.star("y").error
    assert error is not None
    assert error.message == "input i: x has no value"


def test_gathering_input_holds_the_outcome_of_every_parent() -> None:
    scene = graph(
        add("x", retry=RetryPolicy(1)),
        add("y"),
        add("z", inputs={"all": ParentOutcomes()}),
        join("x", "z", LineKind.COMPLETION),
        join("y", "z"),
    )
    scene.fail("x")
    (assignment,) = [effect for effect in scene.succeed("y", 5).effects if isinstance(effect, Assign)]
    assert assignment.inputs == {
        "all": {
            "x": {"state": "FAILED", "result": None, "error": {"code": "boom", "message": "it broke"}},
            "y": {"state": "SUCCEEDED", "result": 5, "error": None},
        }
    }


def test_inputs_from_others_are_bounded_together() -> None:
    """The bound is 2 MiB; a text counts its length and 2, a constant nothing, for it was bounded when it was given."""
    exact = "x" * (1024 * 1024 - 2)
    for excess, state in (("", StarState.RUNNING), ("x", StarState.FAILED)):
        scene = graph(
            add("x"),
            add("y"),
            add("z", inputs={"k": Constant(1), "i": OutputOf(X), "j": OutputOf(Y)}),
            join("x", "z"),
            join("y", "z"),
        )
        scene.succeed("x", exact)
        scene.succeed("y", exact + excess)
        assert scene.star("z").state is state
    error = scene.star("z").error
    assert error is not None
    assert (error.code, error.message) == (
        "inputs_too_large",
        "inputs of more than 2097152 bytes; j went over",
    )


def test_budget_of_attempts_ends_the_request_when_one_more_would_be_needed() -> None:
    scene = graph(add("x"), budget=Budget(attempts=2, seconds=None))
    assert scene.states() == {"plan": StarState.RUNNING, "x": StarState.RUNNING}
    outcome = scene.edit(add("y"), add("z"))
    constellation = scene.machine.constellations[C]
    assert (constellation.state, constellation.reason) == (
        ConstellationState.FAILED,
        "the budget of 2 attempts is used up",
    )
    assert set(scene.states().values()) == {StarState.CANCELLED}
    assert [effect.fencing_token for effect in outcome.effects if isinstance(effect, Stop)] == [1, 2]
    assert constellation.attempts == 2


def test_star_that_cannot_run_does_not_hold_up_what_is_ready_with_it() -> None:
    scene = graph(budget=Budget(attempts=1, seconds=None))
    scene.submit("other")
    scene.tell(DrainRequested(0.0, ADA, True))
    scene.edit(add("x"))
    scene.edit(add("y"), add("z", inputs={"i": OutputOf(Y, ("nothing",))}), join("y", "z"), name="other")
    scene.edit(add("w"), name="other")
    outcome = scene.tell(DrainRequested(0.0, ADA, False))
    assert scene.star("x").state is StarState.CANCELLED
    assert assigned(outcome) == [("y", "ada"), ("w", "ada")]
    scene.tell(DrainRequested(0.0, ADA, True))
    of_y = scene.machine.constellations[ConstellationId("other")].stars[Y].live_attempt
    assert of_y is not None
    scene.tell(AttemptSucceeded(0.0, ADA, of_y.fencing_token, {}))
    scene.edit(add("v"), name="other")
    assert assigned(scene.tell(DrainRequested(0.0, ADA, False))) == [("v", "ada")]
    assert scene.machine.constellations[ConstellationId("other")].stars[Z].state is StarState.FAILED


def test_budget_of_one_request_leaves_another_alone() -> None:
    scene = graph(budget=Budget(attempts=1, seconds=None))
    scene.submit("other")
    scene.edit(add("x"))
    scene.edit(add("y"), name="other")
    other = scene.machine.constellations[ConstellationId("other")]
    assert (other.state, other.stars[Y].state) == (ConstellationState.RUNNING, StarState.RUNNING)
    assert scene.star("plan").state is StarState.CANCELLED
    assert PLAN in other.stars


MODELS = ("m", "n")
fleets = st.lists(st.tuples(st.integers(1, 4), st.sets(st.sampled_from(MODELS))), min_size=1, max_size=5)
"""The slots and the models of each worker."""
plans = st.lists(st.tuples(st.integers(-2, 2), st.sets(st.sampled_from(MODELS))), min_size=1, max_size=16)
"""The priority of each star, and the models that it asks for."""


@settings(deadline=None)
@given(fleets, plans)
def test_each_star_goes_where_looking_at_every_worker_would_send_it(
    fleet: list[tuple[int, set[str]]], plan: list[tuple[int, set[str]]]
) -> None:
    scene = Scene(0)
    for number, (slots, models) in enumerate(fleet):
        scene.attach(WorkerId(f"w{number}"), slots, models=sorted(models))
    # Whatever nobody offers is refused at the door.
    plan = [(priority, models) for priority, models in plan if any(models <= offered for _, offered in fleet)]
    stars = [
        add(f"s{number}", priority=priority, requires=frozenset(f"model:{model}" for model in models))
        for number, (priority, models) in enumerate(plan)
    ]
    submitted = dict(assigned(scene.submit()))
    free = {f"w{number}": slots for number, (slots, _) in enumerate(fleet)}
    for worker in submitted.values():
        free[worker] -= 1
    expected = []
    for number, (_, models) in sorted(enumerate(plan), key=lambda star: -star[1][0]):
        fitting = [f"w{place}" for place, (_, offered) in enumerate(fleet) if models <= offered and free[f"w{place}"]]
        if fitting:
            chosen = max(fitting, key=free.__getitem__)
            free[chosen] -= 1
            expected.append((f"s{number}", chosen))
    if stars:
        assert assigned(scene.edit(*stars)) == expected


def test_star_whose_backoff_is_over_waits_for_a_parent_that_it_gets_meanwhile() -> None:
    scene = Scene(slots=1)
    scene.submit()
    scene.succeed("plan", None, add("x"))
    scene.fail("x")
    scene.whole_request("fills the slot")
    scene.submit("other")
    scene.time(30.0)
    assert scene.machine.waiting_for(C) == {X: "a free slot"}
    scene.edit(add("y"), join("y", "x"))
    assert scene.machine.waiting_for(C) == {X: "y", Y: "a free slot"}
    other = scene.machine.constellations[ConstellationId("other")].stars[PLAN].live_attempt
    assert other is not None
    scene.tell(AttemptSucceeded(scene.at, ADA, other.fencing_token, None))
    assert (scene.star("x").state, scene.star("y").state) == (StarState.WAITING, StarState.RUNNING)
    scene.succeed("y")
    assert scene.live("x").number == 2
