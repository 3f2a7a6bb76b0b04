"""What runs again after a retry is exactly what has changed; pure stars of one tenant may share a result."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asterism.orchestrator.core.edits import AddLine, AddStar, Edit
from asterism.orchestrator.core.errors import InvalidEdit, NotFound, WrongState
from asterism.orchestrator.core.events import (
    AttemptSucceeded,
    RequestSubmitted,
    RetryRequested,
    WorkerAttached,
)
from asterism.orchestrator.core.ids import ConstellationId, FencingToken, StarId
from asterism.orchestrator.core.inputs import Inputs
from asterism.orchestrator.core.line import LineKind, TaskStarLine
from asterism.orchestrator.core.machine import Machine
from asterism.orchestrator.core.profile import Description, Effect
from asterism.orchestrator.core.records import StarFinished
from asterism.orchestrator.core.request import Request
from asterism.orchestrator.core.results import MAX_KEPT, Results, Reused
from asterism.orchestrator.core.reuse import content_key
from asterism.orchestrator.core.snapshot import Snapshot
from asterism.orchestrator.core.star import (
    Constant,
    OutputOf,
    ParentOutcomes,
    RetryPolicy,
    StarInput,
    StarKind,
    StarState,
    Telling,
    Told,
)
from asterism.orchestrator.core.values import Artifact
from tests.core.making import ADA, ENDLESS, FATAL, LEASE_S, C, Scene, X, Y, add, graph, join, plan_star, profile, tool

PURE = Description("tool:t", Effect.PURE, cache_s=60.0)


def chain() -> Scene:
    """x gives 1, y takes it and gives 2, z takes that and gives 3; all has ended."""
    y = add("y", inputs={"of": OutputOf(X)})
    z = add("z", inputs={"of": OutputOf(Y)})
    scene = graph(add("x", inputs={"n": Constant(1)}), y, z, join("x", "y"), join("y", "z"))
    scene.succeed("plan")
    for result, name in enumerate(("x", "y", "z"), 1):
        scene.succeed(name, result)
    return scene


def retry(scene: Scene, *stars: str, **inputs: Any) -> None:
    named = tuple(map(StarId, stars))
    rebinds = {named[0]: {name: Constant(value) for name, value in inputs.items()}} if inputs else {}
    scene.tell(RetryRequested(scene.at, C, "client:me", named, rebinds))


def test_what_depends_on_the_same_result_keeps_its_own() -> None:
    scene = chain()
    retry(scene, "x")
    scene.succeed("x~2", 1)
    assert (scene.star("y~2").result, scene.star("z~2").result) == (2, 3)
    assert (scene.star("y~2").attempts, scene.star("z~2").source) == ([], "c/z")
    assert scene.machine.constellations[C].state.is_terminal


def test_what_depends_on_another_result_runs_up_to_where_it_is_as_before() -> None:
    scene = chain()
    retry(scene, "x", n=5)
    assert scene.star("x~2").spec.inputs == {"n": Constant(5)}
    scene.succeed("x~2", 10)
    assert scene.star("y~2").state is StarState.RUNNING
    scene.succeed("y~2", 2)
    assert (scene.star("z~2").state, scene.star("z~2").result) == (StarState.SUCCEEDED, 3)
    # And once more: the result is still that of the star that computed it.
    retry(scene, "y~2")
    scene.succeed("y~3", 2)
    assert scene.star("z~3").source == "c/z"


def test_a_named_star_runs_again_though_nothing_has_changed() -> None:
    scene = chain()
    retry(scene, "z")
    assert scene.star("z~2").state is StarState.RUNNING


def test_another_version_of_the_program_is_another_key() -> None:
    scene = chain()
    retry(scene, "x")
    scene.attach(descriptions=(Description("tool:t", version="2"),), held=(int(scene.live("x~2").fencing_token),))
    scene.succeed("x~2", 1)
    assert scene.star("y~2").state is StarState.RUNNING


def test_outcomes_of_parents_are_the_same_under_other_names() -> None:
    gather = add("y", inputs={"all": ParentOutcomes()})
    scene = graph(add("x"), add("w"), gather, join("x", "y", LineKind.COMPLETION), join("w", "y"))
    scene.succeed("plan")
    scene.succeed("w", 7)
    scene.succeed("x", 1)
    scene.succeed("y", 8)
    retry(scene, "x")
    scene.succeed("x~2", 1)
    assert (scene.star("y~2").result, scene.star("y~2").attempts) == (8, [])


def test_an_artifact_stands_for_itself() -> None:
    big = Artifact("ab" * 32, 100_000)
    scene = graph(add("x"), add("y", inputs={"of": OutputOf(X)}), join("x", "y"))
    scene.succeed("plan")
    scene.succeed("x", big)
    scene.succeed("y", big)
    retry(scene, "x")
    scene.succeed("x~2", big)
    assert (scene.star("y~2").result, scene.star("y~2").attempts) == (big, [])
    retry(scene, "x~2")
    scene.succeed("x~3", Artifact("cd" * 32, 100_000))
    assert scene.star("y~3").state is StarState.RUNNING


@pytest.mark.parametrize("changes", [{"may_edit": True}, {"inputs": {"of": Told(Telling.REQUEST), "x": OutputOf(X)}}])
def test_what_does_or_knows_more_than_its_inputs_runs_again(changes: Any) -> None:
    scene = graph(add("x"), add("y", **changes), join("x", "y"))
    scene.succeed("plan")
    scene.succeed("x", 1)
    scene.succeed("y", 2)
    retry(scene, "x")
    scene.succeed("x~2", 1)
    assert scene.star("y~2").state is StarState.RUNNING


def test_what_had_failed_runs_again_in_an_ordinary_retry_and_the_rest_only_if_changed() -> None:
    scene = graph(add("x"), add("y"), add("z"), join("x", "y", LineKind.COMPLETION), join("y", "z"))
    scene.succeed("plan")
    scene.fail("x", FATAL)
    scene.succeed("y", 2)
    scene.succeed("z", 3)
    retry(scene, "x")
    scene.succeed("x~2", 1)
    # y takes nothing of x: it only comes after it.
    assert (scene.star("y~2").attempts, scene.star("z~2").attempts) == ([], [])


def test_what_cannot_be_retried_is_refused_with_the_reason() -> None:
    scene = chain()
    with pytest.raises(NotFound):
        retry(scene, "nobody")
    with pytest.raises(InvalidEdit, match="not among the stars"):
        scene.tell(RetryRequested(scene.at, C, "client:me", (X,), {Y: {"of": Constant(1)}}))
    with pytest.raises(WrongState, match="unless its stars are named"):
        retry(scene)
    retry(scene, "x")
    with pytest.raises(WrongState, match="once the request has ended"):
        retry(scene, "z")
    scene.succeed("x~2", 1)
    with pytest.raises(InvalidEdit, match="as y~2: name that one"):
        retry(scene, "y")
    with pytest.raises(InvalidEdit, match="only a retry"):
        scene.edit(add("new", reuses=X))


class Kept:
    """A machine that lets pure stars share results, and requests of one star."""

    def __init__(self, description: Description = PURE) -> None:
        self.machine = Machine(Snapshot((), (), 0, FencingToken(0)), at=0.0, lease_s=LEASE_S, reuses=True)
        self.machine.step(WorkerAttached(0.0, ADA, "one", profile(64, descriptions=(description,))))
        self.number = 0

    def run(self, at: float = 0.0, owner: str = "me", result: Any = 1, **changes: Any) -> str:
        """Submit a request whose one star is pure; gives the star's source."""
        self.number += 1
        name = ConstellationId(f"c{self.number}")
        spec = replace(tool("plan", inputs={"n": Constant(1)}), **changes)
        request = RequestSubmitted(at, name, name, owner, Request("plan", ""), ENDLESS, spec)
        self.machine.step(request)
        star = self.machine.constellations[name].stars[StarId("plan")]
        if star.live_attempt is not None:
            self.machine.step(AttemptSucceeded(at, ADA, star.live_attempt.fencing_token, result))
        assert star.result == result
        return star.source


