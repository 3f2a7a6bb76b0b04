"""Where the time of a decoding step goes on a GPU, and what other divisions of the kernels would take.

`python -m tests.bench.gpu_table --profile` prints it behind the table. Kernels are timed in recorded graphs over the
weights, or the keys and values, of all layers one after another, so that no cache answers for the memory.
"""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from asterism.workers.engine.cuda.inputs import send
from asterism.workers.engine.cuda.plan import lay_out
from asterism.workers.engine.step import BLOCK_TOKENS
from tests.bench.gpu_engine import Engine, Plan, blocks_for, held_until, step_at, synchronize

if TYPE_CHECKING:
    from asterism.workers.engine.cuda.triton_operations import TritonOperations

SHOWN: Final = 14
"""Kernels of a step that are listed, the costliest first."""
PROFILED_STEPS: Final = 8
REPLAYS: Final = 5


def where_time_goes(engine: Engine) -> Iterator[str]:
    for batch in engine.plan.batches:
        yield from _host(engine, batch)
        yield from _kernels(engine, batch)
    yield from _divisions(engine)


def _host(engine: Engine, batch: int) -> Iterator[str]:
    """What Python does before a step, by itself and with its copies, and the whole step."""
    computer, plan = engine.computer, engine.plan
    tables = held_until(plan.context + PROFILED_STEPS, engine.tables(batch))
    steps = [step_at(plan.context + number, [1] * batch, tables) for number in range(PROFILED_STEPS)]
    began = time.perf_counter()
    for step in steps:
        lay_out(step, computer.tiling, scratch=computer.blocks, size=batch)
    laid_out = time.perf_counter()
    synchronize(plan.device)
    launched = 0.0
    for step in steps:
        start = time.perf_counter()
        logits = computer.compute(step)
        launched += time.perf_counter() - start
        logits.argmax(dim=-1).tolist()
    layout_us, launch_us = (1e6 * seconds / len(steps) for seconds in (laid_out - began, launched))
    yield f"batch {batch}: layout {layout_us:.0f} us; compute() returns after {launch_us:.0f} us"


def _kernels(engine: Engine, batch: int) -> Iterator[str]:
    """Times by kernel of one step, as the device reports them."""
    plan = engine.plan
    activities = [torch.profiler.ProfilerActivity.CPU]
    if plan.device.type == "cuda":
        activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as recorded:
        engine.decode(plan.context, PROFILED_STEPS, engine.tables(batch), 0)
        synchronize(plan.device)
    found = [
        (_device_us(event) / PROFILED_STEPS, event.count / PROFILED_STEPS, event.key)
        for event in recorded.key_averages()
    ]
    found = sorted((each for each in found if each[0] > 0), reverse=True)
    yield f"batch {batch}: {sum(us for us, _, _ in found) / 1e3:.2f} ms of kernels a step: us | launches | name"
    for us, count, name in found[:SHOWN]:
        yield f"  {us:8.1f} | {count:5.1f} | {name[:88]}"


def _device_us(event: Any) -> float:
    return float(event.self_device_time_total or event.self_cpu_time_total)


def _divisions(engine: Engine) -> Iterator[str]:
    from asterism.workers.engine.cuda.triton_operations import (
        LARGE_TILE,
        SMALL_TILE,
        Reading,
        TritonOperations,
    )

    is_gpu = engine.plan.device.type == "cuda"
    tiles = ((64, 4, 2), (64, 4, 4), (32, 4, 4), (128, 4, 2), (128, 8, 2), (64, 2, 3), (32, 2, 4))
    small = [SMALL_TILE, *(Reading(*numbers) for numbers in tiles if is_gpu)]
    tiles_ahead = ((64, 8, 4, True), (128, 8, 3, True), (64, 4, 3, True), (64, 8, 3, False))
    large = [LARGE_TILE, *(Reading(*numbers) for numbers in tiles_ahead if is_gpu)]

    config = engine.plan.config

    def made(**changes: Any) -> TritonOperations:
        return TritonOperations(
            engine.computer.weights,
            kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            window=config.sliding_window,
            eps=config.rms_norm_eps,
            **changes,
        )

    yield "products, us a layer: qkv | output, sum and norm | gate and up | down, sum and norm"
    for rows in sorted({1, min(32, max(engine.plan.batches))}):
        yield f"  {rows:3} rows: {_product_us(engine, made(), rows)}"
    yield "attention, us a layer at the table's batches"
    for reading in small:
        times = [_attention_us(engine, made(small_tile=reading), batch) for batch in engine.plan.batches]
        yield f"  {reading}: {' | '.join(times)}"
    yield "attention of the fork, us a layer: small and large one after the other | side by side"
    for reading in large:
        times = [
            _attention_us(engine, made(large_tile=reading, overlaps=overlaps), engine.plan.threads, shares=True)
            for overlaps in (False, True)
        ]
        yield f"  {reading}: {' | '.join(times)}"


def _product_us(engine: Engine, operations: "TritonOperations", rows: int) -> str:
    layers = engine.computer.weights.layers
    config, plan = engine.plan.config, engine.plan

    def drawn(columns: int) -> Tensor:
        return torch.randn((rows, columns), device=plan.device, dtype=plan.dtype)

    x, attended = drawn(config.hidden_size), drawn(config.num_attention_heads * config.head_dim)
    gated = drawn(config.intermediate_size)

    def qkv() -> None:
        for layer in layers:
            operations.product(x, layer.qkv)

    def output() -> None:
        for layer in layers:
            operations.add_product(x, attended, layer.output, layer.mlp_norm)

    def gate_up() -> None:
        for layer in layers:
            operations.gate(operations.product(x, layer.gate_up))

    def down() -> None:
        for layer in layers:
            operations.add_product(x, gated, layer.down, layer.attention_norm)

    return " | ".join(_timed(run, plan, len(layers)) for run in (qkv, output, gate_up, down))


def _attention_us(engine: Engine, operations: "TritonOperations", batch: int, *, shares: bool = False) -> str:
    plan, computer = engine.plan, engine.computer
    if shares:
        each = blocks_for(plan.thread_tokens)
        prefix = plan.prefix // BLOCK_TOKENS
        tables = [[*range(prefix), *range(prefix + row * each, prefix + (row + 1) * each)] for row in range(batch)]
        step = step_at(plan.prefix + plan.thread_tokens // 2, [1] * batch, tables, prefix)
    else:
        step = step_at(plan.context, [1] * batch, engine.tables(batch))
    inputs = send(lay_out(step, computer.tiling, scratch=computer.blocks, size=batch), plan.device)
    columns = plan.config.num_attention_heads * plan.config.head_dim
    q = torch.randn((batch, columns), device=plan.device, dtype=plan.dtype)
    layers = computer.layers_kv
    return _timed(lambda: [operations.attend(q, kv, inputs) for kv in layers], plan, len(layers))


def _timed(run: Callable[[], object], plan: Plan, layers: int) -> str:
    """Microseconds a layer, or why not: a division may ask for more shared memory than a processor has."""
    step: Callable[[], object] = run
    try:
        run()
        synchronize(plan.device)
        if plan.device.type == "cuda":
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                run()
            step = graph.replay
        step()
        synchronize(plan.device)
        began = time.perf_counter()
        for _ in range(REPLAYS):
            step()
        synchronize(plan.device)
    except Exception as error:  # whatever a compiler or a driver raises: the other divisions are still worth a line
        return type(error).__name__
    return f"{1e6 * (time.perf_counter() - began) / REPLAYS / layers:.1f}"
