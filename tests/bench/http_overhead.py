"""What HTTP costs a reasoning program: the shipped model's boards on our engine, and on it behind our own server.

`python -m tests.bench.http_overhead`: the same program, boards and weights both times; the engine has one OS thread,
and the server is a process of its own. Prints JSON objects: seconds for the boards, one at a time and eight at once,
and how many times longer they take over HTTP. Rounds alternate between the two, and the best of each counts.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from asterism.agents.countdown import Board
from asterism.orchestrator.core.values import Json
from asterism.workers.engine.folder import load_folder
from asterism.workers.engine.http_engine import HttpEngine
from asterism.workers.engine.http_server import serving
from asterism.workers.engine.seam import Engine, GenerationRequest
from asterism.workers.engine.torch_engine import TorchEngine
from asterism.workers.training.attempts import Attempt, attempt_all
from asterism.workers.training.boards import HELD_BACK, read_boards
from asterism.workers.training.evaluate import SHIPPED

EFFORT: dict[str, Json] = {"mode": "parallel", "threads": 8, "tokens": 256}
AT_ONCE = (1, 8)


def make_engine(folder: Path) -> TorchEngine:
    return TorchEngine(load_folder(folder), max_sequences=64, context_tokens=640)


async def serve(folder: Path) -> None:
    """Until standard input closes; prints the URL."""
    engine = make_engine(folder)
    await engine.start()
    async with serving({engine.profile.model: engine}) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    await engine.close()


async def warm(engine: Engine) -> None:
    """The first request pays for what is imported and opened late."""
    async with aclosing(engine.generate([GenerationRequest(id="warm", prompt="1", max_tokens=8)])) as events:
        async for _ in events:
            pass


async def measure(engines: Sequence[Engine], boards: Sequence[Board], at_once: int, rounds: int) -> list[float]:
    """The best seconds of each engine. Raises `RuntimeError` where they do not solve alike."""
    best = [float("inf")] * len(engines)
    found: list[tuple[Attempt, ...]] = [()] * len(engines)
    for _ in range(rounds):
        for number, engine in enumerate(engines):
            begun = time.perf_counter()
            found[number] = await attempt_all(engine, boards, EFFORT, at_once)
            best[number] = min(best[number], time.perf_counter() - begun)
    if len({sum(attempt.solved for attempt in attempts) for attempts in found}) > 1:
        raise RuntimeError(f"the engines answered differently: {found}")
    return best


async def compare(folder: Path, boards: Sequence[Board], rounds: int) -> None:
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.http_overhead", "--serve", str(folder)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    url = (await server.stdout.readline()).decode().strip()
    engines: Sequence[Engine] = (make_engine(folder), HttpEngine(url))
    try:
        for engine in engines:
            await engine.start()
            await warm(engine)
        for at_once in AT_ONCE:
            direct_s, http_s = await measure(engines, boards, at_once, rounds)
            seconds = {"direct_s": round(direct_s, 3), "http_s": round(http_s, 3)}
            print(
                json.dumps({"boards": len(boards), "at_once": at_once, **seconds, "ratio": round(http_s / direct_s, 2)})
            )
    finally:
        for engine in engines:
            await engine.close()
        server.stdin.close()
        await server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", type=Path, metavar="FOLDER", help="serve the model of a folder, and measure nothing")
    parser.add_argument("--folder", type=Path, default=SHIPPED)
    parser.add_argument("--boards", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve))
        return
    held_back = read_boards(HELD_BACK)
    boards = held_back[:: len(held_back) // options.boards][: options.boards]
    asyncio.run(compare(options.folder, boards, options.rounds))


if __name__ == "__main__":
    main()
