"""What a batch of edits is refused for, and what it is not; a refusal names the star and the reason."""

import math
from typing import Any

import pytest

from asterism.orchestrator.core.condition import Comparison, Condition
from asterism.orchestrator.core.edits import CancelStar, Edit, RebindInputs, RemoveLine, RemoveStar, UpdateStar
from asterism.orchestrator.core.errors import InvalidEdit, InvalidField, StaleRevision
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.line import LineKind
from asterism.orchestrator.core.request import Budget
from asterism.orchestrator.core.star import Constant, OutputOf, RetryPolicy, StarState, Timeouts
from tests.core.making import PLAN, C, Scene, X, Y, Z, add, graph, join, tool

ALWAYS = Condition.of(("state",), Comparison.EXISTS)


def waiting() -> Scene:
    """x -> y -> z, none of which runs: x waits for the plan star."""
    return graph(add("x"), add("y"), add("z"), join("plan", "x"), join("x", "y"), join("y", "z"))


def refused(scene: Scene, *edits: Edit) -> tuple[str, str]:
    before = scene.machine.constellations[C].revision
    with pytest.raises(InvalidEdit) as refusal:
        scene.edit(*edits)
    assert scene.machine.constellations[C].revision == before
    return refusal.value.star, refusal.value.reason


@pytest.mark.parametrize(
    ("edits", "star", "reason"),
    [
        ([add("x")], "x", "there is a star of this name already"),
        ([add("n"), add("n")], "n", "there is a star of this name already"),
        ([add("n"), RemoveStar(StarId("n")), add("n")], "n", "there is a star of this name already"),
        ([RemoveStar(X), add("x")], "x", "there is a star of this name already"),
        ([RemoveStar(StarId("n"))], "n", "there is no such star; there are plan, x, y, z"),
        ([RemoveStar(X), RemoveStar(X)], "x", "there is no such star; there are plan, x, y, z"),
        ([RemoveStar(Z), UpdateStar(Z)], "z", "there is no such star; there are plan, x, y, z"),
        ([RemoveStar(X), join("x", "z")], "x", "there is no such star; there are plan, x, y, z"),
        ([RemoveStar(Z), join("x", "z")], "z", "there is no such star; there are plan, x, y, z"),
        ([add("n"), RemoveStar(StarId("n")), CancelStar(StarId("n"))], "n", None),
        ([join("n", "x")], "n", "there is no such star; there are plan, x, y, z"),
        ([join("x", "n")], "n", None),
        ([CancelStar(StarId("n"))], "n", None),
        ([RemoveLine(StarId("n"), X)], "x", "has no line from n"),
        ([RemoveLine(X, StarId("n"))], "n", None),
        ([RemoveLine(X, Z)], "z", "has no line from x"),
        ([RemoveLine(X, Y), RemoveLine(X, Y)], "y", "has no line from x"),
        ([join("x", "y")], "y", "has a line from x already"),
        ([join("x", "z"), join("x", "z")], "z", "has a line from x already"),
        ([add("n", "x", "y", "x")], "n", "has a line from x already"),
        ([add("n", "x"), join("x", "n")], "n", "has a line from x already"),
        ([add("n", "x", "m")], "m", "there is no such star; there are plan, x, y, z"),
        ([RemoveStar(X), add("n", "x")], "x", "there is no such star; there are plan, x, y, z"),
        ([add("n", "y", inputs={"i": OutputOf(X)})], "n", "input i refers to x, which is not a parent of it"),
        ([UpdateStar(PLAN, priority=1)], "plan", "is RUNNING and cannot be updated any more"),
        ([RemoveStar(PLAN)], "plan", "is RUNNING and cannot be removed any more"),
        ([join("x", "plan")], "plan", "is RUNNING and cannot be given other parents any more"),
        ([RebindInputs(PLAN, {})], "plan", "is RUNNING and cannot be given other inputs any more"),
        ([join("x", "z", LineKind.CONDITION)], "z", "a line has a condition exactly when its kind is condition"),
        (
            [join("x", "z", LineKind.SUCCESS, ALWAYS)],
            "z",
            "a line has a condition exactly when its kind is condition",
        ),
        (
            [join("x", "z", LineKind.COMPLETION, ALWAYS)],
            "z",
            "a line has a condition exactly when its kind is condition",
        ),
        ([UpdateStar(X, priority=101)], "x", "priority 101 is outside -100 to 100"),
        ([RebindInputs(Z, {"no name": Constant(1)})], "z", "input 'no name' is not a name"),
        ([RebindInputs(Z, {"i": OutputOf(X)})], "z", "input i refers to x, which is not a parent of it"),
        ([add("n", inputs={"i": OutputOf(X)})], "n", "input i refers to x, which is not a parent of it"),
        (
            [add("n", inputs={"i": OutputOf(Y)}), join("x", "n")],
            "n",
            "input i refers to y, which is not a parent of it",
        ),
        ([RebindInputs(Z, {"i": OutputOf(Y)}), RemoveLine(Y, Z)], "z", None),
        ([RebindInputs(Z, {"i": OutputOf(Y)}), RemoveStar(Y)], "z", None),
        ([join("x", "z"), RebindInputs(Z, {"i": OutputOf(X)}), RemoveStar(X)], "z", None),
        ([RebindInputs(Z, {}), RemoveStar(Z), RebindInputs(Y, {"i": OutputOf(PLAN)})], "y", None),
        ([join("x", "x")], "x", "a cycle: x -> x"),
        ([join("z", "z")], "z", "a cycle: z -> z"),
        ([add("n"), join("n", "n")], "n", "a cycle: n -> n"),
        ([add("n", "n")], "n", "a cycle: n -> n"),
        ([add("n", "z"), join("n", "x")], "x", "a cycle: x -> y -> z -> n -> x"),
        ([join("y", "x")], "y", "a cycle: y -> x -> y"),
        ([join("z", "x")], "y", "a cycle: y -> z -> x -> y"),
        ([RemoveLine(X, Y), join("x", "y"), join("y", "x")], "x", "a cycle: x -> y -> x"),
        ([add("n"), add("m"), join("n", "m"), join("m", "n")], "n", "a cycle: n -> m -> n"),
        ([add("n"), join("y", "n"), join("z", "x")], "z", "a cycle: z -> x -> y -> z"),
        ([add("n"), join("z", "n"), join("z", "x")], "x", "a cycle: x -> y -> z -> x"),
    ],
)
def test_edit_that_does_not_fit_is_refused_with_the_reason(edits: list[Edit], star: str, reason: str | None) -> None:
    said = refused(waiting(), *edits)
    assert said[0] == star
    assert reason is None or said[1] == reason


