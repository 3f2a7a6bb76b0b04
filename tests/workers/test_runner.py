"""Programs written here, run on a scripted engine: every ask, every way to end."""

import json
from collections.abc import Generator, Mapping

import pytest

from asterism.agents.asks import (
    Branch,
    CallTool,
    CallTools,
    CancelBranches,
    EditReply,
    Emit,
    Fork,
    Forked,
    Generate,
    Generated,
    Join,
    Json,
    ListTools,
    ProgramContext,
    ProgramFailed,
    ProgramResult,
    Sampling,
    Say,
    ToolError,
    ToolList,
    ToolOutcomes,
    ToolResult,
)
from asterism.orchestrator.core.edits import AddStar, CancelStar, EditBatch
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import StarId
from asterism.orchestrator.core.star import StarKind
from asterism.workers.engine.scripted import ScriptedEngine
from asterism.workers.reports import Failed, Report, Succeeded
from asterism.workers.runner import Runner
from asterism.workers.step_threads import StepThreads
from asterism.workers.tools import Toolbox
from tests.workers.conftest import MakeRunner
from tests.workers.making import MAX_BYTES, TOKEN, RecordingPort, add_star, an_assignment

Inputs = Mapping[str, Json]
Steps = Generator[object, object, object]
SHORT = Sampling(max_tokens=10)


def value_of(report: Report) -> Json:
    assert isinstance(report, Succeeded), report
    value: Json = json.loads(report.result_json)
    return value


def error_of(report: Report) -> tuple[str, bool]:
    assert isinstance(report, Failed), report
    return report.error.code, report.error.retryable


async def run(make_runner: MakeRunner, program: object, /, **changes: object) -> Report:
    """Programs here yield and return whatever they like, also what no typed program could."""
    return await make_runner(program).run(an_assignment(**changes))  # type: ignore[arg-type]


async def test_program_gets_its_inputs_and_where_it_runs(make_runner: MakeRunner) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield from ()
        return ProgramResult([inputs["x"], context.star, context.attempt, context.revision, context.model])

    report = await run(make_runner, program, inputs={"x": "${a.out}"})
    assert value_of(report) == ["${a.out}", "s1", 1, 3, "scripted"]


async def test_generate_streams_under_its_thread_and_is_answered(make_runner: MakeRunner, port: RecordingPort) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        answer = yield Generate("say", Sampling(max_tokens=10, stop=(" three",)), thread="outline")
        assert isinstance(answer, Generated)
        return ProgramResult([answer.text, answer.stop, answer.tokens, answer.thread, answer.model])

    report = await run(make_runner, program)
    assert value_of(report) == [" one two", " three", 3, "outline", "scripted"]
    assert port.text_of("outline") == " one two"
    assert port.tokens_of("outline") == 3


async def test_branches_share_their_prefix_and_are_joined_one_after_the_other(
    make_runner: MakeRunner, port: RecordingPort, engine: ScriptedEngine
) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        forked = yield Fork("the prefix", (Branch("t1", " a", SHORT), Branch("t2", " b", SHORT)))
        assert isinstance(forked, Forked)
        joined = []
        while (answer := (yield Join(forked.group))) is not None:
            assert isinstance(answer, Generated)
            joined.append([answer.thread, answer.text])
        assert (yield Join(forked.group)) is None
        return ProgramResult(sorted(joined))

    assert value_of(await run(make_runner, program)) == [["t1", " one two three"], ["t2", " one two three"]]
    assert [request.prompt for request in engine.requests] == [("the prefix", " a"), ("the prefix", " b")]
    assert port.text_of("t1") == port.text_of("t2") == " one two three"


async def test_cancelled_branches_give_their_partial_texts(
    paced_engine: ScriptedEngine, port: RecordingPort, tools: Toolbox
) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        forked = yield Fork("say", (Branch("short", " 2", SHORT), Branch("long", " 9", SHORT)))
        assert isinstance(forked, Forked)
        first = yield Join(forked.group)
        assert isinstance(first, Generated)
        cut_off = yield CancelBranches(forked.group, "found")
        assert isinstance(cut_off, tuple)
        assert (yield Join(forked.group)) is None
        return ProgramResult([first.thread, [[one.thread, one.finish_reason, one.text] for one in cut_off]])

    runner = Runner(
        programs={"test.program": program},  # type: ignore[dict-item]
        tools=tools,
        engines={"scripted": paced_engine},
        port=port,
        steps=StepThreads(),
    )
    await paced_engine.allow(3)
    report = await runner.run(an_assignment())
    assert value_of(report) == ["short", [["long", "cancelled", " word word word"]]]


