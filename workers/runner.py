"""Runs one attempt: serves the asks of a program from an engine, the tools and the orchestrator, and reports its end.

A program's own code runs in an OS thread of `steps`, so that no program can keep the event loop from renewing leases.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, Future
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias, assert_never

from asterism.agents.asks import (
    Ask,
    CallTool,
    CallTools,
    CancelBranches,
    Chat,
    Clock,
    ClockReading,
    Close,
    EditReply,
    Emit,
    Fork,
    Generate,
    Hear,
    Join,
    Listen,
    ListTools,
    Open,
    Piece,
    Program,
    ProgramContext,
    ProgramFailed,
    ProgramResult,
    Reply,
    Say,
    TextAsk,
    TextReply,
    ToolDescription,
    ToolError,
    ToolList,
    ToolOutcome,
    ToolOutcomes,
    ToolResult,
    Whole,
)
from asterism.orchestrator.core.edits import EditBatch
from asterism.orchestrator.core.effects import Assign
from asterism.orchestrator.core.errors import AsterismError, InvalidField, Overloaded
from asterism.orchestrator.core.events import Chunk
from asterism.orchestrator.core.ids import FencingToken
from asterism.orchestrator.core.star import StarKind
from asterism.orchestrator.core.values import Json
from asterism.planner.edits_json import edits_from_json
from asterism.protocol.convert import edit_batch_to_proto, json_to_text
from asterism.workers.artifacts import ArtifactPort, Artifacts
from asterism.workers.ask_check import check_ask, check_edits
from asterism.workers.engine.seam import Engine
from asterism.workers.hearing import Hearing, complete, value_of
from asterism.workers.reports import AttemptFailed, Failed, Report, Succeeded, describe_error, utf8_size
from asterism.workers.text_streams import EngineLoad
from asterism.workers.thread_desk import ThreadDesk

ProgramFunction: TypeAlias = Callable[[Mapping[str, Json], ProgramContext], Program]

MAX_EDITS_BYTES: Final = 1024 * 1024
"""The edits of one ask or one result: what fits into half a frame beside a result."""


class Tools(Protocol):
    """What runs tools; whatever they do wrong is a `ToolError`."""

    @property
    def descriptions(self) -> Sequence[ToolDescription]:
        """What there is, sorted by name."""
        ...

    def call_quick(self, name: str, arguments: Mapping[str, Json]) -> ToolOutcome | None:
        """Run a tool that takes microseconds here and now; None when `name` is none."""
        ...

    async def call(self, name: str, arguments: Mapping[str, Json], attempt: str = "") -> ToolOutcome:
        """Run a tool; calls of one attempt find the files that earlier ones of it have left."""
        ...

    async def forget(self, attempt: str) -> None:
        """The attempt has ended: remove what its calls have left."""
        ...


class Port(ArtifactPort, Protocol):
    """The way from an attempt to the orchestrator."""

    async def stream(self, fencing_token: FencingToken, chunk: Chunk) -> None:
        """Send text to whoever watches; waits while the stream is full."""
        ...

    async def propose(self, fencing_token: FencingToken, batch: EditBatch, size_bytes: int) -> EditReply:
        """Propose edits and wait for the answer. Raises `AttemptFailed` when it will never come."""
        ...


class Runner:
    """Runs assignments; holds nothing of any attempt itself, but for the artifacts that were used last."""

    def __init__(
        self,
        *,
        programs: Mapping[str, ProgramFunction],
        tools: Tools,
        engines: Mapping[str, Engine],
        port: Port,
        steps: Executor,
        heard: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> None:
        """`heard`: which inputs a program hears while they are written. For all others it waits, as tools do."""
        self._programs = programs
        self._heard = heard
        self._tools = tools
        self._loads = {name: EngineLoad(engine) for name, engine in engines.items()}
        self._port = port
        self._steps = steps
        self._artifacts = Artifacts(port, steps)

    async def run(self, assignment: Assign, hearing: Hearing | None = None) -> Report:
        """The attempt's end as it is to be reported. Raises what is no fault of the assignment, for a supervisor.

        `hearing` is told what comes of inputs that stream; an assignment without such needs none.
        """
        hearing = hearing or Hearing(assignment.streams)
        attempt = str(assignment.fencing_token)
        try:
            assignment = await self._artifacts.fill(assignment)
            if assignment.streams:
                heard = () if assignment.kind is StarKind.TOOL else self._heard.get(assignment.program, ())
                assignment = await complete(assignment, hearing, self._artifacts, heard)
            if assignment.kind is StarKind.TOOL:
                outcome = await self._tools.call(assignment.program, assignment.inputs, attempt)
                loop = asyncio.get_running_loop()
                return await self._artifacts.keep(
                    await loop.run_in_executor(self._steps, report_tool, assignment, outcome)
                )
            return await self._artifacts.keep(await self._run_program(assignment, hearing))
        except AttemptFailed as failed:
            error = failed.error
        except ProgramFailed as failed:
            error = describe_error(failed.code, failed.message, retryable=failed.retryable)
        except Overloaded as refusal:
            error = describe_error("overloaded", refusal.message, retryable=True)
        except InvalidField as refusal:
            error = describe_error("invalid_ask", refusal.message)
        except AsterismError as refusal:
            error = describe_error("engine_error", refusal.message, retryable=True)
        finally:
            await self._tools.forget(attempt)
        return Failed(assignment.fencing_token, error)

    async def _run_program(self, assignment: Assign, hearing: Hearing) -> Report:
        function = self._programs.get(assignment.program)
        if function is None:
            raise AttemptFailed("unknown_program", f"no program {assignment.program!r} here", retryable=True)
        load = None if assignment.model is None else self._loads.get(assignment.model)
        if assignment.model is not None and load is None:
            raise AttemptFailed("unknown_model", f"no model {assignment.model!r} here", retryable=True)
        context = ProgramContext(
            assignment.constellation,
            assignment.star,
            assignment.attempt,
            assignment.revision,
            assignment.model,
            frozenset(assignment.streams),
        )
        steps = _Steps(self._steps, function, assignment.inputs, context)
        try:
            # The group is the parent of the tasks that collect forked branches: none outlives the program.
            async with asyncio.TaskGroup() as group:
                desk = _Desk(assignment, load, self._tools, self._port, group, self._steps, hearing, self._artifacts)
                step = await steps.begin()
                while not isinstance(step, ProgramResult):
                    step = await steps.advance(await desk.serve(check_ask(step)))
                desk.stop()
        except ExceptionGroup as failures:
            # The other tasks only collect branches, and keep what the engine refuses: one thing went wrong, not many.
            raise _first_leaf(failures) from failures
        finally:
            steps.close()
        # Reading 20,000 edits takes a good part of a second: not on the event loop.
        return await asyncio.get_running_loop().run_in_executor(self._steps, report_program, assignment, step)


class _Steps:
    """A program's generator, one step at a time in an OS thread."""

    def __init__(
        self, executor: Executor, function: ProgramFunction, inputs: Mapping[str, Json], context: ProgramContext
    ) -> None:
        self._executor = executor
        self._function = function
        self._inputs = inputs
        self._context = context
        self._program: Program | None = None
        self._last: Future[object] | None = None

    async def begin(self) -> object:
        """The first ask, or the result of a program that asks nothing."""
        return await self._run(self._begin)

    async def advance(self, answer: Reply) -> object:
        """The next ask, or the result."""
        return await self._run(lambda: self._send(answer))

    def close(self) -> None:
        """End the program where it stands; one that is in the midst of a step as soon as that is over."""
        if self._last is not None:
            self._last.add_done_callback(lambda _: None if self._program is None else self._program.close())

    async def _run(self, step: Callable[[], object]) -> object:
        self._last = self._executor.submit(step)
        return await asyncio.wrap_future(self._last)

    def _begin(self) -> object:
        self._program = self._function(self._inputs, self._context)
        return self._send(None)

    def _send(self, answer: Reply) -> object:
        assert self._program is not None
        try:
            # A generator that has not begun takes only None, and `begin` sends it that.
            return self._program.send(answer)
        except StopIteration as end:
            if not isinstance(end.value, ProgramResult):
                kind = type(end.value).__name__
                raise AttemptFailed("invalid_result", f"the program returned a {kind}", retryable=False) from None
            return end.value