@pytest.mark.parametrize(
    "edits",
    [
        [UpdateStar(X, priority=100)],
        [UpdateStar(X, priority=-100)],
        [RemoveLine(X, Y)],
        [RemoveLine(X, Y), join("y", "x")],
        [RemoveLine(X, Y), join("x", "y", LineKind.COMPLETION)],
        [RemoveStar(Y), join("z", "x")],
        [join("x", "z"), join("plan", "z", LineKind.COMPLETION)],
        [join("x", "z", LineKind.CONDITION, ALWAYS)],
        [add("n"), UpdateStar(StarId("n"), priority=1), RebindInputs(StarId("n"), {}), RemoveStar(StarId("n"))],
        [add("n"), join("x", "n"), RemoveStar(StarId("n")), RemoveStar(X)],
        [add("n"), join("n", "x"), RemoveStar(StarId("n"))],
        [add("n"), join("n", "x"), RemoveLine(StarId("n"), X), join("x", "n")],
        [add("n", inputs={"i": OutputOf(X)}), join("x", "n")],
        [add("n", "x", inputs={"i": OutputOf(X)}), add("m", "n", "y"), join("m", "z")],
        [add("n", "x"), RemoveLine(X, StarId("n")), join("x", "n", LineKind.COMPLETION)],
        [add("n", "x"), RemoveStar(X)],
        [RebindInputs(Z, {"i": OutputOf(Y), "k": Constant(1)})],
        [RebindInputs(Z, {"i": OutputOf(X)}), RemoveStar(Z)],
        [CancelStar(X), CancelStar(X)],
        [CancelStar(PLAN)],
        [add("n"), add("m"), join("x", "n"), join("x", "m"), join("n", "z"), join("m", "z")],
    ],
)
def test_edit_that_fits_is_applied(edits: list[Edit]) -> None:
    scene = waiting()
    assert scene.edit(*edits).reply is not None
    assert scene.machine.constellations[C].revision == 3


def test_input_of_a_star_that_lost_its_line_in_an_earlier_edit_stays_checked() -> None:
    scene = waiting()
    scene.edit(RebindInputs(Z, {"i": OutputOf(Y)}))
    assert refused(scene, RemoveLine(Y, Z)) == ("z", "input i refers to y, which is not a parent of it")
    assert refused(scene, RemoveStar(Y)) == ("z", "input i refers to y, which is not a parent of it")
    scene.edit(RemoveLine(Y, Z), RebindInputs(Z, {"i": Constant(0)}))
    assert scene.star("z").spec.inputs == {"i": Constant(0)}