async def test_branches_that_nobody_joins_end_with_the_program(
    paced_engine: ScriptedEngine, port: RecordingPort, tools: Toolbox
) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield Fork("say", (Branch("t", " 9", SHORT),))
        return ProgramResult("left")

    runner = Runner(
        programs={"test.program": program},  # type: ignore[dict-item]
        tools=tools,
        engines={"scripted": paced_engine},
        port=port,
        steps=StepThreads(),
    )
    assert value_of(await runner.run(an_assignment())) == "left"


async def test_tools_answer_with_values_and_errors(make_runner: MakeRunner) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        good = yield CallTool("double", {"number": 21})
        bad = yield CallTool("double", {"number": "x"})
        unknown = yield CallTool("none", {})
        assert isinstance(bad, ToolError)
        assert isinstance(unknown, ToolError)
        assert isinstance(good, ToolResult)
        return ProgramResult([good.value, bad.code, unknown.code])

    assert value_of(await run(make_runner, program)) == [42, "tool_error", "unknown_tool"]


async def test_emitted_edits_are_read_and_their_answer_comes_back(make_runner: MakeRunner, port: RecordingPort) -> None:
    port.reply = EditReply(False, ("star a: exists already",), 9)

    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        reply = yield Emit((add_star("a"), {"cancel_star": {"star": "b"}}))
        assert isinstance(reply, EditReply)
        return ProgramResult([reply.accepted, list(reply.reasons), reply.revision])

    assert value_of(await run(make_runner, program, may_edit=True)) == [False, ["star a: exists already"], 9]
    (batch,) = port.batches
    assert isinstance(batch.edits[0], AddStar)
    assert batch.edits[1] == CancelStar(StarId("b"))


@pytest.mark.parametrize(
    ("may_edit", "edit"), [(False, add_star("a")), (True, {"add_star": {"id": "a/b"}}), (True, {})]
)
async def test_edits_that_cannot_be_are_refused_here(
    make_runner: MakeRunner, port: RecordingPort, may_edit: bool, edit: Mapping[str, Json]
) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        reply = yield Emit((edit,))
        assert isinstance(reply, EditReply)
        return ProgramResult([reply.accepted, len(reply.reasons)])

    assert value_of(await run(make_runner, program, may_edit=may_edit)) == [False, 1]
    assert port.batches == []


async def test_said_text_is_streamed(make_runner: MakeRunner, port: RecordingPort) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        assert (yield Say("hello", thread="plan")) is None
        return ProgramResult(None)

    assert value_of(await run(make_runner, program)) is None
    assert port.chunks == [(TOKEN, Chunk("plan", "hello", 0))]


async def test_edits_of_a_result_travel_with_it(make_runner: MakeRunner) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield from ()
        return ProgramResult(1, ({"cancel_star": {"star": "b"}},))

    report = await run(make_runner, program, may_edit=True)
    assert isinstance(report, Succeeded)
    assert report.edits == EditBatch((CancelStar(StarId("b")),))


@pytest.mark.parametrize(
    ("result", "may_edit", "code"),
    [
        (ProgramResult("x" * MAX_BYTES), False, "result_too_large"),
        (ProgramResult(float("nan")), False, "invalid_result"),
        (ProgramResult(object()), False, "invalid_result"),  # type: ignore[arg-type]
        (ProgramResult(1, ({"cancel_star": {"star": "b"}},)), False, "may_not_edit"),
        (ProgramResult(1, ({"explode": {}},)), True, "invalid_edits"),
        (ProgramResult(1, "edits"), True, "invalid_edits"),  # type: ignore[arg-type]
        ("not a result", False, "invalid_result"),
        (None, False, "invalid_result"),
    ],
)
async def test_forged_results_fail_the_star(make_runner: MakeRunner, result: object, may_edit: bool, code: str) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield from ()
        return result

    assert error_of(await run(make_runner, program, may_edit=may_edit)) == (code, False)


async def test_result_nested_too_deep_fails_the_star(make_runner: MakeRunner) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        value: Json = []
        for _ in range(70):
            value = [value]
        yield from ()
        return ProgramResult(value)

    assert error_of(await run(make_runner, program)) == ("invalid_result", False)