class _Desk:
    """Serves the asks of one program."""

    def __init__(
        self,
        assignment: Assign,
        load: EngineLoad | None,
        tools: Tools,
        port: Port,
        group: asyncio.TaskGroup,
        executor: Executor,
        hearing: Hearing,
        artifacts: Artifacts,
    ) -> None:
        self._assignment = assignment
        self._hearing = hearing
        self._artifacts = artifacts
        self._tools = tools
        self._port = port
        self._executor = executor
        self._name = str(assignment.fencing_token)
        self._threads = None if load is None else ThreadDesk(load, self._name, self._stream, group)

    async def serve(self, ask: Ask) -> Reply:
        """Do what is asked and give the answer to send into the program."""
        match ask:
            case Clock() if self._threads is None:
                return ClockReading(asyncio.get_running_loop().time())
            case Generate() | Chat() | Open() | Listen() | Close() | Fork() | Join() | CancelBranches() | Clock():
                return await self._serve_text(ask)
            case CallTool(name, arguments):
                return await self._tools.call(name, arguments, self._name)
            case CallTools(calls):
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self._tools.call(call.name, call.arguments, self._name)) for call in calls
                    ]
                return ToolOutcomes(tuple(task.result() for task in tasks))
            case ListTools():
                return ToolList(tuple(self._tools.descriptions))
            case Emit(edits, base_revision):
                return await self._emit(edits, base_revision)
            case Hear(name):
                return await self._hear(name)
            case Say(text, thread):
                await self._stream(Chunk(thread, text, 0))
                return None
            case _:
                assert_never(ask)

    def stop(self) -> None:
        """Cancel the branches that nobody joined, and the streams that nobody closed."""
        if self._threads is not None:
            self._threads.stop()

    async def _serve_text(self, ask: TextAsk) -> TextReply:
        if self._threads is None:
            message = "the program asks for text, but its star requires no model (requires: model:NAME)"
            raise AttemptFailed("no_model", message, retryable=False)
        answer = await self._threads.serve(ask)
        if answer is None and isinstance(ask, Generate | Chat):
            raise AttemptFailed("engine_error", "the engine ended a request without saying how", retryable=True)
        return answer

    async def _hear(self, name: str) -> Piece | Whole:
        assignment = self._assignment
        if name in assignment.streams:
            heard = await self._hearing.next(name)
            if isinstance(heard, str):
                return Piece(heard)
            return Whole(await value_of(assignment, heard, self._artifacts))
        if name not in assignment.inputs:
            raise InvalidField("hear.input", f"{name!r} is no input of the star")
        return Whole(assignment.inputs[name])

    async def _emit(self, edits: tuple[Mapping[str, Json], ...], base_revision: int | None) -> EditReply:
        assignment = self._assignment
        if not assignment.may_edit:
            return EditReply(False, (f"star {assignment.star}: may not edit",), assignment.revision)
        try:
            loop = asyncio.get_running_loop()
            batch, size = await loop.run_in_executor(self._executor, read_edits, "emit.edits", edits, base_revision)
        except InvalidField as error:
            return EditReply(False, (error.message,), assignment.revision)
        return await self._port.propose(assignment.fencing_token, batch, size)

    async def _stream(self, chunk: Chunk) -> None:
        await self._port.stream(self._assignment.fencing_token, chunk)


