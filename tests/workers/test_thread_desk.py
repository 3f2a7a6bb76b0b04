"""Reasoning threads through the real runner on a scripted engine: joins over all forks, cancels by name, streams."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from asterism.agents.accounting import Accounting, Limits
from asterism.agents.asks import (
    Branch,
    CancelBranches,
    Clock,
    ClockReading,
    Fork,
    Forked,
    Generate,
    Generated,
    Grammar,
    Join,
    Json,
    Program,
    ProgramContext,
    ProgramResult,
    Sampling,
    segments_of,
)
from asterism.agents.policies import FirstVerified
from asterism.agents.reasoning import Reasoning
from asterism.agents.running import reason
from asterism.workers.engine.errors import InvalidRequest
from asterism.workers.engine.scripted import ScriptedEngine
from asterism.workers.engine.seam import EngineEvent, GenerationRequest, prompt_text
from asterism.workers.engine.seam import Grammar as EngineGrammar
from asterism.workers.reports import Report, Succeeded
from asterism.workers.runner import Runner
from asterism.workers.step_threads import StepThreads
from asterism.workers.tools import Toolbox
from tests.agents.making import VERIFIER, declared
from tests.agents.making import run as run_in_lockstep
from tests.agents.test_schedule import write
from tests.workers.conftest import MakeRunner
from tests.workers.making import RecordingPort, an_assignment

Inputs = Mapping[str, Json]
Steps = Generator[object, object, object]
SHORT = Sampling(max_tokens=10)


def value_of(report: Report) -> Any:
    assert isinstance(report, Succeeded), report
    return json.loads(report.result_json)


def runner_of(program: object, engine: ScriptedEngine, port: RecordingPort, tools: Toolbox) -> Runner:
    return Runner(
        programs={"test.program": program},  # type: ignore[dict-item]
        tools=tools,
        engines={"scripted": engine},
        port=port,
        steps=StepThreads(),
    )


async def test_whichever_branch_of_all_forks_ends_next_is_joined(port: RecordingPort, tools: Toolbox) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        first = yield Fork("say", (Branch("long", " 3000", Sampling(max_tokens=3_000)),))
        second = yield Fork("say", (Branch("short", " 1", SHORT),))
        assert isinstance(first, Forked)
        assert isinstance(second, Forked)
        ended: list[Json] = []
        while (answer := (yield Join())) is not None:
            assert isinstance(answer, Generated)
            ended.append([answer.thread, answer.group])
        return ProgramResult([ended, [first.group, second.group]])

    engine = ScriptedEngine(lambda request: " word" * int(prompt_text(request.prompt).split()[-1]))
    await engine.start()
    report = await runner_of(program, engine, port, tools).run(an_assignment())
    assert value_of(report) == [[["short", 1], ["long", 0]], [0, 1]]
    await engine.close()


async def test_threads_are_cancelled_by_name_and_the_others_go_on(
    paced_engine: ScriptedEngine, port: RecordingPort, tools: Toolbox
) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield Fork("say", (Branch("a", " 9", SHORT), Branch("b", " 3", SHORT)))
        yield Fork("say", (Branch("c", " 9", SHORT),))
        cut = yield CancelBranches(None, "why", ("a", "c", "nobody"))
        assert isinstance(cut, tuple)
        yield Generate("say 2", SHORT)
        left = yield Join()
        assert isinstance(left, Generated)
        assert (yield Join()) is None
        return ProgramResult([sorted([one.thread, one.finish_reason] for one in cut), left.thread])

    runner = runner_of(program, paced_engine, port, tools)
    report = await run_paced(runner, paced_engine, requests=4)
    assert value_of(report) == [[["a", "cancelled"], ["c", "cancelled"]], "b"]


async def run_paced(
    runner: Runner, engine: ScriptedEngine, *, requests: int, begins_after: threading.Event | None = None
) -> Report:
    """Lets the engine go once it has so many requests, and the program has said so."""
    async with asyncio.TaskGroup() as group:
        running = group.create_task(runner.run(an_assignment()))
        while len(engine.requests) < requests:
            # The program's own steps run in an OS thread.
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        if begins_after is not None:
            await asyncio.to_thread(begins_after.wait)
        while not running.done():
            await engine.allow(1)
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    return running.result()


async def test_prompt_is_computed_without_a_token_and_found_by_the_next(
    make_runner: MakeRunner, port: RecordingPort
) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        computed = yield Generate(("one two", " three"), Sampling(max_tokens=0), thread="early")
        following = yield Generate("one two three four", SHORT)
        assert isinstance(computed, Generated)
        assert isinstance(following, Generated)
        return ProgramResult(
            [computed.tokens, computed.text, computed.finish_reason, computed.prompt_tokens, following.cached_tokens]
        )

    assert value_of(await make_runner(program).run(an_assignment())) == [0, "", "length", 3, 3]  # type: ignore[arg-type]
    assert port.tokens_of("early") == 0


async def test_every_part_of_the_sampling_reaches_the_engine(make_runner: MakeRunner, engine: ScriptedEngine) -> None:
    sampling = Sampling(
        max_tokens=3,
        temperature=0.5,
        top_p=0.9,
        seed=4,
        stop=("stop",),
        top_k=5,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        banned=("<Result>",),
        grammar=Grammar("regex", "a+"),
        priority=2,
        keep_s=3.0,
    )

    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield Generate(("p", "q"), sampling)
        return ProgramResult(None)

    await make_runner(program).run(an_assignment())  # type: ignore[arg-type]
    (request,) = engine.requests
    assert request == GenerationRequest(
        id=request.id,
        prompt=("p", "q"),
        max_tokens=3,
        temperature=0.5,
        top_p=0.9,
        seed=4,
        stop=("stop",),
        top_k=5,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        banned=("<Result>",),
        grammar=EngineGrammar("regex", "a+"),
        priority=2,
        keep_s=3.0,
    )


async def test_a_prompt_without_room_behind_it_ends_as_one_that_is_used_up(make_runner: MakeRunner) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield Fork("word " * 5_000, (Branch("t1", "a", SHORT), Branch("t2", "b", SHORT)))
        ended: list[Json] = []
        while (answer := (yield Join())) is not None:
            assert isinstance(answer, Generated)
            ended.append([answer.thread, answer.finish_reason, answer.tokens])
        return ProgramResult(ended)

    report = await make_runner(program).run(an_assignment())  # type: ignore[arg-type]
    assert value_of(report) == [["t1", "length", 0], ["t2", "length", 0]]


async def test_clock_shows_free_slots(paced_engine: ScriptedEngine, port: RecordingPort, tools: Toolbox) -> None:
    has_read = threading.Event()

    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        before = yield Clock()
        yield Fork("say", (Branch("a", " 1", SHORT), Branch("b", " 1", SHORT)))
        between = yield Clock()
        has_read.set()
        while (yield Join()) is not None:
            pass
        after = yield Clock()
        shown = [before, between, after]
        assert all(isinstance(reading, ClockReading) for reading in shown)
        assert before.at_s <= between.at_s <= after.at_s  # type: ignore[attr-defined]
        return ProgramResult([reading.free_slots for reading in shown])  # type: ignore[attr-defined]

    runner = runner_of(program, paced_engine, port, tools)
    report = await run_paced(runner, paced_engine, requests=2, begins_after=has_read)
    assert value_of(report) == [16, 14, 16]


async def test_clock_needs_no_model(make_runner: MakeRunner) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        reading = yield Clock()
        assert isinstance(reading, ClockReading)
        return ProgramResult(reading.free_slots)

    assert value_of(await make_runner(program).run(an_assignment(model=None))) is None  # type: ignore[arg-type]


class NoEarlyEngine(ScriptedEngine):
    """A completion server that decodes at least one token."""

    async def generate(self, requests: Sequence[GenerationRequest]) -> AsyncGenerator[EngineEvent, None]:
        if any(request.max_tokens == 0 for request in requests):
            raise InvalidRequest("max_tokens", "is 0; at least 1")
        async for event in super().generate(requests):
            yield event


async def test_a_server_that_computes_nothing_early_only_costs_the_time(port: RecordingPort, tools: Toolbox) -> None:
    def slow(request: GenerationRequest) -> str:
        prompt = prompt_text(request.prompt)
        return " z" * 40 + " </Thread>" if prompt.endswith("<Thread> a :") else script(request)

    listed = "<Outline> b </Outline> <Outline> a </Outline>"
    engine = NoEarlyEngine(slow, context_tokens=20_000)
    await engine.start()
    reasoning = declared(eager=False, incremental=True, opens_with=f"<Parallel> {listed}", has_tail=False)
    value = value_of(await runner_of(reasoning_program(reasoning), engine, port, tools).run(an_assignment()))
    assert value["accounting"]["joins"] == 1
    assert value["accounting"]["early_prefill_tokens"] == 0
    await engine.close()


LIST = " <Parallel> <Outline> a </Outline> <Outline> b </Outline> </Outlines>"
"""`b` is right; `a` goes on for ever."""


def script(request: GenerationRequest) -> str:
    """A model of the outlined protocol, for prompts as the machine writes them."""
    prompt = prompt_text(request.prompt)
    if "</Parallel>" in prompt:
        return " so </Answer>"
    if prompt.endswith("<Thread> b :"):
        return " y right </Thread>"
    if prompt.endswith("<Thread> a :"):
        return " x" * 10_000
    said = len(prompt.removeprefix("question").split())
    return " " + " ".join(LIST.split()[said:])


def reasoning_program(reasoning: Reasoning) -> object:
    def program(inputs: Inputs, context: ProgramContext) -> Program:
        spent = Accounting()
        reasoned = yield from reason("question", reasoning, VERIFIER, spent)
        winner = None if reasoned.winner is None else reasoned.winner.name
        return ProgramResult({"text": reasoned.text, "winner": winner, "accounting": spent.to_json()})

    return program


async def test_a_reasoning_program_runs_on_an_engine_and_leaves_nothing_behind(
    port: RecordingPort, tools: Toolbox
) -> None:
    engine = ScriptedEngine(script, context_tokens=20_000)
    await engine.start()
    reasoning = declared(policy=FirstVerified(), limits=Limits(tokens_a_thread=8_000))
    value = value_of(await runner_of(reasoning_program(reasoning), engine, port, tools).run(an_assignment()))
    assert isinstance(value, dict)
    assert value["winner"] == "t2"
    assert value["text"].split() == (LIST + " <Thread> b : won </Thread> </Parallel> so").split()
    accounting = value["accounting"]
    assert accounting["threads_cancelled"] == 1
    # How far `a` came depends on the time that checking `b` takes; to its limit it did not go.
    assert accounting["total_tokens"] < reasoning.limits.tokens_a_thread
    assert accounting["cached_tokens"] > 0
    assert accounting["wall_s"] > 0
    assert {chunk.thread for _, chunk in port.chunks} == {"main", "t1", "t2"}
    assert port.text_of("t2").split() == ["y", "right"]
    streamed = sum(chunk.tokens for _, chunk in port.chunks)
    assert streamed == accounting["total_tokens"]
    # Nothing decodes any more: one that was forgotten would go on for 8,000 words.
    assert await anext(engine.generate([GenerationRequest(id="7:1", prompt="question", max_tokens=1)])) is not None
    await engine.close()


async def test_prompts_of_siblings_begin_with_the_same_segments(port: RecordingPort, tools: Toolbox) -> None:
    engine = ScriptedEngine(script, context_tokens=20_000)
    await engine.start()
    reasoning = replace(declared(policy=FirstVerified(), limits=Limits(tokens_a_thread=50)), eager=False)
    await runner_of(reasoning_program(reasoning), engine, port, tools).run(an_assignment())
    first, second = (
        segments_of(request.prompt)
        for request in engine.requests
        if "<Thread>" in prompt_text(request.prompt) and "</Parallel>" not in prompt_text(request.prompt)
    )
    assert first[:-1] == second[:-1]
    assert (first[-1], second[-1]) == ("<Thread> a :", "<Thread> b :")
    await engine.close()


def recited(request: GenerationRequest) -> str:
    """The model of the schedule tests, which goes by thread and prompt."""
    prompt = prompt_text(request.prompt)
    is_thread = "<Thread>" in prompt and "</Parallel>" not in prompt
    return " " + write("t" if is_thread else "main", prompt, SHORT)


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("at_once", [1, 2, 16])
async def test_the_same_machine_says_the_same_on_every_engine(
    port: RecordingPort, tools: Toolbox, eager: bool, at_once: int
) -> None:
    reasoning = declared(limits=Limits(at_once=at_once, fork_from=1), eager=eager)
    by_hand, spent, _ = run_in_lockstep(write, reasoning, VERIFIER)
    engine = ScriptedEngine(recited)
    await engine.start()
    value = value_of(await runner_of(reasoning_program(reasoning), engine, port, tools).run(an_assignment()))
    assert value["text"].split() == by_hand.text.split()
    for part in ("total_tokens", "critical_path_tokens", "threads_forked", "joins"):
        assert value["accounting"][part] == getattr(spent, part)
    await engine.close()
