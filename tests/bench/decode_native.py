"""How fast the native computer is on this machine: `python -m tests.bench.decode_native`.

The models of `asterism bench engine`. Decoding: the median step of sequences with 128 to 255 tokens before them, blocks
of their own. Prefill: 512 tokens in one chunk. Fork: a prefix of 512 tokens, then 64 tokens of each of 8 sequences,
with shared blocks over without (each computes the prefix, and reads its own).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

import torch

from asterism.workers.bench.shapes import CONTEXT_TOKENS, SHAPES, random_model
from asterism.workers.engine.native.computer import NativeComputer
from asterism.workers.engine.step import BLOCK_TOKENS, Chunk, Step

ROWS: Final = (1, 8, 32)
CONTEXT: Final = 128
PREFIX, THREADS, TOKENS = 512, 8, 64


def seconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def table(sequence: int, tokens: int) -> tuple[int, ...]:
    blocks = -(-tokens // BLOCK_TOKENS)
    return tuple(range(sequence * blocks, (sequence + 1) * blocks))


def decode(computer: NativeComputer, rows: int, steps: int) -> float:
    """Seconds of the median step; positions are spread over the context."""
    spent = list[float]()
    for number in range(steps):
        position = CONTEXT + number * CONTEXT // steps
        chunks = tuple(Chunk([row], position, table(row, 2 * CONTEXT), True) for row in range(rows))
        step = Step((), chunks)
        spent.append(seconds(partial(computer.compute, step)))
    return statistics.median(spent)


def prefill(computer: NativeComputer, blocks: tuple[int, ...]) -> None:
    computer.compute(Step((), (Chunk(list(range(PREFIX)), 0, blocks[: PREFIX // BLOCK_TOKENS], True),)))


def fork(computer: NativeComputer, *, is_shared: bool) -> None:
    whole, first = PREFIX // BLOCK_TOKENS, table(0, PREFIX + TOKENS)
    tables = [table(thread, PREFIX + TOKENS) for thread in range(THREADS)]
    if is_shared:
        tables = [first[:whole] + own[whole:] for own in tables]
    for blocks in tables[: 1 if is_shared else THREADS]:
        prefill(computer, blocks)
    for token in range(TOKENS):
        chunks = tuple(
            Chunk([thread], PREFIX + token, blocks, True, whole if is_shared and thread else 0)
            for thread, blocks in enumerate(tables)
        )
        computer.compute(Step((), chunks))


def measure(name: str, weights: Literal["float32", "int8"], os_threads: int) -> None:
    decoder = random_model(name).decoder
    computer = NativeComputer(
        decoder, blocks=600, context_tokens=CONTEXT_TOKENS, os_threads=os_threads, weights=weights
    )
    decode(computer, max(ROWS), 2)
    print(
        f"{name:>5} {weights:>8} {os_threads} OS threads, {computer.matrix_bytes / 1e6:.0f} MB: tokens/s at",
        end="",
    )
    for rows in ROWS:
        print(f" {rows}: {rows / decode(computer, rows, 3 * 64 // rows + 16):6.0f}", end=",", flush=True)
    rate = PREFIX / min(seconds(lambda: prefill(computer, table(0, PREFIX))) for _ in range(3))
    ratios = [
        seconds(lambda: fork(computer, is_shared=True)) / seconds(lambda: fork(computer, is_shared=False))
        for _ in range(3)
    ]
    print(f" prefill: {rate:6.0f}, fork shared/not: {statistics.median(ratios):.2f}", flush=True)
    computer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(SHAPES))
    parser.add_argument("--weights", default="float32,int8")
    parser.add_argument("--os-threads", default="1,2")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for name in chosen.models.split(","):
        for weights in chosen.weights.split(","):
            for os_threads in chosen.os_threads.split(","):
                measure(name, weights, int(os_threads))


if __name__ == "__main__":
    main()