def test_pure_stars_share_a_result_while_it_lives() -> None:
    kept = Kept()
    assert [kept.run(), kept.run(1.0), kept.run(59.0), kept.run(60.0), kept.run(61.0)] == [
        "",
        "c1/plan",
        "c1/plan",
        "",
        "c4/plan",
    ]


def test_nothing_is_shared_across_tenants_or_parameters() -> None:
    kept = Kept()
    kept.run()
    assert kept.run(owner="you") == ""
    assert kept.run(inputs={"n": Constant(2)}) == ""
    assert kept.run(inputs={"m": Constant(1)}) == ""
    assert kept.run(inputs={"n": Constant(True)}) == ""
    assert kept.run(inputs={"n": Constant(1)}, priority=5) == "c1/plan"


@pytest.mark.parametrize(
    "description",
    [Description("tool:t", Effect.IDEMPOTENT, cache_s=60.0), Description("tool:t", Effect.PURE), Description("tool:u")],
)
def test_what_is_not_declared_pure_and_kept_is_not_shared(description: Description) -> None:
    kept = Kept(description)
    kept.run()
    assert kept.run() == ""


def test_memory_for_results_is_bounded() -> None:
    results = Results()
    for number in range(MAX_KEPT + 1):
        results.keep("me", number.to_bytes(4), Reused(number, "c/x"), until=10.0)
    assert results.find("me", (0).to_bytes(4), at=0.0) is None
    assert results.find("me", (1).to_bytes(4), at=0.0) == Reused(1, "c/x")
    for number in range(40):
        results.keep("me", number.to_bytes(5), Reused("x" * 1_000_000, "c/x"), until=10.0)
    assert results.find("me", (5).to_bytes(5), at=0.0) is None
    assert results.find("me", (39).to_bytes(5), at=0.0) is not None


