"""How near decoding on a GPU is to what its memory allows: `python -m tests.bench.gpu_table` (or `make bench-gpu`).

Random weights in the shape of Qwen3-8B, bfloat16. The floor of a step is the time to read every weight and every key
and value that it needs once, at the bandwidth that a large copy reaches in the same run. Beside it a fork: threads
behind one prefix, which is read once for all of them or by each; and transformers' own continuous batching, in a
process of its own that is ended when its time is up. Lines are printed as they come. With `--profile` also where the
time of a step goes, and what other divisions of the kernels would take.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from asterism.workers.engine.config import DecoderConfig
from asterism.workers.engine.cuda.cuda_step import block_bytes
from asterism.workers.engine.decoder import Decoder
from asterism.workers.engine.step import BLOCK_TOKENS
from tests.bench.gpu_engine import Engine, Plan, release, synchronize
from tests.bench.gpu_profile import where_time_goes
from tests.bench.gpu_transformers import Ask

ROOT: Final = Path(__file__).parents[2]


def bandwidth(plan: Plan) -> float:
    """Bytes that are read or written a second: the best of several copies of 2 GiB, or a little on a CPU."""
    size = (1 << 31) if plan.device.type == "cuda" else (1 << 24)
    source = torch.ones(size, dtype=torch.uint8, device=plan.device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(10):
        synchronize(plan.device)
        began = time.perf_counter()
        target.copy_(source)
        synchronize(plan.device)
        best = max(best, 2 * size / (time.perf_counter() - began))
    return best


def floor_bytes(config: DecoderConfig, dtype: torch.dtype, contexts: Sequence[int], shared: int = 0) -> int:
    """What a step must read at least: each weight once (of the embedding nearly nothing), and each key and value.

    The first `shared` positions are those of all `contexts`.
    """
    with torch.device("meta"):
        decoder = Decoder(config)
    parameters = sum(parameter.numel() for parameter in decoder.parameters())
    embedding = 0 if config.tie_word_embeddings else decoder.model.embed_tokens.weight.numel()
    positions = shared + sum(context - shared for context in contexts)
    return (parameters - embedding) * dtype.itemsize + positions * block_bytes(config, dtype) // BLOCK_TOKENS


@torch.inference_mode()
def table(plan: Plan, *, profile: bool = False) -> Iterator[str]:
    """The lines of the table, each as soon as it is known."""
    began = time.perf_counter()
    speed = plan.bandwidth or bandwidth(plan)
    release(plan.device)
    yield f"bandwidth {speed / 1e12:.2f} TB/s, {plan.config.num_hidden_layers} layers, {plan.dtype}"
    engine = Engine(plan, batches=plan.batches)
    yield f"ready after {time.perf_counter() - began:.1f} s; context {plan.context}: ms a step | floor | share of it"
    for batch in plan.batches:
        yield _line(plan, speed, batch, engine.decode_ms(batch))
    alone, shared = engine.fork_s(shared=False), engine.fork_s(shared=True)
    yield (
        f"fork, prefix {plan.prefix}, {plan.threads} threads of {plan.thread_tokens}: {alone:.2f} s with each thread "
        f"reading the prefix, {shared:.2f} s with one read for all: {alone / shared:.2f} times as fast"
    )
    if profile:
        yield from where_time_goes(engine)
    del engine
    release(plan.device)
    if plan.transformers_s:
        yield f"transformers' continuous batching (at most {plan.transformers_s:g} s)"
        yield from _transformers(plan, speed)
    yield f"all of it took {time.perf_counter() - began:.0f} s"


def _line(plan: Plan, speed: float, batch: int, ms: float) -> str:
    floor = 1e3 * floor_bytes(plan.config, plan.dtype, [plan.context] * batch) / speed
    return f"  batch {batch:3}: {ms:.2f} | {floor:.2f} | {floor / ms:.0%}"


def _transformers(plan: Plan, speed: float) -> Iterator[str]:
    """A line for each batch that came in time, and one that says why the others did not."""
    dtype = str(plan.dtype).removeprefix("torch.")
    sizes: dict[str, Any] = {"batches": plan.batches, "context": plan.context, "steps": plan.steps}
    ask = Ask.of(plan.config, dtype=dtype, device=plan.device.type, **sizes)
    command = [sys.executable, "-m", "tests.bench.gpu_transformers"]
    reason = ""
    try:
        ran = subprocess.run(
            command,
            input=ask.to_json(),
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=plan.transformers_s,
        )
        printed = ran.stdout
        if ran.returncode:
            reason = " / ".join(ran.stderr.strip().splitlines()[-3:])
    except subprocess.TimeoutExpired as late:
        # Bytes, whatever was asked for.
        printed = (late.stdout or b"").decode()
        reason = f"its {plan.transformers_s:g} s were up"
    found: list[Mapping[str, float]] = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    for each in found:
        yield _line(plan, speed, int(each["batch"]), each["ms"])
    missing = [batch for batch in plan.batches if batch not in {each["batch"] for each in found}]
    if missing:
        yield f"  batch {', '.join(map(str, missing))}: not measured: {reason or 'it ended without a figure'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tb-per-s", type=float, help="the memory's bandwidth; measured by a copy without it")
    parser.add_argument(
        "--transformers-s", type=float, default=75.0, help="seconds that transformers gets; 0: left out"
    )
    parser.add_argument("--profile", action="store_true", help="also where the time of a step goes")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: this table needs one, and nothing was measured", file=sys.stderr)
        sys.exit(2)
    plan = Plan(
        device=torch.device("cuda"),
        bandwidth=None if options.tb_per_s is None else 1e12 * options.tb_per_s,
        transformers_s=options.transformers_s,
    )
    print(f"{time.strftime('%Y-%m-%d')}, {torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    for line in table(plan, profile=options.profile):
        print(line, flush=True)


if __name__ == "__main__":
    main()