@pytest.mark.parametrize(
    "ask",
    [
        "text",
        None,
        Join(0),
        CancelBranches(3, "why"),
        Join("x"),  # type: ignore[arg-type]
        Fork("p", ()),
        Fork("p", (Branch("t", "a", SHORT), Branch("t", "b", SHORT))),
        Fork("p", tuple(Branch(f"t{number}", "a", SHORT) for number in range(257))),
        Fork("p", [Branch("t", "a", SHORT)]),  # type: ignore[arg-type]
        Generate("p", "sampling"),  # type: ignore[arg-type]
        Generate("p", Sampling(max_tokens="many")),  # type: ignore[arg-type]
        Generate("p", Sampling(max_tokens=-1)),
        Generate("p", Sampling(1, min_p="x")),  # type: ignore[arg-type]
        Generate("p", Sampling(1, banned=["x"])),  # type: ignore[arg-type]
        Generate("p", Sampling(1, grammar="x")),  # type: ignore[arg-type]
        Generate(("p", 1), SHORT),  # type: ignore[arg-type]
        CancelBranches(None, "why", ("x", 1)),  # type: ignore[arg-type]
        Join(-1),
        Generate("p", SHORT, thread=""),
        Generate("", SHORT),
        Say("x" * 100_000),
        Say("\ud800"),
        CallTool("double", "x"),  # type: ignore[arg-type]
        Emit("x"),  # type: ignore[arg-type]
    ],
)
async def test_forged_asks_fail_the_star(make_runner: MakeRunner, ask: object) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield ask
        return ProgramResult("never")

    assert error_of(await run(make_runner, program)) == ("invalid_ask", False)


async def test_fork_that_the_engine_refuses_fails_at_the_join(make_runner: MakeRunner) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        forked = yield Fork("p", (Branch("t", "a", Sampling(max_tokens=10, top_p=7.0)),))
        assert isinstance(forked, Forked)
        yield Join(forked.group)
        return ProgramResult("never")

    assert error_of(await run(make_runner, program)) == ("invalid_ask", False)


async def test_program_that_fails_says_how(make_runner: MakeRunner) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield Say("now")
        raise ProgramFailed("plan_refused", "because", retryable=True)

    assert error_of(await run(make_runner, program)) == ("plan_refused", True)


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"program": "other"}, "unknown_program"), ({"model": "other"}, "unknown_model")],
)
async def test_what_this_worker_does_not_have_may_be_elsewhere(
    make_runner: MakeRunner, changes: Mapping[str, str], code: str
) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield from ()
        return ProgramResult(None)

    assert error_of(await run(make_runner, program, **changes)) == (code, True)


async def test_text_without_a_model_fails_the_star(make_runner: MakeRunner) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield Generate("p", SHORT)
        return ProgramResult(None)

    assert error_of(await run(make_runner, program, model=None)) == ("no_model", False)


async def test_closed_engine_is_a_retryable_failure(make_runner: MakeRunner, engine: ScriptedEngine) -> None:
    await engine.close()

    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield Generate("p", SHORT)
        return ProgramResult(None)

    assert error_of(await run(make_runner, program)) == ("engine_error", True)


async def test_tool_star_gives_the_tools_value(make_runner: MakeRunner) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield from ()
        raise AssertionError("a tool star runs no program")

    tool_star = {"program": "double", "kind": StarKind.TOOL, "model": None}
    assert value_of(await run(make_runner, program, **tool_star, inputs={"number": 4})) == 8
    assert error_of(await run(make_runner, program, **tool_star, inputs={})) == ("tool_error", False)


async def test_several_tools_run_at_once_and_are_answered_in_order(make_runner: MakeRunner) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        listed = yield ListTools()
        assert isinstance(listed, ToolList)
        answer = yield CallTools((CallTool("double", {"number": 2}), CallTool("no", {}), CallTool("double", {})))
        assert isinstance(answer, ToolOutcomes)
        outcomes = [one.value if isinstance(one, ToolResult) else one.code for one in answer.outcomes]
        return ProgramResult([[tool.name for tool in listed.tools], outcomes])

    assert value_of(await run(make_runner, program)) == [["double"], [4, "unknown_tool", "tool_error"]]


@pytest.mark.parametrize(
    "ask",
    [
        CallTools([CallTool("double", {})]),  # type: ignore[arg-type]
        CallTools((1,)),  # type: ignore[arg-type]
        CallTools(tuple(CallTool("double", {}) for _ in range(65))),
        CallTools((CallTool("x" * 65, {}),)),
        CallTool("double", {1: 2}),  # type: ignore[dict-item]
    ],
)
async def test_calls_that_are_none_are_refused(make_runner: MakeRunner, ask: object) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield ask
        return ProgramResult(None)

    assert error_of(await run(make_runner, program)) == ("invalid_ask", False)