def test_a_star_and_its_retry_as_parents_do_not_hide_each_other() -> None:
    spec = tool("y", inputs={"all": ParentOutcomes()})

    def key(**outcomes: int) -> bytes:
        return content_key(
            spec, "", Inputs({"all": {name.replace("_", "~"): value for name, value in outcomes.items()}})
        )

    assert key(x_2=1, x=5) == key(x_3=1, x=5)
    assert key(x_2=1, x=5) != key(x_3=2, x=5)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from("abc"), json_values), st.dictionaries(st.sampled_from("abc"), json_values))
def test_equal_inputs_and_no_others_have_equal_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    spec = tool("x")
    is_equal = content_key(spec, "", Inputs(dict(one))) == content_key(spec, "", Inputs(dict(other)))
    assert is_equal == (repr(_ordered(one)) == repr(_ordered(other)))
    assert content_key(spec, "1", Inputs(dict(one))) != content_key(spec, "2", Inputs(dict(one)))
    assert content_key(replace(spec, kind=StarKind.AGENT), "", Inputs({})) != content_key(spec, "", Inputs({}))


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value)}
    return [_ordered(item) for item in value] if isinstance(value, list) else value


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[list[int], int, int]]:
    """Stars in order: parents, a constant, and the modulus of the sum; small ones often give the same again."""
    stars: list[tuple[list[int], int, int]] = []
    for number in range(draw(st.integers(1, 9))):
        parents = draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else []
        stars.append((parents, draw(st.integers(0, 3)), draw(st.integers(1, 4))))
    return stars


@settings(max_examples=300, deadline=None)
@given(graphs(), st.data())
def test_exactly_what_has_changed_runs_again(stars: list[tuple[list[int], int, int]], data: st.DataObject) -> None:
    scene = Scene(slots=64)
    scene.submit(plan=plan_star())
    edits: list[Edit] = []
    for number, (parents, constant, modulus) in enumerate(stars):
        inputs: dict[str, StarInput] = {"n": Constant(constant), "mod": Constant(modulus)}
        inputs.update({f"p{parent}": OutputOf(StarId(f"s{parent}")) for parent in parents})
        edits.append(AddStar(tool(f"s{number}", inputs=inputs, retry=RetryPolicy(1))))
        edits.extend(AddLine(TaskStarLine(StarId(f"s{parent}"), StarId(f"s{number}"))) for parent in parents)
    scene.edit(*edits)
    scene.succeed("plan")
    constants = [constant for _, constant, _ in stars]

    def compute(constants: list[int]) -> list[int]:
        values: list[int] = []
        for (parents, _, modulus), constant in zip(stars, constants, strict=True):
            values.append((constant + sum(values[parent] for parent in parents)) % modulus)
        return values

    def run_all(values: list[int]) -> set[int]:
        """Let all that runs succeed, until nothing does; gives who ran."""
        ran: set[int] = set()
        while running := [
            star for star in scene.machine.constellations[C].stars.values() if star.live_attempt is not None
        ]:
            for star in running:
                number = int(star.spec.id.partition("~")[0][1:])
                ran.add(number)
                scene.succeed(star.spec.id, values[number])
        return ran

    assert run_all(compute(constants)) == set(range(len(stars)))
    for _ in range(data.draw(st.integers(1, 3))):
        chosen = data.draw(st.integers(0, len(stars) - 1))
        before = compute(constants)
        constants[chosen] = data.draw(st.integers(0, 3))
        after = compute(constants)
        names = [name for name in scene.machine.constellations[C].stars if name.partition("~")[0] == f"s{chosen}"]
        rebind = {StarId(names[-1]): {"n": Constant(constants[chosen])}}
        scene.tell(RetryRequested(scene.at, C, "client:me", (StarId(names[-1]),), rebind))
        changed = {
            number for number, (parents, _, _) in enumerate(stars) if any(before[of] != after[of] for of in parents)
        }
        assert run_all(after) == changed | {chosen}
        latest = {name.partition("~")[0]: star for name, star in scene.machine.constellations[C].stars.items()}
        assert [latest[f"s{number}"].result for number in range(len(stars))] == after
    finished = [record.star for record in scene.records if isinstance(record, StarFinished)]
    assert len(finished) == len(set(finished))