def test_terminal_star_is_not_edited_and_may_have_new_children() -> None:
    scene = waiting()
    scene.succeed("plan")
    scene.succeed("x")
    assert refused(scene, UpdateStar(X)) == ("x", "is SUCCEEDED and cannot be updated any more")
    assert refused(scene, RemoveLine(PLAN, X)) == ("x", "is SUCCEEDED and cannot be given other parents any more")
    scene.edit(add("n"), join("x", "n"), CancelStar(X))
    assert scene.states() == {
        "plan": StarState.SUCCEEDED,
        "x": StarState.SUCCEEDED,
        "y": StarState.RUNNING,
        "z": StarState.WAITING,
        "n": StarState.RUNNING,
    }


def test_star_may_not_cancel_itself_and_may_cancel_another() -> None:
    scene = waiting()
    refusal = scene.propose("plan", CancelStar(PLAN)).records[0]
    assert getattr(refusal, "reasons", None) == ("star plan: cannot cancel itself; it may fail instead",)
    scene.propose("plan", CancelStar(Z))
    assert scene.star("z").state is StarState.CANCELLED


def test_budget_of_stars_counts_those_there_are_and_those_of_the_batch() -> None:
    scene = graph(budget=Budget(stars=3, seconds=None))
    assert refused(scene, add("a"), add("b"), add("d")) == ("d", "the request's budget of 3 stars is used up")
    scene.edit(add("a"))
    assert refused(scene, add("b"), add("d")) == ("d", "the request's budget of 3 stars is used up")
    scene.edit(add("b"))
    assert refused(scene, add("d"))[0] == "d"


def test_batch_has_at_least_one_edit_and_at_most_twenty_thousand() -> None:
    scene = waiting()
    scene.edit(*[CancelStar(Z)] * 20_000)
    told = "20001 edits in one batch, with the parents of new stars; at most 20000"
    with pytest.raises(InvalidField, match=told) as refusal:
        scene.edit(*[CancelStar(Z)] * 20_001)
    assert refusal.value.field == "edits"
    with pytest.raises(InvalidField, match=told):
        scene.edit(add("n", *["z"] * 20_000))
    with pytest.raises(InvalidField, match="at least one edit"):
        scene.edit()


def test_batch_is_made_against_a_revision_that_has_been() -> None:
    scene = waiting()
    with pytest.raises(InvalidField, match="3 has not been reached: the graph is at 2"):
        scene.edit(UpdateStar(X), base=3)
    scene.edit(UpdateStar(X), base=2)


@pytest.mark.parametrize(
    ("edit", "changed"),
    [
        (UpdateStar(X, title="t"), ("x",)),
        (join("x", "z"), ("x",)),
        (RemoveLine(X, Y), ("x",)),
        (RemoveStar(X), ("x",)),
        (CancelStar(X), ("x",)),
        (RebindInputs(X, {}), ("x",)),
        (UpdateStar(Y, title="t"), ()),
        (add("n", "y", "x"), ("x",)),
        (add("n", "y"), ()),
        (join("plan", "y"), ()),
        (add("n"), ()),
    ],
)
def test_batch_is_stale_when_a_star_that_it_names_was_edited_since(edit: Edit, changed: tuple[str, ...]) -> None:
    scene = waiting()
    scene.edit(UpdateStar(X, title="other"))
    if changed:
        with pytest.raises(StaleRevision) as refusal:
            scene.edit(edit, base=2)
        assert (refusal.value.base, refusal.value.current, refusal.value.stars) == (2, 3, changed)
    else:
        scene.edit(edit, base=2)
    scene.edit(UpdateStar(X, title="seen"), base=3)


