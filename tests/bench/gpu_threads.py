"""What reasoning threads gain on a GPU in seconds and in tokens: `python -m tests.bench.gpu_threads`.

The shipped model on held-back boards, one board at a time, greedy: sequential search, and threads that start as their
outlines close and are cancelled at the first verified answer. Gains are over the boards that both solve: tokens on the
critical path, and seconds. Before them the milliseconds of a step by how many decode. Bar: the gain in seconds is at
least 0.75 of the gain in tokens (ThreadWeaver, arXiv 2512.07843: 1.14 of 1.53).

A step of the shipped model is over before Python has laid out the next one. So by default its weights lie between zeros
in the shape of Qwen3-8B, which costs what a model of that size does; `--as-shipped` leaves them as they are.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import torch

from asterism.agents.asks import Json
from asterism.agents.countdown import Board
from asterism.orchestrator.core.errors import Misconfigured
from asterism.workers.engine.computer import find_device, find_dtype, make_computer
from asterism.workers.engine.folder import ModelFolder, load_folder
from asterism.workers.engine.seam import Engine, GenerationEnd, GenerationRequest
from asterism.workers.engine.step import BLOCK_TOKENS
from asterism.workers.engine.torch_engine import TorchEngine
from asterism.workers.training.attempts import Attempt, attempt
from asterism.workers.training.boards import HELD_BACK, read_boards
from asterism.workers.training.evaluate import SHIPPED
from tests.bench.gpu_engine import QWEN3_8B, give_blocks, held_until, step_at, synchronize
from tests.bench.widened import widened

ROWS: Final = (1, 2, 4, 8, 16)
STEPS: Final = 100
CONTEXT_TOKENS: Final = 640
THREADS: Final = 16
WARM_BOARDS: Final = 3

_PARALLEL: Final[dict[str, Json]] = {"mode": "parallel", "threads": THREADS, "at_once": THREADS}
_SEQUENTIAL: Final[dict[str, Json]] = {"mode": "sequential", "budget": 1_600}


async def gains(engine: Engine, boards: Sequence[Board]) -> list[str]:
    """The lines about threads against one text."""
    found: list[tuple[Attempt, Attempt]] = []
    for number, board in enumerate([*boards[:WARM_BOARDS], *boards]):
        # Their prompts part after the board: what one leaves in the cache spares the other a dozen tokens.
        alone = await attempt(engine, f"s{number}", board, _SEQUENTIAL)
        threads = await attempt(engine, f"t{number}", board, _PARALLEL)
        if number >= WARM_BOARDS:
            found.append((alone, threads))
    solved = [sum(each[side].solved for each in found) for side in (0, 1)]
    both = [each for each in found if each[0].solved and each[1].solved]
    lines = [f"{len(found)} boards: one text solves {solved[0]}, threads {solved[1]}, both {len(both)}"]
    if not both:
        return [*lines, "no board was solved by both: no gain to show"]
    path = [sum(each[side].critical_path for each in both) for side in (0, 1)]
    wall = [sum(each[side].seconds for each in both) for side in (0, 1)]
    in_tokens, in_seconds = path[0] / path[1], wall[0] / wall[1]
    for name, side in (("one text", 0), ("threads", 1)):
        lines.append(
            f"  {name}: {path[side] / len(both):.0f} tokens on the critical path, {1e3 * wall[side] / len(both):.1f} ms"
            f" a board, {1e3 * wall[side] / path[side]:.3f} ms a token of the path"
        )
    lines.append(
        f"gain {in_tokens:.2f} in tokens of the critical path, {in_seconds:.2f} in seconds:"
        f" {in_seconds / in_tokens:.2f} of it (bar 0.75, aim 0.9)"
    )
    return lines


@torch.inference_mode()
def steps(model: ModelFolder, device: str) -> Iterator[str]:
    """Milliseconds of a step of the computer alone, greedy, by rows."""
    blocks = max(ROWS) * -(-CONTEXT_TOKENS // BLOCK_TOKENS)
    computer = make_computer(
        model.decoder,
        blocks=blocks,
        context_tokens=CONTEXT_TOKENS,
        max_sequences=max(ROWS),
        os_threads=1,
        device=device,
    )
    each = blocks // max(ROWS)
    tables = [list(range(row * each, (row + 1) * each)) for row in range(max(ROWS))]
    for rows in ROWS:
        times: list[float] = []
        held = held_until(100, tables[:rows])
        for position in range(100, 100 + STEPS):
            began = time.perf_counter()
            give_blocks(held, tables[:rows], position)
            computer.compute(step_at(position, [5] * rows, held)).argmax(dim=-1).tolist()
            synchronize(torch.device(device))
            times.append(time.perf_counter() - began)
        yield f"  {rows:2} rows: {1e3 * statistics.median(times):.3f} ms a step of the computer"


async def rates(engine: Engine) -> list[str]:
    """Milliseconds a step of the whole engine, texts that go on to their bound: sampled hot, few end by themselves."""
    lines: list[str] = []
    for rows in ROWS:
        times: list[float] = []
        for number in range(3):
            requests = [
                GenerationRequest(
                    id=f"{rows}.{number}.{row}",
                    prompt=f"<Board> {3 + row} 4 6 8 -> 24 <Search>",
                    max_tokens=STEPS,
                    temperature=1.5,
                    seed=100 * number + row,
                )
                for row in range(rows)
            ]
            began, longest = time.perf_counter(), 1
            async for event in engine.generate(requests):
                if isinstance(event, GenerationEnd):
                    longest = max(longest, event.tokens)
            times.append((time.perf_counter() - began) / longest)
        lines.append(f"  {rows:2} texts: {1e3 * min(times):.3f} ms a token of each, sampled, of the engine")
    return lines


async def measure(model: ModelFolder, device: str, boards: Sequence[Board]) -> None:
    for line in steps(model, device):
        print(line, flush=True)
    engine = TorchEngine(model, max_sequences=2 * THREADS, context_tokens=CONTEXT_TOKENS, device=device)
    await engine.start()
    try:
        for line in [*await rates(engine), *await gains(engine, boards)]:
            print(line, flush=True)
    finally:
        await engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", type=int, default=60, help="so many of the held-back boards, spread evenly")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to see that it runs")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--as-shipped", action="store_true", help="the small model as it is")
    options = parser.parse_args()
    try:
        device = find_device(options.device)
        dtype = find_dtype(options.dtype, device)
    except Misconfigured as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    boards = read_boards(HELD_BACK)
    chosen = boards[:: max(1, len(boards) // options.boards)][: options.boards]
    where = torch.cuda.get_device_name() if device == "cuda" else "a CPU"
    print(f"{time.strftime('%Y-%m-%d')}, {where}, torch {torch.__version__}, {dtype}", flush=True)
    model = load_folder(SHIPPED, dtype=dtype)
    if not options.as_shipped:
        wide = widened(model.decoder, QWEN3_8B, dtype=dtype, device=torch.device(device))
        model = replace(model, decoder=wide)
    print(f"{sum(each.numel() for each in model.decoder.parameters()) / 1e6:.1f} million parameters", flush=True)
    asyncio.run(measure(model, device, chosen))


if __name__ == "__main__":
    main()
