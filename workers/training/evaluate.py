"""Measures a model folder: `python -m asterism.workers.training.evaluate`.

Each run is one way to use the same weights, greedy, on boards that training never saw; its records go to a folder, and
`results.json` is made of the records that are there, so that runs may be measured one at a time. A board counts as
solved only when the program's expression verifies exactly.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from asterism.agents.asks import Json
from asterism.agents.countdown import Board
from asterism.workers.engine.folder import load_folder
from asterism.workers.engine.seam import GenerationRequest
from asterism.workers.engine.torch_engine import TorchEngine
from asterism.workers.training.attempts import SLOTS, Attempt, attempt_all
from asterism.workers.training.boards import HELD_BACK, HELD_BACK_APR, VALIDATION, boards_of_three, read_boards
from asterism.workers.training.results import Records, results_json

SHIPPED: Final = Path(__file__).parents[1] / "models" / "countdown"
SETS: Final = {"countdown": HELD_BACK, "apr": HELD_BACK_APR, "validation": VALIDATION}
THREES: Final = 200
BUDGET: Final = 1_700
"""Tokens of all texts together at most; figures for fewer are read from the same runs."""
SMALL_BUDGET: Final = 800
_PARALLEL: Final[dict[str, Json]] = {"mode": "parallel", "threads": 32, "at_once": SLOTS}
_TWICE: Final[dict[str, Json]] = {"mode": "parallel", "threads": 32, "wait": "all", "temperature": 0.7, "seed": 5}


@dataclass(frozen=True, slots=True)
class Run:
    """One way to use the model: what the program is told, how long a context is, and on which boards."""

    effort: Mapping[str, Json]
    context: int = 640
    boards: int = 0
    """At most so many; 0: all that there are."""
    at_once: int = 8
    """Boards at the same time."""
    of_three: bool = False
    sequences: int = 64


RUNS: Final[dict[str, Run]] = {
    "parallel, context 256": Run(_PARALLEL, context=256),
    "sequential, context 256": Run({"mode": "sequential", "context": 256, "budget": 256}, context=256, at_once=64),
    "parallel, 800 tokens": Run({**_PARALLEL, "budget": SMALL_BUDGET}),
    "sequential, 1700 tokens": Run({"mode": "sequential", "budget": BUDGET}, at_once=64),
    "direct, 1700 tokens": Run({"mode": "direct", "budget": BUDGET}, at_once=64),
    "barrier": Run({**_PARALLEL, "eager": False, "wait": "all"}),
    "cancel": Run({**_PARALLEL, "eager": False}),
    "three numbers, auto": Run({"mode": "auto"}, boards=THREES, at_once=64, of_three=True),
    "three numbers, sequential": Run({"mode": "sequential"}, boards=THREES, at_once=64, of_three=True),
    "auto": Run({**_PARALLEL, "mode": "auto"}),
    "alone, parallel": Run(_PARALLEL, boards=100, at_once=1, sequences=SLOTS),
    "alone, sequential": Run({"mode": "sequential", "budget": BUDGET}, boards=100, at_once=1, sequences=SLOTS),
    "repeated, 1 at once": Run({**_TWICE, "at_once": 1}, boards=20, at_once=1, sequences=1),
    "repeated, 8 at once": Run({**_TWICE, "at_once": 8}, boards=20, at_once=8),
}


@dataclass(frozen=True, slots=True)
class Start:
    """How long a model takes until it is there and then until its first token, and how large it is."""

    load_s: float
    first_token_s: float
    parameters: int
    folder_bytes: int


async def measure_start(folder: Path, folder_bytes: int) -> Start:
    began = time.monotonic()
    engine = TorchEngine(load_folder(folder), max_sequences=SLOTS, context_tokens=640)
    await engine.start()
    loaded = time.monotonic()
    try:
        async for _ in engine.generate([GenerationRequest(id="first", prompt="<Board> 3 4 6 8 -> 24", max_tokens=1)]):
            pass
        ended = time.monotonic()
    finally:
        await engine.close()
    return Start(loaded - began, ended - loaded, engine.profile.parameters, folder_bytes)


async def measure(folder: Path, run: Run, boards: Sequence[Board]) -> tuple[tuple[Attempt, ...], float, float]:
    """The attempts of a run, and the wall and processor seconds that they took together."""
    engine = TorchEngine(load_folder(folder), max_sequences=run.sequences, context_tokens=run.context)
    await engine.start()
    try:
        wall, processor = time.monotonic(), time.process_time()
        attempts = await attempt_all(engine, boards, dict(run.effort), run.at_once)
        return attempts, time.monotonic() - wall, time.process_time() - processor
    finally:
        await engine.close()


def boards_of(run: Run, chosen: Sequence[Board]) -> tuple[Board, ...]:
    """The boards of a run, spread evenly over those that were chosen."""
    boards = boards_of_three(run.boards) if run.of_three else tuple(chosen)
    return boards[:: max(1, len(boards) // run.boards)][: run.boards] if run.boards else boards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("--boards", type=int, default=0, help="so many of the boards, spread evenly; 0: all")
    parser.add_argument("--of", choices=sorted(SETS), default="countdown", help="which boards")
    parser.add_argument(
        "--runs", nargs="*", default=list(RUNS), choices=list(RUNS), metavar="RUN", help="; ".join(RUNS)
    )
    parser.add_argument("--records", type=Path, default=Path("checkpoints/records"))
    parser.add_argument("--out", type=Path, help="where results go; default: records/results.json")
    options = parser.parse_args()
    chosen = read_boards(SETS[options.of])
    if options.boards:
        chosen = chosen[:: max(1, len(chosen) // options.boards)][: options.boards]
    options.records.mkdir(parents=True, exist_ok=True)
    for name in options.runs:
        boards = boards_of(RUNS[name], chosen)
        attempts, wall_s, processor_s = asyncio.run(measure(options.folder, RUNS[name], boards))
        records = Records(boards, attempts, wall_s, processor_s)
        (options.records / f"{name}.json").write_text(json.dumps(records.to_json()), encoding="utf-8")
        print(name, f"{sum(one.solved for one in attempts)} of {len(boards)}, {wall_s:.0f} s", flush=True)
    folder_bytes = sum(path.stat().st_size for path in options.folder.iterdir() if path.is_file())
    start = asyncio.run(measure_start(options.folder, folder_bytes))
    saved = {
        name: Records.from_json(json.loads((options.records / f"{name}.json").read_text(encoding="utf-8")))
        for name in RUNS
        if (options.records / f"{name}.json").exists()
    }
    results = {"start": asdict(start), **results_json(saved)}
    out = options.out or options.records / "results.json"
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
