"""Every attempt ends with exactly one report: stopped, out of time, or at fault."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping

import pytest

from asterism.agents.asks import Generate, Json, ProgramContext, ProgramResult, Sampling, Say
from asterism.orchestrator.core.effects import Assign
from asterism.orchestrator.core.ids import FencingToken
from asterism.orchestrator.core.star import StarKind
from asterism.workers.attempts import Attempts
from asterism.workers.engine.scripted import ScriptedEngine
from asterism.workers.reports import Failed, Report, Stopped, Succeeded
from asterism.workers.runner import Runner
from asterism.workers.step_threads import StepThreads
from asterism.workers.tools import Toolbox
from tests.workers.making import TOKEN, RecordingLedger, RecordingPort, an_assignment

Steps = Generator[object, object, object]
Inputs = Mapping[str, Json]
RunOne = Callable[..., Coroutine[None, None, list[Report]]]


@pytest.fixture
def run(paced_engine: ScriptedEngine, port: RecordingPort, tools: Toolbox) -> RunOne:
    """Starts one assignment of `program`, lets `act` happen, and gives the reports."""

    async def run_one(
        program: object,
        act: Callable[[Attempts], object] = lambda _: None,
        *,
        after_text: bool = False,
        start_to_close_s: float | None = None,
    ) -> list[Report]:
        ledger = RecordingLedger()
        runner = Runner(
            programs={"test.program": program},  # type: ignore[dict-item]
            tools=tools,
            engines={"scripted": paced_engine},
            port=port,
            steps=StepThreads(),
        )
        async with asyncio.TaskGroup() as group:
            attempts = Attempts(runner, tools, ledger, group)
            attempts.start(an_assignment(start_to_close_s=start_to_close_s))
            if after_text:
                await port.has_streamed.wait()
            act(attempts)
        return ledger.reports

    return run_one


def long_program(inputs: Inputs, context: ProgramContext) -> Steps:
    yield Say("begun")
    yield Generate("say 9", Sampling(max_tokens=10))
    return ProgramResult("never")


async def test_stopped_attempt_reports_that_and_frees_the_engine(run: RunOne, paced_engine: ScriptedEngine) -> None:
    assert await run(long_program, lambda attempts: attempts.stop(TOKEN), after_text=True) == [Stopped(TOKEN)]
    await paced_engine.allow(9)


async def test_attempt_that_is_stopped_before_its_first_turn_reports_too(
    run: RunOne,
) -> None:
    def stop_twice(attempts: Attempts) -> None:
        attempts.stop(TOKEN)
        attempts.stop(TOKEN)

    assert await run(long_program, stop_twice) == [Stopped(TOKEN)]


async def test_stop_of_an_unknown_attempt_does_nothing(run: RunOne) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield from ()
        return ProgramResult(1)

    assert await run(program, lambda attempts: attempts.stop(FencingToken(99))) == [Succeeded(TOKEN, "1", size_bytes=1)]


async def test_generator_is_closed_when_its_attempt_stops(run: RunOne) -> None:
    closed = threading.Event()

    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        try:
            yield Say("begun")
            yield Generate("say 9", Sampling(max_tokens=10))
        finally:
            closed.set()
        return ProgramResult("never")

    await run(program, lambda attempts: attempts.stop_all(), after_text=True)
    assert closed.is_set()


async def test_attempt_that_takes_too_long_times_out(run: RunOne) -> None:
    (report,) = await run(long_program, start_to_close_s=0.02)
    assert isinstance(report, Failed)
    assert (report.error.code, report.error.retryable) == ("timed_out", True)


async def test_program_that_hangs_in_a_step_times_out_and_the_others_run_on(
    run: RunOne,
) -> None:
    release = threading.Event()

    def hanging(inputs: Inputs, context: ProgramContext) -> Steps:
        release.wait()
        yield from ()
        return ProgramResult("late")

    try:
        (report,) = await run(hanging, start_to_close_s=0.02)
        assert isinstance(report, Failed)
        assert report.error.code == "timed_out"
    finally:
        release.set()


@pytest.mark.parametrize("error", [RuntimeError("out of luck"), TimeoutError("its own"), KeyError("\ud800")])
async def test_exception_of_a_program_is_reported_with_its_type(run: RunOne, error: Exception) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield Say("begun")
        raise error

    (report,) = await run(program)
    assert isinstance(report, Failed)
    assert (report.error.code, report.error.retryable) == ("program_error", True)
    assert type(error).__name__ in report.error.message
    report.error.message.encode()


async def test_quick_tool_star_has_ended_when_start_returns(tools: Toolbox) -> None:
    ledger = RecordingLedger()

    def quick(number: Json) -> Assign:
        return an_assignment("double", kind=StarKind.TOOL, model=None, inputs={"number": number})

    async with asyncio.TaskGroup() as group:
        runner = Runner(programs={}, tools=tools, engines={}, port=RecordingPort(), steps=StepThreads())
        attempts = Attempts(runner, tools, ledger, group)
        attempts.start(quick(4))
        assert ledger.reports == [Succeeded(TOKEN, "8", size_bytes=1)]
        attempts.start(quick("x"))
        assert isinstance(ledger.reports[1], Failed)
