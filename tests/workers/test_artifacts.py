"""What a worker does with results that are too large for the graph, and with inputs that are."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from asterism.agents.asks import Json, Program, ProgramContext, ProgramResult
from asterism.agents.tools import TOOLS
from asterism.orchestrator.core.effects import Place
from asterism.orchestrator.core.errors import AsterismError, DataLoss, Forbidden, NotFound
from asterism.orchestrator.core.ids import FencingToken
from asterism.orchestrator.core.star import StarKind
from asterism.orchestrator.core.values import MAX_INLINE_BYTES, Artifact
from asterism.workers.artifacts import MAX_FETCHED_BYTES, Artifacts, Cache, encode, fill_places, fits_inline
from asterism.workers.attempts import Attempts
from asterism.workers.reports import AttemptFailed, Failed, Report, Succeeded
from asterism.workers.runner import Runner
from asterism.workers.step_threads import StepThreads
from asterism.workers.tools import Toolbox
from tests.workers.conftest import MakeRunner
from tests.workers.making import MAX_BYTES, TOKEN, RecordingLedger, RecordingPort, an_assignment

Inputs = Mapping[str, Json]
LARGE: Json = {"text": "a" * 100_000, "list": [1, {"deep": "é" * 40_000}]}


def stored(port: RecordingPort, value: Json) -> Artifact:
    """An artifact that the orchestrator has."""
    data, artifact = encode(json.dumps(value))
    port.kept[artifact] = data
    return artifact


def echo(inputs: Inputs, context: ProgramContext) -> Program:
    yield from ()
    return ProgramResult({name: inputs[name] for name in inputs})


def error_of(report: Report) -> tuple[str, bool]:
    assert isinstance(report, Failed), report
    return report.error.code, report.error.retryable


async def test_large_result_is_put_first_and_reported_by_name(make_runner: MakeRunner, port: RecordingPort) -> None:
    report = await make_runner(echo).run(an_assignment(inputs={"x": LARGE}))
    ((artifact, data),) = port.kept.items()
    assert report == Succeeded(TOKEN, "", None, 0, artifact)
    assert json.loads(data) == {"x": LARGE}
    assert len(data) == artifact.size


@pytest.mark.parametrize("letter", ["x", "é", "𝄞"])
def test_result_of_just_the_limit_stays_in_the_graph(letter: str) -> None:
    text = letter * (MAX_INLINE_BYTES // len(letter.encode()))
    assert fits_inline(text)
    assert not fits_inline(text + "x")


async def test_small_result_stays_in_the_graph(make_runner: MakeRunner, port: RecordingPort) -> None:
    report = await make_runner(echo).run(an_assignment(inputs={"x": "x" * 60_000}))
    assert isinstance(report, Succeeded)
    assert report.artifact is None
    assert port.kept == {}


async def test_result_over_the_orchestrators_limit_fails_the_star(make_runner: MakeRunner, port: RecordingPort) -> None:
    report = await make_runner(echo).run(an_assignment(inputs={"x": "x" * MAX_BYTES}))
    assert error_of(report) == ("result_too_large", False)
    assert port.kept == {}


async def test_result_that_the_orchestrator_refuses_is_tried_again(
    make_runner: MakeRunner, port: RecordingPort
) -> None:
    port.refusal = NotFound("attempt", "7")
    report = await make_runner(echo).run(an_assignment(inputs={"x": LARGE}))
    assert error_of(report) == ("artifact_refused", True)


async def test_program_sees_plain_values_where_artifacts_were(make_runner: MakeRunner, port: RecordingPort) -> None:
    first, second = stored(port, LARGE), stored(port, [1, 2])
    outcomes: Json = {"p": {"state": "SUCCEEDED", "result": None}, "q": {"state": "SUCCEEDED", "result": 3}}
    assignment = an_assignment(
        inputs={"whole": None, "part": None, "all": outcomes, "plain": {"artifact": str(first)}},
        places=(
            Place("whole", (), second, ()),
            Place("part", (), first, ("list", 0)),
            Place("all", ("p", "result"), second, ()),
            Place("all", ("q", "result"), first, ("list", 1, "deep")),
        ),
    )
    report = await make_runner(echo).run(assignment)
    assert isinstance(report, Succeeded)
    artifact = report.artifact
    assert artifact is not None
    assert json.loads(port.kept[artifact]) == {
        "whole": [1, 2],
        "part": 1,
        "all": {"p": {"state": "SUCCEEDED", "result": [1, 2]}, "q": {"state": "SUCCEEDED", "result": "é" * 40_000}},
        "plain": {"artifact": str(first)},
    }
    assert sorted(port.asked, key=str) == sorted([first, second], key=str)
    assert assignment.inputs["all"] == outcomes


async def test_tool_sees_plain_values_and_its_large_value_is_put(port: RecordingPort) -> None:
    large = stored(port, LARGE)
    ledger = RecordingLedger()
    async with Toolbox([], {"noop": TOOLS["noop"]}) as tools:
        runner = Runner(programs={}, tools=tools, engines={}, port=port, steps=StepThreads())
        async with asyncio.TaskGroup() as group:
            attempts = Attempts(runner, tools, ledger, group)
            given: Any = {"kind": StarKind.TOOL, "model": None}
            place = Place("x", (), large, ("text",))
            attempts.start(an_assignment("noop", inputs={"x": None}, places=(place,), **given))
            other = FencingToken(8)
            attempts.start(an_assignment("noop", inputs={"x": "b" * 100_000}, fencing_token=other, **given))
            await ledger.wait_for(2)
    results = {report.fencing_token: report for report in ledger.reports if isinstance(report, Succeeded)}
    for token, letter in ((TOKEN, "a"), (other, "b")):
        artifact = results[token].artifact
        assert artifact is not None
        assert json.loads(port.kept[artifact]) == {"x": letter * 100_000}


async def test_artifact_is_fetched_once_by_siblings_and_not_at_all_by_who_made_it(port: RecordingPort) -> None:
    artifacts = Artifacts(port, StepThreads())
    large = stored(port, LARGE)
    assignment = an_assignment(inputs={"x": None}, places=(Place("x", (), large, ()),))
    filled = await asyncio.gather(*(artifacts.fill(assignment) for _ in range(5)))
    assert [one.inputs for one in filled] == [{"x": LARGE}] * 5
    assert port.asked == [large]
    kept = await artifacts.keep(Succeeded(TOKEN, json.dumps([LARGE])))
    assert isinstance(kept, Succeeded)
    assert kept.artifact is not None
    await artifacts.fill(an_assignment(inputs={"x": None}, places=(Place("x", (), kept.artifact, ()),)))
    assert port.asked == [large]


async def test_fetch_that_is_cancelled_is_made_again_by_the_next(port: RecordingPort) -> None:
    artifacts = Artifacts(port, StepThreads())
    large = stored(port, LARGE)
    assignment = an_assignment(inputs={"x": None}, places=(Place("x", (), large, ()),))
    async with asyncio.TaskGroup() as group:
        first = group.create_task(artifacts.fill(assignment))
        second = group.create_task(artifacts.fill(assignment))
        await asyncio.sleep(0)
        first.cancel()
    assert first.cancelled()
    assert second.result().inputs == {"x": LARGE}


@pytest.mark.parametrize(
    ("refusal", "code", "retryable"),
    [
        (DataLoss("artifact", "a", "it is empty"), "data_loss", False),
        (NotFound("artifact", "a"), "artifact_missing", False),
        (Forbidden("worker", "read"), "artifact_refused", True),
    ],
)
async def test_input_that_cannot_be_had_fails_the_attempt_and_says_why(
    make_runner: MakeRunner, port: RecordingPort, refusal: AsterismError, code: str, retryable: bool
) -> None:
    large = stored(port, LARGE)
    port.refusal = refusal
    report = await make_runner(echo).run(an_assignment(inputs={"x": None}, places=(Place("x", (), large, ()),)))
    assert error_of(report) == (code, retryable)


async def test_inputs_that_are_too_large_together_are_not_fetched(make_runner: MakeRunner, port: RecordingPort) -> None:
    places = tuple(Place("x", (), Artifact(f"{n:064x}", MAX_FETCHED_BYTES // 2 + 1), ()) for n in range(2))
    report = await make_runner(echo).run(an_assignment(inputs={"x": None}, places=places))
    assert error_of(report) == ("inputs_too_large", False)
    assert port.asked == []


@pytest.mark.parametrize(
    ("data", "path", "at", "code"),
    [
        (b"[1]", ("a",), (), "input_missing"),
        (b"[1]", (1,), (), "input_missing"),
        (b"[1", (), (), "artifact_invalid"),
        (b"\xff", (), (), "artifact_invalid"),
        (b"NaN", (), (), "artifact_invalid"),
        (b"[" * 100 + b"]" * 100, (), (), "artifact_invalid"),
        (b"1" * 400, (), (), "artifact_invalid"),
        (b"[1]", (), ("nowhere", "result"), "invalid_assignment"),
        (b"[1]", (), (0,), "invalid_assignment"),
    ],
)
def test_what_does_not_fit_its_place_is_an_error(
    data: bytes, path: tuple[str | int, ...], at: tuple[str | int, ...], code: str
) -> None:
    artifact = Artifact("a" * 64, len(data))
    with pytest.raises(AttemptFailed) as failed:
        fill_places({"x": {"p": None}}, (Place("x", at, artifact, path),), {artifact: data})
    assert (failed.value.error.code, failed.value.error.retryable) == (code, False)


def test_many_places_in_one_input_are_filled_in_time() -> None:
    names = [f"p{n}" for n in range(10_000)]
    artifact = Artifact("a" * 64, 1)
    outcomes: Json = {name: {"result": None} for name in names}
    places = tuple(Place("all", (name, "result"), artifact, ()) for name in names)
    filled = fill_places({"all": outcomes}, places, {artifact: b"1"})
    assert filled == {"all": {name: {"result": 1} for name in names}}


def test_cache_forgets_what_was_used_least_recently_and_keeps_its_bound() -> None:
    cache = Cache(10)
    cache.add("a", b"1234")
    cache.add("b", b"1234")
    cache.add("a", b"1234")
    assert cache.find("a") == b"1234"
    cache.add("c", b"123")
    assert (cache.find("b"), cache.size) == (None, 7)
    cache.add("huge", b"x" * 11)
    assert cache.size == 0
    assert cache.find("huge") is None
