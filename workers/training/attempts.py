"""Runs the shipped program on the shipped engine, many boards at a time, without a worker around it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never

from asterism.agents.asks import (
    Ask,
    CallTool,
    CallTools,
    CancelBranches,
    Chat,
    Clock,
    Close,
    EditReply,
    Emit,
    Fork,
    Generate,
    Hear,
    Join,
    Json,
    Listen,
    ListTools,
    Open,
    ProgramContext,
    Reply,
    Say,
    ToolError,
    ToolList,
    ToolOutcomes,
    Whole,
)
from asterism.agents.countdown import Board, verify
from asterism.agents.markup import OUTLINE_TOKENS
from asterism.agents.parts import beginnings
from asterism.agents.reason_countdown import reason_countdown
from asterism.orchestrator.core.events import Chunk
from asterism.workers.engine.seam import Engine
from asterism.workers.text_streams import EngineLoad
from asterism.workers.thread_desk import ThreadDesk
from asterism.workers.training.measures import ThreadCost, steps_on_slots

_CONTEXT: Final = ProgramContext(constellation="evaluation", star="board", attempt=1, revision=0)
SLOTS: Final = 8


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one run of the program did on one board; tokens are decoded ones but for `prefill` and `join_prefill`."""

    solved: bool
    mode: str
    tokens: int
    critical_path: int
    steps: int
    """Decode steps until the answer on `SLOTS` slots, waiting for a slot among them."""
    first_text: int | None
    """Tokens of the first text, when it is the one that solved the board."""
    prefill: int
    join_prefill: int
    forked: int
    false_claims: int
    seconds: float
    said: Json
    """What each thread did, for comparing runs."""


class BoardRun:
    """Interprets the asks of one program."""

    def __init__(self, load: EngineLoad, name: str, children: asyncio.TaskGroup) -> None:
        self._desk = ThreadDesk(load, name, _unseen, children)

    async def run(self, inputs: dict[str, Json]) -> dict[str, Any]:
        """The program's result value."""
        program = reason_countdown(inputs, _CONTEXT)
        answer: Reply = None
        while True:
            try:
                ask = program.send(answer)
            except StopIteration as end:
                value: dict[str, Any] = end.value.value
                return value
            answer = await self._answer(ask)

    async def _answer(self, ask: Ask) -> Reply:
        match ask:
            case Generate() | Chat() | Open() | Listen() | Close() | Fork() | Join() | CancelBranches() | Clock():
                return await self._desk.serve(ask)
            case CallTool():
                return ToolError("unknown_tool", "an evaluation has no tools")
            case CallTools(calls):
                return ToolOutcomes(tuple(ToolError("unknown_tool", "an evaluation has no tools") for _ in calls))
            case ListTools():
                return ToolList(())
            case Emit():
                return EditReply(False, ("an evaluation has no graph",), 0)
            case Say():
                return None
            case Hear():
                return Whole(None)
            case _:
                assert_never(ask)


async def _unseen(chunk: Chunk) -> None:
    """Nobody watches an evaluation."""


async def attempt(engine: Engine, name: str, board: Board, effort: dict[str, Json]) -> Attempt:
    started = time.monotonic()
    async with asyncio.TaskGroup() as children:
        value = await BoardRun(EngineLoad(engine), name, children).run({**board.to_json(), **effort})
    accounting, expression, threads = value["accounting"], value["expression"], value["threads"]
    return Attempt(
        solved=isinstance(expression, str) and verify(board, expression).is_correct,
        mode=value["mode"],
        tokens=accounting["total_tokens"],
        critical_path=accounting["critical_path_tokens"],
        steps=_steps(board, value) if value["mode"] == "parallel" else accounting["total_tokens"],
        first_text=_first_text(threads) if value["mode"] == "sequential" else None,
        prefill=accounting["prefill_tokens"],
        join_prefill=accounting["join_prefill_tokens"],
        forked=accounting["threads_forked"],
        false_claims=accounting["false_claims"],
        seconds=time.monotonic() - started,
        said=[expression, [{**thread, "path_tokens": 0} for thread in threads]],
    )


def _first_text(threads: Sequence[dict[str, Any]]) -> int | None:
    """Stretches of one text have one name; the last one ends the search."""
    if not threads or threads[-1]["outcome"] != "verified" or threads[-1]["thread"] != threads[0]["thread"]:
        return None
    return int(threads[-1]["path_tokens"])


def _steps(board: Board, value: dict[str, Any]) -> int:
    costs = [
        ThreadCost(
            spawned_at=thread["path_tokens"] - thread["tokens"],
            tokens=None if thread["outcome"] == "cancelled" else thread["tokens"],
            is_verified=thread["outcome"] == "verified",
        )
        for thread in value["threads"]
        if thread["path_tokens"]
    ]
    longest = max((thread["path_tokens"] for thread in value["threads"]), default=0)
    tail = max(0, value["accounting"]["critical_path_tokens"] - longest)
    return steps_on_slots(costs, OUTLINE_TOKENS * len(beginnings(board.numbers)) + 1, min(tail, 4), SLOTS)


async def attempt_all(
    engine: Engine, boards: Sequence[Board], effort: dict[str, Json], at_once: int
) -> tuple[Attempt, ...]:
    """One attempt a board, `at_once` of them at the same time."""
    places = asyncio.Semaphore(at_once)

    async def one(index: int, board: Board) -> Attempt:
        async with places:
            return await attempt(engine, f"b{index}", board, effort)

    async with asyncio.TaskGroup() as group:
        running = [group.create_task(one(index, board)) for index, board in enumerate(boards)]
    return tuple(task.result() for task in running)
