"""Measures a model folder on the held-back boards: `python -m asterism.workers.training.evaluate`.

It runs the shipped program on the shipped engine, many boards at a time, greedy: k reasoning threads for k = 1, 4, 16,
and sequential search with as many token ids for every board as the costliest board took with k threads. A board counts
as solved only when the program's expression verifies exactly.
"""

import argparse
import asyncio
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, assert_never

from asterism.agents.asks import (
    Answer,
    Ask,
    CallTool,
    CancelBranches,
    Clock,
    EditReply,
    Emit,
    Fork,
    Generate,
    Join,
    Json,
    Program,
    ProgramContext,
    Say,
    ToolError,
)
from asterism.agents.countdown import Board, verify
from asterism.agents.reason_countdown import reason_countdown
from asterism.orchestrator.core.events import Chunk
from asterism.workers.engine.folder import load_folder
from asterism.workers.engine.seam import Engine
from asterism.workers.engine.torch_engine import TorchEngine
from asterism.workers.thread_desk import EngineLoad, ThreadDesk
from asterism.workers.training.boards import HELD_BACK, HELD_BACK_24, read_boards

THREAD_COUNTS: Final = (1, 4, 16)
TOKENS_A_THREAD: Final = 150
SHIPPED: Final = Path(__file__).parents[1] / "models" / "countdown"
_CONTEXT: Final = ProgramContext(constellation="evaluation", star="board", attempt=1, revision=0)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one run of the program did on one board."""

    solved: bool
    tokens: int
    critical_path: int
    false_claims: int


class BoardRun:
    """Interprets the asks of one program on an engine, without a worker around it."""

    def __init__(self, load: EngineLoad, name: str, children: asyncio.TaskGroup) -> None:
        self._desk = ThreadDesk(load, name, _unseen, children)

    async def run(self, inputs: dict[str, Json]) -> dict[str, Any]:
        """The program's result value."""
        return await self.interpret(reason_countdown(inputs, _CONTEXT))

    async def interpret(self, program: Program) -> dict[str, Any]:
        """The result value of any program that asks for text alone."""
        answer: Answer = None
        while True:
            try:
                ask = program.send(answer)
            except StopIteration as end:
                value: dict[str, Any] = end.value.value
                return value
            answer = await self._answer(ask)

    async def _answer(self, ask: Ask) -> Answer:
        match ask:
            case Generate() | Fork() | Join() | CancelBranches() | Clock():
                return await self._desk.serve(ask)
            case CallTool():
                return ToolError("unknown_tool", "an evaluation has no tools")
            case Emit():
                return EditReply(False, ("an evaluation has no graph",), 0)
            case Say():
                return None
            case _:
                assert_never(ask)


async def _unseen(chunk: Chunk) -> None:
    """Nobody watches an evaluation."""


async def attempt(engine: Engine, name: str, board: Board, effort: dict[str, Json]) -> Attempt:
    async with asyncio.TaskGroup() as children:
        value = await BoardRun(EngineLoad(engine), name, children).run({**board.to_json(), **effort})
    accounting, expression = value["accounting"], value["expression"]
    return Attempt(
        solved=isinstance(expression, str) and verify(board, expression).is_correct,
        tokens=accounting["total_tokens"],
        critical_path=accounting["critical_path_tokens"],
        false_claims=accounting["false_claims"],
    )


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


def wilson(solved: int, boards: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    z, share = 1.96, solved / boards
    centre = (share + z * z / (2 * boards)) / (1 + z * z / boards)
    half = z * math.sqrt(share * (1 - share) / boards + z * z / (4 * boards * boards)) / (1 + z * z / boards)
    return centre - half, centre + half


def summary(mode: str, threads: int, boards: Sequence[Board], attempts: Sequence[Attempt], seconds: float) -> Json:
    """What the model card says about one mode: shares with intervals, and mean tokens."""
    is_24 = [board.target == 24 and max(board.numbers) <= 13 for board in boards]

    def share(chosen: Sequence[Attempt]) -> Json:
        solved = sum(one.solved for one in chosen)
        if not chosen:
            return None
        low, high = wilson(solved, len(chosen))
        return {
            "boards": len(chosen),
            "solved": solved,
            "share": round(solved / len(chosen), 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }

    return {
        "mode": mode,
        "threads": threads,
        "all": share(attempts),
        "game_of_24": share([one for one, chosen in zip(attempts, is_24, strict=True) if chosen]),
        "countdown": share([one for one, chosen in zip(attempts, is_24, strict=True) if not chosen]),
        "mean_tokens": round(sum(one.tokens for one in attempts) / len(attempts), 1),
        "largest_tokens": max(one.tokens for one in attempts),
        "mean_critical_path": round(sum(one.critical_path for one in attempts) / len(attempts), 1),
        "false_claims": sum(one.false_claims for one in attempts),
        "seconds": round(seconds, 1),
    }


async def evaluate(folder: Path, boards: Sequence[Board], at_once: int) -> list[Json]:
    """All modes, one after the other; prints each as it comes."""
    engine = TorchEngine(load_folder(folder), max_sequences=64, context_tokens=640)
    await engine.start()
    results: list[Json] = []

    async def measure(mode: Literal["parallel", "sequential"], threads: int, tokens: int) -> int:
        started = time.monotonic()
        effort: dict[str, Json] = {"mode": mode, "threads": threads, "tokens": tokens}
        attempts = await attempt_all(engine, boards, effort, at_once if mode == "parallel" else 64)
        results.append(summary(mode, threads, boards, attempts, time.monotonic() - started))
        print(json.dumps(results[-1]), flush=True)
        return max(one.tokens for one in attempts)

    try:
        for threads in THREAD_COUNTS:
            costliest = await measure("parallel", threads, TOKENS_A_THREAD)
            await measure("sequential", threads, math.ceil(costliest / threads))
    finally:
        await engine.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("--boards", type=int, default=0, help="so many of the held-back boards, spread evenly; 0: all")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    boards = read_boards(HELD_BACK)
    if options.boards:
        boards = boards[:: max(1, len(boards) // options.boards)]
    results = asyncio.run(evaluate(options.folder, boards, options.at_once))
    if options.out is not None:
        report = {"held_back": HELD_BACK.name, "boards": len(boards), "of_24": HELD_BACK_24, "results": results}
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
