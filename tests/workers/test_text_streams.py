"""Conversations, and texts that a program listens to while they are written, through the real runner."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Generator, Mapping
from typing import Any

import pytest

from asterism.agents.asking import close_text, generate, listen, open_text
from asterism.agents.asks import (
    Chat,
    Close,
    Fork,
    Generate,
    Generated,
    Join,
    Json,
    Listen,
    Message,
    Open,
    Opened,
    Piece,
    Program,
    ProgramContext,
    ProgramResult,
    Reply,
    Sampling,
)
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import FencingToken
from asterism.workers.engine.scripted import ScriptedEngine
from asterism.workers.engine.seam import Message as EngineMessage
from asterism.workers.reports import Failed, Report, Succeeded
from asterism.workers.runner import Runner
from asterism.workers.step_threads import StepThreads
from asterism.workers.tools import Toolbox
from tests.workers.conftest import MakeRunner
from tests.workers.making import RecordingPort, an_assignment

Inputs = Mapping[str, Json]
Steps = Generator[object, object, object]
LONG = Sampling(max_tokens=4_000)
SHORT = Sampling(max_tokens=10)
TALK = (Message("system", "be brief"), Message("user", "say 3"))


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


@pytest.fixture
async def counting() -> AsyncIterator[ScriptedEngine]:
    """Says 3,000 words, without a pause."""
    scripted = ScriptedEngine(lambda request: "".join(f" {word}" for word in range(3_000)))
    await scripted.start()
    yield scripted
    await scripted.close()


async def test_a_conversation_reaches_the_engine_as_messages(
    make_runner: MakeRunner, engine: ScriptedEngine, port: RecordingPort
) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Program:
        answer = yield from generate(Chat(TALK, SHORT, "talk"))
        return ProgramResult([answer.text, answer.finish_reason, answer.thread])

    report = await make_runner(program).run(an_assignment())
    assert value_of(report) == [" one two three", "end", "talk"]
    (request,) = engine.requests
    assert request.prompt == ""
    assert request.messages == (EngineMessage("system", "be brief"), EngineMessage("user", "say 3"))
    assert port.text_of("talk") == " one two three"


async def test_pieces_are_the_text_and_the_end_has_it_whole(
    make_runner: MakeRunner, engine: ScriptedEngine, port: RecordingPort
) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Program:
        stream = yield from open_text(Chat(TALK, SHORT, "talk"))
        pieces: list[Json] = []
        while isinstance(heard := (yield from listen(stream)), Piece):
            pieces.append(heard.text)
        return ProgramResult([pieces, heard.text, heard.tokens])

    pieces, text, tokens = value_of(await make_runner(program).run(an_assignment()))
    assert all(pieces)
    assert "".join(pieces) == text == " one two three"
    assert tokens == 3
    assert port.text_of("talk") == text
    assert port.tokens_of("talk") == tokens
    assert len(engine.requests) == 1


async def test_a_piece_comes_while_the_text_is_still_being_written(
    paced_engine: ScriptedEngine, port: RecordingPort, tools: Toolbox
) -> None:
    has_heard = threading.Event()

    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield Open(Generate("say 5", SHORT))
        first = yield Listen(0)
        assert isinstance(first, Piece)
        has_heard.set()
        heard: object = first
        while isinstance(heard, Piece):
            heard = yield Listen(0)
        assert isinstance(heard, Generated)
        return ProgramResult([first.text, heard.text])

    async with asyncio.TaskGroup() as group:
        running = group.create_task(runner_of(program, paced_engine, port, tools).run(an_assignment()))
        await paced_engine.allow(2)
        # No further word is allowed before the program has one.
        await asyncio.to_thread(has_heard.wait)
        await paced_engine.allow(9)
    first, text = value_of(running.result())
    assert first in (" word", " word word")
    assert text == " word" * 5


async def test_whoever_does_not_listen_holds_nothing_up_and_gets_one_long_piece(
    counting: ScriptedEngine, port: RecordingPort, tools: Toolbox
) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield Open(Generate("first", LONG, "first"))
        # Ends after the first: a turn of the engine is a token of each.
        last = yield Generate("second and longer", LONG, "second")
        assert isinstance(last, Generated)
        piece = yield Listen(0)
        end = yield Listen(0)
        assert isinstance(piece, Piece)
        assert isinstance(end, Generated)
        return ProgramResult([piece.text == end.text == last.text, end.tokens])

    report = await runner_of(program, counting, port, tools).run(an_assignment())
    assert value_of(report) == [True, 3_000]


async def test_a_closed_stream_decodes_no_more(
    paced_engine: ScriptedEngine, port: RecordingPort, tools: Toolbox
) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Program:
        stream = yield from open_text(Generate("say 9", SHORT))
        piece = yield from listen(stream)
        assert isinstance(piece, Piece)
        yield from close_text(stream)
        yield from close_text(stream)
        return ProgramResult(None)

    runner = runner_of(program, paced_engine, port, tools)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(runner.run(an_assignment()))
        await paced_engine.allow(1)
    assert value_of(running.result()) is None
    assert paced_engine.stats().num_requests_running == 0
    assert port.tokens_of("main") <= 1


@pytest.mark.parametrize("fails", [False, True])
async def test_streams_end_with_their_program(
    paced_engine: ScriptedEngine, port: RecordingPort, tools: Toolbox, fails: bool
) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield Open(Generate("say 9", SHORT))
        yield Open(Chat(TALK, SHORT))
        yield Listen(0)
        if fails:
            yield "no ask"
        return ProgramResult("left")

    async with asyncio.TaskGroup() as group:
        running = group.create_task(runner_of(program, paced_engine, port, tools).run(an_assignment()))
        await paced_engine.allow(1)
    assert isinstance(running.result(), Failed if fails else Succeeded)
    assert paced_engine.stats().num_requests_running == 0


async def test_streams_end_with_an_attempt_that_is_stopped(
    paced_engine: ScriptedEngine, port: RecordingPort, tools: Toolbox
) -> None:
    has_heard = threading.Event()

    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield Open(Generate("say 9", SHORT))
        yield Listen(0)
        has_heard.set()
        yield Listen(0)
        return ProgramResult("never")

    running = asyncio.ensure_future(runner_of(program, paced_engine, port, tools).run(an_assignment()))
    await paced_engine.allow(1)
    await asyncio.to_thread(has_heard.wait)
    assert paced_engine.stats().num_requests_running == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert paced_engine.stats().num_requests_running == 0


async def test_a_stream_is_no_fork(make_runner: MakeRunner) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        opened = yield Open(Generate("p", SHORT))
        assert opened == Opened(0)
        nothing = yield Join()
        heard: object = None
        while not isinstance(heard, Generated):
            heard = yield Listen(0)
        return ProgramResult([nothing is None, heard.group])

    assert value_of(await make_runner(program).run(an_assignment())) == [True, -1]  # type: ignore[arg-type]


async def test_a_conversation_without_room_ends_as_one_that_is_used_up(make_runner: MakeRunner) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Program:
        stream = yield from open_text(Chat((Message("user", "word " * 5_000),), SHORT))
        heard = yield from listen(stream)
        return ProgramResult(heard.finish_reason if isinstance(heard, Generated) else heard.text)

    assert value_of(await make_runner(program).run(an_assignment())) == "length"


async def test_listeners_of_a_hundred_texts_at_once_are_refused(
    paced_engine: ScriptedEngine, port: RecordingPort, tools: Toolbox
) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        for number in range(100):
            yield Open(Generate("say 9", SHORT, f"t{number}"))
        return ProgramResult("never")

    report = await runner_of(program, paced_engine, port, tools).run(an_assignment())
    assert isinstance(report, Failed)
    assert report.error.code == "invalid_ask"
    assert "64 streams" in report.error.message
    assert paced_engine.stats().num_requests_running == 0


@pytest.mark.parametrize(
    "ask",
    [
        Chat((), SHORT),
        Chat([Message("user", "x")], SHORT),  # type: ignore[arg-type]
        Chat(("x",), SHORT),  # type: ignore[arg-type]
        Chat((Message("tool", "x"),), SHORT),  # type: ignore[arg-type]
        Chat((Message("user", 1),), SHORT),  # type: ignore[arg-type]
        Chat((Message("user", "\ud800"),), SHORT),
        Chat((Message("user", "x"),) * 5_000, SHORT),
        Chat((Message("user", "x" * 700_000),) * 2, SHORT),
        Chat(TALK, SHORT, thread=""),
        Open(Open(Generate("p", SHORT))),  # type: ignore[arg-type]
        Open(Fork("p", ())),  # type: ignore[arg-type]
        Open(Chat((), SHORT)),
        Listen(0),
        Listen("x"),  # type: ignore[arg-type]
        Close(0),
        Close(-1),
        Close(None),  # type: ignore[arg-type]
    ],
)
async def test_forged_asks_fail_the_star(make_runner: MakeRunner, ask: object) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield ask
        return ProgramResult("never")

    report = await make_runner(program).run(an_assignment())  # type: ignore[arg-type]
    assert isinstance(report, Failed), report
    assert (report.error.code, report.error.retryable) == ("invalid_ask", False)


async def test_what_the_engine_refuses_is_told_to_the_listener(make_runner: MakeRunner) -> None:
    reached: list[Reply] = []

    def program(inputs: Inputs, context: ProgramContext) -> Program:
        reached.append((yield Open(Chat(TALK, Sampling(max_tokens=10, top_p=7.0)))))
        yield Listen(0)
        return ProgramResult("never")

    report = await make_runner(program).run(an_assignment())
    assert isinstance(report, Failed)
    assert report.error.code == "invalid_ask"
    assert "top_p" in report.error.message
    assert reached == [Opened(0)]


async def test_a_program_without_a_model_cannot_chat(make_runner: MakeRunner) -> None:
    def program(inputs: Inputs, context: ProgramContext) -> Program:
        yield Open(Chat(TALK, SHORT))
        return ProgramResult("never")

    report = await make_runner(program).run(an_assignment(model=None))
    assert isinstance(report, Failed)
    assert report.error.code == "no_model"


class StuckPort(RecordingPort):
    """A link that has no room for text until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def stream(self, fencing_token: FencingToken, chunk: Chunk) -> None:
        await self.gate.wait()
        await super().stream(fencing_token, chunk)


async def test_a_link_without_room_slows_the_text_and_not_the_program(tools: Toolbox, engine: ScriptedEngine) -> None:
    port = StuckPort()

    def program(inputs: Inputs, context: ProgramContext) -> Steps:
        yield Open(Generate("p", SHORT, "slow"))
        piece = yield Listen(0)
        assert isinstance(piece, Piece)
        yield Close(0)
        return ProgramResult(piece.text)

    assert value_of(await runner_of(program, engine, port, tools).run(an_assignment())) == " one"
    assert port.chunks == []
