"""Milliseconds a solved board with 1, 2 and 4 real worker processes: `python -m tests.bench.boards`.

Held-back boards as the stars of one plan, threads with eager spawn and cancel against one text after another from the
same weights. Every worker computes on one core; on a machine with fewer cores than workers they share them.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from asterism.agents.asks import Json
from asterism.agents.countdown import Board
from asterism.orchestrator.core.records import StarFinished
from asterism.protocol.client import AsyncClient
from asterism.workers.training.boards import HELD_BACK, read_boards
from tests.bench.overhead import run_plan
from tests.processes import attached, fleet

THREADS: Final[Mapping[str, Json]] = {"mode": "parallel", "threads": 32, "at_once": 8}
TEXTS: Final[Mapping[str, Json]] = {"mode": "sequential", "budget": 1_700}
WARM_BOARDS: Final = 8


@dataclass(frozen=True, slots=True)
class Figure:
    """What a number of workers did with the boards in one mode."""

    workers: int
    mode: str
    boards: int
    solved: int
    seconds: float

    def __str__(self) -> str:
        ms = f"{1e3 * self.seconds / self.solved:.1f} ms a solved board" if self.solved else "none solved"
        return f"{self.workers} workers, {self.mode}: {self.solved} of {self.boards} in {self.seconds:.1f} s, {ms}"


def plan_of(boards: Sequence[Board], effort: Mapping[str, Json]) -> str:
    stars = [
        {
            "id": f"b{number}",
            "kind": "reason",
            "program": "reason.countdown",
            "requires": ["model:countdown"],
            "inputs": {**board.to_json(), **effort},
        }
        for number, board in enumerate(boards)
    ]
    return json.dumps({"stars": stars})


async def measure(folder: Path, workers: int, boards: Sequence[Board]) -> list[Figure]:
    figures: list[Figure] = []
    with fleet(folder) as running:
        for number in range(workers):
            running.start_worker(f"w{number}")
        async with AsyncClient(running.address) as client:
            await attached(client, workers)
            await run_plan(client, plan_of(boards[:WARM_BOARDS], THREADS))
            for mode, effort in (("threads", THREADS), ("texts", TEXTS)):
                records, seconds = await run_plan(client, plan_of(boards, effort))
                values = [record.result for record in records if isinstance(record, StarFinished)]
                solved = sum(isinstance(value, Mapping) and value.get("solved") is True for value in values)
                figures.append(Figure(workers, mode, len(boards), solved, seconds))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--boards", type=int, default=100, help="so many of the held-back boards, spread evenly")
    options = parser.parse_args()
    held_back = read_boards(HELD_BACK)
    boards = held_back[:: max(1, len(held_back) // options.boards)][: options.boards]
    print(f"{psutil.cpu_count()} cores", flush=True)
    for workers in options.workers:
        with tempfile.TemporaryDirectory() as folder:
            for figure in asyncio.run(measure(Path(folder), workers, boards)):
                print(figure, flush=True)


if __name__ == "__main__":
    main()
