"""`asterism bench engine`: what the engine does on this machine, beside other engines where there are some."""

import asyncio
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch

from asterism.workers.bench.cases import (
    Figures,
    Plan,
    Prompts,
    measure_admission,
    measure_decode,
    measure_fork,
    running,
)
from asterism.workers.bench.peers import measure_peer
from asterism.workers.bench.q8_0 import logit_errors
from asterism.workers.bench.shapes import SHAPES, random_model
from asterism.workers.engine.computer import INT8, find_dtype
from asterism.workers.engine.folder import ModelFolder, save_folder

OURS: Final = "asterism"


@dataclass(frozen=True, slots=True)
class Row:
    """One engine on one model."""

    model: str
    engine: str
    figures: Figures

    def as_json(self) -> dict[str, object]:
        return {
            "model": self.model,
            "engine": self.engine,
            **asdict(self.figures),
            "fork_ratio": self.figures.fork_ratio,
        }


def machine() -> Mapping[str, object]:
    """What the figures depend on."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


async def bench_engine(
    models: Sequence[str], *, dtype: str, os_threads: int, plan: Plan, peers: Sequence[str], as_json: bool
) -> None:
    """Measures and prints: the table, or one JSON object, on standard output; progress on standard error.

    `dtype` is a worker's setting. Raises `Misconfigured` where this machine does not compute in it.
    """
    find_dtype(dtype, "cpu")
    found = dict(machine())
    rows = list[Row]()
    for name in models:
        _progress(f"{name}: making {SHAPES[name].hidden_size} wide random weights")
        model = random_model(name)
        rows.append(Row(name, OURS, await _measure(model, dtype, os_threads, plan)))
        if peers:
            rows += await _measure_peers(model, os_threads, plan, peers)
    if as_json:
        print(
            json.dumps(
                {
                    "machine": found,
                    "dtype": dtype,
                    "os_threads": os_threads,
                    "plan": asdict(plan),
                    "rows": [*map(Row.as_json, rows)],
                }
            )
        )
    else:
        print(
            ", ".join(f"{key} {value}" for key, value in found.items())
            + f", OS threads {os_threads}, {OURS} in {dtype}"
        )
        print(table(rows, plan))
        for line in error_lines(rows):
            print(line)


async def _measure(model: ModelFolder, dtype: str, os_threads: int, plan: Plan) -> Figures:
    figures, prompts = Figures(), Prompts(model.decoder.config.vocab_size)
    sequences = max(*plan.batches, plan.fork_threads)
    async with running(model, max_sequences=sequences, dtype=dtype, os_threads=os_threads) as engine:
        for batch in plan.batches:
            figures.tokens_per_s[batch] = await measure_decode(engine, prompts, plan, batch)
            _progress(f"{model.name}: batch {batch}: {figures.tokens_per_s[batch]:.0f} tokens/s")
        figures.fork_shared_s, figures.fork_separate_s = await measure_fork(engine, prompts, plan)
        _progress(f"{model.name}: fork: {figures.fork_shared_s:.2f} s, without sharing {figures.fork_separate_s:.2f} s")
    async with running(model, max_sequences=plan.waiting, dtype=dtype, os_threads=os_threads) as engine:
        figures.admission_s, figures.admission_steps = await measure_admission(engine, prompts, plan)
    if dtype == INT8:
        errors = await asyncio.to_thread(logit_errors, model.decoder, os_threads=os_threads)
        figures.logit_error, figures.q8_0_logit_error = errors.int8, errors.q8_0
    return figures


async def _measure_peers(model: ModelFolder, os_threads: int, plan: Plan, peers: Sequence[str]) -> list[Row]:
    rows = list[Row]()
    with tempfile.TemporaryDirectory(prefix="asterism-bench-") as name:
        work = Path(name)
        folder = work / model.name
        await asyncio.to_thread(save_folder, folder, model.decoder, model.tokenizer, dtype=torch.bfloat16)
        for command in peers:
            _progress(f"{model.name}: {command}")
            engine, figures = await measure_peer(command, folder, plan=plan, os_threads=os_threads, work=work)
            rows.append(Row(model.name, engine, figures))
    return rows


def table(rows: Sequence[Row], plan: Plan) -> str:
    """Rates in tokens a second, with what ours is of theirs; the fork in seconds, shared / separate = ratio."""
    heads = ["model", "engine", *(f"batch {batch}" for batch in plan.batches), "fork s", "admission"]
    lines = [heads]
    ours: Figures | None = None
    for row in rows:
        figures = row.figures
        if row.engine == OURS:
            ours = figures
        rates = [_rate(figures, ours, batch) for batch in plan.batches]
        fork = "-"
        if figures.fork_ratio is not None:
            fork = f"{figures.fork_shared_s:.2f} / {figures.fork_separate_s:.2f} = {figures.fork_ratio:.2f}"
        admission = "-"
        if figures.admission_s is not None:
            admission = f"{1e3 * figures.admission_s:.0f} ms = {figures.admission_steps:.1f} steps"
        lines.append([row.model, row.engine, *rates, fork, admission])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def error_lines(rows: Sequence[Row]) -> list[str]:
    """How far logits are off, of each row that says it."""
    return [
        f"{row.model}: logits of int8 are off float32's by {figures.logit_error:.2%} of their size, "
        f"those of Q8_0 (emulated) by {figures.q8_0_logit_error:.2%}"
        for row in rows
        if (figures := row.figures).logit_error is not None and figures.q8_0_logit_error is not None
    ]


def _rate(figures: Figures, ours: Figures | None, batch: int) -> str:
    rate = figures.tokens_per_s.get(batch)
    if rate is None:
        return "-"
    if ours is None or ours is figures:
        return f"{rate:.0f}"
    return f"{rate:.0f} (ours {ours.tokens_per_s[batch] / rate:.2f}x)"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
