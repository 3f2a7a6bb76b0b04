"""Asks with typed answers: `generated = yield from generate(Generate(...))` inside a program."""

from collections.abc import Generator, Mapping
from typing import TypeAlias, TypeVar

from asterism.agents.asks import (
    MAX_SAY_CHARACTERS,
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
    Forked,
    Generate,
    Generated,
    Hear,
    Join,
    Json,
    Listen,
    ListTools,
    Open,
    Opened,
    Piece,
    ProgramFailed,
    Reply,
    Say,
    ToolDescription,
    ToolError,
    ToolList,
    ToolOutcome,
    ToolOutcomes,
    ToolResult,
    Whole,
)
from asterism.agents.data import as_text

_T = TypeVar("_T")

Asking: TypeAlias = Generator[Ask, Reply, _T]
"""Part of a program: it yields asks, is sent answers, and gives a `_T`."""


def _mismatch(ask: Ask, answer: Reply) -> ProgramFailed:
    return ProgramFailed(
        "wrong_answer", f"{type(ask).__name__} was answered by {type(answer).__name__}", retryable=False
    )


def _whole(generated: Generated) -> Generated:
    if generated.finish_reason in ("error", "cancelled"):
        code = f"engine_{generated.finish_reason}"
        raise ProgramFailed(code, f"thread {generated.thread} was not finished", retryable=True)
    return generated


def generate(ask: Generate | Chat) -> Asking[Generated]:
    """The finished text; an engine that failed or was stopped in the middle fails the star, another attempt may do."""
    answer = yield ask
    if not isinstance(answer, Generated):
        raise _mismatch(ask, answer)
    return _whole(answer)


def open_text(ask: Generate | Chat) -> Asking[int]:
    """The number of the stream to listen to."""
    answer = yield Open(ask)
    if not isinstance(answer, Opened):
        raise _mismatch(Open(ask), answer)
    return answer.stream


def listen(stream: int) -> Asking[Piece | Generated]:
    """More of the text, or the whole of it at the end; fails the star as `generate` does."""
    answer = yield Listen(stream)
    if isinstance(answer, Piece):
        return answer
    if not isinstance(answer, Generated):
        raise _mismatch(Listen(stream), answer)
    return _whole(answer)


def close_text(stream: int) -> Asking[None]:
    """Stop the text if it is still being written."""
    yield Close(stream)


def hear(name: str) -> Asking[Piece | Whole]:
    """More of an input that is being written, or the whole of it."""
    answer = yield Hear(name)
    if not isinstance(answer, Piece | Whole):
        raise _mismatch(Hear(name), answer)
    return answer


def fork(ask: Fork) -> Asking[Forked]:
    answer = yield ask
    if not isinstance(answer, Forked):
        raise _mismatch(ask, answer)
    return answer


def join(group: int | None = None) -> Asking[Generated | None]:
    """The next branch of `group`, or of any fork, that ends, however it ends."""
    ask = Join(group)
    answer = yield ask
    if answer is None or isinstance(answer, Generated):
        return answer
    raise _mismatch(ask, answer)


def cancel_branches(group: int | None, reason: str, threads: tuple[str, ...] = ()) -> Asking[tuple[Generated, ...]]:
    ask = CancelBranches(group, reason, threads)
    answer = yield ask
    if not isinstance(answer, tuple):
        raise _mismatch(ask, answer)
    return answer


def clock() -> Asking[ClockReading]:
    answer = yield Clock()
    if not isinstance(answer, ClockReading):
        raise _mismatch(Clock(), answer)
    return answer


def call_tool(name: str, arguments: Mapping[str, Json]) -> Asking[ToolOutcome]:
    ask = CallTool(name, arguments)
    answer = yield ask
    if not isinstance(answer, ToolResult | ToolError):
        raise _mismatch(ask, answer)
    return answer


def call_tools(calls: tuple[CallTool, ...]) -> Asking[tuple[ToolOutcome, ...]]:
    """The outcomes in the order of the calls."""
    ask = CallTools(calls)
    answer = yield ask
    if not isinstance(answer, ToolOutcomes):
        raise _mismatch(ask, answer)
    return answer.outcomes


def list_tools() -> Asking[tuple[ToolDescription, ...]]:
    answer = yield ListTools()
    if not isinstance(answer, ToolList):
        raise _mismatch(ListTools(), answer)
    return answer.tools


def emit(edits: tuple[Mapping[str, Json], ...]) -> Asking[EditReply]:
    ask = Emit(edits)
    answer = yield ask
    if not isinstance(answer, EditReply):
        raise _mismatch(ask, answer)
    return answer


def say(text: str, thread: str = "main") -> Asking[None]:
    """Say a text of any length and content: in several parts where it is long, with '?' for halves of characters."""
    text = as_text(text)
    for begin in range(0, len(text), MAX_SAY_CHARACTERS):
        yield Say(text[begin : begin + MAX_SAY_CHARACTERS], thread)
