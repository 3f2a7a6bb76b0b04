"""How late a worker's event loop is while its engine computes prompts: `python -m tests.bench.responsive`.

A worker renews its leases from the event loop. Its engine computes in an OS thread of its own, in native code that
holds no lock of Python's; what is left is the operating system's share of the cores. Beside it an idle engine, in the
same run: what the machine itself is late by.
"""

import argparse
import asyncio
import os
import time
from typing import Final

from asterism.workers.bench.cases import Prompts, seconds
from asterism.workers.bench.shapes import SHAPES, random_model
from asterism.workers.engine.torch_engine import TorchEngine

TICK_S: Final = 0.01


async def lateness(ended: asyncio.Event) -> list[float]:
    """Seconds by which each of many sleeps of TICK_S was too long."""
    found: list[float] = []
    while not ended.is_set():
        wanted = time.perf_counter() + TICK_S
        await asyncio.sleep(TICK_S)
        found.append(time.perf_counter() - wanted)
    return found


def shown(what: str, late: list[float]) -> str:
    late = sorted(late)
    middle, most, worst = (1e3 * late[int(share * (len(late) - 1))] for share in (0.5, 0.99, 1.0))
    return f"{what}: {len(late)} ticks late by p50 {middle:.1f} ms, p99 {most:.1f} ms, at most {worst:.1f} ms"


async def measure(model: str, os_threads: int, prompts: int, tokens: int) -> None:
    made = random_model(model)
    engine = TorchEngine(made, max_sequences=prompts, context_tokens=tokens + 1, os_threads=os_threads)
    await engine.start()
    ids = Prompts(made.decoder.config.vocab_size)
    ended = asyncio.Event()
    ticking = asyncio.create_task(lateness(ended))
    await asyncio.sleep(2.0)
    ended.set()
    print(shown("idle", await ticking))
    ended.clear()
    ticking = asyncio.create_task(lateness(ended))
    spent = await seconds(engine, [ids.next(tokens) for _ in range(prompts)], 1)
    ended.set()
    rate = prompts * tokens / spent
    print(shown(f"{model}, {os_threads} OS threads, {prompts} prompts of {tokens}: {rate:.0f} tokens/s", await ticking))
    await engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(SHAPES), default="50M")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=500)
    options = parser.parse_args()
    for os_threads in (1, os.cpu_count() or 1):
        asyncio.run(measure(options.model, os_threads, options.prompts, options.tokens))


if __name__ == "__main__":
    main()