def test_batch_with_a_base_may_name_its_own_new_stars() -> None:
    scene = waiting()
    scene.edit(UpdateStar(X, title="other"))
    scene.edit(add("n"), join("y", "n"), base=2)
    assert scene.star("n").state is StarState.WAITING


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": "a b"}, "a name has 1 to 64 letters"),
        ({"id": "x" * 61}, "a new star's name has at most 60 characters"),
        ({"id": "x~2"}, "names that end in '~' and a number are kept for retries"),
        ({"program": "a/b"}, "program 'a/b' is not a name"),
        ({"priority": 101}, "priority 101 is outside -100 to 100"),
        ({"priority": -101}, "priority -101 is outside -100 to 100"),
        ({"requires": frozenset(f"label:l{n}=1" for n in range(33))}, "33 requirements; at most 32"),
        ({"inputs": {f"i{n}": Constant(n) for n in range(65)}}, "65 inputs; at most 64"),
        ({"inputs": {"a b": Constant(1)}}, "input 'a b' is not a name"),
        ({"timeouts": Timeouts(0.0, None)}, "schedule_to_start_s must be a positive number of seconds"),
        ({"timeouts": Timeouts(None, -1.0)}, "start_to_close_s must be a positive number of seconds"),
        ({"timeouts": Timeouts(None, None, math.inf)}, "heartbeat_s must be a positive number of seconds"),
        ({"timeouts": Timeouts(None, math.nan)}, "start_to_close_s must be a positive number of seconds"),
        ({"retry": RetryPolicy(0)}, "max_attempts must be 1 to 100"),
        ({"retry": RetryPolicy(101)}, "max_attempts must be 1 to 100"),
        ({"retry": RetryPolicy(1, -0.1)}, "backoff_s must be a number of seconds, 0 or more"),
        ({"retry": RetryPolicy(1, math.nan)}, "backoff_s must be a number of seconds, 0 or more"),
        ({"retry": RetryPolicy(1, math.inf)}, "backoff_s must be a number of seconds, 0 or more"),
        ({"retry": RetryPolicy(1, 1.0, 0.9)}, "multiplier must be 1 to 100"),
        ({"retry": RetryPolicy(1, 1.0, math.inf)}, "multiplier must be 1 to 100"),
        ({"retry": RetryPolicy(1, 2.0, 1.0, 1.9)}, "max_backoff_s must not be less than backoff_s"),
        ({"retry": RetryPolicy(1, 2.0, 1.0, math.inf)}, "max_backoff_s must not be less than backoff_s"),
        ({"retry": RetryPolicy(jitter=-0.1)}, "jitter must be between 0 and 1"),
        ({"retry": RetryPolicy(jitter=1.1)}, "jitter must be between 0 and 1"),
        ({"requires": frozenset({"model:large"})}, "no worker knows model:large; known are model:small, model:tiny"),
        ({"requires": frozenset({"gpu"})}, "no worker knows gpu; known are none"),
        ({"program": "shell"}, "no worker knows tool:shell; known are tool:t"),
    ],
)
def test_star_out_of_range_is_refused(changes: dict[str, Any], reason: str) -> None:
    scene = Scene(0)
    scene.attach(models=("tiny", "small"), labels={f"l{n}": "1" for n in range(40)})
    scene.submit()
    star, said = refused(scene, add(**{"name": "n", **changes}) if "id" not in changes else add(changes["id"]))
    assert star == changes.get("id", "n")
    assert said.startswith(reason)
    assert said == reason or "id" in changes


@pytest.mark.parametrize(
    "changes",
    [
        {"requires": frozenset(f"label:l{n}=1" for n in range(32))},
        {"inputs": {f"i{n}": Constant(n) for n in range(64)}},
        {"timeouts": Timeouts(0.001, 0.5, 1.0)},
        {"retry": RetryPolicy(1, 0.0, 1.0, 0.0, 0.0)},
        {"retry": RetryPolicy(100, 3.0, 1.0, 3.0, 1.0)},
    ],
)
def test_star_at_the_bounds_is_taken(changes: dict[str, Any]) -> None:
    scene = Scene(0)
    scene.attach(labels={f"l{n}": "1" for n in range(40)})
    scene.submit()
    scene.edit(add("n", **changes))
    assert scene.star("n").state is StarState.RUNNING


def test_update_is_checked_as_the_star_would_be() -> None:
    scene = waiting()
    assert refused(scene, UpdateStar(X, requires=frozenset({"model:m"})))[1].startswith("no worker knows model:m")
    scene.edit(RebindInputs(X, {f"i{n}": Constant(n) for n in range(60)}))
    assert refused(scene, RebindInputs(X, {f"k{n}": Constant(n) for n in range(5)}))[1] == "65 inputs; at most 64"


def test_star_that_waits_for_its_next_attempt_keeps_one() -> None:
    scene = graph(add("x", retry=RetryPolicy(3, 10.0)))
    scene.fail("x")
    said = refused(scene, UpdateStar(X, retry=RetryPolicy(1)))
    assert said == ("x", "has used 1 attempts already; max_attempts must be more, or cancel it")
    scene.edit(UpdateStar(X, retry=RetryPolicy(2)))
    scene.edit(UpdateStar(X, title="one is left"))
    scene.time(10.0)
    scene.fail("x")
    assert scene.star("x").state is StarState.FAILED


def test_anything_may_be_asked_for_while_no_worker_has_ever_joined() -> None:
    scene = Scene(0)
    scene.submit()
    scene.edit(add("n", requires=frozenset({"model:large"})))
    assert scene.star("n").spec == tool("n", requires=frozenset({"model:large"}))


@pytest.mark.parametrize(
    ("count", "listed"),
    [
        (11, "plan, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10"),
        (12, "plan, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10 and 1 more"),
        (14, "plan, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10 and 3 more"),
    ],
)
def test_refusal_lists_a_dozen_of_the_stars_there_are(count: int, listed: str) -> None:
    scene = graph(*(add(f"s{number}") for number in range(count)))
    assert refused(scene, CancelStar(StarId("n"))) == ("n", f"there is no such star; there are {listed}")
