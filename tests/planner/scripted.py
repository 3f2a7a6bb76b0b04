"""A model that says what a test wrote down, and the worker's part in a program that listens to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from asterism.agents.asks import (
    Ask,
    Chat,
    Close,
    Emit,
    Generate,
    Generated,
    Json,
    Listen,
    Open,
    Opened,
    Piece,
    Program,
    ProgramContext,
    ProgramFailed,
    ProgramResult,
    Reply,
    Say,
)
from asterism.orchestrator.core.ids import FencingToken
from asterism.workers.ask_check import check_ask
from tests.planner.fleet import Ended, Fleet


@dataclass
class Model:
    """Answers each conversation with the next of `texts`, streamed in pieces of `cut` characters."""

    texts: Sequence[str]
    cut: int = 7
    chats: list[Chat] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    _streams: list[list[str]] = field(default_factory=list)

    def ask(self, ask: Generate | Chat) -> Generated:
        assert isinstance(ask, Chat)
        self.chats.append(ask)
        text = self.texts[len(self.chats) - 1]
        return Generated(ask.thread, text, "end", None, len(text) // 4, 1, 0)

    def open(self, ask: Generate | Chat) -> Opened:
        text = self.ask(ask).text
        self._streams.append([text[at : at + self.cut] for at in range(0, len(text), self.cut)])
        return Opened(len(self._streams) - 1)

    def listen(self, stream: int) -> Piece | Generated:
        pieces = self._streams[stream]
        return Piece(pieces.pop(0)) if pieces else Generated("plan", self.texts[stream], "end", None, 1, 1, 0)


def drive(
    running: Program, model: Model, emit: Callable[[Emit], Reply], heard: Callable[[], None] = lambda: None
) -> Ended:
    """Run a program, whose asks a worker must serve, to its end; `heard` is called before each piece that it gets."""
    answer: Reply = None
    try:
        ask: Ask = next(running)
        while True:
            check_ask(ask)
            match ask:
                case Open(of):
                    answer = model.open(of)
                case Listen(stream):
                    heard()
                    answer = model.listen(stream)
                case Close(stream):
                    model.closed.append(stream)
                    answer = None
                case Chat():
                    answer = model.ask(ask)
                case Emit():
                    answer = emit(ask)
                case Say():
                    answer = None
                case _:
                    raise AssertionError(ask)
            ask = running.send(answer)
    except StopIteration as stop:
        ended: ProgramResult = stop.value
        return ended
    except ProgramFailed as failed:
        return failed


def run(
    fleet: Fleet,
    token: FencingToken,
    program: Callable[[Mapping[str, Json], ProgramContext], Program],
    model: Model,
    heard: Callable[[], None] = lambda: None,
) -> Ended:
    """Run a program that a model serves, up to its end, which is not reported yet."""
    assign = fleet.running[token]
    context = ProgramContext(assign.constellation, assign.star, assign.attempt, assign.revision, assign.model)
    running = program(assign.inputs, context)
    return drive(running, model, lambda ask: fleet.emit(token, ask.edits), heard)
