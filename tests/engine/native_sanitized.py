"""Random steps on a library built with sanitizers: `python native_sanitized.py LIBRARY`. No torch: it is slow so.

Prints "ended" at the end; a sanitizer that finds something ends the process before.
"""

import ctypes
import random
import sys
from pathlib import Path

import numpy as np

from asterism.workers.engine.native.arrays import Limits, step_arrays
from asterism.workers.engine.native.library import Config, Held, Library, NativeStep, Weight
from asterism.workers.engine.step import BlockCopy, Chunk, Step

LIMITS = Limits(vocab=77, context_tokens=150, blocks=90)
HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM = 44, 50, 6, 2, 18
SHAPES = {
    Weight.INPUT_NORM: (HIDDEN,),
    Weight.POST_NORM: (HIDDEN,),
    Weight.QUERY: (HEADS * HEAD_DIM, HIDDEN),
    Weight.KEY: (KV_HEADS * HEAD_DIM, HIDDEN),
    Weight.VALUE: (KV_HEADS * HEAD_DIM, HIDDEN),
    Weight.QUERY_BIAS: (HEADS * HEAD_DIM,),
    Weight.KEY_BIAS: (KV_HEADS * HEAD_DIM,),
    Weight.VALUE_BIAS: (KV_HEADS * HEAD_DIM,),
    Weight.QUERY_NORM: (HEAD_DIM,),
    Weight.KEY_NORM: (HEAD_DIM,),
    Weight.OUTPUT: (HIDDEN, HEADS * HEAD_DIM),
    Weight.OUTPUT_BIAS: (HIDDEN,),
    Weight.GATE: (INTERMEDIATE, HIDDEN),
    Weight.UP: (INTERMEDIATE, HIDDEN),
    Weight.GATE_BIAS: (INTERMEDIATE,),
    Weight.UP_BIAS: (INTERMEDIATE,),
    Weight.DOWN: (HIDDEN, INTERMEDIATE),
    Weight.DOWN_BIAS: (HIDDEN,),
    Weight.FINAL_NORM: (HIDDEN,),
    Weight.HEAD: (LIMITS.vocab, HIDDEN),
    Weight.EMBEDDING: (LIMITS.vocab, HIDDEN),
    Weight.COS: (LIMITS.context_tokens, HEAD_DIM // 2),
    Weight.SIN: (LIMITS.context_tokens, HEAD_DIM // 2),
}
ONCE = {Weight.FINAL_NORM, Weight.HEAD, Weight.EMBEDDING, Weight.COS, Weight.SIN}
LAYERS = 2


def random_step(draws: random.Random) -> Step:
    """Chunks read blocks that others read too, and write to blocks of their own."""
    shuffled = draws.sample(range(LIMITS.blocks), LIMITS.blocks)
    read, own = shuffled[:20], shuffled[20:]
    chunks = list[Chunk]()
    for _ in range(draws.randrange(10)):
        rows = draws.choice((1, 1, 2, 19, 70))
        start = draws.randrange(LIMITS.context_tokens - rows + 1)
        blocks = draws.choices(read, k=start // 16)
        if chunks and draws.random() < 0.5:
            shared = chunks[-1].blocks[: min(chunks[-1].start, start) // 16]
            blocks[: len(shared)] = shared
        blocks += [own.pop() for _ in range(start // 16, (start + rows + 15) // 16)]
        chunks.append(Chunk(draws.choices(range(LIMITS.vocab), k=rows), start, blocks, draws.random() < 0.7))
    pairs = [draws.sample(read, 2) for _ in range(draws.randrange(3))]
    copies = tuple(BlockCopy(source, target, draws.randrange(16)) for source, target in pairs)
    return Step(copies, tuple(chunks))


def run(library: Library, *, held: Held, window: int, os_threads: int) -> None:
    draws, numbers = random.Random(window), np.random.default_rng(window)
    config = Config(
        LIMITS.vocab, HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, HEAD_DIM, LIMITS.context_tokens, window,
        LIMITS.blocks, os_threads, 1e-6,
    )  # fmt: skip
    matrices = [*[held] * (4 * LAYERS + 1), Held.FLOAT32 if held is Held.INT8 else held]
    model = library.create(ctypes.byref(config), (ctypes.c_int32 * len(matrices))(*matrices))
    assert model is not None
    kept = []
    for kind, shape in SHAPES.items():
        for layer in range(1 if kind in ONCE else LAYERS):
            weight = numbers.normal(0, 0.2, shape).astype(np.float32)
            if held is Held.BFLOAT16 and kind is Weight.EMBEDDING:
                weight = (weight.view(np.uint32) >> 16).astype(np.uint16)
            assert library.weight(model, kind, layer, weight.ctypes.data) == 0
            if kind is Weight.EMBEDDING:
                kept.append(weight)
    for _ in range(12):
        step = random_step(draws)
        arrays = step_arrays(step, LIMITS)
        logits = np.full((len(arrays.sample_rows), 96), np.nan, np.float32)
        addresses = [
            getattr(arrays, name).buffer_info()[0]
            for name in ("token_ids", "positions", "row_tables", "blocks", "sample_rows", "copied")
        ]
        native = NativeStep(len(arrays.token_ids), len(logits), len(step.copies), *addresses, logits.ctypes.data)
        assert library.step(model, ctypes.byref(native)) == 0
        assert not np.isnan(logits).any()
    library.destroy(model)


if __name__ == "__main__":
    loaded = Library(Path(sys.argv[1]))
    for held in Held:
        for window in (0, 21):
            for os_threads in (1, 3):
                run(loaded, held=held, window=window, os_threads=os_threads)
    print("ended")