def report_tool(assignment: Assign, outcome: ToolOutcome) -> Report:
    """The end of a tool star."""
    token = assignment.fencing_token
    match outcome:
        case ToolResult(value):
            try:
                text = encode_result(value)
            except AttemptFailed as failed:
                return Failed(token, failed.error)
            return Succeeded(token, text, size_bytes=utf8_size(text))
        case ToolError(code, message, may_repeat):
            return Failed(token, describe_error(code, message, retryable=may_repeat))
        case _:
            assert_never(outcome)


def report_program(assignment: Assign, result: ProgramResult) -> Report:
    """The end of a program that returned: a result that travels, and edits that can be read."""
    text = encode_result(result.value)
    if not result.edits:
        return Succeeded(assignment.fencing_token, text, size_bytes=utf8_size(text))
    if not assignment.may_edit:
        raise AttemptFailed("may_not_edit", "the program ends with edits, and its star may not edit", retryable=False)
    try:
        batch, size = read_edits("result.edits", result.edits)
    except InvalidField as error:
        raise AttemptFailed("invalid_edits", error.message, retryable=False) from error
    return Succeeded(assignment.fencing_token, text, batch, size_bytes=utf8_size(text) + size)


def encode_result(value: Json) -> str:
    """A result as JSON text, of any size. Raises `AttemptFailed` for what is no JSON value, or too deep."""
    try:
        return json_to_text(value, "result", limit=None)
    except InvalidField as error:
        raise AttemptFailed("invalid_result", error.message, retryable=False) from error


def read_edits(
    field: str, edits: Sequence[Mapping[str, Json]], base_revision: int | None = None
) -> tuple[EditBatch, int]:
    """The batch, and how many bytes it takes in a frame. Raises InvalidField."""
    check_edits(field, edits)
    batch = edits_from_json(edits, base_revision)
    size = edit_batch_to_proto(batch, field).ByteSize()
    if size > MAX_EDITS_BYTES:
        raise InvalidField(field, f"{size} bytes; at most {MAX_EDITS_BYTES} at a time")
    return batch, size


def _first_leaf(group: ExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first_leaf(first) if isinstance(first, ExceptionGroup) else first
